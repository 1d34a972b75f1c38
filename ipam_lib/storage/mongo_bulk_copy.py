"""The store in MongoDB copied as a whole: read in pages, and replaced by collections that were made ready beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final

import bson
import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.errors import BulkWriteError

from ipam_lib.errors import ConfigError, StoreConflict
from ipam_lib.models import Registration
from ipam_lib.storage import bson_documents, mongo_indexes
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
from ipam_lib.storage.mongo_queries import DUPLICATE_KEY, Query, above

_Database = AsyncIOMotorDatabase[dict[str, Any]]
_Collection = AsyncIOMotorCollection[dict[str, Any]]

# What follows the name of a collection that is to take another's place, and, after the name of the first one, of the
# collection that is there while they change over: renaming several is no single step.
STAGED: Final = "_restoring"
CHANGING: Final = "_changing"

_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_LENIENT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP, unicode_decode_error_handler="replace"
)
# MongoDB compares an id only with others of its kind, so these come by themselves.
_FOREIGN_IDS: Final[Query] = {"_id": {"$not": {"$type": "objectId"}}}
_BEFORE_ALL: Final = bson.ObjectId(b"\0" * 12)


class MongoCopying(CopyableStore):
    """What copies the store in MongoDB."""

    _database_name: str
    _collection_name: str
    _prepare_seconds: float

    @abstractmethod
    def _calling(self, seconds: float | None = None) -> AbstractAsyncContextManager[_Database]:
        """The database, within the time limit, with the driver's errors turned into ours."""

    @abstractmethod
    def _collection(self, database: _Database, name: str) -> _Collection:
        """A collection of it, with the guarantees that this store needs."""

    def _part(self, database: _Database, part: CollectionKind) -> _Collection:
        return self._collection(database, self._collection_name + part)

    @asynccontextmanager
    async def _taking_long(self, seconds: float | None = None) -> AsyncIterator[_Database]:
        """The same for what may take so many seconds (as long as making the store ready may), each call of it. They are
        for the work: a server that is away is waited for no longer than usual."""
        seconds = seconds or self._prepare_seconds
        async with self._calling() as database:
            await database.command("ping")
        with pymongo.timeout(seconds):
            async with self._calling(seconds) as database:
                yield database

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._taking_long() as database:
            contents = await self._contents(database)
        yield _MongoSnapshot(self, contents)

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        return self._snapshot()

    async def _contents(self, database: _Database) -> Contents:
        version = str((await database.command("buildInfo")).get("version", ""))
        listed = {one["name"]: one for one in await (await database.list_collections()).to_list(None)}
        servers = ", ".join(sorted(f"{host}:{port}" for host, port in database.client.delegate.nodes))
        return Contents(
            database=self._database_name,
            collection=self._collection_name,
            server_version=version,
            place=f"{self._database_name}.{self._collection_name} of MongoDB on {servers}",
            parts={
                part: await self._held(self._part(database, part), listed[name])
                for part in CollectionKind
                if (name := self._collection_name + part) in listed
            },
            unfinished=self._collection_name + CHANGING in listed,
        )

    async def _held(self, collection: _Collection, listed: Mapping[str, Any]) -> CollectionInfo:
        uuid = listed.get("info", {}).get("uuid")
        return CollectionInfo(
            name=collection.name,
            documents=await collection.count_documents({}),
            indexes=tuple([dict(one) for one in await collection.list_indexes().to_list(None)]),
            options=listed.get("options", {}),
            uuid=bytes(uuid).hex() if isinstance(uuid, bytes) else uuid.hex if uuid else "",
        )

    def validate(self, part: CollectionKind, data: bytes) -> Registration | None:
        try:
            document = bson.decode(data, codec_options=_LENIENT)
        except (BSONError, ValueError, OverflowError, RecursionError) as error:
            raise bson_documents.no_bson(error) from None
        return bson_documents.read(part, document)

    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        parts: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        async with self._taking_long() as database:
            if not replace:
                await self._refuse_to_replace(database, parts)
            for part in CollectionKind:
                await self._staged(database, part).drop()
            for part in parts:
                await database.create_collection(self._collection_name + part + STAGED)
        async for part, page in pages:
            async with self._taking_long() as database:
                await _insert(self._staged(database, part), page)
        async with self._taking_long() as database:
            for part in parts:
                await mongo_indexes.make(self._staged(database, part), part)
            await self._change_over(database, parts)
        return await self.prepare()

    async def _refuse_to_replace(self, database: _Database, parts: Collection[CollectionKind]) -> None:
        contents = await self._contents(database)
        for part in parts:
            if contents.count(part) and not contents.unfinished and not part.can_be_made_again:
                raise StoreConflict(f"{self._collection_name}{part} holds documents")

    async def _change_over(self, database: _Database, parts: Collection[CollectionKind]) -> None:
        changing = self._collection(database, self._collection_name + CHANGING)
        await changing.replace_one({"_id": CHANGING}, {"_id": CHANGING}, upsert=True)
        for part in parts:
            await self._staged(database, part).rename(self._collection_name + part, dropTarget=True)
        await changing.drop()

    async def _refuse_unfinished(self, database: _Database) -> None:
        """Raises ConfigError where a `load` was cut off while it changed over."""
        if await self._collection(database, self._collection_name + CHANGING).find_one() is not None:
            where = f"{self._database_name}.{self._collection_name}"
            hint = "run mongo-restore again, with the same archive, to bring it to its end"
            raise ConfigError([f"mongodb: a restore into {where} was cut off half-way; {hint}"])

    def _staged(self, database: _Database, part: CollectionKind) -> _Collection:
        return self._collection(database, self._collection_name + part + STAGED)


class _MongoSnapshot(Snapshot):
    """A store in MongoDB being read."""

    def __init__(self, store: MongoCopying, contents: Contents) -> None:
        self._store = store
        self.contents = contents

    async def dump(self, part: CollectionKind) -> AsyncIterator[list[bytes]]:
        if part not in self.contents.parts:
            return
        async with aclosing(self._foreign(part)) as pages:
            async for page in pages:
                yield page
        after = _BEFORE_ALL
        while page := await self._page(part, after):
            yield page
            after = bson.decode(page[-1])["_id"]

    async def _foreign(self, part: CollectionKind) -> AsyncGenerator[list[bytes], None]:
        """What has an id that is no ObjectId, by one cursor: there is little of it."""
        async with self._store._calling() as database:
            cursor = self._store._part(database, part).with_options(_RAW).find(_FOREIGN_IDS, sort=[("_id", 1)])
        try:
            while True:
                async with self._store._calling():
                    page = await _take(cursor)
                if not page:
                    return
                yield page
        finally:
            async with self._store._calling():
                await cursor.close()

    async def _page(self, part: CollectionKind, after: bson.ObjectId) -> list[bytes]:
        async with self._store._calling() as database:
            collection = self._store._part(database, part).with_options(_RAW)
            cursor = collection.find(above(after), sort=[("_id", 1)], limit=PAGE_DOCUMENTS)
            try:
                return await _take(cursor)
            finally:
                await cursor.close()


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


async def _insert(collection: _Collection, page: list[bytes]) -> None:
    try:
        await collection.insert_many([RawBSONDocument(one) for one in page])
    except BulkWriteError as error:
        if all(one.get("code") == DUPLICATE_KEY for one in error.details.get("writeErrors", [{}])):
            raise StoreConflict(f"two documents for {collection.name.removesuffix(STAGED)} have one id") from error
        raise
