"""The circuit breaker, by itself and against a model."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipam_lib.errors import NetBoxUnavailable
from ipam_lib.netbox.breaker import Breaker, Ticket
from tests.support.clock import FakeClock


def make(clock: FakeClock, *, threshold: int = 3) -> Breaker:
    return Breaker(clock, rng=random.Random(7), threshold=threshold)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit())


def test_opens_after_the_threshold_and_says_when_to_come_back() -> None:
    clock = FakeClock()
    breaker = make(clock)
    fail(breaker, 2)
    assert (breaker.state, breaker.available, breaker.wait()) == ("closed", True, 0.0)
    fail(breaker)
    assert (breaker.state, breaker.available) == ("open", False)
    with pytest.raises(NetBoxUnavailable) as caught:
        breaker.admit()
    assert caught.value.applied is False
    assert caught.value.timed_out is False
    assert caught.value.retry_after in (1, 2)
    assert 0.75 <= breaker.wait() <= 1.25


def test_a_success_starts_the_count_anew() -> None:
    breaker = make(FakeClock())
    for _ in range(5):
        fail(breaker, 2)
        breaker.succeeded(breaker.admit())
    assert breaker.state == "closed"


def test_one_probe_at_a_time_and_success_closes() -> None:
    clock = FakeClock()
    breaker = make(clock)
    fail(breaker, 3)
    clock.advance(1.25)
    assert (breaker.state, breaker.available) == ("half-open", True)
    probe = breaker.admit()
    assert (breaker.state, breaker.available) == ("half-open", False)
    with pytest.raises(NetBoxUnavailable):
        breaker.admit()
    breaker.succeeded(probe)
    assert (breaker.state, breaker.available) == ("closed", True)
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_waits_longer_each_time_a_probe_fails_up_to_the_longest_and_starts_over_after_success() -> None:
    clock = FakeClock()
    breaker = make(clock)
    fail(breaker, 3)
    waits = []
    for _ in range(9):
        waits.append(breaker.wait())
        clock.advance(breaker.wait())
        fail(breaker)
    for expected, wait in zip([1, 2, 4, 8, 16], waits, strict=False):
        assert expected * 0.75 <= wait <= expected * 1.25
    assert all(22.5 <= wait <= 30 for wait in waits[5:])
    clock.advance(breaker.wait())
    breaker.succeeded(breaker.admit())
    fail(breaker, 3)
    assert breaker.wait() <= 1.25


def test_a_probe_that_was_cancelled_lets_the_next_one_through() -> None:
    clock = FakeClock()
    breaker = make(clock)
    fail(breaker, 3)
    clock.advance(2)
    breaker.abandoned(breaker.admit())
    assert breaker.available
    breaker.succeeded(breaker.admit())
    assert breaker.state == "closed"


def test_calls_from_before_it_opened_neither_close_it_nor_hold_it_open() -> None:
    clock = FakeClock()
    breaker = make(clock)
    early = [breaker.admit() for _ in range(10)]
    for ticket in early[:3]:
        breaker.failed(ticket)
    wait = breaker.wait()
    for ticket in early[3:7]:
        breaker.failed(ticket)
    assert breaker.wait() == wait
    breaker.succeeded(early[7])
    assert breaker.state == "open"
    clock.advance(2)
    probe = breaker.admit()
    breaker.abandoned(early[8])
    assert not breaker.available, "only the probe itself gives its place back"
    breaker.succeeded(probe)
    breaker.failed(early[9])
    assert breaker.state == "closed"


def test_a_success_from_before_it_opened_does_not_hide_failures_since() -> None:
    clock = FakeClock()
    breaker = make(clock)
    early = breaker.admit()
    fail(breaker, 3)
    clock.advance(2)
    breaker.succeeded(breaker.admit())
    fail(breaker, 2)
    breaker.succeeded(early)
    fail(breaker)
    assert breaker.state == "open"


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.breaker = Breaker(self.clock, rng=random.Random(1), threshold=3)
        self.under_way: list[Ticket] = []
        self.probe: Ticket | None = None
        self.closed = True
        self.in_a_row = 0
        self.opened_at = 0.0

    @rule()
    def begin(self) -> None:
        if not self.breaker.available:
            assert not self.closed
            with pytest.raises(NetBoxUnavailable) as caught:
                self.breaker.admit()
            assert caught.value.retry_after >= 1
            return
        ticket = self.breaker.admit()
        if not self.closed:
            assert self.probe is None
            assert self.clock.monotonic() - self.opened_at >= 0.75
            self.probe = ticket
        self.under_way.append(ticket)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        ticket = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        probing = ticket is self.probe
        counts = probing or (self.closed and not ticket.probe and ticket.generation == self.generation)
        getattr(self.breaker, outcome)(ticket)
        if probing:
            self.probe = None
        if outcome == "abandoned" or not counts:
            return
        if outcome == "succeeded":
            self.closed, self.in_a_row = True, 0
        else:
            self.in_a_row += 1
            if probing or self.in_a_row == 3:
                self.closed, self.opened_at = False, self.clock.monotonic()

    @property
    def generation(self) -> int:
        return self.breaker._generation

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def agrees(self) -> None:
        assert (self.breaker.state == "closed") == self.closed
        if self.closed:
            assert self.breaker.available
        else:
            assert self.probe is None or not self.breaker.available
            if self.clock.monotonic() - self.opened_at >= 30:
                assert self.breaker.state == "half-open"
                assert self.breaker.available == (self.probe is None), "always a way back"


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
