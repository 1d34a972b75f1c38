"""The store in MongoDB, through Motor. The only module that knows the driver.

Only single-document operations, plain indexes and compare-and-set are used, so that every server that really speaks
MongoDB's protocol will do. A write counts when a majority has it in its journal; a read sees what a majority has (a
`readConcernLevel` in the URI wins, for servers that know no other). Whether PyMongo repeats a write whose reply was
lost (`retryWrites`) is left to the URI: a replica set recognizes the repetition and applies it once, and to any other
server PyMongo does not repeat.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

# Motor reads this when it is imported. A call that was given up keeps its thread until the socket answers, so the few
# threads per core that it would take by itself are soon used up.
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")

from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.errors import (
    ConfigurationError,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ipam_lib.errors import ConfigError, StorageUnavailable, StoreConflict
from ipam_lib.models import Filter, IPFamily, Registration, ServiceKey, State
from ipam_lib.storage import mongo_indexes
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.claim_batching import ClaimBatcher
from ipam_lib.storage.documents import Document, change, read_services, to_document, to_registration, witnessed
from ipam_lib.storage.mongo_bulk_copy import MongoCopying
from ipam_lib.storage.mongo_history import MongoHistory
from ipam_lib.storage.mongo_pool import MongoPool
from ipam_lib.storage.usage import SECONDS_TO_COUNT, Usage, UsageCounting

_FIRST_ID = ObjectId(b"\0" * 12)
_OBJECT_ID = re.compile("[0-9a-f]{24}")
_ID_FIELDS = ("_id", "duplicate")

_Database = AsyncIOMotorDatabase[Document]
_Collection = AsyncIOMotorCollection[Document]

# https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAUTHORIZED = {13, 18, 8000}


class MongoStore(MongoPool, MongoHistory, MongoCopying):
    """A store in one collection of a MongoDB database (and `{collection}_documents` for small documents).

    uri: a connection string; it may hold every option that is not mentioned here.
    coexist: whether the earlier service writes beside this one.
    timeout_seconds: how long an operation may take. What is past that is answered with StorageUnavailable.
    prepare_seconds: how long making the indexes may take.

    `open` raises ConfigError for a URI that cannot be used, `prepare` for an index that stands in the way of ours.
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
        self._uri = uri
        self._database_name = database
        self._collection_name = collection
        self._coexist = coexist
        self._timeout = timeout_seconds
        self._prepare_seconds = prepare_seconds
        self._client: AsyncIOMotorClient[Document] | None = None
        self._claims = ClaimBatcher()

    async def open(self) -> None:
        if self._client is not None:
            return
        milliseconds = int(self._timeout * 1000)
        try:
            with warnings.catch_warnings():
                # PyMongo would pass over an option that it cannot read, `tls=yes` for one.
                warnings.simplefilter("error", UserWarning)
                self._client = AsyncIOMotorClient(
                    self._uri,
                    io_loop=asyncio.get_running_loop(),
                    appname="ipam-api",
                    timeoutMS=milliseconds,
                    socketTimeoutMS=milliseconds,
                    connectTimeoutMS=milliseconds,
                    # Less than the whole, so that "there is no server" is told from "it did not answer".
                    serverSelectionTimeoutMS=milliseconds * 4 // 5,
                )
        except (UserWarning, ConfigurationError, ValueError, TypeError) as error:
            hint = "is it mongodb://USER:PASSWORD@HOST:PORT/?OPTIONS, with user and password percent-encoded?"
            # The driver's own words may hold a part of a password that was not escaped, but not where it has got as far
            # as the options, and these are ones.
            told = isinstance(error, UserWarning) and "@" not in self._uri.partition("?")[2]
            raise ConfigError([f"mongodb.uri cannot be used: {error if told else hint}"]) from None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # It says good-bye to the server, which may take as long as any other call.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, client.delegate.close))

    async def ping(self) -> None:
        async with self._calling() as database:
            await database.command("ping")

    async def server(self) -> dict[str, Any]:
        """What the server says of itself (https://www.mongodb.com/docs/manual/reference/command/buildInfo/)."""
        async with self._calling() as database:
            return dict(await database.command("buildInfo"))

    async def prepare(self) -> list[DuplicateReport]:
        async with self._taking_long() as database:
            await self._refuse_unfinished(database)
            for part in CollectionKind:
                await mongo_indexes.make(self._part(database, part), part)
            return await mongo_indexes.duplicates(self._part(database, CollectionKind.REGISTRATIONS))

    async def insert(self, registration: Registration) -> None:
        async with self._addresses() as collection:
            await collection.insert_one(_encoded(to_document(registration)))

    async def get(self, registration_id: str) -> Registration | None:
        return next(iter(await self._find({"_id": _id(registration_id)})), None)

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        found = await self._find(queries.by_service(secrets, zone, ip_family, service))
        return [registration for registration in found if registration.state is State.LIVE]

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return await self._find(queries.by_address(zone, addresses))

    async def replace(self, old: Registration, new: Registration) -> bool:
        changes = change(old, new, read_services(old))
        update: Document = {"$set": _encoded(changes.set)}
        if changes.unset:
            update["$unset"] = dict.fromkeys(changes.unset, "")
        async with self._addresses() as collection:
            result = await collection.update_one(self.cas_filter(old), update)
        return result.matched_count == 1

    async def delete(self, old: Registration) -> bool:
        async with self._addresses() as collection:
            result = await collection.delete_one(self.cas_filter(old))
        return result.deleted_count == 1

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.due(now, _after(after)), limit)

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.by_states(states, _after(after)), limit)

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.by_cluster(cluster_ids, _after(after)), limit)

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return await self._find(queries.page(wanted, _after(after)), limit)

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        async with self._addresses() as collection:
            groups = await collection.aggregate(queries.COUNTS).to_list(None)
        counted: Counter[tuple[str, IPFamily]] = Counter()
        for group in groups:
            # A document of somebody else's may lack either; it is read as one of a nameless zone, and counted so.
            kind = to_registration({"_id": "", **group["_id"]})
            counted[kind.zone, kind.ip_family] += group["count"]
        return counted

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        async with self._taking_long(SECONDS_TO_COUNT) as database:
            groups = await self._part(database, CollectionKind.REGISTRATIONS).aggregate(queries.USAGE).to_list(None)
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

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return await self._find({"_id": {"$in": [_id(one) for one in registration_ids]}})

    async def load_document(self, name: str) -> dict[str, Any] | None:
        async with self._documents() as collection:
            document = await collection.find_one({"_id": name})
        return json.loads(document["content"]) if document else None

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        # As text: field names with dots or dollars in them are not for every server.
        document = {"_id": name, "content": json.dumps(content)}
        async with self._documents() as collection:
            try:
                await collection.replace_one({"_id": name}, document, upsert=True)
            except DuplicateKeyError:
                # Two that found nothing both insert (https://www.mongodb.com/docs/manual/reference/method/db.collection.replaceOne/).
                await collection.replace_one({"_id": name}, document, upsert=True)

    async def _find(self, query: queries.Query, limit: int = 0) -> list[Registration]:
        """What fits, lowest id first; the server sorts only where it is to stop at a limit."""
        async with self._addresses() as collection:
            cursor = collection.find(query, limit=limit, batch_size=limit, sort=[("_id", 1)] if limit else None)
            documents = await cursor.to_list(None)
        found = [to_registration(document, raw_document=document) for document in documents]
        return found if limit else sorted(found, key=lambda registration: registration.id)

    def cas_filter(self, old: Registration) -> queries.Query:
        """The condition that the document still is `old`'s. Null matches a missing revision."""
        query: queries.Query = {"_id": _id(old.id), "revision": old.revision}
        if self._coexist:
            services, secret = witnessed(old)
            query |= {"services": {"$eq": services}, "secret": secret}
        return query

    @asynccontextmanager
    async def _addresses(self) -> AsyncIterator[_Collection]:
        async with self._calling() as database:
            yield self._part(database, CollectionKind.REGISTRATIONS)

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[_Collection]:
        async with self._calling() as database:
            yield self._part(database, CollectionKind.POOL)

    @asynccontextmanager
    async def _history(self) -> AsyncIterator[_Collection]:
        async with self._calling() as database:
            yield self._part(database, CollectionKind.HISTORY)

    @asynccontextmanager
    async def _documents(self) -> AsyncIterator[_Collection]:
        async with self._calling() as database:
            yield self._part(database, CollectionKind.DOCUMENTS)

    def _collection(self, database: _Database, name: str) -> _Collection:
        named = database.client.read_concern
        return database.get_collection(
            name,
            # What cannot be read as it should be (dates past the year 9999, broken UTF-8) must not hide all the rest.
            codec_options=CodecOptions(
                tz_aware=True,
                datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
                unicode_decode_error_handler="replace",
            ),
            read_preference=ReadPreference.PRIMARY,
            read_concern=named if named.level else ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True),
        )

    @asynccontextmanager
    async def _calling(self, seconds: float | None = None) -> AsyncIterator[_Database]:
        """The database, within the time limit, with the driver's errors turned into ours."""
        if self._client is None:
            raise StorageUnavailable("storage is closed", applied=False)
        try:
            # The driver keeps the limit by itself once a thread has taken up the call; this one counts from now.
            async with asyncio.timeout((seconds or self._timeout) + 0.5):
                yield self._client[self._database_name]
        except DuplicateKeyError as error:
            raise StoreConflict(mongo_indexes.words(error)) from error
        except TimeoutError as error:
            raise StorageUnavailable("storage did not answer in time; try again") from error
        except ServerSelectionTimeoutError as error:
            # Had anything been sent before, PyMongo would raise what came of that.
            raise StorageUnavailable("storage is unreachable; try again", applied=False) from error
        except InvalidOperation as error:
            raise StorageUnavailable("storage is closed", applied=False) from error
        except OperationFailure as error:
            if error.code in _UNAUTHORIZED:
                raise StorageUnavailable("storage refuses this service's user, or a right that it needs") from error
            raise StorageUnavailable(f"storage refused the operation ({error.code}); try again") from error
        except (PyMongoError, BSONError) as error:
            raise StorageUnavailable from error


def _id(registration_id: str) -> ObjectId | str:
    """Anything else than 24 hex digits is no id of ours, but may be one of somebody's."""
    return ObjectId(registration_id) if _OBJECT_ID.fullmatch(registration_id) else registration_id


def _after(registration_id: str | None) -> ObjectId | str:
    return _FIRST_ID if registration_id is None else _id(registration_id)


def _encoded(document: Document) -> Document:
    return {name: _id(value) if name in _ID_FIELDS else value for name, value in document.items()}
