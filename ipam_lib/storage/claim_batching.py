"""Claims that come at once, kept out of each other's way: where several want the lowest entry, each is shown one of its
own.

Natural batching: no timer, and one alone goes straight for the lowest. While that is under way, later ones wait; then
one read finds as many entries as there are who want one, and each takes his in a step of its own, all at the same
time. A server that has them all fight for the same document would refuse all but one, again and again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)
Claimed = TypeVar("Claimed")


@dataclass(slots=True)
class _ClaimQueue(Generic[Candidate]):
    """What one read found, what of it is being claimed at this moment, and how many want something."""

    found: deque[Candidate] = field(default_factory=deque)
    underway: set[Candidate] = field(default_factory=set)
    wanting: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClaimBatcher(Generic[Candidate, Claimed]):
    """A shelf for each place at which entries are claimed; it is there as long as somebody wants something of it."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _ClaimQueue[Candidate]] = {}

    async def claim(
        self,
        place: Hashable,
        *,
        lowest: Callable[[], Awaitable[Claimed | None]],
        several: Callable[[int], Awaitable[Sequence[Candidate]]],
        this: Callable[[Candidate], Awaitable[Claimed | None]],
    ) -> Claimed | None:
        """Claim an entry of the place; None when there is none.

        `lowest` claims the lowest in one step; `several` finds so many of the lowest, `this` claims one of those, and
        returns None when somebody was faster. What they raise is passed on.
        """
        queue = self._queues.setdefault(place, _ClaimQueue())
        queue.wanting += 1
        try:
            while True:
                async with queue.reading:
                    if not queue.found:
                        if queue.wanting == 1:
                            return await lowest()
                        # There are as many as want one, also without those that are under way.
                        found = await several(queue.wanting)
                        queue.found.extend(one for one in found if one not in queue.underway)
                    if not queue.found:
                        return None
                    candidate = queue.found.popleft()
                queue.underway.add(candidate)
                try:
                    if (claimed := await this(candidate)) is not None:
                        return claimed
                finally:
                    queue.underway.discard(candidate)
        finally:
            queue.wanting -= 1
            if not queue.wanting and self._queues.get(place) is queue:
                del self._queues[place]
