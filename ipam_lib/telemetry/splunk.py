"""Splunk's HTTP Event Collector: batched, in the background, bounded in memory, and never in the way of a request.

Events come in on the log's own thread and wait in a bounded buffer; a task on the event loop sends them, gzipped,
when enough have come or the oldest has waited long enough. What the collector refuses (4xx) is dropped; what may go
better later (5xx, 408, 429, no connection) is sent again with growing pauses. When the buffer is full the oldest go
first. Every drop is counted, and a warning a minute says how many.

https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from ipam_lib.clock import Clock, SystemClock
from ipam_lib.telemetry.json_lines import dump, fields_of
from ipam_lib.telemetry.logs import HTTP

log = logging.getLogger(__name__)

MOST_EVENTS = 10_000
MOST_BYTES = 16 * 1024 * 1024
BATCH_EVENTS = 500
BATCH_BYTES = 512 * 1024
OLDEST_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0
LONGEST_PAUSE = 60.0
SECONDS_TO_FLUSH = 5.0
SECONDS_BETWEEN_WARNINGS = 60.0
_WORTH_REPEATING = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class SplunkSettings:
    """Where to and as what. `index` None leaves it to the token."""

    url: str
    token: str = field(repr=False)
    index: str | None = None
    source: str = "vitistack:ipam-api"
    sourcetype_app: str = "ipam-api:app"
    sourcetype_http: str = "ipam-api:http"
    host: str = field(default_factory=socket.gethostname)


class SplunkHandler(logging.Handler):
    """A destination of the log. `start` it in the event loop that sends, `stop` it there; records may come from any
    thread, before and after too."""

    def __init__(
        self, settings: SplunkSettings, *, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        super().__init__()
        self._settings = settings
        self._clock = clock or SystemClock()
        self._random = rng or random.Random()
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stopping = False
        self._guard = threading.Lock()
        self._told = 0
        self._told_at = -SECONDS_BETWEEN_WARNINGS
        self.dropped = 0
        self.sent = 0

    # -- coming in, on the log's thread --------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == __name__:
            return  # what is said about Splunk here would only feed itself
        event = self._event(record)
        with self._guard:
            self._buffer.append(event)
            self._bytes += len(event)
            while len(self._buffer) > MOST_EVENTS or self._bytes > MOST_BYTES:
                self._bytes -= len(self._buffer.popleft())
                self.dropped += 1
            enough = len(self._buffer) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES
        if enough and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    def _event(self, record: logging.LogRecord) -> bytes:
        settings = self._settings
        event = {
            "event": fields_of(record),
            "time": round(record.created, 3),
            "host": settings.host,
            "source": settings.source,
            "sourcetype": settings.sourcetype_http if record.name == HTTP else settings.sourcetype_app,
        }
        if settings.index is not None:
            event["index"] = settings.index
        return dump(event).encode("utf-8", "replace")

    # -- going out, on the event loop ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), trust_env=False, auto_decompress=False
        )
        self._task = asyncio.create_task(self._run(), name="send the log to Splunk")

    async def stop(self, seconds: float = SECONDS_TO_FLUSH) -> None:
        """Send what is there, but for `seconds` at most, and end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._task, seconds)
        if self._session is not None:
            await self._session.close()
        if self._buffer:
            self.dropped += len(self._buffer)
            log.warning("%d log events were not sent to Splunk before the end", len(self._buffer))
        self._loop = self._task = self._session = None

    async def _run(self) -> None:
        failures = 0
        while True:
            if not self._stopping:
                await self._pause(failures)
            self._wake.clear()
            while batch := self._take():
                done = False
                try:
                    done = await self._send(batch)
                finally:  # also when there is no time to wait for the answer any more
                    if not done:
                        self._put_back(batch)
                failures = 0 if done else failures + 1
                if failures:
                    break
            self._tell_drops()
            if self._stopping and (not self._buffer or failures > 1):
                return

    async def _pause(self, failures: int) -> None:
        """Until events are old enough, or there are many; longer and longer while the collector is away."""
        if not failures:
            waker = asyncio.ensure_future(self._wake.wait())
            sleeper = asyncio.ensure_future(self._clock.sleep(OLDEST_SECONDS))
            await asyncio.wait((waker, sleeper), return_when=asyncio.FIRST_COMPLETED)
            waker.cancel()
            sleeper.cancel()
            return
        seconds = min(LONGEST_PAUSE, 2.0 ** min(failures, 10)) * (0.5 + self._random.random() / 2)
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        while not self._stopping and not sleeper.done():
            self._wake.clear()
            waker = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait((waker, sleeper), return_when=asyncio.FIRST_COMPLETED)
            waker.cancel()
        sleeper.cancel()

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        with self._guard:
            while self._buffer and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
                batch.append(self._buffer.popleft())
                size += len(batch[-1])
            self._bytes -= size
        return batch

    def _put_back(self, batch: list[bytes]) -> None:
        with self._guard:
            self._buffer.extendleft(reversed(batch))
            self._bytes += sum(map(len, batch))

    async def _send(self, batch: list[bytes]) -> bool:
        """Send one batch; False when it should be sent again later."""
        assert self._session is not None
        headers = {
            "Authorization": f"Splunk {self._settings.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        body = await asyncio.to_thread(gzip.compress, b"\n".join(batch), 5)
        url = f"{self._settings.url.rstrip('/')}/services/collector/event"
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._warn("Splunk does not answer: %s; events wait, and will be sent again", type(error).__name__)
            return False
        if status < 300:
            self.sent += len(batch)
            return True
        if status >= 500 or status in _WORTH_REPEATING:
            self._warn("Splunk answers %s; events wait, and will be sent again", status)
            return False
        self.dropped += len(batch)
        self._warn("Splunk refuses events with status %s: are the token, the index and the address right?", status)
        return True

    def _warn(self, text: str, detail: object) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= SECONDS_BETWEEN_WARNINGS:
            self._told_at = now
            log.warning(text, detail)

    def _tell_drops(self) -> None:
        if self.dropped > self._told:
            before = self._told_at
            self._warn("%s log events have been dropped before they reached Splunk", self.dropped)
            if self._told_at != before:
                self._told = self.dropped
