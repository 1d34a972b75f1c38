"""A connection to the embedded database, used on a thread of its own: the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ipam_lib.storage import sqlite_file, sqlite_json
from ipam_lib.storage.documents import Document

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Query = tuple[str, Sequence[str | int]]
"""A statement that selects documents, and its values."""


class Connection:
    """A connection on a thread of its own. The first call opens it; if that fails, the next call tries again."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Work[T]) -> T:
        """What `work` returns. If the caller is cancelled before `work` has begun, it does not run; once begun, it runs
        to its end.

        Raises StorageUnavailable if the database cannot be used (then certainly nothing was written), and what `work`
        raises.
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
        """Close, after the call that is running. Blocks."""
        self._executor.submit(self._close)
        self._executor.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def select(connection: sqlite3.Connection, read: Callable[[Document], T], query: Query) -> list[T]:
    """What `read` makes of the documents that a query selects. Blocks."""
    return [read(sqlite_json.load(text)) for (text,) in connection.execute(*query)]
