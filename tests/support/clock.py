"""A clock that goes only when told, so that a test decides what happens before what."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

from ipam_lib.clock import whole_milliseconds

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Implements `ipam_lib.clock.Clock`.

    With `auto` (the default) a sleep takes no time at all: the clock jumps to its end, and the loop gets its turn;
    sleeps that begin together end together. Without it, sleepers wait until `advance` has passed their moment, and wake
    in the order of their moments. `slept` holds the seconds of every sleep.
    """

    def __init__(self, now: datetime = EPOCH, *, auto: bool = True) -> None:
        self._start = now
        self._elapsed = 0.0
        self._wall_offset = timedelta()
        self._auto = auto
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return whole_milliseconds(self._start + self._wall_offset + timedelta(seconds=self._elapsed))

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self._elapsed + max(0.0, seconds)
        if self._auto:
            await asyncio.sleep(0)
            self._elapsed = max(self._elapsed, until)
        elif until <= self._elapsed:
            await asyncio.sleep(0)
        else:
            self._count += 1
            event = asyncio.Event()
            heapq.heappush(self._sleepers, (until, self._count, event))
            await event.wait()

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the sleepers whose moment has come (they run when the loop gets its turn)."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            heapq.heappop(self._sleepers)[2].set()

    async def run(self, seconds: float) -> None:
        """Let time pass from one sleeper's moment to the next, giving each its turn at its own moment."""
        end = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.advance(max(0.0, self._sleepers[0][0] - self._elapsed))
            await self.settle()
        self.advance(end - self._elapsed)
        await self.settle()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forth (or back), as an administrator may; `monotonic` does not notice."""
        self._wall_offset += timedelta(seconds=seconds)

    @property
    def sleepers(self) -> int:
        """How many wait for `advance`."""
        return len(self._sleepers)

    @staticmethod
    async def settle(turns: int = 50) -> None:
        """Give the other tasks on the loop their turns."""
        for _ in range(turns):
            await asyncio.sleep(0)
