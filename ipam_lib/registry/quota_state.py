"""What one process remembers of the quotas (see `quotas`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, get_args
from weakref import WeakValueDictionary

from ipam_lib.models import QuotaOwner

OWNERS: Final[tuple[QuotaOwner, ...]] = get_args(QuotaOwner)


class QuotaState:
    """The locks of clusters and namespaces. `refused`: the number of refused requests, by owner."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(OWNERS, 0))
        self._locks: WeakValueDictionary[tuple[QuotaOwner, str, str], asyncio.Lock] = WeakValueDictionary()

    def lock(self, owner: QuotaOwner, zone: str, owner_id: str) -> asyncio.Lock:
        """The lock of a cluster or namespace in a zone, without regard to the case of its ID."""
        return self._locks.setdefault((owner, zone, owner_id.lower()), asyncio.Lock())
