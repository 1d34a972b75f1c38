"""The requests in progress: each has a time limit, and the process waits for all of them before it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class InFlight:
    """The tasks that work for requests. `stopping`: set when the server is about to end."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """The number of tasks in progress, including those whose request was answered at its time limit."""
        return len(self._tasks)

    async def limit(self, seconds: float, work: Coroutine[Any, Any, T], late: Callable[[T], None]) -> T:
        """The result of `work`, or its exception.

        The work runs in a task of its own: neither a client that hangs up nor the time limit stops it half way. Raises
        TimeoutError after `seconds`. The work then continues; its result goes to `late`.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(self._run(work, outcome, late))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, work, outcome))
        timer = loop.call_later(max(seconds, 0), _time_out, outcome)
        try:
            return await outcome
        finally:
            timer.cancel()

    async def drain(self, seconds: float) -> int:
        """Wait until no task is in progress, at most `seconds`. Returns the number of remaining tasks."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        return self.count

    async def abandon(self) -> None:
        """Cancel the remaining tasks and wait for their end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, work: Coroutine[Any, Any, T], outcome: asyncio.Future[T], late: Callable[[T], None]) -> None:
        """Run the work and set the outcome. A done callback of the task would do so one turn of the loop later."""
        try:
            result = await work
        except asyncio.CancelledError:
            if not outcome.cancel():
                log.warning("a request was cancelled after its time limit")
            raise
        except Exception as error:
            if outcome.done():
                log.exception("a request failed after its time limit")
            else:
                outcome.set_exception(error)
        else:
            if outcome.done():
                late(result)
            else:
                outcome.set_result(result)

    def _ended(self, work: Coroutine[Any, Any, T], outcome: asyncio.Future[T], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and not outcome.done():
            # Cancelled before its first step.
            work.close()
            outcome.cancel()


def _time_out(outcome: asyncio.Future[Any]) -> None:
    if not outcome.done():
        outcome.set_exception(TimeoutError())
