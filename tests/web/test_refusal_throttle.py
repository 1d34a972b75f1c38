"""Refusals are answered one after the other, however many connections ask; nothing else waits."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipam_lib.errors import WrongSecret
from ipam_lib.web.connection import Limits
from ipam_lib.web.middlewares import INFLIGHT
from ipam_lib.web.refusal_throttle import LONGEST_WAIT, SECONDS_AT_ONCE, SECONDS_BETWEEN_WARNINGS, RefusalThrottle
from tests.support.clock import FakeClock
from tests.web.service import BODY, TOKEN, service, status_of

RATE = 10
AT_ONCE = int(SECONDS_AT_ONCE * RATE) + 1


class Refused:
    """A throttle on a clock of its own."""

    def __init__(self, rate: float = RATE, **limits: int) -> None:
        self.clock = FakeClock(auto=False)
        self.throttle = RefusalThrottle(self.clock.monotonic, rate, **limits)

    def delays(self, number: int, source: str = "192.0.2.1") -> list[float]:
        """The delays of so many refusals at once."""
        return [round(self.throttle.delay(source), 6) for _ in range(number)]


def test_some_refusals_come_at_once_and_further_ones_one_after_the_other() -> None:
    refused = Refused()
    assert refused.delays(AT_ONCE) == [0.0] * AT_ONCE
    assert refused.delays(3) == [0.1, 0.2, 0.3]
    refused.clock.advance(0.3)
    assert refused.delays(1) == [0.1]


def test_a_client_that_waits_for_its_answers_gets_them_at_the_rate_on_any_number_of_connections() -> None:
    refused = Refused()
    refused.delays(AT_ONCE)
    due = refused.delays(40)
    answered = 0
    while (now := min(due)) < 60:
        refused.clock.advance(now - refused.clock.monotonic())
        due[due.index(now)] = now + refused.throttle.delay("192.0.2.1")
        answered += 1
    assert answered == pytest.approx(60 * RATE, abs=2)


def test_a_wait_is_bounded() -> None:
    refused = Refused()
    assert max(refused.delays(1000)) == LONGEST_WAIT
    refused.clock.advance(LONGEST_WAIT + SECONDS_AT_ONCE)
    assert refused.delays(AT_ONCE) == [0.0] * AT_ONCE, "after a quiet time all is as before"


def test_the_answer_comes_within_the_time_of_its_request() -> None:
    refused = Refused()
    refused.delays(AT_ONCE + 20)
    now = refused.clock.monotonic()
    assert refused.throttle.delay("192.0.2.1", now + 0.5) == pytest.approx(0.5)
    assert refused.throttle.delay("192.0.2.1", now - 1) == 0.0


def test_sources_count_apart_and_their_number_is_bounded() -> None:
    refused = Refused(most_sources=10)
    refused.delays(AT_ONCE + 5)
    assert refused.delays(1, "192.0.2.2") == [0.0]
    for number in range(100):
        refused.delays(1, f"10.0.0.{number}")
    assert len(refused.throttle._sources) == 10


def test_without_a_rate_nothing_waits() -> None:
    assert set(Refused(rate=0).delays(1000)) == {0.0}


def test_the_log_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    refused = Refused()
    refused.delays(1000)
    assert [record.ip for record in caplog.records] == ["192.0.2.1"]  # type: ignore[attr-defined]
    refused.clock.advance(SECONDS_BETWEEN_WARNINGS)
    refused.delays(1000)
    assert len(caplog.records) == 2


class Forever(RefusalThrottle):
    """Every refusal waits for an hour."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0, 1)
        self.sources: list[str] = []
        self.counted = asyncio.Event()

    def delay(self, source: str, latest: float = 0.0) -> float:
        self.sources.append(source)
        self.counted.set()
        return 3600.0


async def test_a_refusal_waits_and_other_answers_do_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    throttle = Forever()
    async with service(limits=Limits(refusals=throttle)) as running:
        running.registry.error = WrongSecret()
        refused = asyncio.create_task(running.call("POST", "/", BODY))
        await throttle.counted.wait()
        running.registry.error = None
        assert (await running.call("POST", "/", BODY))[0] == 200
        assert (await running.call("GET", "/v2/zones", headers={"Authorization": TOKEN}))[0] in (200, 500)
        assert not refused.done()
        # A server that stops does not wait for delayed answers.
        running.app[INFLIGHT].stopping.set()
        assert (await refused)[0] == 403
    assert throttle.sources == ["127.0.0.1"]


@pytest.mark.parametrize("head", [b"Host : a\r\n", b"Host: a\r\nExpect: more\r\n"], ids=["invalid", "unmet"])
async def test_invalid_http_waits_too(head: bytes) -> None:
    throttle = Forever()
    async with service(limits=Limits(refusals=throttle)) as running:
        refused = asyncio.create_task(running.raw(b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n"))
        await throttle.counted.wait()
        running.app[INFLIGHT].stopping.set()
        assert status_of(await refused) in (400, 417)


async def test_a_connection_too_many_waits_too() -> None:
    throttle = Forever()
    async with service(limits=Limits(connections=0, refusals=throttle)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await throttle.counted.wait()
        assert not reader.at_eof()
        writer.close()
