"""The time by which services expire: the wall clock, as long as it does not leap ahead of the clock that cannot be set.

An expiration that has passed is final: the address goes to somebody else. So a wall clock that was set a month ahead,
by mistake or by a broken time server, must not let everything expire at once. What it says is believed only after it
has gone on saying so for a while; until then time goes on from what was believed last. A clock that was set back is
believed at once: whoever waits longer loses nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ipam_lib.clock import whole_milliseconds

log = logging.getLogger(__name__)

# More than any clock drifts, or a time server corrects by without it being worth a look, from one round to the next.
MAX_FORWARD_STEP: Final = timedelta(seconds=60)
# Time to notice a wrong clock and set it right. What has expired meanwhile stays a little longer.
FORWARD_JUMP_HOLD_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the wall clock said at some moment of the monotonic clock, in seconds."""

    wall: datetime
    monotonic: float

    def at(self, monotonic: float) -> datetime:
        """What the wall clock says at another moment if nobody sets it."""
        return whole_milliseconds(self.wall + timedelta(seconds=monotonic - self.monotonic))


class ExpiryClock:
    """See the module. The reading that it is made with (at the start of the process) is believed."""

    def __init__(self, wall: datetime, monotonic: float) -> None:
        self._trusted = _Reading(wall, monotonic)
        self._forward_jump: _Reading | None = None

    def read(self, wall: datetime, monotonic: float) -> datetime:
        """The time to go by, never later than `wall`, in whole milliseconds. `monotonic` is in seconds.

        A leap is believed at the earliest at the second call that finds it, however seldom this is called.
        """
        now = _Reading(wall, monotonic)
        expected = self._trusted.at(monotonic)
        if wall - expected <= MAX_FORWARD_STEP:
            if self._forward_jump is not None:
                log.info("the wall clock is back where it was: services expire by it again")
            return self._trust(now)
        if self._forward_jump is None or abs(wall - self._forward_jump.at(monotonic)) > MAX_FORWARD_STEP:
            self._forward_jump = now
            log.warning(
                "the wall clock has leapt ahead by %s: services expire by the time before until it has said so for %d "
                "minutes",
                wall - expected,
                FORWARD_JUMP_HOLD_SECONDS // 60,
            )
        elif monotonic - self._forward_jump.monotonic >= FORWARD_JUMP_HOLD_SECONDS:
            log.warning("the wall clock has stayed ahead by %s: services expire by it from now on", wall - expected)
            return self._trust(now)
        return expected

    def _trust(self, reading: _Reading) -> datetime:
        self._trusted = reading
        self._forward_jump = None
        return reading.wall
