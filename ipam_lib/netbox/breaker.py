"""A circuit breaker: while NetBox is away, calls fail at once instead of waiting for it one after the other.

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
    """Permission for one call, given back with its outcome. `era` tells calls that began before the last change of
    state, whose outcome says nothing any more, from those that count."""

    generation: int
    probe: bool


class Breaker:
    """Counts failures in a row. Not for several threads: it belongs to one event loop.

    Only what says that NetBox as a whole is away may be counted as a failure: no connection, no answer in time, its
    5xx. Any answer to a request, also a refusal, is a success.

    `threshold`: failures in a row that open it. `first`, `longest`: seconds that it stays open the first time, doubled
    each time a probe fails, and at most; both before a jitter of a quarter either way (never above `longest`), so that
    several instances do not probe at the same moment.
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
        """Where it stands at this moment."""
        if self._opened_until is None:
            return "closed"
        return "open" if self._clock.monotonic() < self._opened_until else "half-open"

    @property
    def available(self) -> bool:
        """Whether a call would be let through now."""
        state = self.state
        return state == "closed" or (state == "half-open" and not self._probing)

    def wait(self) -> float:
        """Seconds until a call may be let through: 0 when one would be now."""
        if self.available or self._opened_until is None:
            return 0.0
        return max(self._opened_until - self._clock.monotonic(), self._first)

    def admit(self) -> Ticket:
        """Let one call through; its outcome must be told with `succeeded`, `failed` or `abandoned`.

        Raises NetBoxUnavailable (not applied) while it is open, or a probe is under way.
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
        """NetBox did not answer, or said that it cannot."""
        if ticket.generation != self._generation:
            return
        self._failures += 1
        self._open_if_enough()

    def record_failures(self, others: int) -> None:
        """So many further requests have failed together with one that was reported: they had waited for it, or were in
        the same call."""
        if self._opened_until is None:
            self._failures += others
            self._open_if_enough()

    def _open_if_enough(self) -> None:
        # A failed probe is one more on top of those that opened it.
        if self._failures >= self._threshold:
            seconds = min(self._first * 2 ** min(self._openings, 30), self._longest)
            seconds = min(seconds * self._random.uniform(0.75, 1.25), self._longest)
            self._openings += 1
            self._turn(self._clock.monotonic() + seconds)
            log.warning("NetBox failed %d times in a row; not asking it for %.1f s", self._failures, seconds)

    def abandoned(self, ticket: Ticket) -> None:
        """The call ended without telling anything about NetBox (it was cancelled, say)."""
        if ticket.generation == self._generation and ticket.probe:
            self._probing = False

    def _turn(self, opened_until: float | None) -> None:
        self._opened_until = opened_until
        self._probing = False
        self._generation += 1
