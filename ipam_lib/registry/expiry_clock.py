"""The time by which services expire: the wall clock, guarded against jumps forward.

An expiration is final: afterwards another service may get the address. So a wall clock that is set a month ahead, by
mistake or by a broken time server, must not expire everything at once. A jump forward is a difference to the monotonic
clock, which cannot be set. The new time is used only after it has stayed for a while. Until then, the time before the
jump continues. A clock that was set back is used immediately: services then expire later, which does no harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ipam_lib.clock import whole_milliseconds

log = logging.getLogger(__name__)

# More than clock drift, or the usual correction by a time server, between two rounds.
MAX_FORWARD_STEP: Final = timedelta(seconds=60)
# Time to notice a wrong clock and to correct it. Meanwhile, services expire a little later.
FORWARD_JUMP_HOLD_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """The wall clock at one value of the monotonic clock, in seconds."""

    wall: datetime
    monotonic: float

    def at(self, monotonic: float) -> datetime:
        """The wall clock at another value of the monotonic clock, if it is not set in between."""
        return whole_milliseconds(self.wall + timedelta(seconds=monotonic - self.monotonic))


class ExpiryClock:
    """See the module. The first reading, at the start of the process, is trusted."""

    def __init__(self, wall: datetime, monotonic: float) -> None:
        self._trusted = _Reading(wall, monotonic)
        self._forward_jump: _Reading | None = None

    def read(self, wall: datetime, monotonic: float) -> datetime:
        """The time by which services expire, never later than `wall`, in whole milliseconds. `monotonic`: in seconds.

        A jump forward is trusted at the second call that sees it, or later, however long the time between the calls.
        """
        now = _Reading(wall, monotonic)
        expected = self._trusted.at(monotonic)
        if wall - expected <= MAX_FORWARD_STEP:
            if self._forward_jump is not None:
                log.info("the wall clock is back at the expected time: services expire by it again")
            return self._trust(now)
        if self._forward_jump is None or abs(wall - self._forward_jump.at(monotonic)) > MAX_FORWARD_STEP:
            self._forward_jump = now
            log.warning(
                "the wall clock has jumped forward by %s: services expire by the time before the jump for %d minutes",
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
