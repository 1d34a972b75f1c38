"""The sender to Splunk, against a small collector of our own."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ipam_lib.telemetry import logs, splunk
from ipam_lib.telemetry.pipeline import LogPipeline
from ipam_lib.telemetry.splunk import SplunkHandler, SplunkSettings
from tests.support.clock import FakeClock


class Collector:
    """An event collector that remembers what it got, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
        self.statuses: list[int] = []
        self.words = "Success"
        self.headers: dict[str, str] = {}
        self.url = ""
        self.came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        events = [json.loads(line) for line in text.splitlines()]
        self.requests.append((dict(request.headers), events))
        self.came.set()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response({"text": self.words, "code": 0}, status=status, headers=self.headers)

    async def got(self, count: int) -> None:
        """Return when so many requests have come."""
        async with asyncio.timeout(20):
            while len(self.requests) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/services/collector/event", found.take)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


Make = Callable[..., SplunkHandler]


@pytest.fixture
async def make(collector: Collector) -> AsyncIterator[Make]:
    made: list[SplunkHandler] = []

    def build(url: str | None = None, clock: Any = None) -> SplunkHandler:
        settings = SplunkSettings(url=url or collector.url, token="hec-token", index="vitistack", host="vm1")
        handler = SplunkHandler(settings, clock=clock)
        made.append(handler)
        return handler

    yield build
    for handler in made:
        await handler.stop(0.2)


def record(text: str, name: str = "ipam_lib.registry", **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, __file__, 1, text, None, None)
    made.__dict__.update(extra)
    made.created = 1_700_000_000.1239
    return made


async def test_an_event_has_the_shape_token_index_and_source_types(collector: Collector, make: Make) -> None:
    handler = make()
    await handler.start()
    handler.emit(record("released", zone="inet"))
    handler.emit(record("POST / 200", name=logs.HTTP, status=200))
    await handler.stop()
    ((headers, events),) = collector.requests
    assert headers["Authorization"] == "Splunk hec-token"
    assert [event["sourcetype"] for event in events] == ["ipam-api:app", "ipam-api:http"]
    for event in events:
        assert event["index"] == "vitistack"
        assert event["source"] == "vitistack:ipam-api"
        assert event["host"] == "vm1"
        assert event["time"] == 1_700_000_000.124
    assert events[0]["event"]["message"] == "released"
    assert events[0]["event"]["zone"] == "inet"
    assert events[1]["event"]["status"] == 200
    assert (handler.sent, handler.dropped) == (2, 0)


async def test_a_record_of_any_kind_is_one_event(collector: Collector, make: Make) -> None:
    handler = make()
    await handler.start()
    handler.emit(record('a "quoted"\n line \u2028\ud800', zone="ö", services=[{"a": 1}], nothing=None))
    await handler.stop()
    ((_, (event,)),) = collector.requests
    assert event["event"]["message"] == 'a "quoted"\n line \u2028?'
    assert event["event"]["services"] == [{"a": 1}]
    assert event["event"]["zone"] == "ö"


async def test_without_an_index_the_token_says_which(collector: Collector) -> None:
    handler = SplunkHandler(SplunkSettings(url=collector.url + "/", token="hec-token"))
    await handler.start()
    handler.emit(record("one"))
    await handler.stop()
    ((_, (event,)),) = collector.requests
    assert "index" not in event
    assert event["host"]


async def test_events_go_in_batches_in_order(collector: Collector, make: Make) -> None:
    handler = make()
    await handler.start()
    for number in range(splunk.BATCH_EVENTS * 2 + 10):
        handler.emit(record(str(number)))
    await handler.stop()
    sizes = [len(events) for _, events in collector.requests]
    assert max(sizes) == splunk.BATCH_EVENTS
    assert len(sizes) == 3
    messages = [int(event["event"]["message"]) for _, events in collector.requests for event in events]
    assert messages == list(range(splunk.BATCH_EVENTS * 2 + 10))
    assert all(headers["Content-Encoding"] == "gzip" for headers, _ in collector.requests)


@pytest.mark.parametrize(("size", "count"), [(1, splunk.BATCH_EVENTS), (splunk.BATCH_BYTES // 4, 4)])
async def test_a_batch_goes_when_there_are_enough_events_or_bytes(
    collector: Collector, make: Make, size: int, count: int
) -> None:
    clock = FakeClock(auto=False)
    handler = make(clock=clock)
    await handler.start()
    for _ in range(count - 1):
        handler.emit(record("x" * size))
    await clock.settle()
    assert handler.waiting == count - 1
    handler.emit(record("x" * size))
    await collector.got(1)
    ((_, events),) = collector.requests
    assert len(events) == count


async def test_a_batch_goes_when_its_oldest_event_has_waited_long_enough(collector: Collector, make: Make) -> None:
    clock = FakeClock(auto=False)
    handler = make(clock=clock)
    await handler.start()
    await clock.settle()
    handler.emit(record("one"))
    clock.advance(splunk.OLDEST_SECONDS - 0.01)
    await clock.settle()
    assert handler.waiting == 1
    clock.advance(0.01)
    await collector.got(1)


async def test_what_a_busy_collector_did_not_take_is_sent_again_and_a_refusal_is_not(
    collector: Collector, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    collector.statuses = [503, 429, 200, 403]
    handler = make(clock=FakeClock(auto=True))
    await handler.start()
    handler.emit(record("first"))
    await collector.got(3)
    assert [events[0]["event"]["message"] for _, events in collector.requests] == ["first"] * 3
    handler.emit(record("second"))
    await collector.got(4)
    await handler.stop()
    assert (handler.sent, handler.dropped) == (1, 1)
    assert len(collector.requests) == 4
    assert any("Splunk" in line.message for line in caplog.records)
    assert "hec-token" not in caplog.text


async def test_pauses_grow_while_the_collector_is_away_and_are_short_again_afterwards(
    collector: Collector, make: Make
) -> None:
    collector.statuses = [503] * 8
    clock = FakeClock(auto=True)
    handler = make(clock=clock)
    await handler.start()
    handler.emit(record("first"))
    await collector.got(9)
    pauses = [seconds for seconds in clock.slept if seconds != splunk.OLDEST_SECONDS][:8]
    for number, seconds in enumerate(pauses, 1):
        assert min(splunk.LONGEST_PAUSE, 2**number) / 2 <= seconds <= min(splunk.LONGEST_PAUSE, 2**number)
    assert handler.dropped == 0


async def test_a_collector_that_says_when_is_asked_then(collector: Collector, make: Make) -> None:
    collector.statuses, collector.headers = [429], {"Retry-After": "17"}
    clock = FakeClock(auto=True)
    handler = make(clock=clock)
    await handler.start()
    handler.emit(record("first"))
    await collector.got(2)
    assert 17 in clock.slept


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 301])
async def test_a_refusal_is_final_and_told_with_its_reason(
    collector: Collector, make: Make, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    collector.statuses, collector.words = [status], "Incorrect index for hec-token"
    handler = make()
    await handler.start()
    handler.emit(record("first"))
    await handler.stop()
    assert len(collector.requests) == 1
    assert (handler.sent, handler.dropped) == (0, 1)
    (told,) = caplog.messages
    assert told.startswith(f"Splunk refuses events with status {status} (Incorrect index for ***) (are the token")
    assert told.endswith("; 0 events wait, 1 have been dropped so far")


async def test_there_is_one_warning_a_minute_and_it_counts_what_was_lost(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splunk, "MOST_EVENTS", 10)
    clock = FakeClock(auto=False)
    handler = make(url="http://127.0.0.1:9", clock=clock)
    await handler.start()
    for minute in range(3):
        for number in range(20):
            handler.emit(record(str(number)))
        async with asyncio.timeout(20):
            while len(caplog.messages) <= minute:
                clock.advance(1)
                await asyncio.sleep(0.001)
    assert [text.partition(";")[0] for text in caplog.messages] == [
        "Splunk does not answer (ClientConnectorError)"
    ] * len(caplog.messages)
    assert clock.monotonic() >= 60 * (len(caplog.messages) - 1)
    dropped = [int(text.split(", ")[1].split()[0]) for text in caplog.messages]
    assert dropped == sorted(dropped)
    assert dropped[-1] >= 30


async def test_a_bug_does_not_end_the_sending(
    collector: Collector, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make(clock=FakeClock(auto=True))
    real, broken = handler._send, [True]

    async def send(batch: list[bytes]) -> bool:
        if broken.pop() if broken else False:
            raise KeyError("anything")
        return await real(batch)

    monkeypatch.setattr(handler, "_send", send)
    await handler.start()
    handler.emit(record("one"))
    await collector.got(1)
    assert "a bug: KeyError while sending to Splunk" in caplog.text
    assert handler.dropped == 0


async def test_memory_is_bounded_and_the_oldest_go_first(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splunk, "MOST_EVENTS", 10)
    handler = make(url="http://127.0.0.1:9")
    for number in range(25):
        handler.emit(record(str(number)))
    assert handler.dropped == 15
    assert len(handler._buffer) == 10
    assert json.loads(handler._buffer[0])["event"]["message"] == "15"
    monkeypatch.setattr(splunk, "MOST_BYTES", 500)
    handler.emit(record("x" * 300))
    assert handler._bytes == sum(map(len, handler._buffer)) <= 500


@pytest.fixture
async def hole() -> AsyncIterator[str]:
    """The address of what takes connections, and never answers."""
    swallowed: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: swallowed.append(writer), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in swallowed:
        writer.close()


async def test_a_black_hole_is_waited_for_no_longer_than_the_end_allows(
    make: Make, hole: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = make(url=hole)
    await handler.start()
    handler.emit(record("never arrives"))
    await handler.stop(0.05)
    await handler.stop(0.05)
    assert (handler.dropped, handler.waiting) == (1, 0)
    assert caplog.text.count("1 log events were not sent to Splunk") == 1


async def test_a_black_hole_costs_a_request_nothing(
    make: Make, hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splunk, "MOST_EVENTS", 1000)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    handler = make(url=hole)
    pipeline = LogPipeline("info", directory=tmp_path, sinks=[handler], stream=io.StringIO())
    pipeline.start()
    try:
        await handler.start()
        nudges: list[float] = []
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> Any:
            nudges.append(1)
            return real(*arguments, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        for number in range(5000):
            logging.getLogger("ipam_lib.registry").info("line %d", number)
        assert await asyncio.to_thread(pipeline.flush, 30)
        # Whatever waits there, neither memory nor the loop that answers requests is burdened with it.
        assert handler.waiting <= 1000
        assert handler.waiting + handler.dropped + splunk.BATCH_EVENTS >= 5000
        assert len(nudges) < 50
        assert pipeline.dropped["queue"] == 0
    finally:
        await asyncio.to_thread(pipeline.stop)
        root.handlers = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
    assert len((tmp_path / "ipam-api.log").read_text().splitlines()) >= 5000


async def test_what_is_said_about_splunk_does_not_feed_itself(make: Make) -> None:
    handler = make()
    handler.emit(record("Splunk does not answer", name=splunk.__name__))
    assert not handler._buffer
