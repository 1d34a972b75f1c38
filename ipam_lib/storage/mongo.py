"""The store in MongoDB: one collection of registrations, and three beside it.

`mongo_connection` says how MongoDB is used, `mongo_queries` what is asked of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from ipam_lib.models import Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import Document, cas_fields, change, services_as_read, to_document, to_registration
from ipam_lib.storage.mongo_bulk_copy import MongoBulkCopy
from ipam_lib.storage.mongo_connection import FIRST_ID, encode_id
from ipam_lib.storage.mongo_history import MongoHistory
from ipam_lib.storage.mongo_indexes import IndexBuilder, duplicates
from ipam_lib.storage.mongo_pool import MongoPool
from ipam_lib.storage.usage import SECONDS_TO_COUNT, Usage, UsageCounting

_ID_FIELDS = ("_id", "duplicate")


class MongoStore(MongoPool, MongoHistory, MongoBulkCopy):
    """The store in MongoDB. `coexist`: whether the earlier service writes to the same collection.

    The other parameters are those of `MongoConnection`. `open` raises ConfigError for a URI that cannot be used,
    `prepare` for an index that is in the way of a required one.
    """

    def __init__(
        self,
        uri: str,
        database: str,
        collection: str = "addresses",
        *,
        coexist: bool = False,
        timeout_seconds: float = 5.0,
        prepare_seconds: float = 600.0,
    ) -> None:
        super().__init__(uri, database, collection, timeout_seconds=timeout_seconds, prepare_seconds=prepare_seconds)
        self._coexist = coexist
        self._builder = IndexBuilder(prepare_seconds)

    async def prepare(self) -> list[DuplicateReport]:
        async with self._slow_database("prepare") as database:
            await self._refuse_unfinished(database)
            for kind in CollectionKind:
                await self._builder.make(self._of_kind(database, kind), kind)
            return await duplicates(self._of_kind(database, CollectionKind.REGISTRATIONS))

    async def insert(self, registration: Registration) -> None:
        async with self._collection(CollectionKind.REGISTRATIONS, "insert") as collection:
            await collection.insert_one(_encode(to_document(registration)))

    async def get(self, registration_id: str) -> Registration | None:
        return next(iter(await self._find({"_id": encode_id(registration_id)})), None)

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        found = await self._find(queries.by_service(secrets, zone, ip_family, service))
        return [registration for registration in found if registration.state is State.LIVE]

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return await self._find(queries.by_address(zone, addresses))

    async def replace(self, old: Registration, new: Registration) -> bool:
        changes = change(old, new, services_as_read(old))
        update: Document = {"$set": _encode(changes.set)}
        if changes.unset:
            update["$unset"] = dict.fromkeys(changes.unset, "")
        async with self._collection(CollectionKind.REGISTRATIONS, "update") as collection:
            result = await collection.update_one(self.cas_filter(old), update)
        return result.matched_count == 1

    async def delete(self, old: Registration) -> bool:
        async with self._collection(CollectionKind.REGISTRATIONS, "delete") as collection:
            result = await collection.delete_one(self.cas_filter(old))
        return result.deleted_count == 1

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.due(now, _after(after)), limit)

    async def find_undescribed(self, *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.undescribed(_after(after)), limit)

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.by_states(states, _after(after)), limit)

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.by_cluster(cluster_ids, _after(after)), limit)

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.page(wanted, _after(after)), limit)

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        async with self._collection(CollectionKind.REGISTRATIONS, "aggregate") as collection:
            groups = await collection.aggregate(queries.COUNTS).to_list(None)
        counted: Counter[tuple[str, IPFamily]] = Counter()
        for group in groups:
            # A document of another program may lack either field. It counts as one of a zone without a name.
            kind = to_registration({"_id": "", **group["_id"]})
            counted[kind.zone, kind.ip_family] += group["count"]
        return counted

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        async with self._slow_database("aggregate", SECONDS_TO_COUNT) as database:
            collection = self._of_kind(database, CollectionKind.REGISTRATIONS)
            groups = await collection.aggregate(queries.USAGE).to_list(None)
        counting = UsageCounting()
        for group in groups:
            kind = to_registration({"_id": "", **group["_id"], "state": None})
            counting.add(
                kind.zone,
                kind.ip_family,
                group["_id"].get("state"),
                registrations=group["registrations"],
                services=group["services"],
                expiring=group["expiring"],
            )
        return counting.result()

    async def count_owned(self, owner: QuotaOwner, ids: Sequence[str], *, zone: str, limit: int) -> int:
        async with self._collection(CollectionKind.REGISTRATIONS, "aggregate") as collection:
            return await collection.count_documents(queries.by_owner(owner, ids, zone), limit=limit)

    async def owned(self, owner: QuotaOwner) -> Mapping[tuple[str, str], int]:
        async with self._slow_database("aggregate", SECONDS_TO_COUNT) as database:
            collection = self._of_kind(database, CollectionKind.REGISTRATIONS)
            groups = await collection.aggregate(queries.owned(owner), allowDiskUse=True).to_list(None)
        return {(str(group["_id"].get("zone")), str(group["_id"]["owner"])): group["count"] for group in groups}

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return await self._find({"_id": {"$in": [encode_id(one) for one in registration_ids]}})

    async def load_document(self, name: str) -> dict[str, Any] | None:
        async with self._collection(CollectionKind.DOCUMENTS, "find") as collection:
            document = await collection.find_one({"_id": name})
        return json.loads(document["content"]) if document else None

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        # As text, because not every server takes field names with dots or dollars.
        document = {"_id": name, "content": json.dumps(content)}
        async with self._collection(CollectionKind.DOCUMENTS, "update") as collection:
            try:
                await collection.replace_one({"_id": name}, document, upsert=True)
            except DuplicateKeyError:
                # Two upserts that both find nothing both insert
                # (https://www.mongodb.com/docs/manual/reference/method/db.collection.replaceOne/).
                await collection.replace_one({"_id": name}, document, upsert=True)

    async def _find(self, query: queries.Query, limit: int = 0) -> list[Registration]:
        """The registrations that match, lowest id first. The server sorts only if there is a limit."""
        async with self._collection(CollectionKind.REGISTRATIONS, "find") as collection:
            cursor = collection.find(query, limit=limit, batch_size=limit, sort=[("_id", 1)] if limit else None)
            documents = await cursor.to_list(None)
        found = [to_registration(document, raw_document=document) for document in documents]
        return found if limit else sorted(found, key=lambda registration: registration.id)

    def cas_filter(self, old: Registration) -> queries.Query:
        """The condition that the stored document still is `old`'s. Null matches a missing revision."""
        query: queries.Query = {"_id": encode_id(old.id), "revision": old.revision}
        if self._coexist:
            services, secret = cas_fields(old)
            query |= {"services": {"$eq": services}, "secret": secret}
        return query


def _after(registration_id: str | None) -> ObjectId | str:
    return FIRST_ID if registration_id is None else encode_id(registration_id)


def _encode(document: Document) -> Document:
    return {name: encode_id(value) if name in _ID_FIELDS else value for name, value in document.items()}
