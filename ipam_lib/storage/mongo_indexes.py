"""Makes the missing indexes of the store in MongoDB, also in a database of the earlier service."""

from __future__ import annotations

from typing import Final

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError, OperationFailure

from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import to_registration
from ipam_lib.storage.mongo_connection import Collection, code_name

# https://www.mongodb.com/docs/manual/reference/error-codes/
_INDEX_CLASH: Final = {67, 68, 85, 86}


async def make(collection: Collection, kind: CollectionKind) -> None:
    """Make the missing indexes of a collection, as `Store.prepare` describes. The name of an index does not matter.

    Raises ConfigError for an index that is in the way of a required one.
    """
    if not (indexes := queries.COLLECTION_INDEXES[kind]):
        return
    present = await collection.index_information()
    for index in indexes:
        if queries.exists(index, present):
            continue
        if index is queries.UNIQUE_INDEX:
            await _make_unique(collection)
        else:
            await _make(collection, index)


async def duplicates(collection: Collection) -> list[DuplicateReport]:
    """Every zone and address with registrations that are marked as duplicates."""
    marked: dict[tuple[str, str], list[str]] = {}
    for document in await collection.find({"duplicate": {"$ne": None}}, sort=[("_id", 1)]).to_list(None):
        one = to_registration(document)
        marked.setdefault((one.zone, one.address), []).append(one.id)
    reports = []
    for (zone, address), ids in marked.items():
        kept = await collection.find_one({"zone": zone, "address": address, "duplicate": None})
        reports.append(DuplicateReport(zone, address, str(kept["_id"]) if kept else "", tuple(ids)))
    return reports


async def _make(collection: Collection, index: queries.Index) -> None:
    fields = [(field, ASCENDING) for field in index.fields]
    try:
        await collection.create_index(fields, name=index.name, unique=index.unique)
    except OperationFailure as error:
        if error.code in _INDEX_CLASH:
            raise ConfigError([queries.clash(index, collection.name, code_name(error))]) from error
        raise


async def _make_unique(collection: Collection) -> None:
    """Make the unique index. Duplicates are marked first, again if the earlier service adds another one meanwhile."""
    for _ in range(10):
        try:
            return await _make(collection, queries.UNIQUE_INDEX)
        except DuplicateKeyError:
            await _mark_duplicates(collection)
    raise StorageUnavailable("the earlier service keeps registering addresses twice; try again")


async def _mark_duplicates(collection: Collection) -> None:
    groups = await collection.aggregate(queries.DUPLICATES, allowDiskUse=True).to_list(None)
    for group in groups:
        query = {"zone": group["_id"].get("zone"), "address": group["_id"].get("address"), "duplicate": None}
        same_place = await collection.find(query, sort=[("_id", 1)]).to_list(None)
        for document in same_place[1:]:
            # If several processes start at once, the first one marks the document.
            await collection.update_one(*queries.mark(document))
