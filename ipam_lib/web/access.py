"""One line in the log for each answer, whoever gave it (also aiohttp itself, to what is not even HTTP)."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from ipam_lib.telemetry.logs import HTTP
from ipam_lib.telemetry.masking import mask_body, mask_text
from ipam_lib.web.answers import BODY, DATA, REASON, request_id_of

log = logging.getLogger(HTTP)


class AccessLogger(AbstractAccessLogger):
    """Called by aiohttp when an answer has been written."""

    @property
    def enabled(self) -> bool:
        """Whether any such line is wanted at all."""
        return log.isEnabledFor(logging.WARNING)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line; `time` is how long the answer took, in seconds. What is not the client's fault is a warning.
        Where it is an error, `reason` says what the answer does."""
        level = logging.WARNING if response.status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        # The path as it was sent, still percent-encoded, and without a query, which may hold anything.
        path = mask_text(request.rel_url.raw_path)
        body = request.get(BODY)
        fields = {
            "request_id": request_id_of(request),
            "status": response.status,
            "method": request.method,
            "path": path,
            "ip": request.remote,
            "response_time_ms": round(time * 1000, 3),
            "user_agent": mask_text(request.headers.get(hdrs.USER_AGENT, "")),
            "body": mask_body(body, valid=DATA in request) if body else "",
        }
        if (reason := response.get(REASON)) is not None:
            fields["reason"] = reason
        record = log.makeRecord(
            log.name,
            level,
            # Where this is logged is known: nobody has to look for it on the stack.
            __file__,
            _LINE,
            "%s %s %d",
            (request.method, path, response.status),
            None,
            extra=fields,
        )
        log.handle(record)


_LINE: Final = AccessLogger.log.__code__.co_firstlineno
