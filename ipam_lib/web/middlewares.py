"""The layer around every handler: request id, time limit, and errors as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from ipam_lib.errors import (
    CertificateNotAllowed,
    IPAMError,
    NetBoxError,
    NetworkNotAllowed,
    TimeLimitReached,
    Unavailable,
)
from ipam_lib.lifecycle import Services
from ipam_lib.telemetry import logs, redaction
from ipam_lib.web.access_control import ACCESS_CONTROL
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.responses import (
    REASON,
    add_common_headers,
    bug_response,
    failure_response,
    plain_http_response,
    request_id_of,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SERVICES: Final = web.AppKey("services", Services)
INFLIGHT: Final = web.AppKey("inflight", InFlight)
# Seconds.
REQUEST_TIMEOUT: Final = web.AppKey("request_timeout", float)
# By the monotonic clock.
ANSWER_BY: Final = web.RequestKey("answer_by", float)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost layer: it gives each request one answer, in the common format, within the time limit."""
    logs.request_id.set(request_id_of(request))
    redaction.start_request()
    services = request.app[SERVICES]
    limit = request.app[REQUEST_TIMEOUT]
    # The rest is for writing the answer.
    seconds = limit - min(0.5, limit / 10)
    request[ANSWER_BY] = services.clock.monotonic() + seconds
    began = time.perf_counter()
    try:
        response = await request.app[INFLIGHT].limit(seconds, _answer(request, handler), _log_late)
    except TimeoutError:
        log.warning("the request reached its time limit")
        response = failure_response(TimeLimitReached())
    add_common_headers(request, response)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    services.metrics.request(route, request.method, response.status, time.perf_counter() - began)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        request.app[ACCESS_CONTROL].check(request)
        return await handler(request)
    except (NetworkNotAllowed, CertificateNotAllowed) as error:
        request.app[SERVICES].metrics.refused(error.code)
        return failure_response(error)
    except NetBoxError as error:
        log.warning("%s", error.message, extra={"netbox": error.detail})
        return failure_response(error)
    except web.HTTPException as error:
        return plain_http_response(error)
    except Exception as error:
        if isinstance(error, IPAMError) and error.status != 500:
            if error.status > 500:
                detail = error.detail if isinstance(error, Unavailable) else ""
                log.warning("%s", error.message, extra={"storage": detail} if detail else None)
            return failure_response(error)
        log.exception("a bug: the request failed with an unexpected error")
        return bug_response(request)


def _log_late(response: web.StreamResponse) -> None:
    log.info("the request ended after its time limit: %s", response.get(REASON, "done"))


def time_left(request: web.Request) -> float:
    """Seconds until the time limit of the request; negative after it."""
    return request[ANSWER_BY] - request.app[SERVICES].clock.monotonic()
