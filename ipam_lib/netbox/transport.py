"""One request to NetBox's REST API at a time: session, token, time limits, repetition, and what a failure means."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxError, NetBoxUnavailable
from ipam_lib.netbox.breaker import Breaker
from ipam_lib.netbox.endpoint import base_url, tls, usable_token
from ipam_lib.netbox.responses import NetBoxBroken, NetBoxResponse, NetBoxThrottled, shorten, understand

log = logging.getLogger(__name__)

Params = Sequence[tuple[str, str]]
Observe = Callable[[str, str, float], None]

ATTEMPTS = 4
# A request that makes NetBox fail (a deadlock, a broken object) may work the second time, hardly the third.
ATTEMPTS_IF_BROKEN = 2
LARGEST_ANSWER = 64 * 1024 * 1024


class ConnectionPoolExhausted(NetBoxUnavailable):
    """All connections were in use for too long. Says nothing about NetBox, which may be serving every one of them."""


class Budget:
    """The time that a whole call may take, over all its requests. `seconds` from now on."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; negative when there are none."""
        return self._end - self._clock.monotonic()


class Transport:
    """A session with NetBox, shared by all calls.

    `url`: where NetBox is, with its path prefix if it has one. `timeout_seconds`: the longest that one request may
    take, its connection included. `ca_file`: PEM file of the authorities to trust instead of the system's. `observe`:
    told of each request the operation, how it went (`ok`, `refused`, `error`, `timeout`, `unreachable`, `crowded`,
    `breaker`, `cancelled`), and how many seconds it took.

    Raises ConfigError when the URL, the token or the file cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        clock: Clock,
        breaker: Breaker,
        rng: random.Random,
        timeout_seconds: float = 10.0,
        ca_file: str | Path | None = None,
        connections: int = 20,
        user_agent: str = "ipam-api",
        observe: Observe | None = None,
    ) -> None:
        self.breaker = breaker
        self._base = base_url(url)
        self._clock = clock
        self._random = rng
        self._timeout = timeout_seconds
        self._connections = connections
        self._user_agent = user_agent
        self._observe = observe
        self._tls = tls(ca_file)
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self.set_token(token)

    @property
    def url(self) -> str:
        """Where NetBox is, with a slash at the end."""
        return self._base

    def set_token(self, token: str) -> None:
        """Use this token from the next request on.

        Raises ConfigError when it can be no token.
        """
        self._token = usable_token(token)

    def budget(self, seconds: float) -> Budget:
        """A budget that begins now."""
        return Budget(self._clock, seconds)

    async def open(self) -> None:
        """Make the session. Nothing is sent yet."""
        if self._session is not None:
            return
        trace = aiohttp.TraceConfig()
        trace.on_connection_queued_start.append(_note_queueing)
        trace.on_connection_queued_end.append(_note_connecting)
        trace.on_request_headers_sent.append(_note_sending)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls),
            # NetBox sets cookies on its pages; a session of the browser's kind would bring CSRF checks with it.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": self._user_agent},
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[trace],
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        budget: Budget,
        params: Params = (),
        body: Any = None,
        repeat: bool = False,
        expected: Collection[int] = (),
        if_match: str | None = None,
    ) -> NetBoxResponse:
        """Send a request, and return the answer when its status is 2xx or in `expected`.

        `if_match`: the entity tag that the object must still have, else NetBox answers 412.
        `repeat`: it is safe to send again, so that is done with jittered back-off (or after the seconds of Retry-After)
        while NetBox is unavailable and the budget allows: up to four times in all, twice after NetBox's own 500.

        Raises NetBoxUnavailable, NetBoxRejected.
        """
        attempt = 0
        while True:
            try:
                return await self._once(operation, method, path, budget, params, body, expected, if_match)
            except NetBoxUnavailable as error:
                attempt += 1
                pause: float = error.retry_after
                if not isinstance(error, NetBoxThrottled):
                    pause = 0.1 * 2**attempt * self._random.uniform(0.5, 1.5)
                most = ATTEMPTS_IF_BROKEN if isinstance(error, NetBoxBroken) else ATTEMPTS
                if not repeat or attempt >= most or pause >= budget.left() or not self.breaker.available:
                    raise
            await self._clock.sleep(pause)

    async def _once(
        self,
        operation: str,
        method: str,
        path: str,
        budget: Budget,
        params: Params,
        body: Any,
        expected: Collection[int],
        if_match: str | None,
    ) -> NetBoxResponse:
        """One request; tells the log, the breaker and the telemetry how it went."""
        allowed = min(self._timeout, budget.left())
        if allowed <= 0:
            raise NetBoxUnavailable(detail=f"{operation}: not tried, no time left", applied=False)
        try:
            ticket = self.breaker.admit()
        except NetBoxUnavailable:
            self._told(operation, "breaker", 0.0)
            raise
        began = self._clock.monotonic()
        result = "cancelled"
        try:
            answer = await self._send(method, path, params, body, allowed, expected, if_match)
            result = "ok" if answer.ok else "refused"
            self.breaker.succeeded(ticket)
            return answer
        except NetBoxError as error:
            error.detail = f"{operation}: {method} {path}: {self._clean(error.detail)}"
            log.warning("NetBox call failed: %s", error.detail, extra={"operation": operation})
            result = _result(error)
            if result == "refused":
                self.breaker.succeeded(ticket)
            elif result != "crowded" and (result != "timeout" or allowed >= min(1.0, self._timeout)):
                # A timeout says nothing about NetBox when the caller had hardly any time left.
                self.breaker.failed(ticket)
            raise
        finally:
            self.breaker.abandoned(ticket)
            self._told(operation, result, self._clock.monotonic() - began)

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
        if self._session is None:
            raise NetBoxUnavailable(detail="the client is not open", applied=False)
        progress = SimpleNamespace(queued=False, sent=False)
        try:
            async with (
                asyncio.timeout(allowed),
                self._session.request(
                    method,
                    URL(self._base + path).with_query(params),
                    data=None if body is None else json.dumps(body).encode(),
                    headers=self._headers(body is not None, if_match),
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as response,
            ):
                # Whatever is cut short for the log later, it must not be the token, should the answer repeat that.
                raw = (await _read(response)).replace(self._token.encode(), b"***")
        except TimeoutError:
            if progress.queued:
                detail = f"no free connection within {allowed:.3g} s, all {self._connections} are in use"
                raise ConnectionPoolExhausted(detail=detail, applied=False) from None
            what = "answer" if progress.sent else "connection"
            raise NetBoxUnavailable(
                detail=f"no {what} within {allowed:.3g} s", applied=progress.sent, timed_out=progress.sent
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise NetBoxUnavailable(
                detail=f"its certificate is not trusted (see netbox.ca_file): {error.certificate_error}", applied=False
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NetBoxUnavailable(detail=f"{type(error).__name__}: {error}", applied=progress.sent) from error
        headers = response.headers
        answer = understand(
            response.status,
            headers.get("Content-Type", ""),
            headers.get("Retry-After"),
            headers.get("Location"),
            raw,
            expected,
        )
        return replace(answer, etag=headers.get("ETag"))

    def _headers(self, with_body: bool, if_match: str | None = None) -> dict[str, str]:
        # Only tokens of version 2 begin so; NetBox itself looks at nothing else, proxies may look at the keyword.
        keyword = "Bearer" if self._token.startswith("nbt_") else "Token"
        headers = {"Authorization": f"{keyword} {self._token}"}
        if with_body:
            headers["Content-Type"] = "application/json"
        if if_match is not None:
            headers["If-Match"] = if_match
        return headers

    def _clean(self, text: str) -> str:
        """On one line, and without the token."""
        return shorten(text).replace(self._token, "***")

    def _told(self, operation: str, result: str, seconds: float) -> None:
        if self._observe is not None:
            self._observe(operation, result, seconds)


def _result(error: NetBoxError) -> str:
    """How a failed request went, in the words of the telemetry."""
    if not isinstance(error, NetBoxUnavailable) or (isinstance(error, NetBoxThrottled) and not error.applied):
        return "refused"
    if isinstance(error, ConnectionPoolExhausted):
        return "crowded"
    if error.timed_out:
        return "timeout"
    return "error" if error.applied else "unreachable"


async def _note_queueing(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called when a request begins to wait for one of the connections."""
    context.trace_request_ctx.queued = True


async def _note_connecting(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called when it has waited."""
    context.trace_request_ctx.queued = False


async def _note_sending(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called just before the first byte of a request leaves: from then on it may be carried out."""
    context.trace_request_ctx.sent = True


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a limit that no answer of NetBox comes near. Raises NetBoxUnavailable above it."""
    parts = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise NetBoxUnavailable(detail=f"HTTP {response.status} with an answer of more than {LARGEST_ANSWER} bytes")
        parts.append(chunk)
    return b"".join(parts)
