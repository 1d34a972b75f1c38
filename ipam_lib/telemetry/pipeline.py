"""From the loggers to their destinations, without a request ever waiting for a disk, a pipe or a network.

A logging call puts its record, already turned into text, into a bounded queue; one thread writes it on, many at a time.
Where that cannot keep up (a full disk, a pipe that nobody reads) records are dropped and counted, and a line a minute
says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from ipam_lib.telemetry import logs
from ipam_lib.telemetry.json_lines import JSONFormatter
from ipam_lib.telemetry.redaction import freeze_and_redact
from ipam_lib.telemetry.rotating_files import LogFile

LONGEST_QUEUE: Final = 10_000
LARGEST_BATCH: Final = 500
SECONDS_BETWEEN_BATCHES: Final = 0.02
SECONDS_TO_WRITE_THE_REST: Final = 5.0
SECONDS_BETWEEN_COMPLAINTS: Final = 60.0

APP_FILE: Final = "ipam-api.log"
HTTP_FILE: Final = "http.log"


class _Enqueue(logging.Handler):
    """Puts records into the queue, or drops and counts them when it is full."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self._longest = longest
        self.records: deque[logging.LogRecord] = deque()
        self.wake = threading.Event()
        self.accepted = 0
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) >= self._longest:
            self.dropped += 1
            return
        if (current := logs.request_id.get()) is not None and not hasattr(record, "request_id"):
            record.request_id = current
        freeze_and_redact(record)
        self.records.append(record)
        self.accepted += 1
        if not self.wake.is_set():
            self.wake.set()


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
    made or written is complained about on standard error and to the sinks, and the service goes on.
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
        self._complained: dict[str, float] = {}
        self._files: list[LogFile] = []
        self._text: logs.TextHandler | None = None
        self._enqueue = _Enqueue(longest_queue)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._written = 0
        self._broken = 0
        self._told = 0

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many lines have been lost, by where: `queue` (they came faster than they could be written), `stderr`,
        `files`, `bug` (one of ours), `splunk`."""
        return {
            "queue": self._enqueue.dropped,
            "stderr": self._text.failed if self._text is not None else 0,
            "files": sum(file.failed for file in self._files),
            "bug": self._broken,
            "splunk": sum(getattr(sink, "dropped", 0) for sink in self._sinks),
        }

    def start(self) -> None:
        """Send every log line of the process through here."""
        self._text = logs.set_up(self._level, self._stream)
        self._text.leave_to_pipeline()
        self._files = self._open_files()
        logging.getLogger().handlers = [self._enqueue]
        self._thread = threading.Thread(target=self._run, name="write the log", daemon=True)
        self._thread.start()

    def flush(self, seconds: float = SECONDS_TO_WRITE_THE_REST) -> bool:
        """Wait until what has been logged by now is written, at most `seconds`. Whether it is."""
        wanted = self._enqueue.accepted
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= wanted, seconds)

    def stop(self, seconds: float = SECONDS_TO_WRITE_THE_REST) -> None:
        """Write what is queued, and close the files; what a destination does not take within `seconds` is lost.
        Stopping twice is fine."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._text is not None
        self._stopping.set()
        self._enqueue.wake.set()
        thread.join(seconds)
        if thread.is_alive():
            # It waits for a reader that does not read. Whoever wrote there now would wait as well.
            logging.getLogger().handlers = [logging.NullHandler()]
            return
        self._text.take_back()
        logging.getLogger().handlers = [self._text]

    def complain(self, text: str) -> None:
        """Say something about the logging itself, not in the files but everywhere else, each thing at most once a
        minute."""
        topic = text.partition(":")[0]
        now = self._monotonic()
        if now - self._complained.get(topic, -SECONDS_BETWEEN_COMPLAINTS) < SECONDS_BETWEEN_COMPLAINTS:
            return
        self._complained[topic] = now
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
            self.complain(f"cannot make the log directory {self._directory}: {error}; logging to standard error only")
            return []
        files = []
        for name, http in ((APP_FILE, False), (HTTP_FILE, True)):
            file = LogFile(self._directory / name, self.complain)
            file.setFormatter(JSONFormatter())
            file.addFilter(_About(http=http))
            files.append(file)
        return files

    def _run(self) -> None:
        records, wake = self._enqueue.records, self._enqueue.wake
        handlers = [handler for handler in (self._text, *self._files, *self._sinks) if handler is not None]
        while not self._stopping.is_set() or records:
            wake.wait()
            wake.clear()
            # Under load, many are written at once; whoever reads along does not notice so short a while.
            self._stopping.wait(SECONDS_BETWEEN_BATCHES)
            while records:
                self._write([records.popleft() for _ in range(min(len(records), LARGEST_BATCH))], handlers)
        for handler in (*self._files, *self._sinks):
            self._try(handler.close)

    def _write(self, batch: Sequence[logging.LogRecord], handlers: Sequence[logging.Handler]) -> None:
        for handler in handlers:
            for record in batch:
                self._try(handler.handle, record)
            self._try(handler.flush)
        if (dropped := self._enqueue.dropped) > self._told:
            self._told = dropped
            self.complain(f"log lines were dropped: the log cannot be written fast enough; {dropped} so far")
        with self._progress:
            self._written += len(batch)
            self._progress.notify_all()

    def _try(self, step: Callable[..., object], *arguments: object) -> None:
        """A bug in one destination must not end the thread, and with it the whole log."""
        try:
            step(*arguments)
        except Exception as error:
            self._broken += 1
            self.complain(f"a bug: a line could not be written: {type(error).__name__}")
