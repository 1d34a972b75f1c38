"""The background workers: each one repeats one action and continues after every error."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from ipam_lib.clock import Clock
from ipam_lib.errors import ConfigError, IPAMError, Unavailable

log = logging.getLogger(__name__)

SHORTEST_PAUSE: Final = 1.0
SECONDS_TO_FINISH: Final = 5.0
# The longest action is to create the indexes of a large database, which may take ten minutes.
LONGEST_ACTION: Final = 3600.0


@dataclass(slots=True)
class Worker:
    """An action to repeat every `interval` seconds, with a jitter of a tenth, so that instances do not act in step.

    `action`: returns True to end the worker. `at_start`: call it immediately, not after the first interval. After an
    error it is called again after 1, 2, 4 ... seconds, at most `interval`. `wanted`: call it only while this event is
    set; immediately if the interval has passed.
    """

    name: str
    interval: float
    action: Callable[[], Awaitable[bool]]
    at_start: bool = True
    wanted: asyncio.Event | None = None
    failures: int = field(default=0, init=False)
    busy_since: float | None = field(default=None, init=False)

    def pause(self, rng: random.Random) -> float:
        """Seconds until the next call."""
        seconds = self.interval
        if self.failures:
            seconds = min(seconds, SHORTEST_PAUSE * 2.0 ** min(self.failures - 1, 20))
        return seconds * (0.9 + 0.2 * rng.random())

    async def once(self) -> bool:
        """Call the action once. Every error is logged. Returns whether the worker ends."""
        try:
            finished = await self.action()
        except IPAMError as error:
            detail = f" ({error.detail})" if isinstance(error, Unavailable) and error.detail else ""
            self._failed(logging.WARNING, error.message + detail)
            return False
        except ConfigError as error:
            # An administrator has to change something; then it works.
            self._failed(logging.ERROR, "; ".join(error.problems))
            return False
        except Exception:
            self.failures += 1
            log.exception("%s: a bug: unexpected error", self.name)
            return False
        if self.failures:
            log.info("%s: works again", self.name, extra={"failures": self.failures})
        self.failures = 0
        return finished

    def _failed(self, level: int, words: str) -> None:
        self.failures += 1
        # Only the first error in a row is logged at this level: a line every few seconds would hide all other lines.
        level = level if self.failures == 1 else logging.DEBUG
        log.log(level, "%s: %s", self.name, words, extra={"failures": self.failures})


class Workers:
    """Runs workers until they are stopped. `on_round`: called after each action, with the name of the worker and
    whether the action succeeded."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random | None = None,
        on_round: Callable[[str, bool], None] = lambda name, went_well: None,
    ) -> None:
        self._clock = clock
        self._on_round = on_round
        self._random = rng or random.Random()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: list[Worker] = []

    def alive(self) -> bool:
        """Whether all workers run: none has ended with an error, and none has worked on one action for an hour."""
        if any(task.done() and (task.cancelled() or task.exception() is not None) for task in self._tasks):
            return False
        now = self._clock.monotonic()
        return all(one.busy_since is None or now - one.busy_since < LONGEST_ACTION for one in self._workers)

    def start(self, worker: Worker) -> asyncio.Task[None]:
        """Start a worker as a task. A worker may start others."""
        task = asyncio.create_task(self._run(worker), name=worker.name)
        self._tasks.append(task)
        self._workers.append(worker)
        return task

    async def stop(self, seconds: float = SECONDS_TO_FINISH) -> None:
        """Wait for the running actions, at most `seconds`, then cancel them. Every step survives a cancellation."""
        self._stopping.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            log.warning("%s: cancelled, because it did not end in time", task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, worker: Worker) -> None:
        if not worker.at_start:
            await self._sleep(worker.pause(self._random))
        while True:
            if worker.wanted is not None:
                await self._until(worker.wanted.wait())
            if self._stopping.is_set():
                return
            worker.busy_since = self._clock.monotonic()
            finished = await worker.once()
            worker.busy_since = None
            self._on_round(worker.name, not worker.failures)
            if finished:
                return
            await self._sleep(worker.pause(self._random))

    async def _sleep(self, seconds: float) -> None:
        await self._until(self._clock.sleep(seconds))

    async def _until(self, awaited: Coroutine[Any, Any, object]) -> None:
        """Wait for this, or until the workers are stopped."""
        waiting = asyncio.ensure_future(awaited)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()
