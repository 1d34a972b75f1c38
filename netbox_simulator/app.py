"""The simulator over HTTP: a thin aiohttp application around `NetBoxModel`.

With latency (the same for each request, or by a cost model) a write waits between its check and its insert, as it does
in NetBox, where two requests for one address then both succeed. POSTs to available-prefixes hold one lock over both
steps. A request whose client hangs up is served to its end all the same (aiohttp's default; the handler is not
cancelled).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from netbox_simulator.access import authenticate
from netbox_simulator.costs import Costs
from netbox_simulator.faults import Fault, Faults
from netbox_simulator.model import NetBoxModel
from netbox_simulator.wire import HTML_TYPE, JSON_TYPE, ApiError, Request, Response, Row, html_page

Sleep = Callable[[float], Awaitable[Any]]
MAX_BODY = 16 * 1024 * 1024


@dataclass(slots=True)
class Simulator:
    """What an application of the simulator is made of. `latency_ms` may be changed while it runs; `costs` come on top
    of it."""

    model: NetBoxModel
    faults: Faults
    latency_ms: float
    sleep: Sleep
    start: Row = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    costs: Costs | None = None

    async def answer(self, request: Request) -> Response:
        """Serve a request, slowly if that is wanted."""
        if self.model.exclusive(request):
            async with self.lock:
                return await self._serve(request)
        return await self._serve(request)

    async def _serve(self, request: Request) -> Response:
        with nullcontext(0.0) if self.costs is None else self.costs.serving(request) as cost:
            staged = self.model.stage(request)
            if seconds := self.latency_ms / 1000 + cost:
                await self.sleep(seconds)
            return staged.commit()

    async def faulty(self, fault: Fault, request: Request, transport: asyncio.Transport | None) -> Response:
        """Serve a request with a fault."""
        if fault.applied == "never":
            self.model.calls[self.model.operation(request)] += 1
        answer = await self.answer(request) if fault.applied == "before" else None
        if fault.action == "delay":
            await self.sleep(fault.seconds)
        elif fault.action == "hang":
            await self.faults.hang()
        if fault.applied == "after":
            answer = await self.answer(request)
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


SIMULATOR: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)


def create_app(
    model: NetBoxModel,
    *,
    tokens: Iterable[str] = (),
    latency_ms: float = 0,
    faults: Faults | None = None,
    sleep: Sleep = asyncio.sleep,
    costs: Costs | None = None,
) -> web.Application:
    """The application. `tokens` are let in as the superuser, besides those that the model knows.

    `costs` says how long each request takes. `sleep` is what latency and delays wait with, so that tests can interleave
    requests without waiting.
    """
    model.add_tokens(tokens)
    app = web.Application(client_max_size=MAX_BODY)
    app[SIMULATOR] = Simulator(model, faults or Faults(), latency_ms, sleep, model.dump(), costs=costs)
    app.on_shutdown.append(_let_go)
    app.router.add_route("*", "/simulator/{what}", _control)
    app.router.add_route("*", "/{path:.*}", _serve)
    return app


async def _let_go(app: web.Application) -> None:
    """Do not keep a stopping server waiting for requests that hang on purpose."""
    app[SIMULATOR].faults.clear()


async def _request_of(request: web.Request) -> Request:
    return Request(
        method=request.method,
        path=request.rel_url.raw_path,
        query=tuple(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read(),
        base=f"{request.scheme}://{request.host}",
        remote=request.remote or "127.0.0.1",
    )


def _web(response: Response) -> web.Response:
    return web.Response(status=response.status, headers=response.headers, body=response.body)


async def _serve(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    plain = await _request_of(request)
    fault = simulator.faults.take(plain.method, plain.path, plain.body)
    if fault is None:
        return _web(await simulator.answer(plain))
    return _web(await simulator.faulty(fault, plain, request.transport))


async def _control(request: web.Request) -> web.Response:
    """`/simulator/...`: drive the simulator from another process, with the superuser's token.

    - GET, POST, DELETE `faults`: one or a list, see `Fault`; DELETE clears them and lets hanging requests go;
    - POST `reset`: as it was when the application was made;
    - GET `prefixes`: all of them, in brief;
    - GET, DELETE `counters`: requests by operation;
    - GET, PUT `latency`: `{"latency_ms": 30}`.
    """
    simulator = request.app[SIMULATOR]
    model = simulator.model
    plain = await _request_of(request)
    try:
        user = authenticate(model.state, plain, model.tokens)
        if not user.superuser:
            return web.json_response({"detail": "only the superuser drives the simulator"}, status=403)
        payload: Any = json.loads(plain.body) if plain.body else None
        match (request.method, request.match_info["what"]):
            case ("GET", "faults"):
                return web.json_response(simulator.faults.as_json())
            case ("POST", "faults"):
                added = [Fault(**each) for each in (payload if isinstance(payload, list) else [payload])]
                for fault in added:
                    simulator.faults.add(fault)
                return web.json_response(simulator.faults.as_json(), status=201)
            case ("DELETE", "faults"):
                simulator.faults.clear()
            case ("POST", "reset"):
                simulator.faults.clear()
                model.load(simulator.start)
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
    """Every prefix in brief: id, prefix, vrf (id), status, tags (names), custom fields; in the order of lists."""
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


@asynccontextmanager
async def serve(app: web.Application, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the application while the context lasts; gives its base URL (the port is the system's choice when 0)."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()
