"""From the loggers to their destinations, without a request ever waiting for a disk, a pipe or a network.

A logging call puts its record, already turned into text, into a bounded queue; one thread writes it on, several at a
time: to be woken for each would cost the request more than the line itself. Where that cannot keep up (a full disk, a
pipe that nobody reads) records are dropped and counted, and a line a minute says so.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import TextIO

from ipam_lib.telemetry import logs
from ipam_lib.telemetry.json_lines import JSONFormatter
from ipam_lib.telemetry.redaction import settle

LONGEST_QUEUE = 10_000
SECONDS_TO_GATHER = 0.02
LARGEST_FILE = 50 * 1024 * 1024
FILES_KEPT = 10
SECONDS_BETWEEN_COMPLAINTS = 60.0

APP_FILE = "ipam-api.log"
HTTP_FILE = "http.log"


class _Gathering:
    """The queue between those who log and the one thread that writes. That is woken by the first record, and then lets
    others gather for a moment."""

    def __init__(self, longest: int, seconds: float = SECONDS_TO_GATHER) -> None:
        self._longest = longest
        self._seconds = seconds
        self._records: deque[logging.LogRecord | None] = deque()
        self._arrived = threading.Event()
        self._ending = threading.Event()
        self._waiting = False

    @property
    def settled(self) -> bool:
        """Whether everything that was put in has been written."""
        return not self._records and self._waiting

    def put_nowait(self, record: logging.LogRecord | None) -> None:
        """Add a record, or None, which ends the thread; raises queue.Full. Any thread may."""
        if record is None:
            self._ending.set()
        elif len(self._records) >= self._longest:
            raise queue.Full
        self._records.append(record)
        if not self._arrived.is_set():
            self._arrived.set()

    def get(self, block: bool = True) -> logging.LogRecord | None:
        """The next record; waits for it, or raises queue.Empty. One thread may."""
        while not self._records:
            if not block:
                raise queue.Empty
            self._waiting = True
            self._arrived.wait()
            self._ending.wait(self._seconds)
            self._arrived.clear()
        # Before the record is taken out: `settled` looks in the opposite order.
        self._waiting = False
        return self._records.popleft()


class _Enqueue(QueueHandler):
    """Puts records into the queue, or drops and counts them when it is full."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if (current := logs.request_id.get()) is not None and not hasattr(record, "request_id"):
            record.request_id = current
        return settle(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _LogFile(RotatingFileHandler):
    """A rotated file of JSON lines. A disk that is full, or a directory that cannot be written, is complained about
    once a minute, and tried again with every line."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=LARGEST_FILE, backupCount=FILES_KEPT, encoding="utf-8", delay=True)
        self.setFormatter(JSONFormatter())
        self._complain = complain
        self.failed = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        del record
        self.failed += 1
        error = sys.exc_info()[1]
        self._complain(f"cannot write {self.baseFilename}: {error}; {self.failed} lines are missing there so far")


class _About(logging.Filter):
    """Passes the lines about requests, or all others."""

    def __init__(self, *, http: bool) -> None:
        super().__init__()
        self._http = http

    def filter(self, record: logging.LogRecord) -> bool:
        return (record.name == logs.HTTP) is self._http


class LogPipeline:
    """The logging of a serving process: text on standard error, two JSON files in `directory`, and further `sinks`.

    `start` takes over the root logger; `stop` writes what is queued and gives it back. A directory that cannot be
    made or written is complained about on standard error, and the service goes on.
    """

    def __init__(
        self,
        level: str,
        *,
        directory: Path | None = None,
        sinks: Sequence[logging.Handler] = (),
        stream: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._level = level
        self._directory = directory
        self._sinks = tuple(sinks)
        self._stream = stream
        self._monotonic = monotonic
        self._complained: dict[str, float] = {}
        self._text: logging.Handler | None = None
        self._queue = _Gathering(LONGEST_QUEUE)
        self._enqueue = _Enqueue(self._queue)
        self._listener: QueueListener | None = None

    @property
    def dropped(self) -> int:
        """How many records have been dropped because the queue was full."""
        return self._enqueue.dropped

    def start(self) -> None:
        """Send every log line of the process through here."""
        logs.set_up(self._level, self._stream)
        root = logging.getLogger()
        (self._text,) = root.handlers
        handlers = [self._text, *self._files(), *self._sinks]
        self._listener = _Listener(self._queue, *handlers, pipeline=self)
        root.handlers = [self._enqueue]
        self._listener.start()

    def stop(self) -> None:
        """Write what is queued, and close the files. Stopping twice is fine."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.stop()
        assert self._text is not None
        logging.getLogger().handlers = [self._text]
        for handler in listener.handlers:
            if handler is not self._text:
                handler.close()

    def _files(self) -> list[logging.Handler]:
        if self._directory is None:
            return []
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.complain(f"cannot make the log directory {self._directory}: {error}; logging to standard error only")
            return []
        files: list[logging.Handler] = []
        for name, http in ((APP_FILE, False), (HTTP_FILE, True)):
            file = _LogFile(self._directory / name, self.complain)
            file.addFilter(_About(http=http))
            files.append(file)
        return files

    def complain(self, text: str) -> None:
        """Say something about the logging itself, on standard error only, each thing at most once a minute."""
        topic = text.partition(":")[0]
        now = self._monotonic()
        if now - self._complained.get(topic, -SECONDS_BETWEEN_COMPLAINTS) < SECONDS_BETWEEN_COMPLAINTS:
            return
        self._complained[topic] = now
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        if self._text is not None:
            self._text.handle(record)

    def tell_drops(self, told: int) -> int:
        """Complain about records dropped since `told`; the new total."""
        if self.dropped > told:
            self.complain(f"log lines were dropped: the log cannot be written fast enough; {self.dropped} so far")
        return self.dropped


class _Listener(QueueListener):
    """Writes from the queue on its own thread, and tells about drops when it has caught up."""

    def __init__(self, source: _Gathering, *handlers: logging.Handler, pipeline: LogPipeline) -> None:
        super().__init__(source, *handlers, respect_handler_level=True)
        self._pipeline = pipeline
        self._told = 0

    def handle(self, record: logging.LogRecord) -> None:
        super().handle(record)
        if self._pipeline.dropped > self._told:
            self._told = self._pipeline.tell_drops(self._told)
