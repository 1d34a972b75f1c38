"""Writes that wait for the disk go together, and each is all or nothing by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ipam_lib.errors import StorageUnavailable, StoreConflict
from ipam_lib.storage.sqlite_connection import Connection, Work
from ipam_lib.storage.sqlite_writer import LARGEST_GROUP, Writer


class Watched(sqlite3.Connection):
    """Notes what it is told to do besides the writes themselves. `failing`: statements that fail."""

    statements: list[str]
    failing: dict[str, sqlite3.Error]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if not sql.startswith(("SELECT", "INSERT", "CREATE")):
            self.statements.append(sql)
        if sql in self.failing:
            raise self.failing[sql]
        return super().execute(sql, parameters)


class Site:
    """A writer on a database in memory, whose thread can be held up."""

    def __init__(self) -> None:
        self.watched: Watched | None = None
        self.connection = Connection("test", self._connect)
        self.writer = Writer(self.connection)
        self._held = threading.Event()

    def _connect(self) -> sqlite3.Connection:
        self.watched = sqlite3.connect(":memory:", isolation_level=None, factory=Watched)
        self.watched.statements, self.watched.failing = [], {}
        self.watched.execute("CREATE TABLE things (name TEXT UNIQUE)")
        return self.watched

    async def hold(self) -> asyncio.Task[bool]:
        """A write that keeps the thread until `let_go`; once it has begun."""
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(connection: sqlite3.Connection) -> bool:
            loop.call_soon_threadsafe(begun.set)
            return self._held.wait(60)

        task = asyncio.create_task(self.writer.run(wait))
        await begun.wait()
        assert self.watched is not None
        self.watched.statements.clear()
        return task

    def let_go(self) -> None:
        self._held.set()

    async def behind(self, *works: Work[Any], durable: bool = True) -> list[asyncio.Task[Any]]:
        """Writes that wait for the one that is held up."""
        tasks = [asyncio.create_task(self.writer.run(work, durable=durable)) for work in works]
        await asyncio.sleep(0)
        return tasks

    async def names(self) -> list[str]:
        return await self.connection.run(
            lambda connection: [name for (name,) in connection.execute("SELECT name FROM things ORDER BY rowid")]
        )

    @property
    def commits(self) -> int:
        assert self.watched is not None
        return self.watched.statements.count("COMMIT")


def insert(name: str) -> Work[str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO things VALUES (?)", (name,))
        return name

    return work


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    site.let_go()
    await site.writer.settle()
    await asyncio.to_thread(site.connection.close)


async def test_what_waits_goes_in_one_transaction_in_its_order(site: Site) -> None:
    first = await site.hold()
    tasks = await site.behind(*(insert(str(number)) for number in range(10)))
    site.let_go()
    assert await asyncio.gather(first, *tasks) == [True, *(str(number) for number in range(10))]
    assert site.commits == 2, "the one that was held up, and all the others together"
    assert await site.names() == [str(number) for number in range(10)]


async def test_a_group_has_its_limit(site: Site) -> None:
    first = await site.hold()
    tasks = await site.behind(*(insert(str(number)) for number in range(LARGEST_GROUP + 1)))
    site.let_go()
    await asyncio.gather(first, *tasks)
    assert site.commits == 3


async def test_one_that_is_refused_leaves_the_others_alone(site: Site) -> None:
    def half(connection: sqlite3.Connection) -> None:
        insert("half")(connection)
        raise ZeroDivisionError

    def broken(connection: sqlite3.Connection) -> None:
        insert("broken")(connection)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    first = await site.hold()
    tasks = await site.behind(insert("a"), insert("a"), half, broken, insert("b"))
    site.let_go()
    await first
    a, again, bug, error, b = await asyncio.gather(*tasks, return_exceptions=True)
    assert (a, b) == ("a", "b")
    assert isinstance(again, StoreConflict)
    assert isinstance(bug, ZeroDivisionError)
    assert isinstance(error, StorageUnavailable)
    assert error.applied is False
    assert await site.names() == ["a", "b"]
    assert site.commits == 2


async def test_nobody_is_told_before_all_are_on_the_disk(site: Site) -> None:
    def break_the_disk(connection: sqlite3.Connection) -> None:
        assert isinstance(connection, Watched)
        connection.failing["COMMIT"] = sqlite3.OperationalError("disk I/O error")

    first = await site.hold()
    tasks = await site.behind(insert("a"), insert("a"), break_the_disk, insert("b"))
    site.let_go()
    await first
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, (StorageUnavailable, StoreConflict))
        assert isinstance(outcome, StoreConflict) or outcome.applied, "it may have happened"


async def test_where_the_database_gives_up_all_of_it_nothing_was_written(site: Site) -> None:
    def give_up(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # as SQLite does by itself after some errors
        raise sqlite3.OperationalError("disk I/O error")

    first = await site.hold()
    tasks = await site.behind(insert("a"), give_up, insert("b"))
    site.let_go()
    await first
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(outcome, "applied", None) for outcome in outcomes] == [False] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3, "each has an error of its own"
    assert await site.names() == []
    assert await site.writer.run(insert("c")) == "c"


async def test_what_nobody_waits_for_any_more_does_not_run(site: Site) -> None:
    first = await site.hold()
    kept, dropped = await site.behind(insert("kept"), insert("dropped"))
    dropped.cancel()
    await asyncio.gather(dropped, return_exceptions=True)
    site.let_go()
    await asyncio.gather(first, kept)
    assert await site.names() == ["kept"]


async def test_what_need_not_last_is_not_flushed_unless_it_goes_with_what_must(site: Site) -> None:
    def level(connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(found)

    normal, full = 1, 2
    assert await site.writer.run(level, durable=False) == normal
    assert await site.writer.run(level) == full
    first = await site.hold()
    tasks = [*await site.behind(level, durable=False), *await site.behind(level)]
    site.let_go()
    await first
    assert await asyncio.gather(*tasks) == [full, full]


async def test_after_a_failure_it_flushes_again(site: Site) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await site.writer.run(fail, durable=False)
    assert site.watched is not None
    assert site.watched.statements[-1] == "PRAGMA synchronous = FULL"


async def test_those_who_wait_when_the_loop_ends_are_told(site: Site) -> None:
    first = await site.hold()
    tasks = await site.behind(insert("a"))
    assert site.writer._sending is not None
    site.writer._sending.cancel()
    for outcome in await asyncio.gather(first, *tasks, return_exceptions=True):
        assert isinstance(outcome, StorageUnavailable)
        assert outcome.applied
