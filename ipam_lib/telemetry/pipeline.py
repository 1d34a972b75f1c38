"""From the loggers to the destinations, without a request that waits for a disk, a pipe or a network.

A logging call turns its record into text and puts it into a bounded queue. One thread writes the records, many at a
time. When the queue is full (a full disk, a pipe without a reader), records are dropped and counted, and one line a
minute reports the count.

The standard library's QueueListener does not do for this: it writes record by record, and each write waits for the
interpreter lock while the event loop is busy, so the log falls behind under load; and its `stop` waits for ever for a
destination that blocks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TextIO

from ipam_lib.telemetry import logs
from ipam_lib.telemetry.json_lines import JSONFormatter
from ipam_lib.telemetry.redaction import freeze_and_redact
from ipam_lib.telemetry.rotating_files import LogFile

LONGEST_QUEUE: Final = 10_000
LARGEST_BATCH: Final = 500
SECONDS_BETWEEN_BATCHES: Final = 0.02
SECONDS_TO_WRITE_THE_REST: Final = 5.0
SECONDS_BETWEEN_REPORTS: Final = 60.0

APP_FILE: Final = "ipam-api.log"
HTTP_FILE: Final = "http.log"


class _Enqueue(QueueHandler):
    """Puts records, as text, into the queue; drops and counts them when it is full."""

    def __init__(self, records: SimpleQueue[logging.LogRecord | None], longest: int) -> None:
        super().__init__(records)
        self._records, self._longest = records, longest
        self.accepted = 0
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as text, for another thread."""
        if (current := logs.request_id.get()) is not None and not hasattr(record, "request_id"):
            record.request_id = current
        return freeze_and_redact(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Add the record, or count it as dropped; never wait."""
        if self._records.qsize() >= self._longest:
            self.dropped += 1
        else:
            self._records.put_nowait(record)
            self.accepted += 1


class LogPipeline:
    """The logging of a serving process: text on standard error, two JSON files in `directory`, and further `sinks`.

    `start` takes over the root logger; `stop` writes the queue and gives the root logger back. Problems with the
    directory or the files are reported on standard error and to the sinks; the service continues.
    """

    def __init__(
        self,
        level: str,
        *,
        directory: Path | None = None,
        sinks: Sequence[logging.Handler] = (),
        stream: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        longest_queue: int = LONGEST_QUEUE,
    ) -> None:
        self._level = level
        self._directory = directory
        self._sinks = tuple(sinks)
        self._stream = stream
        self._monotonic = monotonic
        self._reported: dict[str, float] = {}
        self._files: list[LogFile] = []
        self._text: logs.TextHandler | None = None
        # None is the last entry, from `stop`.
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._enqueue = _Enqueue(self._records, longest_queue)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._written = 0
        self._broken = 0
        self._reported_drops = 0

    @property
    def dropped(self) -> Mapping[str, int]:
        """The numbers of lost lines, by place: `queue` (it was full), `stderr`, `files`, `bug`, `splunk`."""
        return {
            "queue": self._enqueue.dropped,
            "stderr": self._text.failed if self._text is not None else 0,
            "files": sum(file.failed for file in self._files),
            "bug": self._broken,
            "splunk": sum(getattr(sink, "dropped", 0) for sink in self._sinks),
        }

    def start(self) -> None:
        """Take over the log lines of the process."""
        self._text = logs.set_up(self._level, self._stream)
        self._text.buffered = True
        self._files = self._open_files()
        logging.getLogger().handlers = [self._enqueue]
        self._thread = threading.Thread(target=self._run, name="write the log", daemon=True)
        self._thread.start()

    def flush(self, seconds: float = SECONDS_TO_WRITE_THE_REST) -> bool:
        """Wait until all lines up to now are written, at most `seconds`. Returns whether they are."""
        wanted = self._enqueue.accepted
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= wanted, seconds)

    def stop(self, seconds: float = SECONDS_TO_WRITE_THE_REST) -> None:
        """Write the queue and close the files. Lines that a destination does not accept within `seconds` are lost.

        A second call does nothing.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._text is not None
        self._stopping.set()
        self._records.put(None)
        thread.join(seconds)
        if thread.is_alive():
            # The thread waits for a reader that does not read; any other writer would wait as well.
            logging.getLogger().handlers = [logging.NullHandler()]
            return
        self._text.buffered = False
        logging.getLogger().handlers = [self._text]

    def report(self, text: str) -> None:
        """Log a problem of the logging itself on standard error and to the sinks, each at most once a minute."""
        topic = text.partition(":")[0]
        now = self._monotonic()
        if now - self._reported.get(topic, -SECONDS_BETWEEN_REPORTS) < SECONDS_BETWEEN_REPORTS:
            return
        self._reported[topic] = now
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        for handler in (self._text, *self._sinks):
            if handler is not None:
                with suppress(Exception):
                    handler.handle(record)
                    handler.flush()

    def _open_files(self) -> list[LogFile]:
        if self._directory is None:
            return []
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.report(f"cannot make the log directory {self._directory}: {error}; logging to standard error only")
            return []

        def is_http(record: logging.LogRecord) -> bool:
            return record.name == logs.HTTP

        files = []
        for name, accept in ((APP_FILE, lambda record: not is_http(record)), (HTTP_FILE, is_http)):
            file = LogFile(self._directory / name, self.report)
            file.setFormatter(JSONFormatter())
            file.addFilter(accept)
            files.append(file)
        return files

    def _run(self) -> None:
        handlers = [handler for handler in (self._text, *self._files, *self._sinks) if handler is not None]
        running = True
        while running:
            batch = [self._records.get()]
            # Wait a little, so that under load many records are written at once.
            self._stopping.wait(SECONDS_BETWEEN_BATCHES)
            with suppress(Empty):
                while len(batch) < LARGEST_BATCH:
                    batch.append(self._records.get_nowait())
            running = None not in batch
            self._write([record for record in batch if record is not None], handlers)
        for handler in (*self._files, *self._sinks):
            self._try(handler.close)

    def _write(self, batch: Sequence[logging.LogRecord], handlers: Sequence[logging.Handler]) -> None:
        for handler in handlers:
            for record in batch:
                self._try(handler.handle, record)
            self._try(handler.flush)
        if (dropped := self._enqueue.dropped) > self._reported_drops:
            self._reported_drops = dropped
            self.report(f"log lines were dropped: the log cannot be written fast enough; {dropped} so far")
        with self._progress:
            self._written += len(batch)
            self._progress.notify_all()

    def _try(self, step: Callable[..., object], *arguments: object) -> None:
        """A bug in one destination must not end the thread, and the whole log with it."""
        try:
            step(*arguments)
        except Exception as error:
            self._broken += 1
            self.report(f"a bug: a line could not be written: {type(error).__name__}")
