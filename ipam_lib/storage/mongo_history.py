"""The history's part of the store in MongoDB: one collection, `{collection}_history`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from ipam_lib.models import Tenure
from ipam_lib.storage.history_store import HistoryStore, Place, to_document, to_tenure
from ipam_lib.storage.mongo_queries import DUPLICATE_KEY, Query


class MongoHistory(HistoryStore):
    """The history's part of the store in MongoDB."""

    @abstractmethod
    def _history(self) -> AbstractAsyncContextManager[AsyncIOMotorCollection[dict[str, Any]]]:
        """The collection of the tenures, within the time limit, with the driver's errors turned into ours."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        if not tenures:
            return
        documents = [{**to_document(one), "_id": ObjectId(one.id)} for one in tenures]
        async with self._history() as collection:
            try:
                await collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                problems = error.details
                refused = problems.get("writeErrors") or [{}]
                # Those that are there already; all others are stored by now.
                if problems.get("writeConcernErrors") or any(one.get("code") != DUPLICATE_KEY for one in refused):
                    raise

    async def history_page(self, *, address: str, zone: str | None, before: Place | None, limit: int) -> list[Tenure]:
        order = [("until", DESCENDING), ("_id", DESCENDING)]
        async with self._history() as collection:
            found = collection.find(page(address, zone, before), sort=order, limit=limit, batch_size=limit)
            return [to_tenure(document) for document in await found.to_list(None)]

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        async with self._history() as collection:
            order = [("until", ASCENDING), ("_id", ASCENDING)]
            oldest = collection.find({"until": {"$lt": before}}, projection=["_id"], sort=order, limit=limit)
            ids = [document["_id"] for document in await oldest.to_list(None)]
            if not ids:
                return 0
            return (await collection.delete_many({"_id": {"$in": ids}})).deleted_count


def page(address: str, zone: str | None, before: Place | None) -> Query:
    """See `HistoryStore.history_page`."""
    query: Query = {"address": address}
    if zone is not None:
        query["zone"] = zone
    if before is not None:
        # The first condition is what the index is searched by.
        query["until"] = {"$lte": before.until}
        query["$or"] = [{"until": {"$lt": before.until}}, {"_id": {"$lt": ObjectId(before.id)}}]
    return query
