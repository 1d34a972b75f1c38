"""Logging: readable text on standard error, every line with the id of the request that it belongs to.

Loggers are named after their module; `ipam_lib.http` is for one line per answered request (built by `web.access`, with
the fields as extras). Nothing here may ever be handed a secret, token or password.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

HTTP = "ipam_lib.http"

# Set for the length of one request, and inherited by every task that works for it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a record carries beside its message, the request id among them."""
    fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    if "request_id" not in fields and (current := request_id.get()) is not None:
        fields["request_id"] = current
    return fields


class TextFormatter(logging.Formatter):
    """`2026-11-24T10:00:00.123Z INFO ipam_lib.registry: message field=value ...`, and a traceback below, if any."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"
        fields = "".join(f" {name}={printable(str(value))}" for name, value in extras(record).items() if value != "")
        line = f"{stamp} {record.levelname} {record.name}: {printable(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            line += "\n" + self.formatStack(record.stack_info)
        return line


def set_up(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (standard error), from `level` on. May be called again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # What the libraries have to say at these levels, the program says itself, in its own words.
    for name in ("asyncio", "aiohttp", "pymongo", "motor", "aiosqlite"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
