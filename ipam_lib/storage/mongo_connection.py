"""The connection to MongoDB through Motor: time limits, read and write guarantees, and what the driver's errors become.

Only the modules `mongo*.py` of this package import the driver (a test of the architecture holds this). They use
single-document operations, plain indexes and compare-and-set only, which every server that properly speaks MongoDB's
protocol has.

- A write counts when a majority has it in its journal.
- A read sees what a majority has. A `readConcernLevel` in the URI wins, for servers that know no other level.
- `retryWrites` stays as the URI has it. A replica set recognizes a repeated write and applies it once. PyMongo does not
  repeat writes to any other server.
"""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

# Motor reads this on import. A call that was given up keeps its thread until the socket answers, so Motor's own few
# threads per core are soon used up.
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")

import pymongo
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
from ipam_lib.storage import mongo_uri
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import Document

Database = AsyncIOMotorDatabase[Document]
Collection = AsyncIOMotorCollection[Document]

FIRST_ID: Final = ObjectId(b"\0" * 12)
"""An id below every id that a driver makes. No document has it."""

# Dates past the year 9999 and broken UTF-8 in one document must not make the others unreadable.
LENIENT: Final[CodecOptions[Document]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP, unicode_decode_error_handler="replace"
)
# https://www.mongodb.com/docs/manual/reference/error-codes/
UNAUTHORIZED: Final = 13
UNAUTHENTICATED: Final = {18, 8000}
_OBJECT_ID = re.compile("[0-9a-f]{24}")
_MESSAGE_LENGTH: Final = 200


class MongoConnection:
    """The client, and the collections of a store: `collection` and those that have its name and a suffix.

    - `uri`: a connection string. It may hold every option that is not a parameter here.
    - `timeout_seconds`: the most that an operation may take; then it raises StorageUnavailable.
    - `prepare_seconds`: the most that each step of `prepare` and of a bulk copy may take.
    """

    def __init__(
        self,
        uri: str,
        database: str,
        collection: str = "addresses",
        *,
        timeout_seconds: float = 5.0,
        prepare_seconds: float = 600.0,
    ) -> None:
        self._uri = uri
        self._database_name = database
        self._collection_name = collection
        self._timeout = timeout_seconds
        self._prepare_seconds = prepare_seconds
        self._client: AsyncIOMotorClient[Document] | None = None

    async def open(self) -> None:
        """See `Store.open`. Raises ConfigError for a URI that cannot be used, its TLS files included."""
        if self._client is None:
            # In a thread, because TLS files are read.
            self._client = await asyncio.to_thread(self._make_client, asyncio.get_running_loop())

    def _make_client(self, loop: asyncio.AbstractEventLoop) -> AsyncIOMotorClient[Document]:
        mongo_uri.check_tls_files(self._uri)
        milliseconds = int(self._timeout * 1000)
        try:
            with warnings.catch_warnings():
                # PyMongo only warns of an option that it cannot read, such as `tls=yes`, and goes on without it.
                warnings.simplefilter("error", UserWarning)
                return AsyncIOMotorClient(
                    self._uri,
                    io_loop=loop,
                    appname="ipam-api",
                    timeoutMS=milliseconds,
                    socketTimeoutMS=milliseconds,
                    connectTimeoutMS=milliseconds,
                    # Less than the whole, so that "there is no server" differs from "the server did not answer".
                    serverSelectionTimeoutMS=milliseconds * 4 // 5,
                )
        except (UserWarning, ConfigurationError, ValueError, TypeError) as error:
            hint = "is it mongodb://USER:PASSWORD@HOST:PORT/?OPTIONS, with user and password percent-encoded?"
            # The driver's words may hold part of a password that was not percent-encoded. Words about options do not,
            # unless the password itself reaches into the options.
            safe = isinstance(error, UserWarning) and "@" not in self._uri.partition("?")[2]
            raise ConfigError([f"mongodb.uri cannot be used: {error if safe else hint}"]) from None

    async def close(self) -> None:
        """See `Store.close`."""
        client, self._client = self._client, None
        if client is not None:
            # Closing ends the sessions on the server, which may take as long as any other call.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, client.delegate.close))

    async def ping(self) -> None:
        """See `Store.ping`."""
        async with self._database("ping") as database:
            await database.command("ping")

    async def server(self) -> dict[str, Any]:
        """What the server says of itself (https://www.mongodb.com/docs/manual/reference/command/buildInfo/)."""
        async with self._database("buildInfo") as database:
            return dict(await database.command("buildInfo"))

    @asynccontextmanager
    async def _database(self, operation: str, seconds: float | None = None) -> AsyncIterator[Database]:
        """The database, for calls that together take at most `seconds` (the usual limit by default).

        `operation` names the calls in errors. Raises StoreConflict and StorageUnavailable for the driver's errors.
        """
        if self._client is None:
            raise StorageUnavailable("storage is closed", applied=False)
        try:
            # The driver's own limit counts from when a thread takes up the call; this one counts from now.
            async with asyncio.timeout((seconds or self._timeout) + 0.5):
                yield self._client[self._database_name]
        except DuplicateKeyError as error:
            raise StoreConflict(code_name(error)) from error
        except TimeoutError as error:
            raise StorageUnavailable("storage did not answer in time; try again") from error
        except ServerSelectionTimeoutError as error:
            # If PyMongo had sent anything before, it would raise the error of that.
            raise StorageUnavailable("storage is unreachable; try again", applied=False) from error
        except InvalidOperation as error:
            raise StorageUnavailable("storage is closed", applied=False) from error
        except OperationFailure as error:
            raise _refused(operation, error) from error
        except (PyMongoError, BSONError) as error:
            raise StorageUnavailable from error

    @asynccontextmanager
    async def _slow_database(self, operation: str, seconds: float | None = None) -> AsyncIterator[Database]:
        """The same for calls that may each take so many seconds (`prepare_seconds` by default).

        Only the work gets that time: the wait for a server that does not answer is no longer than usual.
        """
        seconds = seconds or self._prepare_seconds
        await self.ping()
        with pymongo.timeout(seconds):
            async with self._database(operation, seconds) as database:
                yield database

    @asynccontextmanager
    async def _collection(self, kind: CollectionKind, operation: str) -> AsyncIterator[Collection]:
        """A collection of the store, within the usual limit. Raises as `_database` does."""
        async with self._database(f"{operation} on {self._collection_name}{kind}") as database:
            yield self._of_kind(database, kind)

    def _of_kind(self, database: Database, kind: CollectionKind, suffix: str = "") -> Collection:
        """A collection of the store, or the one beside it that has `suffix` after its name."""
        named = database.client.read_concern
        return database.get_collection(
            self._collection_name + kind + suffix,
            codec_options=LENIENT,
            read_preference=ReadPreference.PRIMARY,
            read_concern=named if named.level else ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True),
        )


def code_name(error: OperationFailure) -> str:
    """The name of the server's error code, or the code. The server's own message may hold values of documents."""
    return str((error.details or {}).get("codeName") or error.code)


def _refused(operation: str, error: OperationFailure) -> StorageUnavailable:
    """The error for an operation that the server refused. The client is told the code, the log the server's message."""
    # What follows the first brace is the command, which holds values of documents.
    words = str((error.details or {}).get("errmsg") or "").partition("{")[0].strip(" :")[:_MESSAGE_LENGTH]
    detail = f"{operation}: {words}" if words else operation
    if error.code in UNAUTHENTICATED:
        message, condition = "storage refuses this service's user or password", "refuses the user or the password"
    elif error.code == UNAUTHORIZED:
        message = f"storage refuses this service's user a right that it needs ({operation})"
        condition = f"refuses the user a right that is needed ({operation})"
    else:
        name = code_name(error)
        code = f"code {error.code}" if name == str(error.code) else f"{name}, code {error.code}"
        message = f"storage refused the operation ({operation}: {code}); try again"
        condition = f"refuses an operation ({operation}: {code})"
    return StorageUnavailable(message, detail=detail, condition=condition)


def encode_id(identity: str) -> ObjectId | str:
    """An id as MongoDB holds it. Text other than 24 hex digits is no id of this service, but may be another's."""
    return ObjectId(identity) if _OBJECT_ID.fullmatch(identity) else identity
