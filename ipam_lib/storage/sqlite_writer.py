"""Writes to the embedded database: one at a time when there is one, and together when others have been waiting.

To have a commit on the disk takes the disk a flush, which is nearly all that a write costs. While one is under way,
later writes wait, and then go as one transaction with one flush: natural batching, as in `netbox.coalesce`. Each is
all or nothing by itself; nobody is told that a write was done before all of them are on the disk.
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
    """`lasting`: whether it must be on the disk when it is answered. `result` or `error` is what came of it."""

    work: Work[Any]
    durable: bool
    outcome: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more. May be asked on any thread."""
        return self.outcome.done()

    def tell(self) -> None:
        """Hand over what came of it."""
        if not self.outcome.done():
            if self.error is not None:
                self.outcome.set_exception(self.error)
            else:
                self.outcome.set_result(self.result)


class Writer:
    """Runs writes on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[_Write] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def run(self, work: Work[T], *, durable: bool = True) -> T:
        """What `work` returns, in a transaction. When the caller is cancelled before it has begun it does not run at
        all; once begun it runs to its end.

        With `lasting` it is on the disk then. Without, it survives the process but perhaps not a power failure, unless
        a write that came later did.

        Raises StoreConflict when a unique index refuses it, StorageUnavailable (`applied` when it may have happened).
        """
        loop = asyncio.get_running_loop()
        write = _Write(work, durable, loop.create_future())
        self._waiting.append(write)
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        result: T = await write.outcome
        return result

    async def settle(self) -> None:
        """Return when nothing is waiting or under way."""
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
            for write in (*group, *self._waiting):  # only when this was cancelled
                write.error = write.error or StorageUnavailable("storage is closed", applied=True)
                write.tell()
            self._waiting.clear()

    async def _do(self, group: Sequence[_Write]) -> None:
        try:
            await self._connection.run(partial(_together, group=group))
        except Exception as error:
            for write in group:
                write.error = copy(error)  # each who waits adds a traceback of his own
        for write in group:
            write.tell()


def _together(connection: sqlite3.Connection, group: Sequence[_Write]) -> None:
    """Do all that somebody waits for, in one transaction; what came of each is left with it.

    Raises StorageUnavailable when the commit fails (whether any of it happened is then unknown), sqlite3.Error when
    surely nothing was written.
    """
    if any(write.durable for write in group):
        sqlite_file.transaction(connection, partial(_each, group=group))
        return
    # Commits are appended to one log, so the next one that is flushed takes this one along
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
            if not connection.in_transaction:  # the database has given up all of it
                raise
            connection.execute("ROLLBACK TO one")
            write.error = sqlite_file.translated(error)
        connection.execute("RELEASE one")
