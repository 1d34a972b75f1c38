"""Copies the whole store in MongoDB: reads it in pages, and replaces it by collections that were filled beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError

from ipam_lib.errors import ConfigError, StoreConflict
from ipam_lib.models import Registration
from ipam_lib.storage import bson_documents
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import (
    PAGE_BYTES,
    PAGE_DOCUMENTS,
    CollectionInfo,
    CollectionKind,
    Contents,
    CopyableStore,
    Snapshot,
)
from ipam_lib.storage.mongo_connection import FIRST_ID, LENIENT, Database, MongoConnection
from ipam_lib.storage.mongo_connection import Collection as MongoCollection
from ipam_lib.storage.mongo_indexes import IndexBuilder
from ipam_lib.storage.mongo_queries import STAGED, Query, above, only_duplicate_keys

CHANGING: Final = "_changing"
"""Follows the name of the collection of registrations, in the name of a collection that exists during the renames.
Several renames are not one step: a process that dies between them leaves this collection."""

_RAW: Final = CodecOptions(document_class=RawBSONDocument)
# MongoDB compares an id only with ids of the same type, so these need a query of their own.
_FOREIGN_IDS: Final[Query] = {"_id": {"$not": {"$type": "objectId"}}}


class MongoBulkCopy(MongoConnection, CopyableStore):
    """Copies the store in MongoDB as a whole."""

    _builder: IndexBuilder

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._slow_database("backup") as database:
            contents = await self._contents(database)
        yield _MongoSnapshot(self, contents)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        return self._snapshot()

    async def _contents(self, database: Database) -> Contents:
        version = str((await database.command("buildInfo")).get("version", ""))
        listed = {one["name"]: one for one in await (await database.list_collections()).to_list(None)}
        servers = ", ".join(sorted(f"{host}:{port}" for host, port in database.client.delegate.nodes))
        return Contents(
            database=self._database_name,
            collection=self._collection_name,
            server_version=version,
            place=f"{self._database_name}.{self._collection_name} of MongoDB on {servers}",
            collections={
                kind: await _info(self._of_kind(database, kind), listed[name])
                for kind in CollectionKind
                if (name := self._collection_name + kind) in listed
            },
            unfinished=self._collection_name + CHANGING in listed,
        )

    def validate(self, kind: CollectionKind, data: bytes) -> Registration | None:
        try:
            document = bson.decode(data, codec_options=LENIENT)
        except (BSONError, ValueError, OverflowError, RecursionError) as error:
            raise bson_documents.invalid_bson(error) from None
        return bson_documents.read(kind, document)

    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        kinds: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        async with self._slow_database("restore") as database:
            if not replace:
                await self._refuse_to_replace(database, kinds)
            for kind in CollectionKind:
                await self._of_kind(database, kind, STAGED).drop()
            for kind in kinds:
                await database.create_collection(self._collection_name + kind + STAGED)
        async for kind, page in pages:
            async with self._slow_database("restore") as database:
                await _insert(self._of_kind(database, kind, STAGED), page)
        async with self._slow_database("restore") as database:
            for kind in kinds:
                await self._builder.make(self._of_kind(database, kind, STAGED), kind)
            await self._change_over(database, kinds)
        return await self.prepare()

    async def _refuse_to_replace(self, database: Database, kinds: Collection[CollectionKind]) -> None:
        contents = await self._contents(database)
        for kind in kinds:
            if contents.count(kind) and not contents.unfinished and not kind.can_be_made_again:
                raise StoreConflict(f"{self._collection_name}{kind} holds documents")

    def _changing(self, database: Database) -> MongoCollection:
        return self._of_kind(database, CollectionKind.REGISTRATIONS, CHANGING)

    async def _change_over(self, database: Database, kinds: Collection[CollectionKind]) -> None:
        await self._changing(database).replace_one({"_id": CHANGING}, {"_id": CHANGING}, upsert=True)
        for kind in kinds:
            staged = self._of_kind(database, kind, STAGED)
            await staged.rename(self._collection_name + kind, dropTarget=True)
        await self._changing(database).drop()

    async def _refuse_unfinished(self, database: Database) -> None:
        """Raises ConfigError if a `load` was interrupted during the renames."""
        if await self._changing(database).find_one() is not None:
            where = f"{self._database_name}.{self._collection_name}"
            hint = "run mongo-restore again, with the same archive, to bring it to its end"
            raise ConfigError([f"mongodb: a restore into {where} was cut off half-way; {hint}"])


class _MongoSnapshot(Snapshot):
    """The store in MongoDB while it is copied."""

    def __init__(self, store: MongoBulkCopy, contents: Contents) -> None:
        self._store = store
        self.contents = contents

    async def dump(self, kind: CollectionKind) -> AsyncIterator[list[bytes]]:
        if kind not in self.contents.collections:
            return
        async with aclosing(self._foreign(kind)) as pages:
            async for page in pages:
                yield page
        after = FIRST_ID
        while page := await self._page(kind, after):
            yield page
            after = bson.decode(page[-1])["_id"]

    async def _foreign(self, kind: CollectionKind) -> AsyncGenerator[list[bytes], None]:
        """The documents whose id is not an ObjectId, by one cursor, because they are few."""
        async with self._store._collection(kind, "find") as collection:
            cursor = collection.with_options(_RAW).find(_FOREIGN_IDS, sort=[("_id", 1)])
        try:
            while True:
                async with self._store._database("getMore"):
                    page = await _take(cursor)
                if not page:
                    return
                yield page
        finally:
            async with self._store._database("getMore"):
                await cursor.close()

    async def _page(self, kind: CollectionKind, after: bson.ObjectId) -> list[bytes]:
        async with self._store._collection(kind, "find") as collection:
            cursor = collection.with_options(_RAW).find(above(after), sort=[("_id", 1)], limit=PAGE_DOCUMENTS)
            try:
                return await _take(cursor)
            finally:
                await cursor.close()


async def _info(collection: MongoCollection, listed: Mapping[str, Any]) -> CollectionInfo:
    uuid = listed.get("info", {}).get("uuid")
    return CollectionInfo(
        name=collection.name,
        documents=await collection.count_documents({}),
        indexes=tuple([dict(one) for one in await collection.list_indexes().to_list(None)]),
        options=listed.get("options", {}),
        uuid=bytes(uuid).hex() if isinstance(uuid, bytes) else uuid.hex if uuid else "",
    )


async def _take(cursor: Any) -> list[bytes]:
    """The next page of a cursor over raw documents."""
    page: list[bytes] = []
    size = 0
    while len(page) < PAGE_DOCUMENTS and size < PAGE_BYTES:
        document = await anext(cursor, None)
        if document is None:
            break
        page.append(document.raw)
        size += len(document.raw)
    return page


async def _insert(collection: MongoCollection, page: list[bytes]) -> None:
    try:
        await collection.insert_many([RawBSONDocument(one) for one in page])
    except BulkWriteError as error:
        if only_duplicate_keys(error.details):
            raise StoreConflict(f"two documents for {collection.name.removesuffix(STAGED)} have one id") from error
        raise
