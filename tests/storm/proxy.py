"""A proxy that breaks things: between the service and NetBox it drops, delays, cuts, and answers nonsense.

Every fate is drawn from one seeded source, in the order in which requests arrive: a seed gives the same sequence of
fates again (which request meets which one depends on the processes in front of it).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web

HTML: Final = b"<html><head><title>Server Error</title></head><body><h1>Server Error (500)</h1></body></html>"
MAINTENANCE: Final = b"<html><head><title>Down for maintenance</title></head><body>Back soon.</body></html>"
JSON: Final = b'{"error": "deadlock detected", "exception": "OperationalError", "netbox_version": "4.6.8"}'
GARBAGE: Final = b'{"count": 1, "results": [{"id": 4'
NOISE: Final = b"\x16\x03\x01 this is no HTTP at all\r\n\r\n"

FATES: Final = {
    "drop": "the connection is cut, and NetBox never hears of the request",
    "cut": "NetBox carries it out, then the connection is cut without an answer",
    "half": "NetBox carries it out, and the connection is cut in the middle of its answer",
    "delay": "NetBox hears of it a little later",
    "linger": "NetBox carries it out at once, and its answer comes a little later",
    "late": "NetBox hears of it long after the caller has given up",
    "garbage": "200 with half a JSON document, and NetBox never hears of it",
    "garbage after": "the same, after NetBox has carried it out",
    "noise": "bytes that are no HTTP, and NetBox never hears of it",
    "json": "NetBox's own 500, and nothing is carried out",
    "json after": "the same, after NetBox has carried it out",
    "html": "an HTML page with status 500, and NetBox never hears of it",
    "html after": "the same, after NetBox has carried it out",
    "maintenance": "503 with Retry-After and an HTML page, and NetBox never hears of it",
    "hang": "no answer, and NetBox never hears of it, until the proxy is told to stop that",
}

# How often each goes wrong in a storm. A fifth of all requests, so that some calls fail several times in a row.
STORMY: Final = {
    **dict.fromkeys(("drop", "cut", "half", "linger"), 0.02),
    **dict.fromkeys(("garbage", "garbage after", "noise", "json", "json after", "html", "html after"), 0.012),
    "delay": 0.03,
    "maintenance": 0.005,
    "hang": 0.003,
}
_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(slots=True)
class FaultProxy:
    """Forwards to `upstream`, unless fate decides otherwise.

    `odds`: the probability of each fate. `always`: one fate for every request from now on, instead of `odds`.
    `seconds`: the longest delay; `late_seconds`: how much later a `late` request is carried out.
    """

    upstream: str
    seed: int = 0
    odds: Mapping[str, float] = field(default_factory=dict)
    always: str | None = None
    seconds: float = 1.0
    late_seconds: float = 10.0
    url: str = ""
    fates: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    underway: int = 0
    _random: random.Random = field(default_factory=random.Random)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        unknown = {*self.odds, self.always or "drop"} - FATES.keys()
        assert not unknown, unknown
        self._random.seed(self.seed)

    def calm(self) -> None:
        """From now on everything is forwarded as it should be; what hangs is cut."""
        self.odds, self.always = {}, None
        self._released.set()
        self._released = asyncio.Event()

    async def idle(self) -> None:
        """Return when nothing is under way; call `calm` before."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.underway)

    def _fate(self) -> str:
        draw = self._random.random()
        if self.always is not None:
            return self.always
        for fate, odds in self.odds.items():
            if draw < odds:
                return fate
            draw -= odds
        return ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request. A client that hangs up does not stop it: NetBox would not notice either."""
        self.requests += 1
        self.underway += 1
        fate = self._fate()
        self.fates[fate or "forwarded"] += 1
        released = self._released
        try:
            return await self._meet(fate, request, await request.read(), released)
        except (OSError, aiohttp.ClientError):
            # NetBox is away, or went away in the middle: so does the connection.
            return _cut(request)
        finally:
            self.underway -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _meet(
        self, fate: str, request: web.BaseRequest, body: bytes, released: asyncio.Event
    ) -> web.StreamResponse:
        kind, _, after = fate.partition(" ")
        if fate == "hang":
            await released.wait()
            return _cut(request)
        if kind in ("delay", "late"):
            await asyncio.sleep(self.late_seconds if kind == "late" else self.seconds * self._random.random())
        answer = None
        if after or kind in ("", "cut", "half", "delay", "linger", "late"):
            answer = await self._forward(request, body)
        match kind:
            case "drop" | "cut":
                return _cut(request)
            case "half":
                assert answer is not None
                return await _half(request, answer)
            case "noise":
                if request.transport is not None:
                    request.transport.write(NOISE)
                    request.transport.close()
                return web.Response()
            case "garbage":
                return web.Response(body=GARBAGE, content_type="application/json")
            case "json":
                return web.Response(status=500, body=JSON, content_type="application/json")
            case "html":
                return web.Response(status=500, body=HTML, content_type="text/html")
            case "maintenance":
                return web.Response(
                    status=503, body=MAINTENANCE, content_type="text/html", headers={"Retry-After": "1"}
                )
            case "linger":
                await asyncio.sleep(self.seconds * self._random.random())
        assert answer is not None
        return answer

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        # A connection of its own each time: aiohttp repeats by itself what fails on one that was used before.
        async with self._session.request(
            request.method, self.upstream + request.raw_path, data=body, headers=headers, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[FaultProxy]:
        """Listen on a port of 127.0.0.1 that the system chooses, as long as this lasts."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=1.0)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._session:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                self.calm()
                await runner.cleanup()


def _cut(request: web.BaseRequest) -> web.Response:
    """Cut the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
    """Announce the whole answer, send half of it, and cut."""
    assert isinstance(answer.body, bytes)
    if request.transport is None or len(answer.body) < 2:
        return _cut(request)
    head = f"HTTP/1.1 {answer.status} x\r\nContent-Type: application/json\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    request.transport.write(head.encode() + answer.body[: len(answer.body) // 2])
    request.transport.close()
    return web.Response()
