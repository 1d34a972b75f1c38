"""A connection to the embedded database on a thread of its own, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ipam_lib.storage import sqlite_file

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Connection:
    """A connection on a thread of its own; made by the first call, and again by the next one when that fails."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Work[T]) -> T:
        """What `work` returns. When the caller is cancelled before it has begun it does not run at all; once begun it
        runs to its end.

        Raises StorageUnavailable where the database cannot be used, after which surely nothing was written; and what
        `work` raises.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, work)
        except (sqlite3.Error, OSError) as error:
            raise sqlite_file.translated(error) from error

    def _run(self, work: Work[T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
        return work(self._connection)

    def close(self) -> None:
        """Close, after what is under way. Blocks."""
        self._executor.submit(self._close)
        self._executor.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
