"""The connections of the embedded database, each with a thread of its own, and the time limit of an operation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from ipam_lib.errors import StorageUnavailable
from ipam_lib.storage import sqlite_file
from ipam_lib.storage.documents import Document
from ipam_lib.storage.sqlite_connection import Connection, Query, Work, select
from ipam_lib.storage.sqlite_writer import Writer

T = TypeVar("T")


class SQLiteEngine:
    """Runs work on the database file at `path`, which is created if it is missing.

    - One connection writes, one finds single rows, one reads pages, and one counts, so that a long listing or count
      delays nothing else.
    - `timeout_seconds`: the most that an operation may take, the wait for locks of other processes included; then it
      raises StorageUnavailable.
    """

    def __init__(self, path: Path | str, *, timeout_seconds: float = 5.0) -> None:
        self.path = Path(path)
        self._timeout = timeout_seconds
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None

    async def open(self) -> None:
        """See `Store.open`."""
        if not self._connections:
            self._connections = {
                "finder": self._connection("finder"),
                "pager": self._connection("pager"),
                "counter": self._connection("counter"),
                "writer": self._connection("writer", writable=True),
            }
            self._writer = Writer(self._connections["writer"])

    def _connection(self, name: str, *, writable: bool = False) -> Connection:
        # Less than the whole, so that "it is locked" differs from "it did not answer".
        busy_seconds = self._timeout * 0.8
        return Connection(name, partial(sqlite_file.connect, self.path, busy_seconds=busy_seconds, writable=writable))

    async def close(self) -> None:
        """See `Store.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.shield(writer.settle())
        connections, self._connections = self._connections, {}

        def close() -> None:
            # The writer is the last: the last connection to close merges the log into the file.
            for connection in connections.values():
                connection.close()

        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, close))

    async def _select(self, read: Callable[[Document], T], query: Query, *, on: str = "finder") -> list[T]:
        """What `read` makes of the documents that a query selects, on the connection of this name."""
        return await self._run(on, partial(select, read=read, query=query))

    async def _write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run in a transaction; see `sqlite_writer.Writer.run`."""
        if self._writer is None:
            raise _closed()
        return await self._within(self._timeout, self._writer.run(work, durable=durable))

    async def _run(self, name: str, work: Work[T], seconds: float | None = None) -> T:
        """Run on the connection of this name, for at most `seconds` (the usual limit by default)."""
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
