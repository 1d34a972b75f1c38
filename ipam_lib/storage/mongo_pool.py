"""The warm pool in MongoDB: one collection, `{collection}_pool`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import BulkWriteError

from ipam_lib.errors import StoreConflict
from ipam_lib.models import IPFamily, PoolEntry, PoolState
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.claim_batching import ClaimBatcher
from ipam_lib.storage.mongo_connection import FIRST_ID, MongoConnection
from ipam_lib.storage.mongo_queries import above, only_duplicate_keys
from ipam_lib.storage.pool_store import Cooling, PoolKey, PoolStore, to_document, to_entry


class MongoPool(MongoConnection, PoolStore):
    """The warm pool of the store in MongoDB."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._claims: ClaimBatcher[PoolEntry, PoolEntry] = ClaimBatcher()

    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        async with self._collection(CollectionKind.POOL, "insert") as collection:
            # One round trip. Ordered, so that the entries before a conflict are stored.
            try:
                await collection.insert_many(
                    [{**to_document(entry), "_id": ObjectId(entry.id)} for entry in entries], ordered=True
                )
            except BulkWriteError as error:
                if only_duplicate_keys(error.details):
                    raise StoreConflict("a place in the pool is taken") from error
                raise

    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        ready = {"zone": zone, "ip_family": ip_family, "state": PoolState.READY.value}
        claim = {"$set": {"state": PoolState.CLAIMED.value, "by": registration_id}, "$inc": {"revision": 1}}

        async def first(query: dict[str, Any]) -> PoolEntry | None:
            async with self._collection(CollectionKind.POOL, "findAndModify") as collection:
                document = await collection.find_one_and_update(
                    query, claim, sort=[("order", ASCENDING)], return_document=ReturnDocument.AFTER
                )
            return to_entry(document) if document else None

        return await self._claims.claim(
            (zone, ip_family),
            lowest=lambda: first(ready),
            several=lambda number: self._entries(ready, ("order", ASCENDING), number),
            this=lambda entry: first({**pool_cas_filter(entry), "state": PoolState.READY.value}),
        )

    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        document = to_document(new)
        gone = to_document(old).keys() - document.keys()
        del document["_id"]
        update = {"$set": document, **({"$unset": dict.fromkeys(gone, "")} if gone else {})}
        async with self._collection(CollectionKind.POOL, "update") as collection:
            result = await collection.update_one(pool_cas_filter(old), update)
        return result.matched_count == 1

    async def pool_delete(self, old: PoolEntry) -> bool:
        async with self._collection(CollectionKind.POOL, "delete") as collection:
            result = await collection.delete_one(pool_cas_filter(old))
        return result.deleted_count == 1

    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        return await self._entries({"_id": {"$in": [ObjectId(one) for one in entry_ids if ObjectId.is_valid(one)]}})

    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        return next(iter(await self._entries({"address": address, "zone": zone})), None)

    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        found = await self._entries({"by": {"$in": list(registration_ids)}})
        return sorted(found, key=lambda entry: entry.id)

    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        query = {
            "state": {"$in": sorted(state.value for state in states)},
            **above(FIRST_ID if after is None else ObjectId(after)),
        }
        return await self._entries(query, ("_id", ASCENDING), limit)

    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        query = {"zone": zone, "ip_family": ip_family, "state": PoolState.READY.value}
        return await self._entries(query, ("order", ASCENDING), limit, skip=keep)

    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        match = {"zone": zone, "ip_family": ip_family, "state": PoolState.COOLING.value}
        group = {"_id": None, "number": {"$sum": 1}, "until": {"$min": "$until"}}
        async with self._collection(CollectionKind.POOL, "aggregate") as collection:
            found = await collection.aggregate([{"$match": match}, {"$group": group}]).to_list(None)
        return Cooling(found[0]["number"], found[0]["until"]) if found else Cooling()

    async def pool_counts(self) -> Mapping[PoolKey, int]:
        kind = {name: f"${name}" for name in ("zone", "ip_family", "state")}
        async with self._collection(CollectionKind.POOL, "aggregate") as collection:
            groups = await collection.aggregate([{"$group": {"_id": kind, "count": {"$sum": 1}}}]).to_list(None)
        return {
            PoolKey(group["_id"]["zone"], group["_id"]["ip_family"], PoolState(group["_id"]["state"])): group["count"]
            for group in groups
        }

    async def _entries(
        self, query: dict[str, Any], sort: tuple[str, int] | None = None, limit: int = 0, skip: int = 0
    ) -> list[PoolEntry]:
        async with self._collection(CollectionKind.POOL, "find") as collection:
            cursor = collection.find(query, sort=[sort] if sort else None, skip=skip, limit=limit)
            documents = await cursor.to_list(None)
        return [to_entry(document) for document in documents]


def pool_cas_filter(old: PoolEntry) -> dict[str, Any]:
    """The condition that the stored entry still is at `old`'s revision."""
    return {"_id": ObjectId(old.id), "revision": old.revision}
