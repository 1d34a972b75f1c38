"""Writes to the embedded database in groups.

A durable commit takes a flush of the disk, which is nearly the whole cost of a write. Writes that arrive during a
commit wait, and then share one transaction and one flush. There is no timer, as in `netbox.coalesce`. Each write is all
or nothing by itself. No write of a group is reported as done before the whole group is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ipam_lib.errors import StorageUnavailable
from ipam_lib.storage import sqlite_file
from ipam_lib.storage.sqlite_connection import Connection, Work

T = TypeVar("T")

LARGEST_GROUP = 64


@dataclass(slots=True, eq=False)
class _Write:
    """A write. `durable`: whether it must be on the disk before the caller is told. It ends with `result` or
    `error`."""

    work: Work[Any]
    durable: bool
    outcome: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    @property
    def abandoned(self) -> bool:
        """Whether no caller waits for it any more. Safe on any thread."""
        return self.outcome.done()

    def finish(self) -> None:
        """Give the caller the result or the error."""
        if not self.outcome.done():
            if self.error is not None:
                self.outcome.set_exception(self.error)
            else:
                self.outcome.set_result(self.result)


class Writer:
    """Groups writes and runs them on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[_Write] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def run(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction and return its result. If the caller is cancelled before it has begun, it does
        not run; once begun, it runs to its end.

        - `durable`: the write is on the disk when this returns. Otherwise it survives the death of the process, but a
          power failure only if a later durable write did.

        Raises StoreConflict if a unique index refuses it, StorageUnavailable (`applied` if it may have happened).
        """
        loop = asyncio.get_running_loop()
        write = _Write(work, durable, loop.create_future())
        self._waiting.append(write)
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        result: T = await write.outcome
        return result

    async def settle(self) -> None:
        """Return when no write waits or runs."""
        if self._sending is not None:
            await asyncio.wait((self._sending,))

    async def _send(self) -> None:
        group: list[_Write] = []
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]
                await self._do(group)
        finally:
            self._sending = None
            for write in (*group, *self._waiting):  # not empty only if this task was cancelled
                write.error = write.error or StorageUnavailable("storage is closed", applied=True)
                write.finish()
            self._waiting.clear()

    async def _do(self, group: Sequence[_Write]) -> None:
        try:
            await self._connection.run(partial(_together, group=group))
        except Exception as error:
            for write in group:
                write.error = copy(error)  # each caller adds its own traceback
        for write in group:
            write.finish()


def _together(connection: sqlite3.Connection, group: Sequence[_Write]) -> None:
    """Run a group in one transaction. Each write keeps its own result or error.

    Raises StorageUnavailable if the commit fails (then any of it may have happened), sqlite3.Error if certainly nothing
    was written.
    """
    if any(write.durable for write in group):
        sqlite_file.transaction(connection, partial(_each, group=group))
        return
    # All commits go to one log in order, so the next flushed commit makes this one durable as well
    # (https://www.sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        sqlite_file.transaction(connection, partial(_each, group=group))
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def _each(connection: sqlite3.Connection, group: Sequence[_Write]) -> None:
    for write in group:
        if write.abandoned:
            continue
        connection.execute("SAVEPOINT one")
        try:
            with sqlite_file.conflicts_translated():
                write.result = write.work(connection)
        except Exception as error:
            if not connection.in_transaction:  # SQLite has rolled back the whole group
                raise
            connection.execute("ROLLBACK TO one")
            write.error = sqlite_file.translated(error)
        connection.execute("RELEASE one")
