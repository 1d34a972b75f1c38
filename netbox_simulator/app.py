"""The simulator over HTTP: a thin aiohttp application around `NetBoxModel`.

With latency, or with the costs of a model, a write waits between its check and its insert, as in NetBox: two requests
for one address can then both succeed. POSTs to available-prefixes hold one lock over both steps. A request is served
to its end even if the client hangs up: aiohttp does not cancel the handler. Events of event rules are sent one after
the other, as by one worker of NetBox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web

from netbox_simulator.costs import Costs
from netbox_simulator.model import NetBoxModel
from netbox_simulator.wire import Request, Response

Sleep = Callable[[float], Awaitable[Any]]
MAX_BODY = 16 * 1024 * 1024
SECONDS_TO_DELIVER = 10.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Simulator:
    """The state of the application. `latency_ms`: how long every request takes, on top of `costs`."""

    model: NetBoxModel
    latency_ms: float = 0.0
    sleep: Sleep = asyncio.sleep
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    costs: Costs | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request) -> Response:
        """Serve a request, with latency and costs."""
        if self.model.exclusive(request):
            async with self.lock:
                return await self._serve(request)
        return await self._serve(request)

    async def _serve(self, request: Request) -> Response:
        with nullcontext(0.0) if self.costs is None else self.costs.serving(request) as cost:
            staged = self.model.stage(request)
            if seconds := self.latency_ms / 1000 + cost:
                await self.sleep(seconds)
            answer = staged.commit()
            if self.model.deliveries:
                self.changed.set()
            return answer

    async def deliver(self) -> None:
        """Send what event rules send, each once. Never returns."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS_TO_DELIVER)) as session:
            while True:
                await self.changed.wait()
                self.changed.clear()
                while self.model.deliveries:
                    one = self.model.deliveries.popleft()
                    try:
                        async with session.request(one.method, one.url, headers=one.headers, data=one.body) as answer:
                            log.info("event sent to %s: status %d", one.url, answer.status)
                    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                        log.warning("event could not be sent to %s: %s", one.url, error)


SIMULATOR: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)


def create_app(
    model: NetBoxModel,
    *,
    tokens: Iterable[str] = (),
    latency_ms: float = 0,
    sleep: Sleep = asyncio.sleep,
    costs: Costs | None = None,
) -> web.Application:
    """The application. `tokens` belong to the superuser, like those that the model knows.

    `costs` says how long each request takes. Latency and costs wait with `sleep`.
    """
    model.add_tokens(tokens)
    app = web.Application(client_max_size=MAX_BODY)
    app[SIMULATOR] = Simulator(model, latency_ms, sleep, costs=costs)
    app.router.add_route("*", "/{path:.*}", _serve)
    app.cleanup_ctx.append(_deliver)
    return app


async def _deliver(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[SIMULATOR].deliver(), name="deliver events")
    yield
    task.cancel()
    await asyncio.wait((task,))


async def request_of(request: web.Request) -> Request:
    """The request as the model takes it."""
    return Request(
        method=request.method,
        path=request.rel_url.raw_path,
        query=tuple(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read(),
        base=f"{request.scheme}://{request.host}",
        remote=request.remote or "127.0.0.1",
    )


def web_response(response: Response) -> web.Response:
    """The response as aiohttp sends it."""
    return web.Response(status=response.status, headers=response.headers, body=response.body)


async def _serve(request: web.Request) -> web.Response:
    return web_response(await request.app[SIMULATOR].answer(await request_of(request)))


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
