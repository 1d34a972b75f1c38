"""The warm pool as rows of the embedded database. The functions block; `SQLitePool` runs them on other threads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ipam_lib.models import IPFamily, PoolEntry, PoolState
from ipam_lib.storage import sqlite_json
from ipam_lib.storage.documents import Document
from ipam_lib.storage.pool_store import Cooling, PoolKey, PoolStore, to_document, to_entry
from ipam_lib.storage.sqlite_engine import SQLiteEngine

_INSERT = (
    "INSERT INTO pool (id, zone, ip_family, address, place, state, registration_id, document)"
    " VALUES (:id, :zone, :ip_family, :address, :place, :state, :registration_id, :document)"
)
_READY = "FROM pool WHERE zone = ? AND ip_family = ? AND state = 'ready' ORDER BY place"


class SQLitePool(SQLiteEngine, PoolStore):
    """The warm pool of the store in SQLite."""

    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        await self._write(partial(insert_all, entries=entries))

    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        # No client hears of the claim before the registration is live. That write is flushed, and this one with it.
        return await self._write(
            partial(claim, zone=zone, ip_family=ip_family, registration_id=registration_id), durable=False
        )

    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        return await self._write(partial(replace, old=old, new=new))

    async def pool_delete(self, old: PoolEntry) -> bool:
        return await self._write(partial(delete, old=old))

    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        query = "SELECT document FROM pool WHERE id IN (SELECT value FROM json_each(?))"
        return await self._fetch(query, json.dumps(list(entry_ids)))

    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        found = await self._fetch("SELECT document FROM pool WHERE address = ? AND zone = ?", address, zone)
        return found[0] if found else None

    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        query = "SELECT document FROM pool WHERE registration_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return await self._fetch(query, json.dumps(list(registration_ids)))

    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        query = (
            "SELECT document FROM pool WHERE state IN (SELECT value FROM json_each(?)) AND id > ? ORDER BY id LIMIT ?"
        )
        return await self._fetch(query, json.dumps(sorted(states)), after or "", limit)

    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        return await self._fetch(f"SELECT document {_READY} LIMIT ? OFFSET ?", zone, ip_family, limit, keep)

    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        return await self._run("finder", partial(cooling, zone=zone, ip_family=ip_family))

    async def pool_counts(self) -> Mapping[PoolKey, int]:
        return await self._run("finder", count)

    async def _fetch(self, query: str, *values: str | int) -> list[PoolEntry]:
        return await self._select(to_entry, (query, values))


def insert_all(connection: sqlite3.Connection, entries: Sequence[PoolEntry]) -> None:
    """Store new entries. Raises sqlite3.IntegrityError if an id, or a zone and address, is taken."""
    connection.executemany(_INSERT, [_row(entry) for entry in entries])


def insert_document(connection: sqlite3.Connection, document: Document) -> None:
    """Store the document of an entry unchanged. Raises sqlite3.IntegrityError as `insert_all` does."""
    connection.execute(_INSERT, {**_row(to_entry(document)), "document": sqlite_json.dump(document)})


def claim(connection: sqlite3.Connection, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
    """See `PoolStore.pool_claim`."""
    row = connection.execute(f"SELECT document {_READY} LIMIT 1", (zone, ip_family)).fetchone()
    if row is None:
        return None
    claimed = _entry(row[0]).changed(PoolState.CLAIMED, registration_id=registration_id)
    _update(connection, claimed)
    return claimed


def replace(connection: sqlite3.Connection, old: PoolEntry, new: PoolEntry) -> bool:
    """See `PoolStore.pool_replace`."""
    if not _is_current(connection, old):
        return False
    _update(connection, new)
    return True


def delete(connection: sqlite3.Connection, old: PoolEntry) -> bool:
    """See `PoolStore.pool_delete`."""
    if not _is_current(connection, old):
        return False
    connection.execute("DELETE FROM pool WHERE id = ?", (old.id,))
    return True


def cooling(connection: sqlite3.Connection, zone: str, ip_family: IPFamily) -> Cooling:
    """See `PoolStore.pool_cooling`."""
    number, first = connection.execute(
        """SELECT count(*), min(json_extract(document, '$.until."$date"')) FROM pool"""
        " WHERE zone = ? AND ip_family = ? AND state = 'cooling'",
        (zone, ip_family),
    ).fetchone()
    return Cooling(number, None if first is None else sqlite_json.EPOCH + sqlite_json.MILLISECOND * first)


def count(connection: sqlite3.Connection) -> dict[PoolKey, int]:
    """See `PoolStore.pool_counts`."""
    rows = connection.execute("SELECT zone, ip_family, state, count(*) FROM pool GROUP BY zone, ip_family, state")
    return {PoolKey(zone, ip_family, PoolState(state)): number for zone, ip_family, state, number in rows}


def _is_current(connection: sqlite3.Connection, old: PoolEntry) -> bool:
    row = connection.execute("SELECT document FROM pool WHERE id = ?", (old.id,)).fetchone()
    return row is not None and _entry(row[0]).revision == old.revision


def _update(connection: sqlite3.Connection, entry: PoolEntry) -> None:
    connection.execute(
        "UPDATE pool SET zone = :zone, ip_family = :ip_family, address = :address, place = :place, state = :state,"
        " registration_id = :registration_id, document = :document WHERE id = :id",
        _row(entry),
    )


def _row(entry: PoolEntry) -> dict[str, Any]:
    document = to_document(entry)
    return {
        "id": entry.id,
        "zone": entry.zone,
        "ip_family": entry.ip_family,
        "address": entry.address,
        "place": document["order"],
        "state": entry.state.value,
        "registration_id": entry.registration_id,
        "document": sqlite_json.dump(document),
    }


def _entry(text: str) -> PoolEntry:
    return to_entry(sqlite_json.load(text))
