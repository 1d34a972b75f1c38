"""The pool's part of a store, as one instance of the crash machine reaches it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from ipam_lib.models import IPFamily, PoolEntry, PoolState
from ipam_lib.storage.base import Store
from ipam_lib.storage.pool_store import Cooling, PoolKey, PoolStore

T = TypeVar("T")


class FaultyPool(PoolStore):
    """Every call is a point."""

    _inner: Store

    @abstractmethod
    async def _call(self, name: str, apply: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """One call of the store."""

    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        await self._call("pool_insert", lambda: self._inner.pool_insert(entries), write=True)

    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        return await self._call(
            f"pool_claim {registration_id}",
            lambda: self._inner.pool_claim(zone=zone, ip_family=ip_family, registration_id=registration_id),
            write=True,
        )

    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        name = f"pool_replace {old.id} {old.state}->{new.state}"
        return await self._call(name, lambda: self._inner.pool_replace(old, new), write=True)

    async def pool_delete(self, old: PoolEntry) -> bool:
        return await self._call(f"pool_delete {old.id}", lambda: self._inner.pool_delete(old), write=True)

    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        return await self._call("pool_get_many", lambda: self._inner.pool_get_many(entry_ids))

    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        find = self._inner.pool_find_address
        return await self._call("pool_find_address", lambda: find(zone=zone, address=address))

    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        return await self._call("pool_find_by", lambda: self._inner.pool_find_by(registration_ids))

    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        return await self._call("pool_page", lambda: self._inner.pool_page(states, after=after, limit=limit))

    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        find = self._inner.pool_beyond
        return await self._call("pool_beyond", lambda: find(zone=zone, ip_family=ip_family, keep=keep, limit=limit))

    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        find = self._inner.pool_cooling
        return await self._call("pool_cooling", lambda: find(zone=zone, ip_family=ip_family))

    async def pool_counts(self) -> Mapping[PoolKey, int]:
        return await self._call("pool_counts", self._inner.pool_counts)
