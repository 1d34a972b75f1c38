"""Faults of the NetBox simulator: what a broken NetBox, proxy or network does to chosen requests.

`add_controls` adds them to an application, with the path `/simulator/` that drives it from another process. As a
program, `python -m tests.support.netbox_faults ipam.py simulate-netbox ...` runs the command with these controls.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web

import netbox_simulator
from netbox_simulator import SIMULATOR, NetBoxModel, Request, Response, Simulator
from netbox_simulator.access import authenticate
from netbox_simulator.app import request_of, web_response
from netbox_simulator.wire import HTML_TYPE, JSON_TYPE, ApiError, Row, html_page

ACTIONS = ("status", "html", "garbage", "disconnect", "delay", "hang")
APPLIED = ("never", "before", "after")

# What the fault does to the request itself unless it says so.
_USUAL = {"delay": "after"}


@dataclass(slots=True)
class Fault:
    """One fault, for the next `times` requests that match, after `skip` of them.

    `method` (`*` for any), `path` (a shell pattern, matched against the path without its query) and `contains` (a text
    in the body) choose the requests. `action`:

    - `status`: answer `status` with the JSON `{"detail": ...}`; `html`: the same with an HTML page;
    - `garbage`: answer 200 with a body that is not JSON;
    - `disconnect`: cut the connection without an answer;
    - `delay`: wait `seconds` first;
    - `hang`: no answer until the faults are cleared.

    `applied` says what becomes of the request: `never` served; served `before` the fault (its reply is what gets lost);
    or served `after` it (a latecomer; only with `delay` and `hang`). `never` by default, `after` for a delay.
    """

    action: str
    method: str = "*"
    path: str = "*"
    contains: str = ""
    times: int = 1
    skip: int = 0
    status: int = 500
    seconds: float = 0.0
    applied: str = ""

    def __post_init__(self) -> None:
        self.applied = self.applied or _USUAL.get(self.action, "never")
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        if self.applied not in APPLIED:
            raise ValueError(f"applied must be one of {', '.join(APPLIED)}")
        if self.applied == "after" and self.action not in ("delay", "hang"):
            raise ValueError("only a delay or a hang can be followed by the request")
        if self.action == "delay" and self.applied == "never":
            raise ValueError("a delayed request is always served")

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether the request has this fault."""
        if self.method not in ("*", method) or not fnmatchcase(path, self.path):
            return False
        return self.contains.encode() in body


class Faults:
    """The pending faults, in the order in which they were added."""

    def __init__(self) -> None:
        self.pending: list[Fault] = []
        self.hit = 0
        self.hanging = 0
        self._released = asyncio.Event()

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self.pending.append(fault)

    def take(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault for this request, counted; None if it has none."""
        for fault in self.pending:
            if fault.matches(method, path, body):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self.pending.remove(fault)
                self.hit += 1
                return fault
        return None

    async def hang(self) -> None:
        """Wait until the faults are cleared."""
        self.hanging += 1
        try:
            await self._released.wait()
        finally:
            self.hanging -= 1

    def clear(self) -> None:
        """Remove the faults, and release the requests that hang."""
        self.pending.clear()
        self._released.set()
        self._released = asyncio.Event()

    def as_json(self) -> dict[str, Any]:
        """The pending faults, and how many requests hang and had a fault."""
        return {"pending": [asdict(fault) for fault in self.pending], "hanging": self.hanging, "hit": self.hit}


@dataclass
class FaultySimulator:
    """A simulator whose requests may have faults."""

    simulator: Simulator
    faults: Faults

    async def answer(self, request: Request, transport: asyncio.Transport | None) -> Response:
        """Serve a request, with its fault if it has one. A fault may cut the connection of `transport`."""
        fault = self.faults.take(request.method, request.path, request.body)
        if fault is None:
            return await self.simulator.answer(request)
        model = self.simulator.model
        if fault.applied == "never":
            model.calls[model.operation(request)] += 1
        answer = await self.simulator.answer(request) if fault.applied == "before" else None
        if fault.action == "delay":
            await self.simulator.sleep(fault.seconds)
        elif fault.action == "hang":
            await self.faults.hang()
        if fault.applied == "after":
            answer = await self.simulator.answer(request)
        if fault.action == "delay" and answer is not None:
            return answer
        if fault.action in ("disconnect", "hang"):
            if transport is not None:
                transport.abort()
            return Response(500, {}, b"")
        if fault.action == "status":
            detail = json.dumps({"detail": "simulated fault"}).encode()
            return Response(fault.status, {"Content-Type": JSON_TYPE}, detail)
        if fault.action == "html":
            page = html_page("Server Error", "simulated fault")
            return Response(fault.status, {"Content-Type": HTML_TYPE}, page)
        return Response(200, {"Content-Type": JSON_TYPE}, b'{"count": 1, "results": [{"id": 4')


def add_controls(app: web.Application, faults: Faults | None = None) -> web.Application:
    """The application of a simulator, with faults and with the paths that control it."""
    faulty = FaultySimulator(app[SIMULATOR], faults or Faults())
    start = faulty.simulator.model.dump()

    @web.middleware
    async def control(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        plain = await request_of(request)
        if plain.path.startswith("/simulator/"):
            return _control(faulty, start, plain)
        return web_response(await faulty.answer(plain, request.transport))

    async def release(_app: web.Application) -> None:
        # Do not keep a stopping server waiting for requests that hang on purpose.
        faulty.faults.clear()

    app.middlewares.append(control)
    app.on_shutdown.append(release)
    return app


def _control(faulty: FaultySimulator, start: Row, request: Request) -> web.Response:
    """`/simulator/...`, with the superuser's token.

    - GET, POST, DELETE `faults`: one or a list, see `Fault`; DELETE clears them and releases hanging requests;
    - POST `reset`: the state at the start;
    - GET `prefixes`: all of them, in brief;
    - GET, DELETE `counters`: requests by operation;
    - GET, PUT `latency`: `{"latency_ms": 30}`.
    """
    simulator, faults = faulty.simulator, faulty.faults
    model = simulator.model
    try:
        user = authenticate(model.state, request, model.tokens)
        if not user.superuser:
            return web.json_response({"detail": "only the superuser controls the simulator"}, status=403)
        payload: Any = json.loads(request.body) if request.body else None
        match (request.method, request.path.removeprefix("/simulator/")):
            case ("GET", "faults"):
                return web.json_response(faults.as_json())
            case ("POST", "faults"):
                added = [Fault(**each) for each in (payload if isinstance(payload, list) else [payload])]
                for fault in added:
                    faults.add(fault)
                return web.json_response(faults.as_json(), status=201)
            case ("DELETE", "faults"):
                faults.clear()
            case ("POST", "reset"):
                faults.clear()
                model.load(start)
            case ("GET", "prefixes"):
                return web.json_response(all_prefixes(model))
            case ("GET", "counters"):
                return web.json_response(model.calls)
            case ("DELETE", "counters"):
                model.calls.clear()
            case ("PUT", "latency"):
                simulator.latency_ms = float(payload["latency_ms"])
            case ("GET", "latency"):
                return web.json_response({"latency_ms": simulator.latency_ms})
            case _:
                return web.json_response({"detail": "the simulator has no such control"}, status=404)
    except ApiError as error:
        return web.json_response(error.payload, status=error.status)
    except (ValueError, TypeError, KeyError) as error:
        return web.json_response({"detail": str(error)}, status=400)
    return web.Response(status=204)


def all_prefixes(model: NetBoxModel) -> list[Row]:
    """Every prefix in brief, in the order of lists: ids for VRF, tenant and role, names for tags."""
    prefixes = model.state.prefixes
    tags = model.state.rows("tag")
    return [
        {
            "id": row.id,
            "prefix": row.text,
            "vrf": row.vrf,
            "status": row.status,
            "tenant": row.tenant,
            "role": row.role,
            "tags": [tags[each]["name"] for each in row.tags],
            "custom_fields": dict(row.custom_fields),
        }
        for row in (prefixes.rows[each] for each in prefixes.ordered())
    ]


def main() -> None:
    """Run the program whose path and arguments follow, with controls on the simulators that it makes."""
    make = netbox_simulator.create_app
    netbox_simulator.create_app = lambda *args, **options: add_controls(make(*args, **options))
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
