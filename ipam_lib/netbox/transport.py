"""Requests to NetBox's REST API: session, token, time limits, repetition, and the meaning of a failure."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from ipam_lib.clock import Clock, SystemClock
from ipam_lib.errors import NetBoxError, NetBoxUnavailable
from ipam_lib.netbox.breaker import Breaker
from ipam_lib.netbox.endpoint import NetBoxSettings, base_url, tls, usable_token
from ipam_lib.netbox.responses import NetBoxBroken, NetBoxResponse, NetBoxThrottled, shorten, understand

log = logging.getLogger(__name__)

Params = Sequence[tuple[str, str]]
Observe = Callable[[str, str, float], None]

ATTEMPTS = 4
# A request that made NetBox fail, by a deadlock for example, may succeed the second time, hardly the third.
ATTEMPTS_IF_BROKEN = 2
LARGEST_ANSWER = 64 * 1024 * 1024


class ConnectionPoolExhausted(NetBoxUnavailable):
    """All connections were in use for too long. NetBox may be serving each of them, so this is no failure of NetBox."""


class Budget:
    """The time that a call may take, over all its requests. `seconds` counts from now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; negative when the time is over."""
        return self._end - self._clock.monotonic()


class Transport:
    """A session with NetBox, shared by all calls. Open it in the event loop that uses it, and close it; or use it as an
    asynchronous context manager.

    `observe` is called after each request with the operation, the result (`ok`, `refused`, `error`, `timeout`,
    `unreachable`, `crowded`, `breaker`, `cancelled`) and the duration in seconds.

    Raises ConfigError when the URL, the token or the CA file cannot be used.
    """

    def __init__(
        self,
        settings: NetBoxSettings,
        *,
        clock: Clock | None = None,
        breaker: Breaker | None = None,
        rng: random.Random | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.random = rng or random.Random()
        self.breaker = breaker or Breaker(self.clock, rng=self.random)
        self.url = base_url(settings.url)
        """Where NetBox is, with a slash at the end."""
        self.settings = settings
        self._observe = observe
        self._tls = tls(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self.set_token(settings.token)

    def set_token(self, token: str) -> None:
        """Use this token from the next request on.

        Raises ConfigError when it can be no token.
        """
        self._token = usable_token(token)

    def budget(self, seconds: float | None = None) -> Budget:
        """A budget that begins now; without `seconds`, the time for one request."""
        return Budget(self.clock, self.settings.timeout_seconds if seconds is None else seconds)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Make the session. Nothing is sent yet."""
        if self._session is not None:
            return
        trace = aiohttp.TraceConfig()
        trace.on_connection_queued_start.append(_note_queueing)
        trace.on_connection_queued_end.append(_note_connecting)
        trace.on_request_headers_sent.append(_note_sending)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.settings.connections, ssl=self._tls),
            # NetBox sets cookies on its pages. With a session cookie it would check for CSRF tokens.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": self.settings.user_agent},
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

        `if_match`: the entity tag that the object must still have, else NetBox 4.6 answers 412 (older ones ignore it).
        `repeat`: a second sending does no harm. While NetBox is unavailable and the budget lasts, the request is sent
        again after a jittered back-off (or after the seconds of Retry-After): four times in all, twice after NetBox's
        own 500.

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
                    pause = 0.1 * 2**attempt * self.random.uniform(0.5, 1.5)
                most = ATTEMPTS_IF_BROKEN if isinstance(error, NetBoxBroken) else ATTEMPTS
                if not repeat or attempt >= most or pause >= budget.left() or not self.breaker.available:
                    raise
            await self.clock.sleep(pause)

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
        """One request; reports the result to the log, the breaker and the telemetry."""
        allowed = min(self.settings.timeout_seconds, budget.left())
        if allowed <= 0:
            raise NetBoxUnavailable(detail=f"{operation}: not tried, no time left", applied=False)
        try:
            ticket = self.breaker.admit()
        except NetBoxUnavailable:
            self._report(operation, "breaker", 0.0)
            raise
        began = self.clock.monotonic()
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
            elif result != "crowded" and (result != "timeout" or allowed >= min(1.0, self.settings.timeout_seconds)):
                # A time-out after less than a second is the caller's, not NetBox's.
                self.breaker.failed(ticket)
            raise
        finally:
            self.breaker.abandoned(ticket)
            self._report(operation, result, self.clock.monotonic() - began)

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
                    URL(self.url + path).with_query(params),
                    data=None if body is None else json.dumps(body).encode(),
                    headers=self._headers(if_match),
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as response,
            ):
                # The log shows parts of the answer, which may repeat the token.
                raw = (await _read(response)).replace(self._token.encode(), b"***")
        except TimeoutError:
            if progress.queued:
                detail = f"no free connection within {allowed:.3g} s, all {self.settings.connections} are in use"
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

    def _headers(self, if_match: str | None = None) -> dict[str, str]:
        # NetBox looks at the token only, a proxy may look at the keyword: tokens of version 2 begin with nbt_.
        keyword = "Bearer" if self._token.startswith("nbt_") else "Token"
        # On a GET as well: without it, NetBox before 4.4 answers its own errors (500) with an HTML page.
        headers = {"Authorization": f"{keyword} {self._token}", "Content-Type": "application/json"}
        if if_match is not None:
            headers["If-Match"] = if_match
        return headers

    def _clean(self, text: str) -> str:
        """On one line, and without the token."""
        return shorten(text).replace(self._token, "***")

    def _report(self, operation: str, result: str, seconds: float) -> None:
        if self._observe is not None:
            self._observe(operation, result, seconds)


def _result(error: NetBoxError) -> str:
    """The telemetry's name for a failure."""
    if not isinstance(error, NetBoxUnavailable) or (isinstance(error, NetBoxThrottled) and not error.applied):
        return "refused"
    if isinstance(error, ConnectionPoolExhausted):
        return "crowded"
    if error.timed_out:
        return "timeout"
    return "error" if error.applied else "unreachable"


async def _note_queueing(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called when a request starts to wait for a free connection."""
    context.trace_request_ctx.queued = True


async def _note_connecting(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called when the wait for a free connection is over."""
    context.trace_request_ctx.queued = False


async def _note_sending(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    """Called before the first byte of a request is sent: from then on NetBox may carry it out."""
    context.trace_request_ctx.sent = True


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises NetBoxUnavailable above a size that no answer of NetBox comes near."""
    parts = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise NetBoxUnavailable(detail=f"HTTP {response.status} with an answer of more than {LARGEST_ANSWER} bytes")
        parts.append(chunk)
    return b"".join(parts)
