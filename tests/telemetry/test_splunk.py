"""The sender to Splunk, against a small collector of our own."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from ipam_lib.telemetry import logs, splunk
from ipam_lib.telemetry.splunk import SplunkHandler, SplunkSettings
from tests.support.clock import FakeClock


class Collector:
    """An event collector that remembers what it got, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
        self.statuses: list[int] = []
        self.url = ""
        self.came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        events = [json.loads(line) for line in text.splitlines()]
        self.requests.append((dict(request.headers), events))
        self.came.set()
        return web.json_response({"text": "Success", "code": 0}, status=self.statuses.pop(0) if self.statuses else 200)

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


async def test_a_black_hole_costs_nobody_anything_and_what_was_not_sent_is_counted(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    swallowed: list[asyncio.StreamWriter] = []
    hole = await asyncio.start_server(lambda reader, writer: swallowed.append(writer), "127.0.0.1", 0)
    handler = make(url=f"http://127.0.0.1:{hole.sockets[0].getsockname()[1]}")
    await handler.start()
    handler.emit(record("never arrives"))
    await handler.stop(0.05)
    hole.close()
    for writer in swallowed:
        writer.close()
    assert handler.dropped == 1
    assert "1 log events were not sent to Splunk" in caplog.text


async def test_what_is_said_about_splunk_does_not_feed_itself(make: Make) -> None:
    handler = make()
    handler.emit(record("Splunk does not answer", name=splunk.__name__))
    assert not handler._buffer
