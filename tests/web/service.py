"""The application over doubles of its parts, behind the real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from aiohttp import web

import ipam
from ipam_lib.clock import Clock, SystemClock
from ipam_lib.crypto import Secret
from ipam_lib.errors import CODES
from ipam_lib.lifecycle import Services
from ipam_lib.models import ClusterExpired, Registered, Request
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.event_queue import EventQueue
from ipam_lib.netbox.zones import LoadFailure
from ipam_lib.registry import DescriptionReport, PoolReport, RecoverReport, Registry, ReleaseReport, Statistics
from ipam_lib.storage.base import DuplicateReport, Store
from ipam_lib.web.access_control import AccessRules
from ipam_lib.web.connection import Limits
from ipam_lib.web.server import Listen, listening

TOKEN = "a-bearer-token-of-the-tests"
SERVICE = {
    "service_name": "ingress_inet",
    "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
    "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
}
BODY: dict[str, Any] = {"zone": "inet", "ip_family": "ipv4", "secret": "SuperSecret", "service": SERVICE}


@dataclass
class FakeStore:
    """As much of a store as the application itself touches. `trouble` is raised by whatever is asked of it."""

    trouble: Exception | None = None
    duplicates: list[DuplicateReport] = field(default_factory=list)
    closed: bool = False
    hang: bool = False

    async def open(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True

    async def ping(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        if self.trouble:
            raise self.trouble

    async def prepare(self) -> list[DuplicateReport]:
        if self.trouble:
            raise self.trouble
        return self.duplicates


@dataclass
class FakeNetBox:
    available: bool = True
    away: bool = False
    refused_field: str | None = None

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return


@dataclass
class FakeZones:
    names: Sequence[str] = ("inet", "hnet-public")
    source: str | None = "netbox"
    trouble: LoadFailure | None = None
    field_problems: Sequence[str] = ()
    age: float = 42.9

    @property
    def age_seconds(self) -> float | None:
        return self.age if self.loaded else None

    @property
    def loaded(self) -> bool:
        return self.source is not None

    def all_containers(self) -> Sequence[Container]:
        return ()

    async def start(self) -> None:
        return

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return


@dataclass
class FakeRegistry:
    """Answers what it is told to, and notes what it was asked. `work` runs before every answer."""

    error: Exception | None = None
    created: bool = True
    work: Callable[[], Awaitable[None]] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    finished: int = 0
    rounds: list[str] = field(default_factory=list)

    async def _do(self, what: str, wanted: Any, deadline: float | None) -> None:
        self.asked.append((what, wanted))
        self.deadlines.append(deadline)
        if self.work:
            await self.work()
        self.finished += 1
        if self.error:
            raise self.error

    async def register(self, request: Request, *, deadline: float | None = None) -> Registered:
        await self._do("register", request, deadline)
        return Registered("83.118.168.10/32", self.created)

    async def expire(self, request: Request, *, deadline: float | None = None) -> str:
        await self._do("expire", request, deadline)
        return "83.118.168.10/32"

    async def is_unrelated_service(self, request: Request) -> bool:
        self.asked.append(("is_unrelated_service", request))
        return True

    async def expire_cluster(self, cluster_id: str, *, deadline: float | None = None) -> ClusterExpired:
        await self._do("expire_cluster", cluster_id, deadline)
        return ClusterExpired(expired=3, denied=1)

    async def recover(self) -> RecoverReport:
        self.rounds.append("recover")
        return RecoverReport()

    async def maintain_pool(self) -> PoolReport:
        self.rounds.append("pool")
        return PoolReport()

    async def describe(self) -> DescriptionReport:
        self.rounds.append("descriptions")
        return DescriptionReport()

    async def prune_history(self) -> int:
        self.rounds.append("history")
        return 0

    async def statistics(self) -> Statistics:
        self.rounds.append("statistics")
        return Statistics(0.0, [], {}, {})

    async def release_expired(self) -> ReleaseReport:
        self.rounds.append("release")
        return ReleaseReport()


@dataclass
class Service:
    """A running application, its doubles, and a client for it."""

    url: str
    app: web.Application
    services: Services
    store: FakeStore
    netbox: FakeNetBox
    zones: FakeZones
    registry: FakeRegistry
    client: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def call(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        """Status, body as JSON, and the answer itself. `body`: bytes as they are, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.request(method, self.url + path, data=data, **options) as answer:
            raw = await answer.read()
            content = json.loads(raw) if raw and answer.content_type == "application/json" else {}
            return answer.status, _without_code(answer.status, content), answer

    async def raw(self, sent: bytes, *, end: bool = False) -> bytes:
        """Everything that comes back for these bytes until the server closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(sent)
            await writer.drain()
            if end:
                writer.write_eof()
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def service(
    *,
    bearer: bool = True,
    webhook_secret: str | None = None,
    events: EventQueue | None = None,
    request_timeout_seconds: float = 25.0,
    limits: Limits | None = None,
    listen: Listen | None = None,
    store: FakeStore | Store | None = None,
    zones: FakeZones | None = None,
    real: Registry | None = None,
    clock: Clock | None = None,
    innermost: Any = None,
    access: AccessRules | None = None,
) -> AsyncIterator[Service]:
    """The application over doubles, served on a port that the system chose. `real` does the work of the registry's
    double, and a real `store` that of the store's. `innermost`: one more middleware, around the handler."""
    double, netbox, zones, registry = FakeStore(), FakeNetBox(), zones or FakeZones(), FakeRegistry()
    if isinstance(store, FakeStore):
        double = store
    services = Services(
        store=store if isinstance(store, Store) else cast(Store, double),
        netbox=netbox,
        zones=zones,
        registry=real or cast(Registry, registry),
        clock=clock or SystemClock(),
        cleanup_seconds=3600,
        events=events,
    )
    app = ipam.create_app(
        services,
        bearer=Secret(TOKEN) if bearer else None,
        webhook_secret=Secret(webhook_secret) if webhook_secret is not None else None,
        request_timeout_seconds=request_timeout_seconds,
        access=access,
    )
    if innermost is not None:
        app.middlewares.append(innermost)
    listen = listen or Listen(host="127.0.0.1", port=0, limits=limits or Limits())
    async with listening(app, listen) as url, aiohttp.ClientSession(auto_decompress=False) as client:
        yield Service(url, app, services, double, netbox, zones, registry, client)


def status_of(raw: bytes) -> int:
    """The status of the first answer in what came over the wire."""
    return int(raw.split(b" ", 2)[1])


def json_of(raw: bytes) -> dict[str, Any]:
    """The JSON body of the one answer in what came over the wire."""
    return _without_code(status_of(raw), json.loads(raw.partition(b"\r\n\r\n")[2]))


def _without_code(status: int, content: dict[str, Any]) -> dict[str, Any]:
    """The body of an answer, for tests of its message and other members. Every error must have a code of its status."""
    if status >= 400 and content:
        assert CODES[content.pop("code")].status == status, content
    return content
