"""The stores under the contract suite, each with a way to put documents there behind its back and to look at them raw.

Raw documents are dicts with `_id` (and `duplicate`) as 24 hex digits and dates as aware datetimes.
"""

from __future__ import annotations

import copy
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import MongoClient

from ipam_lib.storage import sqlite_file, sqlite_json, sqlite_rows
from ipam_lib.storage.base import Store
from ipam_lib.storage.bulk_copy import OLDEST_SERVER
from ipam_lib.storage.documents import Document
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.sqlite import SQLiteStore
from tests.support.memory_store import MemoryDatabase, MemoryStore


class Backend(ABC):
    """One database; any number of stores over it."""

    name: str
    # Whether documents can be there before `prepare`, as the earlier service's are.
    holds_unprepared = True

    def server_version(self) -> str:
        """The version that a backup names as that of its server."""
        return OLDEST_SERVER

    @abstractmethod
    def store(self, *, coexist: bool = False) -> Store:
        """A new store, not open yet."""

    @abstractmethod
    def seed(self, documents: Iterable[Document]) -> None:
        """Put documents there as they are."""

    @abstractmethod
    def raw(self, registration_id: str) -> Document | None:
        """A document as it stands there."""

    @abstractmethod
    def overwrite(self, document: Document) -> None:
        """Replace the document with this `_id`, as another program would."""

    def set_state(self, registration_id: str, state: str) -> None:
        """Put a live document into a state that may be unknown here."""
        document = self.raw(registration_id)
        assert document is not None
        self.overwrite(document | {"state": state})


class MemoryBackend(Backend):
    name = "memory"

    def __init__(self) -> None:
        self.database = MemoryDatabase()

    def store(self, *, coexist: bool = False) -> Store:
        return MemoryStore(self.database, coexist=coexist)

    def seed(self, documents: Iterable[Document]) -> None:
        self.database.registrations.update({one["_id"]: copy.deepcopy(one) for one in documents})

    def raw(self, registration_id: str) -> Document | None:
        return copy.deepcopy(self.database.registrations.get(registration_id))

    def overwrite(self, document: Document) -> None:
        self.seed([document])


class SQLiteBackend(Backend):
    name = "sqlite"
    holds_unprepared = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, *, coexist: bool = False) -> Store:
        assert not coexist
        return SQLiteStore(self.path)

    def connect(self) -> sqlite3.Connection:
        connection = sqlite_file.connect(self.path, busy_seconds=5, writable=True)
        sqlite_file.make_schema(connection, self.path)
        return connection

    def seed(self, documents: Iterable[Document]) -> None:
        with closing(self.connect()) as connection:
            for document in documents:
                sqlite_file.transaction(connection, partial(sqlite_rows.insert_document, document=document))

    def raw(self, registration_id: str) -> Document | None:
        with closing(self.connect()) as connection:
            row = connection.execute("SELECT document FROM registrations WHERE id = ?", (registration_id,)).fetchone()
        return sqlite_json.load(row[0]) if row else None

    def overwrite(self, document: Document) -> None:
        with closing(self.connect()) as connection:
            connection.execute("DELETE FROM services WHERE registration_id = ?", (document["_id"],))
            connection.execute("DELETE FROM registrations WHERE id = ?", (document["_id"],))
        self.seed([document])

    def set_state(self, registration_id: str, state: str) -> None:
        with closing(self.connect()) as connection:
            connection.execute(
                "UPDATE registrations SET state = :state, secret = NULL, due_at = NULL,"
                " document = json_set(document, '$.state', :state) WHERE id = :id",
                {"state": state, "id": registration_id},
            )


class MongoBackend(Backend):
    name = "mongodb"

    def __init__(self, admin: MongoClient[dict[str, Any]], uri: str, database: str) -> None:
        self.uri = uri
        self.database = database
        self.collection = admin[database].get_collection(
            "addresses", codec_options=CodecOptions(tz_aware=True, tzinfo=UTC)
        )

    def server_version(self) -> str:
        version: str = self.collection.database.client.server_info()["version"]
        return version

    def store(self, *, coexist: bool = False) -> Store:
        return MongoStore(self.uri, self.database, coexist=coexist)

    def seed(self, documents: Iterable[Document]) -> None:
        self.collection.insert_many([_to_mongo(one) for one in documents])

    def raw(self, registration_id: str) -> Document | None:
        found = self.collection.find_one({"_id": ObjectId(registration_id)})
        if found is None:
            return None
        return {name: str(value) if isinstance(value, ObjectId) else value for name, value in found.items()}

    def overwrite(self, document: Document) -> None:
        encoded = _to_mongo(document)
        self.collection.replace_one({"_id": encoded["_id"]}, encoded)


def _to_mongo(document: Document) -> dict[str, Any]:
    return {name: ObjectId(value) if name in ("_id", "duplicate") else value for name, value in document.items()}
