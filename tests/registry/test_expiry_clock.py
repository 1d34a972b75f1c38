"""The time by which services expire when the wall clock is set: a jump forward must hold before it is used."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.registry import ReleaseReport
from ipam_lib.registry.expiry_clock import FORWARD_JUMP_HOLD_SECONDS, MAX_FORWARD_STEP, ExpiryClock
from tests.registry.watched import Work
from tests.registry.world import DAY, World, request

START = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
ROUND = 30.0


class Clocks:
    """A wall clock that can be set, a monotonic clock, and the expiry clock made of both."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.ahead = timedelta()
        self.expiry_clock = ExpiryClock(self.wall, self.monotonic)

    @property
    def true(self) -> datetime:
        return START + timedelta(seconds=self.monotonic)

    @property
    def wall(self) -> datetime:
        return self.true + self.ahead

    def round(self, seconds: float = ROUND) -> timedelta:
        """The next round, so much later: how far ahead of the true time it goes by."""
        self.monotonic += seconds
        return self.expiry_clock.read(self.wall, self.monotonic) - self.true


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings so far, in short."""
    return [
        "jumped" if "jumped" in record.getMessage() else "trusted"
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name.endswith("expiry_clock")
    ]


@pytest.mark.parametrize("drift", [timedelta(), MILLISECOND, -MILLISECOND, MAX_FORWARD_STEP, -MAX_FORWARD_STEP])
def test_a_clock_that_drifts_is_followed(drift: timedelta, caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    for number in range(1, 100):
        clocks.ahead += drift
        assert clocks.round() == number * drift
    assert said(caplog) == []


@pytest.mark.parametrize("leap", [MAX_FORWARD_STEP + MILLISECOND, timedelta(hours=1), timedelta(days=365 * 50)])
def test_a_leap_ahead_is_believed_only_when_it_has_held(leap: timedelta, caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.round()
    clocks.ahead = leap
    for _ in range(int(FORWARD_JUMP_HOLD_SECONDS / ROUND)):
        assert clocks.round() == timedelta()
    assert said(caplog) == ["jumped"]
    assert clocks.round() == leap
    assert clocks.round() == leap
    assert said(caplog) == ["jumped", "trusted"]


def test_a_leap_that_is_undone_in_time_did_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clocks = Clocks()
    for number in range(3):
        clocks.ahead = timedelta(days=30)
        for _ in range(int(FORWARD_JUMP_HOLD_SECONDS / ROUND)):
            assert clocks.round() == number * SECOND
        clocks.ahead = (number + 1) * SECOND
        assert clocks.round() == clocks.ahead
    assert said(caplog) == ["jumped"] * 3
    assert caplog.text.count("back at the expected time") == 3


def test_the_wait_begins_anew_with_each_leap(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    for number in range(1, 6):
        clocks.ahead = number * timedelta(days=1)
        for _ in range(int(FORWARD_JUMP_HOLD_SECONDS / ROUND)):
            assert clocks.round() == timedelta()
    assert clocks.round() == timedelta(days=5)
    assert said(caplog) == ["jumped"] * 5 + ["trusted"]


def test_a_drift_while_it_is_doubted_is_no_new_leap() -> None:
    clocks = Clocks()
    clocks.ahead = timedelta(hours=1)
    for _ in range(int(FORWARD_JUMP_HOLD_SECONDS / ROUND)):
        assert clocks.round() == timedelta()
        clocks.ahead += SECOND
    clocks.round()
    assert clocks.round() == clocks.ahead


def test_a_clock_set_back_is_believed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.ahead = -timedelta(hours=1)
    assert clocks.round() == clocks.ahead
    # Set right again, that is a leap like any other.
    clocks.ahead = timedelta()
    assert clocks.round() == -timedelta(hours=1)
    assert said(caplog) == ["jumped"]


def test_rounds_that_are_a_day_apart_find_a_leap_twice() -> None:
    clocks = Clocks()
    assert clocks.round(DAY) == timedelta()
    clocks.ahead = timedelta(days=30)
    assert clocks.round(DAY) == timedelta()
    assert clocks.round(DAY) == clocks.ahead


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2 * FORWARD_JUMP_HOLD_SECONDS),
            st.one_of(st.just(0.0), st.floats(-1e7, 1e7), st.floats(-60, 60)),
        ),
        max_size=40,
    )
)
def test_never_later_than_the_wall_and_never_ahead_of_what_has_held(steps: list[tuple[float, float]]) -> None:
    clocks = Clocks()
    # The most that was ever believed, as an offset from the true time, goes up by a drift or after a wait.
    believed, held_since, held = 0.0, clocks.monotonic, 0.0
    for seconds, set_by in steps:
        clocks.ahead += timedelta(milliseconds=round(set_by * 1000))
        going_by = clocks.round(round(seconds, 3)).total_seconds()
        ahead = clocks.ahead.total_seconds()
        assert going_by <= ahead + 1e-6
        if abs(ahead - held) > MAX_FORWARD_STEP.total_seconds() + 1e-3:
            held_since, held = clocks.monotonic, ahead
        if going_by > believed + MAX_FORWARD_STEP.total_seconds() + 2e-3:
            assert clocks.monotonic - held_since >= FORWARD_JUMP_HOLD_SECONDS - 1e-3
        believed = going_by


async def test_a_clock_that_leaps_ahead_expires_nothing_before_it_has_held(world: World) -> None:
    await world.register("a")
    await world.register("b", retention_period_days=1)
    await world.registry.expire(request("b", retention_period_days=None))
    world.clock.skew += 30 * DAY
    for _ in range(int(FORWARD_JUMP_HOLD_SECONDS / ROUND)):
        assert await world.registry.release_expired() == ReleaseReport()
        await asyncio.sleep(ROUND)
    world.clock.skew -= 30 * DAY
    await asyncio.sleep(ROUND)
    assert await world.registry.release_expired() == ReleaseReport()
    await world.settled()
    await asyncio.sleep(DAY)
    assert (await world.registry.release_expired()).released == 1
    await world.settled()


async def test_a_clock_that_was_rightly_set_forth_is_followed_in_the_end(world: World) -> None:
    await world.register("a", retention_period_days=1)
    await world.registry.expire(request("a", retention_period_days=None))
    world.clock.skew += 2 * DAY
    assert await world.registry.release_expired() == ReleaseReport()
    await asyncio.sleep(FORWARD_JUMP_HOLD_SECONDS)
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_a_leap_in_the_middle_of_a_round_expires_nothing_more(world: World) -> None:
    await world.register("a")
    await world.register("b", address="192.0.2.0/32", retention_period_days=1)
    await world.registry.expire(request("a"))
    await world.registry.expire(request("b", address="192.0.2.0/32", retention_period_days=None))

    async def leap(work: Work) -> Any:
        world.clock.skew += 30 * DAY
        return await work()

    world.store.next("find_due", leap)
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1)
    assert await world.names() == {"192.0.2.0/32": ["b"]}
    await world.settled()


async def test_the_clock_is_believed_as_it_is_at_the_start(world: World) -> None:
    await world.register("a", retention_period_days=1)
    await world.registry.expire(request("a", retention_period_days=None))
    world.clock.skew += 2 * DAY
    assert (await world.instance().release_expired()).released == 1
