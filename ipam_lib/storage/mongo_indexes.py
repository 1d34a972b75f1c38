"""Builds the missing indexes of the store in MongoDB, also in a database of the earlier service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pymongo
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import to_registration
from ipam_lib.storage.mongo_connection import Collection, code_name

log = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS: Final = 15.0
_SECONDS_FOR_PROGRESS: Final = 5.0
# https://www.mongodb.com/docs/manual/reference/error-codes/
_INDEX_CLASH: Final = {67, 68, 85, 86}


class IndexBuilder:
    """Builds missing indexes, and logs how far a slow build is.

    - `seconds`: the time limit of the caller's operations.
    - `report_seconds`: the time between two log messages about one index.

    An index that was not built in time is not tried again: a server that needs that long may also answer nothing else
    meanwhile.
    """

    def __init__(self, seconds: float, *, report_seconds: float = SECONDS_BETWEEN_REPORTS) -> None:
        self._seconds = seconds
        self._report_seconds = report_seconds
        self._too_slow: dict[tuple[str, str], str] = {}

    async def make(self, collection: Collection, kind: CollectionKind) -> None:
        """Build the missing indexes of a collection, as `Store.prepare` describes. The name of an index does not
        matter.

        Raises ConfigError for an index that is in the way of a required one, and for one that is not built in time.
        """
        if not (indexes := queries.COLLECTION_INDEXES[kind]):
            return
        present = await collection.index_information()
        for index in indexes:
            if queries.exists(index, present):
                continue
            if index is queries.UNIQUE_INDEX:
                await self._make_unique(collection)
            else:
                await self._make(collection, index)

    async def _make(self, collection: Collection, index: queries.Index) -> None:
        if problem := self._too_slow.get((collection.name, index.name)):
            raise ConfigError([problem])
        documents = await collection.estimated_document_count()
        fields = [(field, ASCENDING) for field in index.fields]
        try:
            async with self._reported(collection, index, documents):
                await collection.create_index(fields, name=index.name, unique=index.unique)
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in _INDEX_CLASH:
                raise ConfigError([queries.clash(index, collection.name, code_name(error))]) from error
            if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
                problem = queries.too_slow(index, collection.name, documents, self._seconds)
                self._too_slow[collection.name, index.name] = problem
                raise ConfigError([problem]) from error
            raise

    async def _make_unique(self, collection: Collection) -> None:
        """Make the unique index. Duplicates are marked first, again if the earlier service adds another one
        meanwhile."""
        for _ in range(10):
            try:
                return await self._make(collection, queries.UNIQUE_INDEX)
            except DuplicateKeyError:
                await _mark_duplicates(collection)
        raise StorageUnavailable("the earlier service keeps registering addresses twice; try again")

    @asynccontextmanager
    async def _reported(self, collection: Collection, index: queries.Index, documents: int) -> AsyncIterator[None]:
        """Log at intervals that an index is being built, and at the end if that took long."""
        about = {"index": index.name, "collection": collection.name, "documents": documents}
        began = asyncio.get_running_loop().time()
        reported = False

        async def report() -> None:
            nonlocal reported
            while True:
                await asyncio.sleep(self._report_seconds)
                reported = True
                seconds = asyncio.get_running_loop().time() - began
                log.info("building an index takes %.0f s so far%s", seconds, await _progress(collection), extra=about)

        reporting = asyncio.create_task(report())
        try:
            yield
            if reported:
                log.info("an index was built in %.0f s", asyncio.get_running_loop().time() - began, extra=about)
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)


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


async def _progress(collection: Collection) -> str:
    """How far the index build of a collection is, in words; empty if the server does not tell
    (https://www.mongodb.com/docs/manual/reference/command/currentOp/)."""
    command = {"currentOp": 1, "$ownOps": True, "command.createIndexes": collection.name}
    try:
        with pymongo.timeout(_SECONDS_FOR_PROGRESS):
            found: dict[str, Any] = await collection.database.client.admin.command(command)
        progress = next(one["progress"] for one in found["inprog"] if one.get("progress"))
        return f", {100 * progress['done'] // progress['total']} % of this step is done"
    except (PyMongoError, LookupError, StopIteration, TypeError, ZeroDivisionError):
        return ""


async def _mark_duplicates(collection: Collection) -> None:
    groups = await collection.aggregate(queries.DUPLICATES, allowDiskUse=True).to_list(None)
    for group in groups:
        query = {"zone": group["_id"].get("zone"), "address": group["_id"].get("address"), "duplicate": None}
        same_place = await collection.find(query, sort=[("_id", 1)]).to_list(None)
        for document in same_place[1:]:
            # If several processes start at once, the first one marks the document.
            await collection.update_one(*queries.mark(document))
