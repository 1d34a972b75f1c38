"""The work that is under way: bounded in how long a client waits for it, and waited for before the process leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ipam_lib.errors import IPAMError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class InFlight:
    """Counts the requests that are being answered and keeps the tasks that work for them."""

    def __init__(self) -> None:
        self.stopping = False
        self._requests = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        """How many requests and tasks are under way."""
        return self._requests + len(self._tasks)

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is being answered as long as this lasts."""
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            self._look()

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, or whatever it raises.

        The work is a task of its own: neither a client that hangs up nor the end of the time stops it in the middle.
        Raises Unavailable when it has not ended after `seconds`; it then goes on to its end in the background.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)
        finished, _ = await asyncio.wait((task,), timeout=max(seconds, 0))
        if not finished:
            task.add_done_callback(_report_late)
            raise Unavailable("the request took too long; try again")
        return task.result()

    async def drain(self, seconds: float) -> int:
        """Wait until nothing is under way, at most `seconds`. Returns how much still is."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        return self.count

    async def abandon(self) -> None:
        """Cancel what is still under way and wait until it has let go."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at here, so that asyncio does not complain about it when nobody else will.
            task.exception()
        self._look()

    def _look(self) -> None:
        if not self.count:
            self._idle.set()


def _report_late(task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        log.warning("work that outlasted its request was cancelled")
        return
    error = task.exception()
    if error is None:
        log.info("work that outlasted its request was completed")
    elif isinstance(error, IPAMError):
        log.warning("work that outlasted its request was refused: %s", error.message)
    else:
        log.error("work that outlasted its request failed", exc_info=error)
