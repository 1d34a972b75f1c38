"""The last line of defence: known secrets are taken out of every log line, wherever they came from.

Nothing is meant to hand a secret to a logger. Should a library put one into an exception, or a bug into a message, it
is replaced before the line leaves the process: those of the configuration always, those of a request in the lines of
that request.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from contextvars import ContextVar

from ipam_lib.telemetry.masking import MASK

SHORTEST = 6
"""Shorter texts are not taken out: they stand in other words too. Every secret of a request is longer."""

of_request: ContextVar[tuple[str, ...]] = ContextVar("secrets_of_request", default=())
"""The secrets of the request that the running task works for."""

_of_process: set[str] = set()


def remember(secrets: Iterable[str]) -> None:
    """Take these out of every line from now on."""
    _of_process.update(secret for secret in secrets if len(secret) >= SHORTEST)


def redact(text: str) -> str:
    """`text` without any known secret."""
    for secret in (*_of_process, *of_request.get()):
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def settle(record: logging.LogRecord) -> logging.LogRecord:
    """Turn a record into text for good, in the task that logged it, and redact that: message, fields and traceback."""
    record.msg = redact(record.getMessage())
    record.args = None
    if record.exc_info and not record.exc_text:
        record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
    record.exc_info = None
    for name, value in record.__dict__.items():
        if isinstance(value, str) and name not in {"msg", "exc_text", "name", "levelname", "pathname"}:
            record.__dict__[name] = redact(value)
    return record
