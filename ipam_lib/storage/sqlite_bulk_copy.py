"""Copies the whole embedded store: reads it in one transaction, and replaces it in one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import bson

from ipam_lib.errors import StoreConflict
from ipam_lib.storage import bson_documents, sqlite_file, sqlite_history, sqlite_json, sqlite_pool, sqlite_rows
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import OLDEST_SERVER, CollectionInfo, CollectionKind, Contents, Snapshot, paged
from ipam_lib.storage.documents import Document
from ipam_lib.storage.mongo_queries import COLLECTION_INDEXES
from ipam_lib.storage.sqlite_connection import Connection

# Their names in MongoDB: the defaults of the configuration.
DATABASE: Final = "vitistack-ipam-api"
COLLECTION: Final = "addresses"


@dataclass(frozen=True, slots=True)
class _Table:
    """The tables of a collection.

    - `rows`: a query that selects the documents by id.
    - `to_bson`: turns a row of it into a document.
    - `insert`: stores a document.
    - `tables`: the first one has a row for each document.
    """

    rows: str
    to_bson: Callable[..., bytes]
    insert: Callable[[sqlite3.Connection, Document], None]
    tables: tuple[str, ...]


def _stored_to_bson(text: str) -> bytes:
    return bson_documents.to_bson(sqlite_json.load(text))


def _insert_small_document(connection: sqlite3.Connection, document: Document) -> None:
    connection.execute("INSERT INTO documents (name, content) VALUES (?, ?)", (document["_id"], document["content"]))


_TABLES: Final[Mapping[CollectionKind, _Table]] = {
    CollectionKind.REGISTRATIONS: _Table(
        "SELECT document FROM registrations ORDER BY id",
        _stored_to_bson,
        sqlite_rows.insert_apart,
        ("registrations", "services"),
    ),
    CollectionKind.DOCUMENTS: _Table(
        "SELECT name, content FROM documents ORDER BY name",
        lambda name, content: bson.encode({"_id": name, "content": content}),
        _insert_small_document,
        ("documents",),
    ),
    CollectionKind.POOL: _Table(
        "SELECT document FROM pool ORDER BY id", _stored_to_bson, sqlite_pool.insert_document, ("pool",)
    ),
    CollectionKind.HISTORY: _Table(
        "SELECT document FROM history ORDER BY id", _stored_to_bson, sqlite_history.insert_document, ("history",)
    ),
}


@asynccontextmanager
async def snapshot(path: Path, connection: Connection) -> AsyncIterator[Snapshot]:
    """See `CopyableStore.snapshot`. Opens the connection, and closes it at the end."""
    async with _closing(connection):
        # Connecting would create the file.
        exists = await asyncio.to_thread(path.exists)
        contents = await connection.run(partial(_begin_reading, path=path)) if exists else _contents(path, {})
        yield _SQLiteSnapshot(connection, contents)


async def load(
    path: Path,
    connection: Connection,
    pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
    *,
    kinds: Collection[CollectionKind],
    replace: bool,
) -> list[DuplicateReport]:
    """See `CopyableStore.load`. Opens the connection, and closes it at the end."""
    async with _closing(connection):
        await connection.run(partial(_begin_writing, path=path, kinds=kinds, replace=replace))
        async for kind, page in pages:
            await connection.run(partial(_insert, kind=kind, page=page))
        return await connection.run(_commit)


@asynccontextmanager
async def _closing(connection: Connection) -> AsyncIterator[None]:
    """Closes the connection, which rolls back what was not committed."""
    try:
        yield
    finally:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, connection.close))


class _SQLiteSnapshot(Snapshot):
    """The embedded store at the start of the transaction."""

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._connection = connection
        self.contents = contents

    async def dump(self, kind: CollectionKind) -> AsyncIterator[list[bytes]]:
        if kind not in self.contents.collections:
            return
        pages = await self._connection.run(partial(_pages, kind=kind))
        while page := await self._connection.run(lambda _: next(pages, None)):
            yield page


def _contents(path: Path, collections: Mapping[CollectionKind, CollectionInfo]) -> Contents:
    return Contents(DATABASE, COLLECTION, OLDEST_SERVER, f"the embedded database {path}", collections)


def _begin_reading(connection: sqlite3.Connection, path: Path) -> Contents:
    connection.execute("BEGIN")
    sqlite_file.check_version(connection, path)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return _contents(
        path,
        {
            kind: CollectionInfo(COLLECTION + kind, _count(connection, kind), tuple(_indexes(kind)))
            for kind in CollectionKind
            if tables.issuperset(_TABLES[kind].tables)
        },
    )


def _indexes(kind: CollectionKind) -> Iterator[Mapping[str, Any]]:
    yield {"v": 2, "key": {"_id": 1}, "name": "_id_"}
    for index in COLLECTION_INDEXES[kind]:
        unique = {"unique": True} if index.unique else {}
        yield {"v": 2, "key": dict.fromkeys(index.fields, 1), "name": index.name, **unique}


def _count(connection: sqlite3.Connection, kind: CollectionKind) -> int:
    number: int = connection.execute(f"SELECT count(*) FROM {_TABLES[kind].tables[0]}").fetchone()[0]  # noqa: S608
    return number


def _pages(connection: sqlite3.Connection, kind: CollectionKind) -> Iterator[list[bytes]]:
    table = _TABLES[kind]
    return paged(table.to_bson(*row) for row in connection.execute(table.rows))


def _begin_writing(
    connection: sqlite3.Connection, path: Path, kinds: Collection[CollectionKind], *, replace: bool
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    sqlite_file.make_tables(connection, path)
    for kind in kinds:
        if not replace and not kind.can_be_made_again and _count(connection, kind):
            raise StoreConflict(f"{COLLECTION}{kind} holds documents")
        for table in _TABLES[kind].tables:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608


def _insert(connection: sqlite3.Connection, kind: CollectionKind, page: list[bytes]) -> None:
    for data in page:
        with sqlite_file.conflicts_translated():
            _TABLES[kind].insert(connection, bson_documents.from_bson(data))


def _commit(connection: sqlite3.Connection) -> list[DuplicateReport]:
    reports = sqlite_rows.duplicates(connection)
    sqlite_file.commit(connection)
    return reports
