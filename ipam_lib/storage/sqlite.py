"""The embedded store: one SQLite file in write-ahead mode, safe for several processes on one machine.

The event loop never waits for the disk: work runs on the threads of `SQLiteEngine`. A write is one call on the writing
thread, from BEGIN to COMMIT, so cancelling a request does not split it. A call that has not begun when its request is
cancelled does not run. aiosqlite offers neither, so this store uses the executors of the standard library.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any

from ipam_lib.models import Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage import sqlite_file, sqlite_rows
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind, CopyableStore, Snapshot
from ipam_lib.storage.documents import to_registration
from ipam_lib.storage.sqlite_history import SQLiteHistory
from ipam_lib.storage.sqlite_pool import SQLitePool
from ipam_lib.storage.usage import SECONDS_TO_COUNT, Usage


class SQLiteStore(SQLitePool, SQLiteHistory, CopyableStore):
    """The store in one SQLite file; see `SQLiteEngine` for the parameters.

    `prepare` raises ConfigError for a file that is no database of this program, or one of a newer version.
    """

    async def ping(self) -> None:
        await self._run("finder", lambda connection: connection.execute("SELECT count(*) FROM documents").fetchone())

    async def prepare(self) -> list[DuplicateReport]:
        await self._run("writer", partial(sqlite_file.make_schema, path=self.path))
        return await self._run("pager", sqlite_rows.duplicates)

    async def insert(self, registration: Registration) -> None:
        await self._write(partial(sqlite_rows.insert, registration=registration))

    async def get(self, registration_id: str) -> Registration | None:
        return next(iter(await self.get_many([registration_id])), None)

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.by_service(secrets, zone, ip_family, service))

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.by_address(zone, addresses))

    async def replace(self, old: Registration, new: Registration) -> bool:
        return await self._write(partial(sqlite_rows.replace, old=old, new=new))

    async def delete(self, old: Registration) -> bool:
        return await self._write(partial(sqlite_rows.delete, old=old))

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.due(now, after, limit), on="pager")

    async def find_undescribed(self, *, after: str | None, limit: int) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.undescribed(after, limit), on="pager")

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.by_states(states, after, limit), on="pager")

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.by_cluster(cluster_ids, after, limit), on="pager")

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.page(wanted, after, limit), on="pager")

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        return await self._run("pager", sqlite_rows.counts)

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        return await self._run("counter", sqlite_rows.usage, seconds=SECONDS_TO_COUNT)

    async def count_owned(self, owner: QuotaOwner, ids: Sequence[str], *, zone: str, limit: int) -> int:
        return await self._run("finder", partial(sqlite_rows.count_owned, owner=owner, ids=ids, zone=zone, limit=limit))

    async def owned(self, owner: QuotaOwner) -> Mapping[tuple[str, str], int]:
        return await self._run("counter", partial(sqlite_rows.owned, owner=owner), seconds=SECONDS_TO_COUNT)

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return await self._select(to_registration, sqlite_rows.by_ids(registration_ids))

    async def load_document(self, name: str) -> dict[str, Any] | None:
        return await self._run("finder", partial(sqlite_rows.load_document, name=name))

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        await self._write(partial(sqlite_rows.save_document, name=name, content=content))

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        # Imported here because BSON takes time and memory, and the service does not need it.
        from ipam_lib.storage import sqlite_bulk_copy

        return sqlite_bulk_copy.snapshot(self.path, self._connection("copier"))

    def validate(self, kind: CollectionKind, data: bytes) -> Registration | None:
        from ipam_lib.storage import bson_documents

        return bson_documents.read(kind, bson_documents.from_bson(data))

    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        kinds: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        from ipam_lib.storage import sqlite_bulk_copy

        loader = self._connection("loader", writable=True)
        return await sqlite_bulk_copy.load(self.path, loader, pages, kinds=kinds, replace=replace)
