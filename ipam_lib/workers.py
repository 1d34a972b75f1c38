"""The loops in the background: each does one thing again and again, and survives whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ipam_lib.clock import Clock
from ipam_lib.errors import ConfigError, IPAMError

log = logging.getLogger(__name__)

SHORTEST_PAUSE: Final = 1.0
SECONDS_TO_FINISH: Final = 5.0
# Making the indexes of a large database is the longest of all, and may take ten minutes.
LONGEST_ACTION: Final = 3600.0


@dataclass(slots=True)
class Worker:
    """One thing to do every `interval` seconds (shifted by up to a tenth, so that instances drift apart).

    `action` returns whether it is done with for good (True ends the worker); it is called at once when `at_start`, else
    after the first interval. While it fails it is called again after 1, 2, 4 ... seconds, at most the interval.
    """

    name: str
    interval: float
    action: Callable[[], Awaitable[bool]]
    at_start: bool = True
    failures: int = field(default=0, init=False)
    busy_since: float | None = field(default=None, init=False)

    def pause(self, rng: random.Random) -> float:
        """Seconds until the next call."""
        seconds = self.interval
        if self.failures:
            seconds = min(seconds, SHORTEST_PAUSE * 2.0 ** min(self.failures - 1, 20))
        return seconds * (0.9 + 0.2 * rng.random())

    async def once(self) -> bool:
        """Do it now. Whatever goes wrong is logged. Returns whether the worker is done with for good."""
        try:
            finished = await self.action()
        except IPAMError as error:
            self._failed(logging.WARNING, error.message)
            return False
        except ConfigError as error:
            # Somebody has to do something, and then it works.
            self._failed(logging.ERROR, "; ".join(error.problems))
            return False
        except Exception:
            self.failures += 1
            log.exception("%s: a bug: failed in a way that nobody foresaw", self.name)
            return False
        if self.failures:
            log.info("%s: works again", self.name, extra={"failures": self.failures})
        self.failures = 0
        return finished

    def _failed(self, level: int, words: str) -> None:
        self.failures += 1
        # Once when it begins: while something is away, a line every few seconds would bury everything else.
        level = level if self.failures == 1 else logging.DEBUG
        log.log(level, "%s: %s", self.name, words, extra={"failures": self.failures})


class Workers:
    """Runs workers until they are stopped. `told` is called after each round, with the worker's name, and whether it
    went well."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random | None = None,
        told: Callable[[str, bool], None] = lambda name, went_well: None,
    ) -> None:
        self._clock = clock
        self._told = told
        self._random = rng or random.Random()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: list[Worker] = []

    def alive(self) -> bool:
        """Whether they all go on: none has ended that should not have, or has been at one action for an hour."""
        if any(task.done() and (task.cancelled() or task.exception() is not None) for task in self._tasks):
            return False
        now = self._clock.monotonic()
        return all(one.busy_since is None or now - one.busy_since < LONGEST_ACTION for one in self._workers)

    def start(self, worker: Worker) -> asyncio.Task[None]:
        """Start a worker, as a task of its own; a worker may start others."""
        task = asyncio.create_task(self._run(worker), name=worker.name)
        self._tasks.append(task)
        self._workers.append(worker)
        return task

    async def stop(self, seconds: float = SECONDS_TO_FINISH) -> None:
        """Let what is being done come to its end, at most `seconds`, then cancel it (every step survives a crash)."""
        self._stopping.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            log.warning("%s: cancelled, since it did not come to its end", task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, worker: Worker) -> None:
        if not worker.at_start:
            await self._sleep(worker.pause(self._random))
        while not self._stopping.is_set():
            worker.busy_since = self._clock.monotonic()
            finished = await worker.once()
            worker.busy_since = None
            self._told(worker.name, not worker.failures)
            if finished:
                return
            await self._sleep(worker.pause(self._random))

    async def _sleep(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((sleeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
