"""One line in the log for each answer, whoever gave it (also aiohttp itself, to what is not even HTTP)."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from ipam_lib.telemetry.logs import HTTP
from ipam_lib.telemetry.masking import mask_body
from ipam_lib.web.answers import BODY, request_id_of

log = logging.getLogger(HTTP)


class AccessLogger(AbstractAccessLogger):
    """Called by aiohttp when an answer has been written."""

    @property
    def enabled(self) -> bool:
        """Whether such lines are wanted at all."""
        return log.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line; `time` is how long the answer took, in seconds."""
        # The path as it was sent, still percent-encoded, and without a query, which may hold anything.
        path = request.rel_url.raw_path
        body = request.get(BODY)
        record = log.makeRecord(
            log.name,
            logging.INFO,
            # Where this is logged is known: nobody has to look for it on the stack.
            __file__,
            _LINE,
            "%s %s %d",
            (request.method, path, response.status),
            None,
            extra={
                "request_id": request_id_of(request),
                "status": response.status,
                "method": request.method,
                "path": path,
                "ip": request.remote,
                "response_time_ms": round(time * 1000, 3),
                "user_agent": request.headers.get(hdrs.USER_AGENT, ""),
                "body": mask_body(body) if body else "",
            },
        )
        log.handle(record)


_LINE: Final = AccessLogger.log.__code__.co_firstlineno
