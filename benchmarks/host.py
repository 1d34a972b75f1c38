"""The services that are compared, in one process: this one as `serve` runs it, the earlier one's sequence of calls, and
what there is to hold them against.

    python3 -m benchmarks.host CONFIG.json

Prints one JSON object with the URL of each. `bare` is an aiohttp application without anything: `/empty` answers;
`/read` does one read of the storage, the one that registering again does, for the request that `/read/of` was told;
`/pool` says how many pool entries there are in each state.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

import ipam
from benchmarks.earlier import EarlierService
from ipam_lib.assembly import assemble, make_store
from ipam_lib.config import Settings
from ipam_lib.models import ServiceKey
from ipam_lib.storage.base import Store
from ipam_lib.telemetry import logs
from ipam_lib.telemetry.logging_setup import run_logging
from ipam_lib.web import server


def bare_app(store: Store, settings: Settings) -> web.Application:
    """See the module."""
    cipher = settings.encryption_secrets.cipher()
    wanted: dict[str, Any] = {}

    async def empty(request: web.Request) -> web.Response:
        return web.Response()

    async def read(request: web.Request) -> web.Response:
        if not await store.find_service(**wanted):
            raise web.HTTPNotFound
        return web.Response()

    async def read_of(request: web.Request) -> web.Response:
        body = await request.json()
        wanted.update(
            secrets=cipher.candidates(body["secret"]),
            zone=body["zone"],
            ip_family=body["ip_family"],
            service=ServiceKey(**body["service"]),
        )
        return web.Response()

    async def pool(request: web.Request) -> web.Response:
        states: Counter[str] = Counter()
        for key, number in (await store.pool_counts()).items():
            states[key.state.value] += number
        return web.json_response(states)

    app = web.Application()
    app.router.add_post("/empty", empty)
    app.router.add_post("/read", read)
    app.router.add_post("/read/of", read_of)
    app.router.add_get("/pool", pool)
    return app


@asynccontextmanager
async def _site(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hosted(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """All of them while this lasts; their URLs."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(run_logging(settings))
        app = ipam.create_app(
            assemble(settings),
            bearer=settings.auth.token,
            request_timeout_seconds=settings.server.request_timeout_seconds,
        )
        ours = await stack.enter_async_context(server.listening(app, server.Listen(host="127.0.0.1", port=0)))
        store = make_store(settings)
        await store.open()
        stack.push_async_callback(store.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        earlier = EarlierService(
            store,
            session,
            str(settings.netbox.url).rstrip("/"),
            settings.netbox.token.reveal(),
            settings.encryption_secrets.cipher(),
        )
        yield {
            "ours": ours,
            "earlier": await stack.enter_async_context(_site(earlier.app())),
            "bare": await stack.enter_async_context(_site(bare_app(store, settings))),
        }


async def _main(settings: Settings) -> None:
    async with hosted(settings) as urls:
        print(json.dumps(urls), flush=True)
        # Until whoever started it closes standard input, or dies.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configured, _ = Settings.load(Path(sys.argv[1]))
    logs.set_up(configured.logging.level)
    asyncio.run(_main(configured))
