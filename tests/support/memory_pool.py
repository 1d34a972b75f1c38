"""The pool's part of the store in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from ipam_lib.errors import StoreConflict
from ipam_lib.models import IPFamily, PoolEntry, PoolState
from ipam_lib.storage.documents import Document
from ipam_lib.storage.pool_store import Cooling, PoolKey, PoolStore, order, to_document, to_entry


class MemoryPool(PoolStore):
    """Entries as documents, by id."""

    @abstractmethod
    def _pool(self) -> dict[str, Document]:
        """The entries; raises StorageUnavailable while the store is closed."""

    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        for entry in entries:
            if entry.id in self._pool():
                raise StoreConflict("the id is taken")
            self._put_entry(entry)

    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        ready = self._ready(zone, ip_family)
        if not ready:
            return None
        claimed = ready[0].changed(PoolState.CLAIMED, registration_id=registration_id)
        self._put_entry(claimed)
        return claimed

    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        if not self._still_entry(old):
            return False
        self._put_entry(new)
        return True

    async def pool_delete(self, old: PoolEntry) -> bool:
        if not self._still_entry(old):
            return False
        del self._pool()[old.id]
        return True

    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        return [one for one in self._entries() if one.id in entry_ids]

    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        return next((one for one in self._entries() if (one.zone, one.address) == (zone, address)), None)

    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        return [one for one in self._entries() if one.registration_id in registration_ids]

    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        found = (one for key, one in sorted(self._pool().items()) if one["state"] in states and key > (after or ""))
        return [to_entry(one) for one in islice(found, limit)]

    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        return self._ready(zone, ip_family)[keep : keep + limit]

    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        fitting = (zone, ip_family, PoolState.COOLING)
        found = [one for one in self._entries() if (one.zone, one.ip_family, one.state) == fitting]
        return Cooling(len(found), min((one.cooldown_until for one in found if one.cooldown_until), default=None))

    async def pool_counts(self) -> Mapping[PoolKey, int]:
        kinds = ((one["zone"], one["ip_family"], one["state"]) for one in self._pool().values())
        return {PoolKey(zone, family, PoolState(state)): n for (zone, family, state), n in Counter(kinds).items()}

    def _entries(self) -> list[PoolEntry]:
        return [to_entry(document) for _, document in sorted(self._pool().items())]

    def _ready(self, zone: str, ip_family: IPFamily) -> list[PoolEntry]:
        fitting = (zone, ip_family, PoolState.READY)
        found = [one for one in self._entries() if (one.zone, one.ip_family, one.state) == fitting]
        return sorted(found, key=lambda one: order(one.address))

    def _put_entry(self, entry: PoolEntry) -> None:
        place = (entry.zone, entry.address)
        if any((one["zone"], one["address"]) == place and key != entry.id for key, one in self._pool().items()):
            raise StoreConflict("zone and address are taken")
        self._pool()[entry.id] = to_document(entry)

    def _still_entry(self, old: PoolEntry) -> bool:
        stored = self._pool().get(old.id)
        return stored is not None and to_entry(stored).revision == old.revision
