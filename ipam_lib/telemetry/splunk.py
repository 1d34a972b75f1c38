"""Splunk's HTTP Event Collector as a log destination: in batches, in the background, with bounded memory.

The log thread puts events into a bounded buffer. A task on the event loop sends them, compressed, when there are enough
or the oldest is old enough. Batches that the collector rejects (4xx) are dropped. After 5xx, 408, 429 and connection
errors a batch is sent again after a growing pause. A full buffer drops its oldest events. All drops are counted; one
warning a minute has the problem and the numbers of waiting and dropped events.

https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import random
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from ipam_lib.clock import Clock, SystemClock
from ipam_lib.telemetry.json_lines import dump, json_line
from ipam_lib.telemetry.logs import HTTP
from ipam_lib.text import printable

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
LONGEST_REASON = 200
_RETRYABLE = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class SplunkSettings:
    """The collector and the metadata of events. `index`: None for the default index of the token."""

    url: str
    token: str = field(repr=False)
    index: str | None = None
    source: str = "vitistack:ipam-api"
    sourcetype_app: str = "ipam-api:app"
    sourcetype_http: str = "ipam-api:http"
    host: str = field(default_factory=socket.gethostname)


class SplunkHandler(logging.Handler):
    """A log handler. Call `start` and `stop` on the event loop; records may come from any thread at any time."""

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
        self._stopping = asyncio.Event()
        self._woken = False
        self._guard = threading.Lock()
        self._warned_drops = 0
        self._warned_at = -SECONDS_BETWEEN_WARNINGS
        self._asked_to_wait = 0.0
        self.dropped = 0
        self.sent = 0

    # -- on the log thread --------------------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == __name__:
            return  # a line about Splunk would cause more lines about Splunk
        event = self._event(record)
        with self._guard:
            self._buffer.append(event)
            self._bytes += len(event)
            while len(self._buffer) > MOST_EVENTS or self._bytes > MOST_BYTES:
                self._bytes -= len(self._buffer.popleft())
                self.dropped += 1
            enough = len(self._buffer) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES
            # Wake the task once for a batch, not for each event.
            wake = enough and not self._woken
            self._woken = enough
        if wake and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    def _event(self, record: logging.LogRecord) -> bytes:
        settings = self._settings
        about = {
            "time": round(record.created, 3),
            "host": settings.host,
            "source": settings.source,
            "sourcetype": settings.sourcetype_http if record.name == HTTP else settings.sourcetype_app,
        }
        if settings.index is not None:
            about["index"] = settings.index
        # The same line as in the log file.
        return f'{{"event":{json_line(record)},{dump(about)[1:]}'.encode("utf-8", "replace")

    @property
    def waiting(self) -> int:
        """The number of events that wait to be sent."""
        return len(self._buffer)

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start to send."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), trust_env=False, auto_decompress=False
        )
        self._task = asyncio.create_task(self._run(), name="send the log to Splunk")

    async def stop(self, seconds: float = SECONDS_TO_FLUSH) -> None:
        """Send the waiting events, for at most `seconds`, and stop."""
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._task, seconds)
        if self._session is not None:
            await self._session.close()
        if lost := self._drop_all():
            log.warning("%d log events were not sent to Splunk before the end", lost)
        self._loop = self._task = self._session = None

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._pause(failures)
            self._wake.clear()
            try:
                failures = 0 if await self._send_all() else failures + 1
            except Exception as error:
                failures += 1
                self._warn(f"a bug: {type(error).__name__} while sending to Splunk")
            if not failures and self.dropped > self._warned_drops:
                self._warn("events were lost on their way to Splunk")
            if self._stopping.is_set() and (not self._buffer or failures > 1):
                return

    async def _send_all(self) -> bool:
        """Send all events, batch by batch. Returns False when a batch must be sent again later."""
        while batch := self._take():
            done = False
            try:
                done = await self._send(batch)
            finally:  # also when `stop` cancels the task
                if not done:
                    self._put_back(batch)
            if not done:
                return False
        return True

    async def _pause(self, failures: int) -> None:
        """Wait until events are old enough or many; after failures, for a growing time."""
        if self._stopping.is_set():
            return
        if not failures:
            seconds, early = OLDEST_SECONDS, self._wake
        else:
            seconds, early = min(LONGEST_PAUSE, 2.0 ** min(failures, 10)), self._stopping
            seconds = max(seconds * (0.5 + self._random.random() / 2), min(LONGEST_PAUSE, self._asked_to_wait))
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        waker = asyncio.ensure_future(early.wait())
        try:
            await asyncio.wait((waker, sleeper), return_when=asyncio.FIRST_COMPLETED)
        finally:
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
            self._woken = False
        return batch

    def _drop_all(self) -> int:
        with self._guard:
            lost = len(self._buffer)
            self._buffer.clear()
            self._bytes = 0
            self.dropped += lost
        return lost

    def _put_back(self, batch: list[bytes]) -> None:
        with self._guard:
            self._buffer.extendleft(reversed(batch))
            self._bytes += sum(map(len, batch))

    async def _send(self, batch: list[bytes]) -> bool:
        """Send one batch. Returns False if it must be sent again later."""
        assert self._session is not None
        headers = {
            "Authorization": f"Splunk {self._settings.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        body = await asyncio.to_thread(gzip.compress, b"\n".join(batch), 5)
        url = f"{self._settings.url.rstrip('/')}/services/collector/event"
        self._asked_to_wait = 0.0
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
                said = "" if status < 300 else await self._reason(answer)
                wait = answer.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._warn(f"Splunk does not answer ({type(error).__name__})")
            return False
        if status < 300:
            self.sent += len(batch)
            return True
        if status >= 500 or status in _RETRYABLE:
            self._asked_to_wait = float(wait) if wait.isdecimal() else 0.0
            self._warn(f"Splunk answers {status}{said}")
            return False
        with self._guard:
            self.dropped += len(batch)
        self._warn(
            f"Splunk refuses events with status {status}{said} (are the token, the index and the address right?)"
        )
        return True

    async def _reason(self, answer: aiohttp.ClientResponse) -> str:
        """The reason that the collector gives, such as `Incorrect index`, with the token masked."""
        raw = (await answer.content.read(4096)).decode("utf-8", "replace").replace(self._settings.token, "***")
        try:
            text = json.loads(raw)["text"]
        except (ValueError, KeyError, TypeError):
            return ""
        return f" ({printable(str(text))[:LONGEST_REASON]})"

    def _warn(self, text: str) -> None:
        """Log a problem and the numbers of waiting and dropped events, at most once a minute."""
        now = self._clock.monotonic()
        if now - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            self._warned_drops = self.dropped
            log.warning("%s; %d events wait, %d have been dropped so far", text, self.waiting, self.dropped)
