"""The tenures that have ended as rows of the embedded database. The functions block; `SQLiteHistory` runs them on the
threads of the store's connections."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from ipam_lib.models import Tenure
from ipam_lib.storage import sqlite_json
from ipam_lib.storage.documents import Document
from ipam_lib.storage.history_store import HistoryStore, Place, to_document, to_tenure

T = TypeVar("T")
Query = tuple[str, Sequence[str | int]]

# `until` is in milliseconds since 1970. Documents are stored like those of registrations.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS history (
    id TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL,
    address TEXT NOT NULL,
    until INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_address ON history (address, until, id);
CREATE INDEX IF NOT EXISTS history_until ON history (until, id);
"""

_INSERT: Final = "INSERT INTO history (id, zone, address, until, document) VALUES (?, ?, ?, ?, ?)"
_PAGE: Final = "SELECT document FROM history WHERE address = ?"
_IN_ORDER: Final = "ORDER BY until DESC, id DESC LIMIT ?"
_PRUNE: Final = """
DELETE FROM history WHERE id IN (SELECT id FROM history WHERE until < ? ORDER BY until, id LIMIT ?)"""


class SQLiteHistory(HistoryStore):
    """The history's part of the store in SQLite."""

    @abstractmethod
    async def _scan(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run on the connection that pages."""

    @abstractmethod
    async def _write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run in a transaction; see `sqlite_writer.Writer.run`."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        if tenures:
            await self._write(partial(insert, tenures=tenures))

    async def history_page(self, *, address: str, zone: str | None, before: Place | None, limit: int) -> list[Tenure]:
        return await self._scan(partial(fetch, query=page(address, zone, before, limit)))

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        return await self._write(partial(prune, before=before, limit=limit))


def insert(connection: sqlite3.Connection, tenures: Sequence[Tenure]) -> None:
    """See `HistoryStore.history_insert`."""
    connection.executemany(f"{_INSERT} ON CONFLICT (id) DO NOTHING", [_row(to_document(one)) for one in tenures])


def insert_document(connection: sqlite3.Connection, document: Document) -> None:
    """Store the document of a tenure as it is. Raises sqlite3.IntegrityError when its id is taken."""
    connection.execute(_INSERT, _row(document))


def page(address: str, zone: str | None, before: Place | None, limit: int) -> Query:
    """See `HistoryStore.history_page`."""
    statement, values = [_PAGE], [address, *([] if zone is None else [zone])]
    if zone is not None:
        statement.append("AND zone = ?")
    place: list[str | int] = []
    if before is not None:
        statement.append("AND (until, id) < (?, ?)")
        place = [sqlite_json.milliseconds(before.until), before.id]
    return " ".join([*statement, _IN_ORDER]), (*values, *place, limit)


def fetch(connection: sqlite3.Connection, query: Query) -> list[Tenure]:
    """The tenures that a query of this module finds."""
    return [to_tenure(sqlite_json.load(text)) for (text,) in connection.execute(*query)]


def prune(connection: sqlite3.Connection, before: datetime, limit: int) -> int:
    """See `HistoryStore.history_prune`."""
    return connection.execute(_PRUNE, (sqlite_json.milliseconds(before), limit)).rowcount


def _row(document: Document) -> tuple[str | int, ...]:
    until = sqlite_json.milliseconds(document["until"])
    return document["_id"], document["zone"], document["address"], until, sqlite_json.dump(document)
