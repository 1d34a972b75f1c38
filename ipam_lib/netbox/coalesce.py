"""Coalesced creation: while one creation for a container is under way, later ones wait, and are then sent as one list.

NetBox hands out free addresses one at a time behind a global lock, but a list in one POST takes little longer than one
address. There is no timer, and no delay when nothing is under way. Each waiter keeps its own time limit, its own
`k8s_uuid` and its own outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import ContainerFull, NetBoxError, NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox.base import Container, Prefix

log = logging.getLogger(__name__)

LARGEST_LIST = 50
"""The most prefixes in one POST. At about 30 ms each, such a POST takes a second and a half."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """One creation. `limit`: the longest time for it, in seconds. `until`: the monotonic time when it must be over."""

    uuid: str
    limit: float
    until: float
    description: str = ""
    outcome: asyncio.Future[Prefix] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: Exception) -> None:
        """End with a copy of the error: each waiter adds its own traceback."""
        if not self.outcome.done():
            self.outcome.set_exception(copy(error))

    def succeed(self, prefix: Prefix) -> None:
        """End with a prefix."""
        if not self.outcome.done():
            self.outcome.set_result(prefix)


class CreateOne(Protocol):
    """As `NetBox.create_next`."""

    async def __call__(self, container: Container, /, *, uuid: str, limit: float, description: str) -> Prefix: ...


class CreateMany(Protocol):
    """One prefix for each of `uuids`, in their order, in one call: all or none. Raises ContainerFull if not all fit."""

    async def __call__(
        self, container: Container, uuids: Sequence[str], /, *, limit: float, descriptions: Mapping[str, str]
    ) -> list[Prefix]: ...


class Coalescer:
    """Creations of next free prefixes, container by container."""

    def __init__(
        self,
        one: CreateOne,
        many: CreateMany,
        clock: Clock,
        *,
        on_timeout: Callable[[int], None] = lambda others: None,
    ) -> None:
        """`on_timeout` is called after a creation timed out, with the number of creations that failed with it."""
        self._on_timeout = on_timeout
        self._one = one
        self._many = many
        self._clock = clock
        self._waiting: dict[int, deque[_Waiter]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}

    async def create_next(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        """As `NetBox.create_next`; `limit` includes the wait for the creation that is under way.

        Raises NetBoxUnavailable(applied=False) if less than half of the limit is left when the list is to be sent, or
        if the list before it timed out. If a waiter is cancelled after its list was sent, NetBox still creates its
        prefix, which can be found by its `k8s_uuid`.
        """
        waiter = _Waiter(uuid, limit, self._clock.monotonic() + limit, description)
        queue = self._waiting.setdefault(container.id, deque())
        queue.append(waiter)
        if container.id not in self._sending:
            self._sending[container.id] = asyncio.get_running_loop().create_task(self._send(container, queue))
        try:
            return await waiter.outcome
        finally:
            if waiter in queue:
                queue.remove(waiter)

    async def close(self) -> None:
        """Cancel what is under way; its waiters get an error that says that NetBox may have created the prefix."""
        for task in list(self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _send(self, container: Container, queue: deque[_Waiter]) -> None:
        """Send lists until no creation waits."""
        batch: list[_Waiter] = []
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), LARGEST_LIST))]
                if await self._create(container, self._with_time_left(batch)):
                    self._give_up(batch, queue)
        finally:
            del self._sending[container.id]
            if not queue:
                self._waiting.pop(container.id, None)
            for waiter in batch:  # only when this was cancelled, or has a bug
                waiter.fail(NetBoxUnavailable(applied=True))
            for waiter in queue:
                waiter.fail(NetBoxUnavailable(applied=False))

    def _give_up(self, batch: Sequence[_Waiter], queue: deque[_Waiter]) -> None:
        """NetBox was too slow for this batch, so the creations that waited for it fail at once."""
        self._on_timeout(len(batch) - 1 + len(queue))
        while queue:
            error = NetBoxUnavailable(detail="the creation before it timed out", applied=False, timed_out=True)
            queue.popleft().fail(error)

    def _with_time_left(self, batch: Sequence[_Waiter]) -> list[_Waiter]:
        """The waiters with time left for a whole call. The others get an error that says that nothing was sent."""
        going = []
        now = self._clock.monotonic()
        for waiter in batch:
            if waiter.outcome.done():
                continue
            left = waiter.until - now
            if left <= 0 or left < waiter.limit / 2:
                waiter.fail(NetBoxUnavailable(detail="there was no time left to send the creation", applied=False))
            else:
                going.append(waiter)
        return going

    async def _create(self, container: Container, batch: Sequence[_Waiter]) -> bool:
        """One POST for the whole batch; if NetBox refuses the list, one for each. Returns whether it timed out."""
        if not batch:
            return False
        limit = min(waiter.until for waiter in batch) - self._clock.monotonic()
        try:
            if len(batch) == 1:
                [one] = batch
                made = [await self._one(container, uuid=one.uuid, limit=limit, description=one.description)]
            else:
                uuids = [waiter.uuid for waiter in batch]
                descriptions = {waiter.uuid: waiter.description for waiter in batch}
                made = await self._many(container, uuids, limit=limit, descriptions=descriptions)
        except (ContainerFull, NetBoxRejected) as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return False
            # Nothing was created: the list fits only in part, or one of it is bad.
            log.info(
                "NetBox refused %d creations in %s as one list; sending them one by one",
                len(batch),
                container.prefix,
            )
            for number, waiter in enumerate(batch):
                if await self._create(container, self._with_time_left([waiter])):
                    self._give_up([waiter], deque(batch[number + 1 :]))
                    return True
        except NetBoxError as error:
            for waiter in batch:
                waiter.fail(error)
            return isinstance(error, NetBoxUnavailable) and error.timed_out
        except Exception as error:
            for waiter in batch:
                waiter.fail(error)
            raise
        else:
            for waiter, prefix in zip(batch, made, strict=True):
                waiter.succeed(prefix)
        return False
