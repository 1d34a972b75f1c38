"""An event loop whose time is virtual: when nothing is ready it jumps to the next timer.

`real` counts operations under way on real threads (SQLite); time stands still while there are any.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from ipam_lib.clock import whole_milliseconds

T = TypeVar("T")

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(_RarelyAsked())
        # A loop takes timers this close together for one; the real clock's is lost in the rounding of a few months.
        self._clock_resolution = 1e-7
        self._virtual_now = 0.0
        self.real = 0

    def time(self) -> float:
        return self._virtual_now

    def _run_once(self) -> None:
        if not self._ready and not self.real:  # type: ignore[attr-defined]
            self._virtual_now = max(self._virtual_now, self._next_timer())
        super()._run_once()  # type: ignore[misc]

    def _next_timer(self) -> float:
        """When the first timer that is not cancelled is due. A jump to a cancelled one is followed by a real wait."""
        timers = self._scheduled  # type: ignore[attr-defined]
        if timers and not timers[0]._cancelled:
            return float(timers[0]._when)
        return min((timer._when for timer in timers if not timer._cancelled), default=self._virtual_now)


class _RarelyAsked(selectors.DefaultSelector):
    """To ask the system for input takes longer than most turns of the loop; where a turn would not wait for it anyway,
    every sixteenth does."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._passed += 1
        if timeout is not None and timeout <= 0 and self._passed % 16:
            return []
        return super().select(timeout)


class VirtualClock:
    """A clock on a loop's time. `skew` is what its wall clock is ahead of the others', in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self.skew = skew

    def now(self) -> datetime:
        return whole_milliseconds(EPOCH + timedelta(seconds=self._loop.time() + self.skew))

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end on this loop, then close it with everything that is left on it."""
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
