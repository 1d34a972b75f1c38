"""Logging: readable text on standard error, every line with the id of the request that it belongs to. Where that is
systemd's journal, which keeps time and priority itself, lines begin with their priority, and have no time.

Loggers are named after their module; `ipam_lib.http` is for one line per answered request (built by `web.access`, with
the fields as extras). Nothing here may ever be handed a secret, token or password; what is handed one all the same is
redacted.
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

# Set for the length of one request, and inherited by every task that works for it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a record carries beside its message, the request id among them."""
    fields = {name: value for name, value in record.__dict__.items() if name not in STANDARD}
    if "request_id" not in fields and (current := request_id.get()) is not None:
        fields["request_id"] = current
    return fields


@lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def timestamp(record: logging.LogRecord) -> str:
    """When a record was made: `2026-11-24T10:00:00.123Z`."""
    # Many are made in a second.
    return f"{_to_the_second(int(record.created))}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`2026-11-24T10:00:00.123Z INFO ipam_lib.registry: message field=value ...`, and a traceback below, if any."""

    def head(self, record: logging.LogRecord) -> str:
        """What stands before the logger's name."""
        return f"{timestamp(record)} {record.levelname} "

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join([f" {name}={value}" for name, value in extras(record).items() if value != ""])
        line = f"{self.head(record)}{printable(f'{record.name}: {record.getMessage()}{fields}')}"
        # A record that came through the queue has its traceback as text.
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line += "\n" + record.exc_text
        if record.stack_info:
            line += "\n" + self.formatStack(record.stack_info)
        return line


class JournalFormatter(TextFormatter):
    """`<6>ipam_lib.registry: message field=value ...`: the number is the priority, as syslog has them (sd-daemon(3)).
    The journal takes every line for itself, so each line of a traceback has it."""

    def head(self, record: logging.LogRecord) -> str:
        del record
        return ""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in super().format(record).splitlines())


def priority(level: int) -> int:
    """The priority that syslog has for a level: 7 (debug) to 2 (critical)."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((number for least, number in steps if level >= least), 7)


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to the stream goes to the journal and nowhere else: systemd names its device and inode
    in `$JOURNAL_STREAM` (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class TextHandler(logging.Handler):
    """Writes readable text to a stream. Where that takes nothing (its reader has gone, its disk is full), lines are
    lost and counted: there is nowhere left to tell.

    By itself it redacts each line and writes it at once; a pipeline has done the one, and does the other by `flush`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(JournalFormatter() if is_journal(stream) else TextFormatter())
        self._stream = stream
        self._piped = False
        self._lines: list[str] = []
        self.failed = 0

    def leave_to_pipeline(self) -> None:
        """From now on, records come redacted, and are written by `flush`."""
        self._piped = True

    def take_back(self) -> None:
        """It is by itself again."""
        self._piped = False

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record if self._piped else freeze_and_redact(record)) + "\n")
        if not self._piped:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._write("".join(lines))
        except (OSError, ValueError):  # ValueError: it has been closed
            self.failed += len(lines)

    def _write(self, text: str) -> None:
        self._stream.flush()
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):  # no file behind it
            self._stream.write(text)
            self._stream.flush()
            return
        # Past the stream's buffer: a thread that is stuck in there keeps the interpreter from ending.
        left = memoryview(text.encode("utf-8", "replace"))
        while left:
            left = left[os.write(descriptor, left) :]


def set_up(level: str = "INFO", stream: TextIO | None = None) -> TextHandler:
    """Send every log line of the process to `stream` (standard error), from `level` on. May be called again. Returns
    what writes them."""
    handler = TextHandler(stream or sys.stderr)
    # Nobody is shown these, and they are looked up for every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # What the libraries have to say at these levels, the program says itself, in its own words.
    for name in ("asyncio", "aiohttp", "pymongo", "motor"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    return handler
