"""A circuit breaker: while NetBox is away, calls fail at once instead of waiting for it.

closed --(threshold failures in a row)--> open --(its time is over)--> half-open --(probe succeeds)--> closed
                                           ^                              |
                                           +--------(probe fails)---------+
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass
from typing import Literal

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxUnavailable

log = logging.getLogger(__name__)

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Permission for one call, given back with its result. `generation` counts the changes of state: the result of a
    call that began before the last change is ignored."""

    generation: int
    probe: bool


class Breaker:
    """Counts failures in a row. It belongs to one event loop and is not safe for threads.

    Failures are: no connection, no answer in time, a 5xx. Any other answer, a refusal included, is a success.

    `threshold`: how many failures in a row open it. `first`: seconds that it stays open the first time, doubled each
    time a probe fails, up to `longest`. A jitter of a quarter either way (never above `longest`) keeps several
    instances from probing at the same moment.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rng: random.Random | None = None,
        threshold: int = 5,
        first: float = 1.0,
        longest: float = 30.0,
    ) -> None:
        self._clock = clock
        self._random = rng or random.Random()
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._failures = 0
        self._openings = 0
        self._opened_until: float | None = None
        self._probing = False
        self._generation = 0

    @property
    def state(self) -> BreakerState:
        """The current state."""
        if self._opened_until is None:
            return "closed"
        return "open" if self._clock.monotonic() < self._opened_until else "half-open"

    @property
    def available(self) -> bool:
        """Whether `admit` would let a call through now."""
        state = self.state
        return state == "closed" or (state == "half-open" and not self._probing)

    def wait(self) -> float:
        """Seconds until a call may be let through; 0 when one would be now."""
        if self.available or self._opened_until is None:
            return 0.0
        return max(self._opened_until - self._clock.monotonic(), self._first)

    def admit(self) -> Ticket:
        """Let one call through. Its result must be reported with `succeeded`, `failed` or `abandoned`.

        Raises NetBoxUnavailable (not applied) while the breaker is open or a probe is under way.
        """
        if not self.available:
            raise NetBoxUnavailable(
                detail=f"not tried: NetBox failed {self._failures} times in a row (circuit breaker {self.state})",
                applied=False,
                retry_after=math.ceil(self.wait()),
            )
        self._probing = self._opened_until is not None
        return Ticket(self._generation, self._probing)

    def succeeded(self, ticket: Ticket) -> None:
        """NetBox answered."""
        if ticket.generation != self._generation:
            return
        self._failures = 0
        if ticket.probe:
            self._turn(None)
            self._openings = 0
            log.warning("NetBox answers again")

    def failed(self, ticket: Ticket) -> None:
        """NetBox did not answer, or answered with a 5xx."""
        if ticket.generation != self._generation:
            return
        self._failures += 1
        self._open_if_enough()

    def record_failures(self, others: int) -> None:
        """Count further requests that failed together with a reported one: they waited for it, or were in the same
        call."""
        if self._opened_until is None:
            self._failures += others
            self._open_if_enough()

    def _open_if_enough(self) -> None:
        # A failed probe comes on top of the failures that opened it, so it opens the breaker again.
        if self._failures >= self._threshold:
            seconds = min(self._first * 2 ** min(self._openings, 30), self._longest)
            seconds = min(seconds * self._random.uniform(0.75, 1.25), self._longest)
            self._openings += 1
            self._turn(self._clock.monotonic() + seconds)
            log.warning("NetBox failed %d times in a row; not asking it for %.1f s", self._failures, seconds)

    def abandoned(self, ticket: Ticket) -> None:
        """The call ended without a result, for example because it was cancelled."""
        if ticket.generation == self._generation and ticket.probe:
            self._probing = False

    def _turn(self, opened_until: float | None) -> None:
        self._opened_until = opened_until
        self._probing = False
        self._generation += 1
