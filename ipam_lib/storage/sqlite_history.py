"""The history as rows of the embedded database. The functions block; `SQLiteHistory` runs them on other threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from ipam_lib.models import Tenure
from ipam_lib.storage import sqlite_json
from ipam_lib.storage.documents import Document
from ipam_lib.storage.history_store import HistoryPosition, HistoryStore, to_document, to_tenure
from ipam_lib.storage.sqlite_connection import Query
from ipam_lib.storage.sqlite_engine import SQLiteEngine

_INSERT: Final = "INSERT INTO history (id, zone, address, until, document) VALUES (?, ?, ?, ?, ?)"
_PAGE: Final = "SELECT document FROM history WHERE address = ?"
_IN_ORDER: Final = "ORDER BY until DESC, id DESC LIMIT ?"
_PRUNE: Final = """
DELETE FROM history WHERE id IN (SELECT id FROM history WHERE until < ? ORDER BY until, id LIMIT ?)"""


class SQLiteHistory(SQLiteEngine, HistoryStore):
    """The history of the store in SQLite."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        if tenures:
            await self._write(partial(insert, tenures=tenures))

    async def history_page(
        self, *, address: str, zone: str | None, before: HistoryPosition | None, limit: int
    ) -> list[Tenure]:
        return await self._select(to_tenure, page(address, zone, before, limit), on="pager")

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        return await self._write(partial(prune, before=before, limit=limit))


def insert(connection: sqlite3.Connection, tenures: Sequence[Tenure]) -> None:
    """See `HistoryStore.history_insert`."""
    connection.executemany(f"{_INSERT} ON CONFLICT (id) DO NOTHING", [_row(to_document(one)) for one in tenures])


def insert_document(connection: sqlite3.Connection, document: Document) -> None:
    """Store the document of a tenure unchanged. Raises sqlite3.IntegrityError if its id is taken."""
    connection.execute(_INSERT, _row(document))


def page(address: str, zone: str | None, before: HistoryPosition | None, limit: int) -> Query:
    """The query of `HistoryStore.history_page`."""
    statement, values = [_PAGE], [address, *([] if zone is None else [zone])]
    if zone is not None:
        statement.append("AND zone = ?")
    place: list[str | int] = []
    if before is not None:
        statement.append("AND (until, id) < (?, ?)")
        place = [sqlite_json.milliseconds(before.until), before.id]
    return " ".join([*statement, _IN_ORDER]), (*values, *place, limit)


def prune(connection: sqlite3.Connection, before: datetime, limit: int) -> int:
    """See `HistoryStore.history_prune`."""
    return connection.execute(_PRUNE, (sqlite_json.milliseconds(before), limit)).rowcount


def _row(document: Document) -> tuple[str | int, ...]:
    until = sqlite_json.milliseconds(document["until"])
    return document["_id"], document["zone"], document["address"], until, sqlite_json.dump(document)
