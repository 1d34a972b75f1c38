"""The indexes of the store in MongoDB, made where they are not there, on a database of the earlier service too."""

from __future__ import annotations

from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError, OperationFailure

from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import to_registration

Collection = AsyncIOMotorCollection[dict[str, Any]]

# https://www.mongodb.com/docs/manual/reference/error-codes/
_INDEX_CLASH: Final = {67, 68, 85, 86}


async def make(collection: Collection, part: CollectionKind) -> None:
    """Make the indexes of a part that are not there, by whatever name. See `Store.prepare`.

    Raises ConfigError for one that stands in the way of ours.
    """
    if not (indexes := queries.PART_INDEXES[part]):
        return
    standing = await collection.index_information()
    for index in indexes:
        if queries.stands(index, standing):
            continue
        if index is queries.UNIQUE_INDEX:
            await _make_unique(collection)
        else:
            await _make(collection, index)


async def duplicates(collection: Collection) -> list[DuplicateReport]:
    """Every zone and address that is marked to be held more than once."""
    marked: dict[tuple[str, str], list[str]] = {}
    for document in await collection.find({"duplicate": {"$ne": None}}, sort=[("_id", 1)]).to_list(None):
        one = to_registration(document)
        marked.setdefault((one.zone, one.address), []).append(one.id)
    reports = []
    for (zone, address), ids in marked.items():
        kept = await collection.find_one({"zone": zone, "address": address, "duplicate": None})
        reports.append(DuplicateReport(zone, address, str(kept["_id"]) if kept else "", tuple(ids)))
    return reports


def words(error: OperationFailure) -> str:
    """The server's words, without the values of the document that they may come with."""
    return str((error.details or {}).get("codeName") or error.code)


async def _make(collection: Collection, index: queries.Index) -> None:
    fields = [(field, ASCENDING) for field in index.fields]
    try:
        await collection.create_index(fields, name=index.name, unique=index.unique)
    except OperationFailure as error:
        if error.code in _INDEX_CLASH:
            raise ConfigError([queries.clash(index, collection.name, words(error))]) from error
        raise


async def _make_unique(collection: Collection) -> None:
    """Make it, after what stands twice has been told apart; as often as the earlier service adds another."""
    for _ in range(10):
        try:
            return await _make(collection, queries.UNIQUE_INDEX)
        except DuplicateKeyError:
            await _mark_duplicates(collection)
    raise StorageUnavailable("storage keeps getting addresses that stand there already; try again")


async def _mark_duplicates(collection: Collection) -> None:
    groups = await collection.aggregate(queries.DOUBLED, allowDiskUse=True).to_list(None)
    for group in groups:
        query = {"zone": group["_id"].get("zone"), "address": group["_id"].get("address"), "duplicate": None}
        doubled = await collection.find(query, sort=[("_id", 1)]).to_list(None)
        for document in doubled[1:]:
            # Where several processes start at once, each document is marked by the first.
            await collection.update_one(*queries.mark(document))
