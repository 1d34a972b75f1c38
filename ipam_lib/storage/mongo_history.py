"""The history in MongoDB: one collection, `{collection}_history`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from ipam_lib.models import Tenure
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.history_store import HistoryPosition, HistoryStore, to_document, to_tenure
from ipam_lib.storage.mongo_connection import MongoConnection
from ipam_lib.storage.mongo_queries import Query, only_duplicate_keys


class MongoHistory(MongoConnection, HistoryStore):
    """The history of the store in MongoDB."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        if not tenures:
            return
        documents = [{**to_document(one), "_id": ObjectId(one.id)} for one in tenures]
        async with self._collection(CollectionKind.HISTORY, "insert") as collection:
            try:
                await collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                # A duplicate is stored already. All other tenures are stored by now.
                if error.details.get("writeConcernErrors") or not only_duplicate_keys(error.details):
                    raise

    async def history_page(
        self, *, address: str, zone: str | None, before: HistoryPosition | None, limit: int
    ) -> list[Tenure]:
        order = [("until", DESCENDING), ("_id", DESCENDING)]
        async with self._collection(CollectionKind.HISTORY, "find") as collection:
            found = collection.find(page(address, zone, before), sort=order, limit=limit, batch_size=limit)
            return [to_tenure(document) for document in await found.to_list(None)]

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        async with self._collection(CollectionKind.HISTORY, "delete") as collection:
            order = [("until", ASCENDING), ("_id", ASCENDING)]
            oldest = collection.find({"until": {"$lt": before}}, projection=["_id"], sort=order, limit=limit)
            ids = [document["_id"] for document in await oldest.to_list(None)]
            if not ids:
                return 0
            return (await collection.delete_many({"_id": {"$in": ids}})).deleted_count


def page(address: str, zone: str | None, before: HistoryPosition | None) -> Query:
    """The query of `HistoryStore.history_page`."""
    query: Query = {"address": address}
    if zone is not None:
        query["zone"] = zone
    if before is not None:
        # The server searches the index by the first of these two conditions.
        query["until"] = {"$lte": before.until}
        query["$or"] = [{"until": {"$lt": before.until}}, {"_id": {"$lt": ObjectId(before.id)}}]
    return query
