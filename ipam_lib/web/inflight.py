"""The work that is under way: bounded in how long a client waits for it, and waited for before the process leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
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
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(self._run(work, outcome))
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(partial(self._done, work, outcome))
        timer = loop.call_later(max(seconds, 0), _give_up, outcome)
        try:
            return await outcome
        finally:
            timer.cancel()

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

    async def _run(self, work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
        """Do the work and hand over what came of it; from here and not when the task is done, so that whoever waits
        goes on a turn of the loop sooner. Where nobody waits any more it is logged."""
        try:
            _hand_over(await work, outcome)
        except asyncio.CancelledError:
            if not outcome.cancel():
                log.warning("work that outlasted its request was cancelled")
            raise
        except Exception as error:
            _hand_over_error(error, outcome)
        finally:
            self._tasks.discard(asyncio.current_task())
            self._look()

    def _done(self, work: Coroutine[Any, Any, T], outcome: asyncio.Future[T], task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            # Cancelled before it began.
            work.close()
            outcome.cancel()
            self._tasks.discard(task)
            self._look()

    def _look(self) -> None:
        if not self.count:
            self._idle.set()


def _hand_over(result: T, outcome: asyncio.Future[T]) -> None:
    if not outcome.done():
        outcome.set_result(result)
    else:
        log.info("work that outlasted its request was completed")


def _hand_over_error(error: Exception, outcome: asyncio.Future[Any]) -> None:
    if not outcome.done():
        outcome.set_exception(error)
    elif isinstance(error, IPAMError):
        log.warning("work that outlasted its request was refused: %s", error.message)
    else:
        log.error("work that outlasted its request failed", exc_info=error)


def _give_up(outcome: asyncio.Future[Any]) -> None:
    if not outcome.done():
        outcome.set_exception(Unavailable("the request took too long; try again"))
