"""The embedded store: one SQLite file, in write-ahead mode, safe for several processes on one machine.

Each connection has a thread of its own, so the event loop never waits for the disk: one connection writes, one looks
up, one pages through many rows, and one counts, so that a long listing or count holds up nothing else. Writes are one
call on the writing thread, from BEGIN to COMMIT: cancelling whoever waits for one does not split it. (That, and
withdrawing a call that nobody waits for any more, is why this stands on the standard library's executors and not on
aiosqlite, which offers neither.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import Filter, IPFamily, Registration, ServiceKey, State
from ipam_lib.storage import sqlite_file, sqlite_rows
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind, CopyableStore, Snapshot
from ipam_lib.storage.sqlite_connection import Connection, Work
from ipam_lib.storage.sqlite_history import SQLiteHistory
from ipam_lib.storage.sqlite_pool import SQLitePool
from ipam_lib.storage.sqlite_writer import Writer
from ipam_lib.storage.usage import SECONDS_TO_COUNT, Usage

T = TypeVar("T")


class SQLiteStore(SQLitePool, SQLiteHistory, CopyableStore):
    """A store in the file at `path`, which is made when it is not there.

    timeout_seconds: how long an operation may take, waiting for other processes' locks included. What is past that is
    answered with StorageUnavailable.

    `prepare` raises ConfigError for a file that is no database of ours, or one of a newer version.
    """

    def __init__(self, path: Path | str, *, timeout_seconds: float = 5.0) -> None:
        self.path = Path(path)
        self._timeout = timeout_seconds
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None

    async def open(self) -> None:
        if not self._connections:
            self._connections = {
                "finder": self._connection("finder"),
                "pager": self._connection("pager"),
                "counter": self._connection("counter"),
                "writer": self._connection("writer", writable=True),
            }
            self._writer = Writer(self._connections["writer"])

    def _connection(self, name: str, *, writable: bool = False) -> Connection:
        # Less than the whole, so that "it is locked" is told from "it did not answer".
        busy_seconds = self._timeout * 0.8
        return Connection(name, partial(sqlite_file.connect, self.path, busy_seconds=busy_seconds, writable=writable))

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.shield(writer.settle())
        connections, self._connections = self._connections, {}

        def close() -> None:
            # The writer last: the last one to leave folds the log into the file.
            for connection in connections.values():
                connection.close()

        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, close))

    async def ping(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT count(*) FROM documents").fetchone())

    async def prepare(self) -> list[DuplicateReport]:
        await self._run("writer", partial(sqlite_file.make_schema, path=self.path))
        return await self._scan(sqlite_rows.duplicates)

    async def insert(self, registration: Registration) -> None:
        await self._write(partial(sqlite_rows.insert, registration=registration))

    async def get(self, registration_id: str) -> Registration | None:
        return next(iter(await self.get_many([registration_id])), None)

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        return await self._find(sqlite_rows.by_service(secrets, zone, ip_family, service))

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return await self._find(sqlite_rows.by_address(zone, addresses))

    async def replace(self, old: Registration, new: Registration) -> bool:
        return await self._write(partial(sqlite_rows.replace, old=old, new=new))

    async def delete(self, old: Registration) -> bool:
        return await self._write(partial(sqlite_rows.delete, old=old))

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return await self._page(sqlite_rows.due(now, after, limit))

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return await self._page(sqlite_rows.by_states(states, after, limit))

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return await self._page(sqlite_rows.by_cluster(cluster_ids, after, limit))

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return await self._page(sqlite_rows.page(wanted, after, limit))

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        return await self._scan(sqlite_rows.counts)

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        return await self._run("counter", sqlite_rows.usage, seconds=SECONDS_TO_COUNT)

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return await self._find(sqlite_rows.by_ids(registration_ids))

    async def load_document(self, name: str) -> dict[str, Any] | None:
        return await self._read(partial(sqlite_rows.load_document, name=name))

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        await self._write(partial(sqlite_rows.save_document, name=name, content=content))

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        # Imported where it is needed: what speaks BSON costs time and memory, and the service does not.
        from ipam_lib.storage import sqlite_bulk_copy

        return sqlite_bulk_copy.snapshot(self.path, self._connection("copier"))

    def validate(self, part: CollectionKind, data: bytes) -> Registration | None:
        from ipam_lib.storage import bson_documents

        return bson_documents.read(part, bson_documents.from_bson(data))

    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        parts: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        from ipam_lib.storage import sqlite_bulk_copy

        loader = self._connection("loader", writable=True)
        return await sqlite_bulk_copy.load(self.path, loader, pages, parts=parts, replace=replace)

    async def _find(self, query: sqlite_rows.Query) -> list[Registration]:
        return await self._read(partial(sqlite_rows.fetch, query=query))

    async def _page(self, query: sqlite_rows.Query) -> list[Registration]:
        return await self._scan(partial(sqlite_rows.fetch, query=query))

    async def _read(self, work: Work[T]) -> T:
        return await self._run("finder", work)

    async def _scan(self, work: Work[T]) -> T:
        return await self._run("pager", work)

    async def _write(self, work: Work[T], *, durable: bool = True) -> T:
        if self._writer is None:
            raise _closed()
        return await self._within(self._timeout, self._writer.run(work, durable=durable))

    async def _run(self, name: str, work: Work[T], seconds: float | None = None) -> T:
        """Run on the connection of this name, within the time limit (the usual one, if no other is given), with the
        database's errors turned into ours."""
        if name not in self._connections:
            raise _closed()
        return await self._within(seconds or self._timeout, self._connections[name].run(work))

    async def _within(self, seconds: float, operation: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await operation
        except TimeoutError as error:
            raise StorageUnavailable("storage did not answer in time; try again", applied=True) from error


def _closed() -> StorageUnavailable:
    return StorageUnavailable("storage is closed", applied=False)
