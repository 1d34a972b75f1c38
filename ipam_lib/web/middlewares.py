"""What happens around every handler: the request's id, who may, how long it may take, and errors turned into JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web

from ipam_lib.clock import Clock
from ipam_lib.crypto import Secret, same_text
from ipam_lib.errors import IPAMError, NetBoxError, Unauthorized
from ipam_lib.telemetry import logs
from ipam_lib.telemetry.metrics import Metrics
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.responses import (
    add_common_headers,
    bug_response,
    failure_response,
    plain_http_response,
    request_id_of,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T")


@dataclass(slots=True)
class Bearer:
    """The token that opens the paths which need one. It may be exchanged for another at any time."""

    token: Secret


INFLIGHT: Final = web.AppKey("inflight", InFlight)
CLOCK: Final = web.AppKey("clock", Clock)
# Seconds within which every request is answered.
REQUEST_TIMEOUT: Final = web.AppKey("request_timeout", float)
METRICS: Final = web.AppKey("metrics", Metrics)
BEARER: Final = web.AppKey("bearer", Bearer)
ANSWER_BY: Final = web.RequestKey("answer_by", float)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost layer: whatever happens inside, one answer in our shape comes out."""
    logs.request_id.set(request_id_of(request))
    app = request.config_dict
    seconds = app[REQUEST_TIMEOUT]
    # A little is kept back for writing the answer.
    request[ANSWER_BY] = app[CLOCK].monotonic() + seconds - min(0.5, seconds / 10)
    began = time.perf_counter()
    with app[INFLIGHT].request():
        response = await _answer(request, handler)
    add_common_headers(request, response)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    app[METRICS].request(route, request.method, response.status, time.perf_counter() - began)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NetBoxError as error:
        log.warning("%s", error.message, extra={"netbox": error.detail})
        return failure_response(error)
    except web.HTTPException as error:
        return plain_http_response(error)
    except Exception as error:
        if isinstance(error, IPAMError) and error.status != 500:
            if error.status > 500:
                log.warning("%s", error.message)
            return failure_response(error)
        log.exception("a bug: the request failed in a way that nobody foresaw")
        return bug_response(request)


def time_left(request: web.Request) -> float:
    """Seconds until the request must be answered; negative when that has passed."""
    return request[ANSWER_BY] - request.app[CLOCK].monotonic()


async def with_deadline(request: web.Request, use_case: Callable[[float], Coroutine[Any, Any, T]]) -> T:
    """What the use case comes to, within the time that the request has; it is given the moment by which that ends.

    Raises Unavailable when it takes longer (it then goes on to its end), and what the use case raises.
    """
    return await request.app[INFLIGHT].within(time_left(request), use_case(request[ANSWER_BY]))


def needs_bearer(handler: Any) -> bool:
    """Whether the handler was marked as one that only takes requests with the bearer token."""
    return getattr(handler, "needs_bearer", False) is True


@web.middleware
async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the bearer token where the handler wants that, before anything else of the request is looked at.

    Raises Unauthorized. The token may stand bare: clients in the field send it so.
    """
    if needs_bearer(request.match_info.handler):
        given = request.headers.get(hdrs.AUTHORIZATION, "").strip()
        scheme, _, rest = given.partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else given
        if not same_text(token, request.app[BEARER].token.reveal()):
            raise Unauthorized("the bearer token is missing or wrong")
    return await handler(request)
