"""A NetBox in this process: the real client and the simulator's core, joined without sockets.

    server = NetBoxServer({"inet": {"ipv4": ["192.0.2.0/24"]}}, clock=clock)
    netbox = server.client(clock)

Payloads, checks, time limits, repetitions and the circuit breaker are the client's own; only the bytes go straight from
the one to the other. On a loop with virtual time everything runs the same way every time. The simulator's faults and
latency work here as they do over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxUnavailable
from ipam_lib.models import IPFamily
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.prefix_reader import PREFIXES
from ipam_lib.netbox.responses import NetBoxResponse, understand
from ipam_lib.netbox.transport import Params, Transport
from netbox_simulator import NEWEST, Request, Response, Simulator, Version, Zones, make_request, sample_model
from tests.support.netbox_faults import Fault, Faults, FaultySimulator

TOKEN = "0123456789abcdef0123456789abcdef01234567"
URL = "http://netbox.invalid"
TAG = "vitistack"


class _Wire(asyncio.Transport):
    """What the simulator cuts when it is to cut the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True


@dataclass
class NetBoxServer:
    """A simulated NetBox, and what people do to it behind the service's back.

    `reachable` False refuses every connection. `faults` go wrong on purpose, `latency_ms` lies between a write's check
    and its insert.
    """

    zones: Zones
    clock: Clock
    seed: int = 0
    version: Version = NEWEST
    reachable: bool = True
    simulator: Simulator = field(init=False)
    faults: Faults = field(init=False)
    _under_way: set[asyncio.Task[Response]] = field(default_factory=set)

    def __post_init__(self) -> None:
        model = sample_model(
            self.zones, tokens=[TOKEN], now=self.clock.now, rng=random.Random(self.seed), version=self.version
        )
        self.simulator = Simulator(model)
        self.faults = Faults()

    @property
    def calls(self) -> dict[str, int]:
        """How many requests there were, by the simulator's names of operations."""
        return dict(self.simulator.model.calls)

    def fault(self, action: str, **options: Any) -> None:
        """Have one more thing go wrong; see `Fault`."""
        self.faults.add(Fault(action, **options))

    def client(self, clock: Clock, rng: random.Random | None = None, **settings: Any) -> SimulatedNetBox:
        """One more client of it, as an instance of the service has one; to be opened."""
        return SimulatedNetBox(self, clock=clock, rng=rng or random.Random(self.seed), **settings)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Somebody's request, and what it was answered; it must succeed."""
        answer = self.simulator.model.handle(method, path, headers={"Authorization": f"Token {TOKEN}"}, body=body)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return answer.json() if answer.body else None

    def shown(self, prefix_id: int) -> Any:
        """A prefix as NetBox shows it."""
        return self.admin("GET", f"/{PREFIXES}{prefix_id}/")

    @property
    def containers(self) -> list[Container]:
        """Every container, by id."""
        rows = self.simulator.model.state.prefixes.rows
        containers = sorted(row.id for row in rows.values() if row.status == "container")
        return [payloads.container(self.shown(one)) for one in containers]

    def container(self, zone: str, ip_family: IPFamily = "ipv4", number: int = 0) -> Container:
        """One of a zone's containers."""
        return [one for one in self.containers if (one.zone, one.ip_family) == (zone, ip_family)][number]

    @property
    def prefixes(self) -> dict[int, Prefix]:
        """Everything but the containers, by id."""
        return {
            row.id: Prefix(
                row.id,
                row.text,
                row.vrf,
                row.status,
                row.custom_fields.get(payloads.ZONE_FIELD),
                row.custom_fields.get(payloads.UUID_FIELD),
                row.description,
            )
            for row in self.simulator.model.state.prefixes.rows.values()
            if row.status != "container"
        }

    def add(
        self,
        container: Container,
        prefix: str,
        uuid: str | None = None,
        status: str = "active",
        description: str = "",
    ) -> Prefix:
        """Somebody creates a prefix in a container's VRF."""
        fields = {payloads.ZONE_FIELD: container.zone, payloads.UUID_FIELD: uuid}
        body = {"prefix": prefix, "vrf": container.vrf_id, "status": status, "custom_fields": fields}
        body["description"] = description
        return payloads.prefix(self.admin("POST", f"/{PREFIXES}", body))

    def remove(self, prefix_id: int) -> None:
        """Somebody deletes a prefix."""
        self.admin("DELETE", f"/{PREFIXES}{prefix_id}/")

    async def serve(self, request: Request) -> Response:
        """Answer a request; one that was begun is served to its end, also when the client hangs up.

        Raises NetBoxUnavailable in place of the error that a socket would give.
        """
        if not self.reachable:
            raise NetBoxUnavailable(detail="connection refused", applied=False)
        simulator = self.simulator
        if not self.faults.pending and not simulator.latency_ms:
            answer = simulator.model.stage(request).commit()
            await asyncio.sleep(0)  # as any socket would, let others have their turn
            return answer
        wire = _Wire()
        faulty = FaultySimulator(simulator, self.faults)
        task = asyncio.get_running_loop().create_task(faulty.answer(request, wire))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        answer = await asyncio.shield(task)
        if wire.is_cut:
            raise NetBoxUnavailable(detail="the connection was cut", applied=True)
        return answer


class SimulatedNetBox(NetBoxClient):
    """NetBox's client, connected to a server in this process. `settings` as in NetBoxSettings."""

    def __init__(self, server: NetBoxServer, *, clock: Clock, rng: random.Random, **settings: Any) -> None:
        options: dict[str, Any] = {"constraint_tag": TAG} | settings
        super().__init__(_Direct(server, NetBoxSettings(URL, TOKEN, **options), clock=clock, rng=rng))


class _Direct(Transport):
    """The client's transport, without the wire."""

    def __init__(self, server: NetBoxServer, settings: NetBoxSettings, *, clock: Clock, rng: random.Random) -> None:
        super().__init__(settings, clock=clock, rng=rng)
        self._server = server
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def _send(
        self,
        method: str,
        path: str,
        params: Params,
        body: Any,
        allowed: float,
        expected: Collection[int],
        if_match: str | None = None,
    ) -> NetBoxResponse:
        if not self._open:
            raise NetBoxUnavailable(detail="the client is not open", applied=False)
        content = None if body is None else json.dumps(body).encode()
        headers = self._headers(if_match)
        request = make_request(method, f"/{path}", query=tuple(params), headers=headers, body=content, base=URL)
        try:
            async with asyncio.timeout(allowed):
                answer = await self._server.serve(request)
        except TimeoutError:
            raise NetBoxUnavailable(detail=f"no answer within {allowed:.3g} s", timed_out=True) from None
        return understand(
            answer.status,
            answer.headers.get("Content-Type", ""),
            answer.headers.get("Retry-After"),
            answer.headers.get("Location"),
            answer.body,
            expected,
        )


def addresses_of(prefixes: Sequence[Prefix]) -> list[str]:
    """The prefixes as sorted texts."""
    return sorted(one.prefix for one in prefixes)
