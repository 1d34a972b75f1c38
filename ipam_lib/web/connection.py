"""One connection: aiohttp's handler, with time limits, a limit of connections, and the common format for its errors."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ipam_lib.errors import CODES
from ipam_lib.web.access_log import AccessLogger
from ipam_lib.web.aiohttp_internals import answer_in_spoken_version, waits_for_head
from ipam_lib.web.client_address import client_address, source_of
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.middlewares import ANSWER_BY
from ipam_lib.web.refusal_throttle import RefusalThrottle
from ipam_lib.web.responses import add_common_headers, bug_response, http_error_response, plain_http_response

log = logging.getLogger(__name__)

# Longer than reverse proxies keep idle connections, so that a proxy never writes to a closed one.
SECONDS_IDLE: Final = 620.0
# For the unread rest of a body, so that the client can read the answer before the connection is reset.
SECONDS_LINGERING: Final = 2.0
# Refused connections that wait for their answer: fewer than the reserved file descriptors.
MOST_WAITING: Final = 64


@dataclass(slots=True)
class Limits:
    """The limits of connections.

    `connections`: the number of open connections. `seconds_for_head`: the time for the request line and headers.
    `seconds_for_answer`: the time in which a client must read an answer, all but a few KiB. `refusals`: which answers
    must wait; None for none.
    """

    connections: int = 1000
    seconds_for_head: float = 10.0
    seconds_for_answer: float = 60.0
    refusals: RefusalThrottle | None = None
    open: int = field(default=0, init=False)


class Connection(web.RequestHandler):
    """aiohttp's handler of a connection, with five additions.

    - A request whose head does not arrive in time gets 408, so a slow sender does not hold a connection.
    - A client that does not read its answer is disconnected.
    - A connection above the limit replaces another one (`_make_room`). Without one, the new connection gets 503.
    - The answer to a refused request may have to wait (`refusal_throttle`).
    - Errors that aiohttp answers outside of any handler (invalid HTTP, unknown expectations) get the common format.
    """

    __slots__ = ("_answer_timer", "_counted", "_head_timer", "_inflight", "_limits", "_server")

    def __init__(
        self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, limits: Limits, inflight: InFlight
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=SECONDS_IDLE,
            lingering_time=SECONDS_LINGERING,
            access_log_class=AccessLogger,
            # A few compressed bytes could fill the memory; see `request_body`.
            auto_decompress=False,
        )
        self._server = manager
        self._limits = limits
        self._inflight = inflight
        self._counted = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._limits.open += 1
        self._counted = True
        super().connection_made(transport)
        if self._limits.open > self._limits.connections and not self._make_room():
            log.warning("too many connections: refused one", extra={"limit": self._limits.connections})
            self._refuse_connection()
        else:
            self._await_head()

    def _refuse_connection(self) -> None:
        """Answer 503, perhaps later: a client that connects again and again must wait, too."""
        refusals = self._limits.refusals
        waiting = self._limits.open - self._limits.connections
        delay = refusals.delay(self.source) if refusals and waiting <= MOST_WAITING else 0.0
        refuse = partial(self._refuse, "too_many_connections", "too many connections; try again", "Retry-After: 5\r\n")
        if delay and isinstance(self.transport, asyncio.Transport):
            # A request that arrives meanwhile is not read.
            self.transport.pause_reading()
            self._head_timer = self._loop.call_later(delay, refuse)
        else:
            refuse()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._limits.open -= 1
            self._counted = False
        self._stop_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if waits_for_head(self):
            if self._head_timer is None:
                self._await_head()
        else:
            self._stop_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answer_timer is None:
            self._answer_timer = self._loop.call_later(self._limits.seconds_for_answer, self._answer_too_slow)

    def resume_writing(self) -> None:
        self._stop_answer_timer()
        super().resume_writing()

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, and nothing of it has arrived."""
        return self._head_timer is None and waits_for_head(self)

    @property
    def awaiting_request(self) -> bool:
        """Whether a request is expected soon: its head has begun, or the connection is new."""
        return self._head_timer is not None

    @property
    def source(self) -> str:
        """The source of the connection: its peer, also if that is a proxy."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return source_of(peer[0] if isinstance(peer, tuple) else None)

    def _make_room(self) -> bool:
        """Close another connection: an idle one, else one whose client does not read its answer, else one that has not
        sent its head. Of those, one of the source with the most connections, and the oldest of it. So a source that
        opens more and more connections closes only its own.

        False without such a connection. A source with fewer connections never makes room. For a connection that has not
        sent its head, the source must have more: perhaps the head is on its way.
        """
        others = [other for other in self._server.connections if other is not self and isinstance(other, Connection)]
        numbers = Counter(other.source for other in others)
        own = numbers[self.source]
        for closing, least, close in (
            (lambda other: other.idle, own, Connection.force_close),
            (lambda other: other._answer_timer is not None, own, Connection._hang_up),
            (lambda other: other.awaiting_request, own + 2, Connection._hang_up),
        ):
            fitting = [other for other in others if numbers[other.source] >= least and closing(other)]
            if fitting:
                close(max(fitting, key=lambda other: numbers[other.source]))
                return True
        return False

    async def _wait(self, seconds: float) -> None:
        """Wait for the answer to a refusal, but not while the server is stopping."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._inflight.stopping.wait()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._limits.seconds_for_head, self._head_too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _answer_too_slow(self) -> None:
        log.info(
            "disconnected a client that did not read its answer", extra={"seconds": self._limits.seconds_for_answer}
        )
        self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection at once, with unwritten data."""
        self._stop_answer_timer()
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if waits_for_head(self):
            self._refuse("request_timeout", "the request did not arrive in time")

    def _refuse(self, code: str, message: str, headers: str = "") -> None:
        transport = self.transport
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            body = json.dumps({"code": code, "message": message}).encode()
            status = HTTPStatus(CODES[code].status)
            transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json; charset=utf-8\r\n{headers}"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to invalid HTTP, or to an exception that no middleware caught."""
        # aiohttp's message quotes the request, perhaps a token in a broken header: it is neither answered nor logged.
        del message
        if status >= 500:
            log.error("a bug: a request failed outside of all handlers", exc_info=exc)
            return bug_response(request, close=True)
        log.info("refused invalid HTTP", extra={"ip": client_address(request), "reason": type(exc).__name__})
        return http_error_response(status, close=True)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer in the common format; close the connection afterwards if the server is stopping."""
        if isinstance(resp, web.HTTPException):
            resp = plain_http_response(resp)
        add_common_headers(request, resp)
        answer_in_spoken_version(request)
        if self._inflight.stopping.is_set():
            resp.force_close()
        elif 400 <= resp.status < 500 and self._limits.refusals is not None:
            latest = request.get(ANSWER_BY, math.inf)
            if delay := self._limits.refusals.delay(source_of(client_address(request)), latest):
                await self._wait(delay)
                # The log has the time that the answer took, not that it had to wait.
                start_time = None if start_time is None else start_time + delay
        return await super().finish_response(request, resp, start_time)


def factory(manager: web.Server, limits: Limits, inflight: InFlight) -> Any:
    """The factory of protocols for `loop.create_server`."""
    loop = asyncio.get_running_loop()
    return lambda: Connection(manager, loop=loop, limits=limits, inflight=inflight)
