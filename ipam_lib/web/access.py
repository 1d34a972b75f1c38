"""One line in the log for each answer, whoever gave it (also aiohttp itself, to what is not even HTTP)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from ipam_lib.telemetry.body_masking import mask_body, mask_text
from ipam_lib.telemetry.logs import HTTP
from ipam_lib.web.responses import BODY, DATA, REASON, request_id_of

log = logging.getLogger(HTTP)


class AccessLogger(AbstractAccessLogger):
    """Called by aiohttp when an answer has been written."""

    @property
    def enabled(self) -> bool:
        """Whether any such line is wanted at all."""
        return log.isEnabledFor(logging.WARNING)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        """Write the line; `seconds` is how long the answer took. What is not the client's fault is a warning.
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
            "response_time_ms": round(seconds * 1000, 3),
            "user_agent": mask_text(request.headers.get(hdrs.USER_AGENT, "")),
            "body": mask_body(body, valid=DATA in request) if body else "",
        }
        if (reason := response.get(REASON)) is not None:
            fields["reason"] = reason
        log.handle(_record(level, f"{request.method} {path} {response.status}", fields))


# What is the same in all of these lines.
_USUAL: Final = logging.LogRecord(
    HTTP, logging.INFO, __file__, AccessLogger.log.__code__.co_firstlineno, "", None, None
).__dict__


def _record(level: int, message: str, fields: Mapping[str, object]) -> logging.LogRecord:
    """As `logging` would make it, for a sixth of the time: there is one for every request."""
    now = time.time()
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = {
        **_USUAL,
        "levelno": level,
        "levelname": logging.getLevelName(level),
        "msg": message,
        "created": now,
        "msecs": now % 1 * 1000,
        **fields,
    }
    return record
