"""Loops in the background: they go on whatever happens, and stop when told to."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from ipam_lib.clock import SystemClock
from ipam_lib.errors import ConfigError, NetBoxUnavailable
from ipam_lib.workers import Worker, Workers


class Ticks(SystemClock):
    """A clock on which time passes when the test says so. `slept`: what was asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._tick = asyncio.Event()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        await self._tick.wait()

    async def next(self) -> None:
        """Wait until a task sleeps, and let it continue."""
        await self.asleep.wait()
        self.asleep.clear()
        self._tick.set()
        self._tick = asyncio.Event()


class Middle(random.Random):
    """Randomness without any."""

    def random(self) -> float:
        return 0.5


async def test_again_and_again_until_stopped() -> None:
    clock, calls = Ticks(), 0

    async def action() -> bool:
        nonlocal calls
        calls += 1
        return False

    workers = Workers(clock, Middle())
    task = workers.start(Worker("count", 30, action))
    for expected in (1, 2, 3):
        await clock.asleep.wait()
        assert calls == expected
        await clock.next()
    await clock.asleep.wait()
    await workers.stop()
    assert task.done()
    assert calls == 4
    assert clock.slept == [30.0] * 4


async def test_not_at_the_start_unless_wanted() -> None:
    clock, calls = Ticks(), 0

    async def action() -> bool:
        nonlocal calls
        calls += 1
        return False

    workers = Workers(clock)
    workers.start(Worker("count", 30, action, at_start=False))
    await clock.asleep.wait()
    assert calls == 0
    await clock.next()
    await clock.asleep.wait()
    assert calls == 1
    await workers.stop()


async def test_done_for_good() -> None:
    async def action() -> bool:
        return True

    workers = Workers(Ticks())
    await workers.start(Worker("once", 30, action))
    await workers.stop()


async def test_it_survives_everything_backs_off_and_tells_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Ticks()
    outcomes: list[Exception | None] = [NetBoxUnavailable(), NetBoxUnavailable(), ValueError("odd"), None, None]

    async def action() -> bool:
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome
        return not outcomes

    workers = Workers(clock, Middle())
    task = workers.start(Worker("try", 3, action))
    for _ in range(4):
        await clock.next()
    await task
    assert clock.slept == [1.0, 2.0, 3.0, 3.0]
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("ipam_lib")]
    assert told == [
        ("WARNING", "try: NetBox is unavailable; try again"),
        ("DEBUG", "try: NetBox is unavailable; try again"),
        ("ERROR", "try: a bug: unexpected error"),
        ("INFO", "try: works again"),
    ]
    await workers.stop()


async def test_what_somebody_has_to_mend_is_told_once_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def action() -> bool:
        raise ConfigError(["one thing", "another"])

    worker = Worker("prepare", 30, action)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await worker.once() is False
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("ERROR", "prepare: one thing; another")]


async def test_what_is_being_done_comes_to_its_end() -> None:
    entered, leave, finished = asyncio.Event(), asyncio.Event(), False

    async def action() -> bool:
        nonlocal finished
        entered.set()
        await leave.wait()
        finished = True
        return False

    workers = Workers(Ticks())
    task = workers.start(Worker("slow", 30, action))
    await entered.wait()
    stopping = asyncio.create_task(workers.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    leave.set()
    await stopping
    assert finished
    assert task.done()


async def test_what_does_not_come_to_its_end_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    entered = asyncio.Event()

    async def action() -> bool:
        entered.set()
        await asyncio.Event().wait()
        return False

    workers = Workers(Ticks())
    task = workers.start(Worker("stuck", 30, action))
    await entered.wait()
    await workers.stop(seconds=0)
    assert task.cancelled()
    assert "stuck: cancelled" in caplog.text


async def test_stopping_none_is_fine() -> None:
    await Workers(Ticks()).stop()


def test_the_pause_is_jittered_by_a_tenth_and_never_longer_than_the_interval_says() -> None:
    async def action() -> bool:
        return False

    worker = Worker("any", 30, action)
    pauses = [worker.pause(random.Random(seed)) for seed in range(200)]
    assert 27 <= min(pauses) < 28
    assert 32 < max(pauses) <= 33
    worker.failures = 10_000
    assert worker.pause(Middle()) == 30


async def test_a_worker_that_is_wanted_acts_at_once_and_then_not_before_its_interval() -> None:
    clock, calls = Ticks(), 0
    wanted = asyncio.Event()
    acted = asyncio.Event()

    async def action() -> bool:
        nonlocal calls
        wanted.clear()
        calls += 1
        acted.set()
        return False

    workers = Workers(clock, Middle())
    task = workers.start(Worker("webhook", 1, action, wanted=wanted))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (calls, clock.slept) == (0, []), "nothing is wanted"
    wanted.set()
    await acted.wait()
    await clock.asleep.wait()
    for _ in range(3):
        wanted.set()
        await asyncio.sleep(0)
    assert (calls, clock.slept) == (1, [1.0]), "what is wanted within the interval waits for its end"
    acted.clear()
    await clock.next()
    await acted.wait()
    assert calls == 2
    await clock.next()
    await workers.stop()
    assert task.done()
    assert calls == 2


async def test_a_worker_that_is_not_wanted_stops_at_once() -> None:
    workers = Workers(Ticks(), Middle())
    task = workers.start(Worker("webhook", 1, never, wanted=asyncio.Event()))
    await asyncio.sleep(0)
    await workers.stop()
    assert task.done()
    assert not task.cancelled()


async def never() -> bool:
    raise AssertionError("it was not wanted")
