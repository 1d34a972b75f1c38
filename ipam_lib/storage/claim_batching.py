"""Batches claims of the lowest entry, so that claims at the same time do not compete for the same document.

A single claim takes the lowest entry directly. Claims that arrive meanwhile wait. Then one read finds as many entries
as there are waiting claims, and each claim takes a different one of them, all at the same time. There is no timer.
Without batching, the server would refuse all but one of the claims, and again at each repetition.
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
    """The claims of one place: what the last read found, what is being claimed now, and how many claims there are."""

    found: deque[Candidate] = field(default_factory=deque)
    underway: set[Candidate] = field(default_factory=set)
    claims: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClaimBatcher(Generic[Candidate, Claimed]):
    """A queue of claims for each place. A queue exists only while it has claims."""

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
        """Claim an entry of the place. Returns None if it has none.

        - `lowest`: claims the lowest entry in one step.
        - `several`: finds that many of the lowest entries.
        - `this`: claims one of these. Returns None if another claim was faster.

        Raises what these raise.
        """
        queue = self._queues.setdefault(place, _ClaimQueue())
        queue.claims += 1
        try:
            while True:
                async with queue.reading:
                    if not queue.found:
                        if queue.claims == 1:
                            return await lowest()
                        # Enough for every claim, even if some of the entries are being claimed now.
                        found = await several(queue.claims)
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
            queue.claims -= 1
            if not queue.claims and self._queues.get(place) is queue:
                del self._queues[place]
