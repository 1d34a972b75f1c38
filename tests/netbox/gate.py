"""A stand-in for sleeping: the test decides which task continues, and when."""

from __future__ import annotations

import asyncio


class Gate:
    """Whoever sleeps waits here until let through; nothing depends on how fast anything is."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self._arrival = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the test lets this one through."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self._arrival.set()
        await future

    async def arrived(self, count: int) -> None:
        """Return when that many wait."""
        while len(self.waiting) < count:
            self._arrival.clear()
            await self._arrival.wait()

    def open(self) -> None:
        """Let all those through that wait now, in the order in which they came."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(None)
