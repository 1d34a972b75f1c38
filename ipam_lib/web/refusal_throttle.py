"""The throttle for refusals: a source that gets many errors (4xx) a second waits for each further one.

A refusal costs nearly as much as another answer, so a client that repeats a refused request on 50 connections would
take the processor from all others. It waits for its answer instead, and sends nothing meanwhile. What is not refused
never waits, also from the same source.

The algorithm is GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm), for each source, in the memory of
this process, bounded.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

# The refusals that a source gets at once, after a quiet time: in seconds of its rate.
SECONDS_AT_ONCE: Final = 2.0
# Enough that 50 connections share 10 refusals a second.
LONGEST_WAIT: Final = 5.0
SECONDS_BETWEEN_WARNINGS: Final = 60.0
# About 2 MB when full.
MOST_SOURCES: Final = 10_000


@dataclass(slots=True)
class _Source:
    """`next_at`: time of the next refusal at the rate of the throttle. `warned_at`: time of the last warning."""

    next_at: float
    warned_at: float


class RefusalThrottle:
    """See the module. `rate`: refusals a second that one source gets in the long run; 0 for no limit.
    `monotonic`: the clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float], rate: float, *, most_sources: int = MOST_SOURCES) -> None:
        self._monotonic = monotonic
        self._rate = rate
        self._most_sources = most_sources
        # In the order of their last refusal: the one that is longest ago is removed first.
        self._sources: dict[str, _Source] = {}

    def delay(self, source: str, latest: float = math.inf) -> float:
        """Count a refusal. Returns for how many seconds its answer must wait, so that refusals that come at once are
        answered one after the other, none later than `latest`."""
        if not self._rate:
            return 0.0
        now = self._monotonic()
        state = self._sources.pop(source, None) or _Source(-math.inf, -math.inf)
        self._sources[source] = state
        if len(self._sources) > self._most_sources:
            del self._sources[next(iter(self._sources))]
        at = max(state.next_at, now - SECONDS_AT_ONCE)
        state.next_at = min(at + 1 / self._rate, now + LONGEST_WAIT)
        if at <= now:
            return 0.0
        if now - state.warned_at >= SECONDS_BETWEEN_WARNINGS:
            state.warned_at = now
            log.warning("many refusals for one source: it waits for further ones", extra={"ip": source})
        return max(0.0, min(at, latest) - now)
