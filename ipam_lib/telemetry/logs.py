"""Readable log text on standard error; each line has the id of its request.

In systemd's journal, which keeps time and priority itself, lines begin with the priority and have no time.

Loggers are named after their modules. `ipam_lib.http` has one line for each answer, with its fields as extras, from
`web.access_log`. No code may log a secret, token or password; if it does, `redaction` masks it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from ipam_lib.telemetry.redaction import STANDARD, freeze_and_redact
from ipam_lib.text import printable

HTTP = "ipam_lib.http"

# Set for each request; the tasks of the request inherit it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record, the request id included."""
    fields = {name: value for name, value in record.__dict__.items() if name not in STANDARD}
    if "request_id" not in fields and (current := request_id.get()) is not None:
        fields["request_id"] = current
    return fields


def timestamp(record: logging.LogRecord) -> str:
    """The time of a record: `2026-11-24T10:00:00.123Z`."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    # Under load, thousands of records share a second.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


class TextFormatter(logging.Formatter):
    """`2026-11-24T10:00:00.123Z INFO ipam_lib.registry: message field=value ...`, and a traceback below, if any."""

    def head(self, record: logging.LogRecord) -> str:
        """The text before the name of the logger."""
        return f"{timestamp(record)} {record.levelname} "

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join([f" {name}={value}" for name, value in extras(record).items() if value != ""])
        line = f"{self.head(record)}{printable(f'{record.name}: {record.getMessage()}{fields}')}"
        # A record from the queue has its traceback as text.
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line += "\n" + record.exc_text
        if record.stack_info:
            line += "\n" + self.formatStack(record.stack_info)
        return line


class JournalFormatter(TextFormatter):
    """`<6>ipam_lib.registry: message field=value ...`, with the priority of syslog (sd-daemon(3)).

    The journal stores each line as an entry, so each line of a traceback has the priority.
    """

    def head(self, record: logging.LogRecord) -> str:
        del record
        return ""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in super().format(record).splitlines())


def priority(level: int) -> int:
    """The syslog priority of a level: 7 (debug) to 2 (critical)."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((number for least, number in steps if level >= least), 7)


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is connected to the journal: `$JOURNAL_STREAM` has its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class TextHandler(logging.Handler):
    """Writes readable, redacted text to a stream. Lines that the stream does not accept are counted in `failed`.

    `buffered`: whether lines wait for `flush`; otherwise each is written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(JournalFormatter() if is_journal(stream) else TextFormatter())
        self._stream = stream
        self._lines: list[str] = []
        self.buffered = False
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(freeze_and_redact(record)) + "\n")
        if not self.buffered:
            self.flush()

    def flush(self) -> None:
        """Write the waiting lines."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._write("".join(lines))
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.failed += len(lines)

    def _write(self, text: str) -> None:
        self._stream.flush()
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):  # not a file
            self._stream.write(text)
            self._stream.flush()
            return
        # Not through the buffer of the stream: a thread that blocks in there keeps the interpreter from ending.
        left = memoryview(text.encode("utf-8", "replace"))
        while left:
            left = left[os.write(descriptor, left) :]


def set_up(level: str = "INFO", stream: TextIO | None = None) -> TextHandler:
    """Send all log lines of the process from `level` on to `stream` (standard error). It may be called again.

    Returns the handler.
    """
    handler = TextHandler(stream or sys.stderr)
    # No format shows these, and logging would look them up for every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # The program itself logs what these libraries log below warnings.
    for name in ("asyncio", "aiohttp", "pymongo", "motor"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    return handler
