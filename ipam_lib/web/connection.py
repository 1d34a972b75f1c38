"""One client's connection: what aiohttp does with it, plus limits of our own and our shape for its own answers."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from ipam_lib.web.access import AccessLogger
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.responses import add_common_headers, bug_response, error_response, plain_http_response

log = logging.getLogger(__name__)

# Longer than any reverse proxy in front keeps its idle connections, so that it never writes into one just closed.
SECONDS_IDLE: Final = 620.0
# For the unread rest of a body, so that the client gets to read the answer before the connection is reset.
SECONDS_LINGERING: Final = 2.0


@dataclass(slots=True)
class Limits:
    """`connections`: how many may be open at once. `seconds_for_head`: how long a request line and headers may take.
    `seconds_for_answer`: within this a client must have taken what was written to it, all but a few KiB."""

    connections: int = 1000
    seconds_for_head: float = 10.0
    seconds_for_answer: float = 60.0
    open: int = field(default=0, init=False)


class Connection(web.RequestHandler):
    """aiohttp's handler of a connection, with four things added.

    A head that does not arrive in time is answered 408, so a client that sends a byte now and then does not hold a
    connection; one that does not take its answer is hung up on. A connection above the limit takes the place of the one
    that has been open and idle for longest, else of one whose client is not taking its answer; where there is none, it
    is answered 503 at once. Answers that aiohttp gives before any handler is known (to what is not HTTP, to
    expectations that cannot be met) get our shape.
    """

    __slots__ = ("_answer_timer", "_counted", "_head_timer", "_inflight", "_limits")

    def __init__(
        self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, limits: Limits, inflight: InFlight
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=SECONDS_IDLE,
            lingering_time=SECONDS_LINGERING,
            access_log_class=AccessLogger,
            # Decompressing what a client sends is a way to fill memory with a few bytes; see `body`.
            auto_decompress=False,
        )
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
            self._refuse(503, "too many connections; try again", "Retry-After: 5\r\n")
        else:
            self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._limits.open -= 1
            self._counted = False
        self._stop_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Data came, and still it does.
        if self._waiting_for_head():
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
        """Whether it waits for a request of which nothing has arrived yet."""
        return self._head_timer is None and self._waiting_for_head()

    @property
    def awaiting_request(self) -> bool:
        """Whether a request is on its way: it has begun, or the connection has been opened to send one."""
        return self._head_timer is not None

    def _waiting_for_head(self) -> bool:
        # aiohttp's waiter stands for as long as a connection waits for a whole head.
        return self._waiter is not None and not self._waiter.done()

    def _make_room(self) -> bool:
        others = [
            other
            for other in (self._manager.connections if self._manager is not None else ())
            if other is not self and isinstance(other, Connection)
        ]
        for other in others:
            if other.idle:
                other.force_close()
                return True
        for other in others:
            if other._answer_timer is not None:
                other._hang_up()
                return True
        return False

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
        log.info("hung up on a client that did not take its answer", extra={"seconds": self._limits.seconds_for_answer})
        self._hang_up()

    def _hang_up(self) -> None:
        """End the connection at once, whatever is still to be written."""
        self._stop_answer_timer()
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self._waiting_for_head():
            self._refuse(408, "the request did not arrive in time")

    def _refuse(self, status: int, message: str, headers: str = "") -> None:
        transport = self.transport
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            body = json.dumps({"message": message}).encode()
            reason = {408: "Request Timeout", 503: "Service Unavailable"}[status]
            transport.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json; charset=utf-8\r\n{headers}"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is not HTTP, or to an exception that no middleware caught."""
        # aiohttp's message quotes what was sent, a token in a broken header perhaps: neither answered nor logged.
        del message
        if status >= 500:
            log.error("a bug: a request failed outside of every handler", exc_info=exc)
            return bug_response(request, close=True)
        log.info("refused what is not valid HTTP", extra={"ip": request.remote, "reason": type(exc).__name__})
        return error_response(status, close=True)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, in our shape, and close the connection after it when the server is about to leave."""
        if isinstance(resp, web.HTTPException):
            resp = plain_http_response(resp)
        add_common_headers(request, resp)
        if request._version not in (HttpVersion10, HttpVersion11):
            # Answered in the version that is spoken here (RFC 9110, section 6.2); aiohttp would repeat the client's.
            request._version = HttpVersion11
            request._cache.pop("version", None)
        if self._inflight.stopping:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)


def factory(manager: web.Server, limits: Limits, inflight: InFlight) -> Any:
    """What `loop.create_server` calls for each connection."""
    loop = asyncio.get_running_loop()
    return lambda: Connection(manager, loop=loop, limits=limits, inflight=inflight)
