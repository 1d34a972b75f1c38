"""The embedded store's own: its file, its indexes, and what happens when the file cannot be used."""

# Files are looked at between the steps of a store, where nothing else waits for the loop.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.models import Filter, QuotaOwner, Registration, State
from ipam_lib.storage import sqlite_file, sqlite_history, sqlite_rows
from ipam_lib.storage.documents import to_registration
from ipam_lib.storage.history_store import HistoryPosition
from ipam_lib.storage.sqlite import SQLiteStore
from ipam_lib.storage.sqlite_connection import select
from tests.storage.samples import NOW, filter_id, key, object_id, registration, service

# How long an operation may take where it is to fail for that.
SHORT = 0.4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "deeper" / "ipam.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, timeout_seconds=SHORT)
    await store.open()
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        yield connection


class TestFile:
    async def test_it_is_made_for_its_owner_only(self, store: SQLiteStore, path: Path) -> None:
        await store.insert(registration())
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert {file.name for file in path.parent.iterdir()} >= {"ipam.sqlite", "ipam.sqlite-wal"}
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    async def test_the_modes_do_not_hang_on_the_umask(self, path: Path) -> None:
        before = os.umask(0)
        try:
            store = SQLiteStore(path)
            await store.open()
            await store.prepare()
            await store.close()
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_what_is_there_keeps_its_mode(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o750)
        path.touch()
        path.chmod(0o640)
        store = SQLiteStore(path)
        await store.open()
        await store.prepare()
        await store.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750

    async def test_closing_folds_the_log_into_the_file(self, path: Path) -> None:
        store = SQLiteStore(path)
        await store.open()
        await store.prepare()
        await store.insert(registration())
        await store.close()
        assert [file.name for file in path.parent.iterdir()] == ["ipam.sqlite"]

    def test_every_commit_is_flushed(self, path: Path) -> None:
        with closing(sqlite_file.connect(path, busy_seconds=1, writable=True)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def test_a_connection_for_reading_cannot_write(self, path: Path) -> None:
        with closing(sqlite_file.connect(path, busy_seconds=1, writable=True)) as connection:
            sqlite_file.make_schema(connection, path)
        with (
            closing(sqlite_file.connect(path, busy_seconds=1, writable=False)) as connection,
            pytest.raises(sqlite3.OperationalError, match="readonly"),
        ):
            connection.execute("DELETE FROM registrations")

    async def test_a_missing_index_is_made_again(self, store: SQLiteStore, connection: sqlite3.Connection) -> None:
        connection.execute("DROP INDEX services_cluster")
        await store.prepare()
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert "services_cluster" in names


class TestUnfitFiles:
    async def refusal(self, path: Path) -> str:
        store = SQLiteStore(path, timeout_seconds=SHORT)
        await store.open()
        try:
            with pytest.raises(ConfigError) as caught:
                await store.prepare()
        finally:
            await store.close()
        [problem] = caught.value.problems
        assert str(path) in problem
        return problem

    async def test_a_newer_version(self, path: Path, connection: sqlite3.Connection) -> None:
        store = SQLiteStore(path)
        await store.open()
        await store.prepare()
        await store.insert(registration(1))
        await store.close()
        connection.execute(f"PRAGMA user_version = {sqlite_file.SCHEMA_VERSION + 1}")
        problem = await self.refusal(path)
        assert "newer version" in problem
        assert connection.execute("PRAGMA user_version").fetchone() == (sqlite_file.SCHEMA_VERSION + 1,)
        assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (1,)

    async def test_a_database_of_another_program(self, path: Path, connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE songs (title)")
        before = path.read_bytes()
        assert "another program" in await self.refusal(path)
        assert path.read_bytes() == before

    async def test_no_database(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.write_text("zone,address\n" * 1000, encoding="utf-8")
        assert "not a SQLite database" in await self.refusal(path)
        assert path.read_text(encoding="utf-8") == "zone,address\n" * 1000

    async def test_a_directory(self, path: Path) -> None:
        path.mkdir(parents=True)
        store = SQLiteStore(path, timeout_seconds=SHORT)
        await store.open()
        with pytest.raises(StorageUnavailable) as caught:
            await store.prepare()
        assert not caught.value.applied
        await store.close()


class TestOutages:
    async def test_open_does_not_fail_and_the_store_mends_itself(self, path: Path) -> None:
        path.parent.parent.mkdir(parents=True)
        path.parent.write_text("in the way", encoding="utf-8")
        store = SQLiteStore(path, timeout_seconds=SHORT)
        await store.open()
        for _ in range(2):
            with pytest.raises(StorageUnavailable) as caught:
                await store.insert(registration())
            assert not caught.value.applied
            assert str(path) not in caught.value.message
            with pytest.raises(StorageUnavailable):
                await store.ping()
        path.parent.unlink()
        await store.prepare()
        await store.insert(registration(1))
        assert await store.get(object_id(1)) == registration(1)
        await store.close()

    async def test_what_is_not_prepared_says_so(self, path: Path) -> None:
        store = SQLiteStore(path)
        await store.open()
        with pytest.raises(StorageUnavailable, match="not made ready") as caught:
            await store.insert(registration())
        assert not caught.value.applied
        with pytest.raises(StorageUnavailable, match="not made ready"):
            await store.ping()
        await store.close()

    async def test_a_lock_of_another_process(self, store: SQLiteStore, connection: sqlite3.Connection) -> None:
        """Writes fail in time and surely did not happen; reads go on."""
        one = registration()
        await store.insert(one)
        # SQLite waits for the lock as long as it was told when it was opened. A slow machine must not end this first.
        store._timeout = 60.0
        connection.execute("BEGIN IMMEDIATE")
        for write in (store.insert(registration()), store.replace(one, one.changed(netbox_id=0)), store.delete(one)):
            with pytest.raises(StorageUnavailable, match="locked by another process") as caught:
                await write
            assert not caught.value.applied
            assert await store.get(one.id) == one
        await store.ping()
        connection.execute("ROLLBACK")
        assert await store.replace(one, one.changed(netbox_id=0))

    async def test_a_short_lock_is_waited_for(self, path: Path, connection: sqlite3.Connection) -> None:
        store = SQLiteStore(path, timeout_seconds=60)
        await store.open()
        await store.prepare()
        connection.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.insert(registration(1)))
        for _ in range(100):
            # The loop turns while the write waits for the lock on its thread.
            await asyncio.sleep(0)
            await store.ping()
        assert not writing.done()
        connection.execute("ROLLBACK")
        await writing
        assert await store.get(object_id(1)) == registration(1)
        await store.close()

    async def test_a_write_that_nobody_waits_for_any_more_does_not_happen(
        self, path: Path, connection: sqlite3.Connection
    ) -> None:
        """One is at the lock already and goes on; those behind it are withdrawn."""
        store = SQLiteStore(path, timeout_seconds=60)
        await store.open()
        await store.prepare()
        connection.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(store.insert(registration(1)))
        behind = [asyncio.create_task(store.insert(registration(number))) for number in range(2, 20)]
        for _ in range(10):
            await store.ping()
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        connection.execute("ROLLBACK")
        await first
        await store.save_document("after", {})
        assert [one.id for one in await store.page(Filter(), after=None, limit=99)] == [object_id(1)]
        await store.close()

    async def test_a_hanging_disk_is_answered_in_time(self, store: SQLiteStore) -> None:
        """A connection whose thread hangs delays no call longer than the limit."""
        stuck = asyncio.create_task(store._connections["writer"].run(_wait_for_the_lock_of(store.path)))
        outcomes = await asyncio.gather(*(store.insert(registration()) for _ in range(5)), return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, StorageUnavailable)
            assert "in time" in outcome.message
        await store.ping()
        await stuck

    async def test_a_full_disk(self, store: SQLiteStore) -> None:
        def limit(connection: sqlite3.Connection) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 8}")

        writer = store._connections["writer"]
        await writer.run(limit)
        stored: list[Registration] = []

        async def fill() -> None:
            while len(stored) < 1000:
                one = registration(services=tuple(service(f"{'x' * 200}{number}") for number in range(20)))
                await store.insert(one)
                stored.append(one)

        with pytest.raises(StorageUnavailable, match="no space left") as caught:
            await fill()
        assert not caught.value.applied
        assert await store.page(Filter(), after=None, limit=1000) == stored
        assert await store.find_cluster(["cluster"], after=None, limit=1000) == stored
        assert await store.delete(stored.pop())
        await writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
        await store.insert(registration())
        assert len(await store.page(Filter(), after=None, limit=1000)) == len(stored) + 1

    def test_a_commit_that_fails_may_have_happened(self) -> None:
        """An error of the commit itself says nothing about what reached the disk."""

        class FailingCommit(sqlite3.Connection):
            def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    raise sqlite3.OperationalError("disk I/O error")
                return super().execute(sql, parameters)  # type: ignore[arg-type]

        with closing(sqlite3.connect(":memory:", isolation_level=None, factory=FailingCommit)) as connection:
            connection.execute("CREATE TABLE things (name)")
            with pytest.raises(StorageUnavailable) as caught:
                sqlite_file.transaction(connection, lambda it: it.execute("INSERT INTO things VALUES (1)"))
            assert caught.value.applied
            assert not connection.in_transaction

    def test_any_other_error_leaves_no_transaction_open(self, path: Path) -> None:
        def fail(connection: sqlite3.Connection) -> None:
            sqlite_rows.insert(connection, registration())
            raise ZeroDivisionError

        with closing(sqlite_file.connect(path, busy_seconds=1, writable=True)) as connection:
            sqlite_file.make_schema(connection, path)
            with pytest.raises(ZeroDivisionError):
                sqlite_file.transaction(connection, fail)
            assert not connection.in_transaction
            assert connection.execute("SELECT count(*) FROM registrations").fetchone() == (0,)


def _wait_for_the_lock_of(path: Path) -> Callable[[sqlite3.Connection], None]:
    """Work that keeps a thread busy for five times the limit: it waits for a lock that it holds itself."""

    def wait(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=5 * SHORT)) as other:
                other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            connection.rollback()

    return wait


class TestQueryPlans:
    """Every statement that the store runs finds its rows by an index."""

    @pytest.fixture
    def statements(self, path: Path) -> Iterator[tuple[sqlite3.Connection, list[str]]]:
        with closing(sqlite_file.connect(path, busy_seconds=1, writable=True)) as connection:
            sqlite_file.make_schema(connection, path)
            ran: list[str] = []
            connection.set_trace_callback(ran.append)
            yield connection, ran

    FILTERS = (
        Filter(),
        Filter(states=None),
        Filter(zone="inet"),
        Filter(zone="inet", ip_family="ipv4"),
        Filter(zone="inet", expiring=True, states=None),
        Filter(address="10.0.0.1/32"),
        Filter(address="10.0.0.1/32", zone="inet"),
        Filter(cluster_id="c"),
        Filter(namespace_id="n"),
        Filter(service_name="s"),
        Filter(cluster_id="c", namespace_id="n", service_name="s", zone="z", ip_family="ipv4", expiring=True),
        Filter(expiring=False, ip_family="ipv6"),
        Filter(states=frozenset({State.RELEASING, State.CREATING})),
    )

    def test_no_table_is_read_through(self, statements: tuple[sqlite3.Connection, list[str]]) -> None:
        connection, ran = statements
        one = registration(1)
        sqlite_rows.insert(connection, one)
        changed = one.changed(services=(service(expires_at=NOW),), address="10.0.0.9/32")
        assert sqlite_rows.replace(connection, one, changed)
        for after in (None, object_id(1)):
            for query in (
                sqlite_rows.by_ids([one.id, object_id(2)]),
                sqlite_rows.by_service(["a", "b"], "inet", "ipv4", key()),
                sqlite_rows.by_address("inet", ["10.0.0.1/32", "10.0.0.1"]),
                sqlite_rows.by_address(None, ["10.0.0.1/32", "10.0.0.1"]),
                sqlite_rows.due(NOW, after, 50),
                sqlite_rows.undescribed(after, 50),
                sqlite_rows.by_states({State.CREATING, State.ABORTING}, after, 50),
                sqlite_rows.by_cluster(["c", "C"], after, 50),
                *(sqlite_rows.page(wanted, after, 50) for wanted in self.FILTERS),
            ):
                select(connection, to_registration, query)
        sqlite_rows.duplicates(connection)
        sqlite_rows.save_document(connection, "zones", {})
        sqlite_rows.load_document(connection, "zones")
        assert sqlite_rows.delete(connection, changed)

        connection.set_trace_callback(None)
        plans = {sql: plan(connection, sql) for sql in ran if not sql.startswith(("BEGIN", "COMMIT", "--"))}
        assert len(plans) > 40
        scans = [
            line for lines in plans.values() for line in lines if line.startswith("SCAN") and "json_each" not in line
        ]
        assert scans == []

    @pytest.mark.parametrize("wanted", FILTERS, ids=filter_id)
    def test_a_page_is_not_sorted_out_of_all_the_rest(
        self, statements: tuple[sqlite3.Connection, list[str]], wanted: Filter
    ) -> None:
        connection, _ = statements
        connection.set_trace_callback(None)
        sql, values = sqlite_rows.page(wanted, object_id(1), 50)
        lines = plan(connection, sql, *values)
        assert ("USE TEMP B-TREE FOR ORDER BY" in lines) == (wanted.address is not None), lines

    @pytest.mark.parametrize(
        ("query", "index"),
        [
            (sqlite_rows.by_service(["a"], "inet", "ipv4", key()), "services_name (service_name=? AND namespace_id=?"),
            (sqlite_rows.by_address("inet", ["a"]), "registrations_address (address=? AND zone=?)"),
            (sqlite_rows.by_address(None, ["a"]), "registrations_address (address=?)"),
            (sqlite_rows.due(NOW, object_id(1), 50), "registrations_due (due_at<?)"),
            (sqlite_rows.undescribed(object_id(1), 50), "registrations_description (id>?)"),
            (sqlite_rows.by_states({State.CREATING}, None, 50), "registrations_state (state=? AND id>?)"),
            (sqlite_rows.by_cluster(["c"], object_id(1), 50), "services_cluster (cluster_id=? AND registration_id>?)"),
            (sqlite_rows.by_owner("cluster", ["c"], "z", 50), "services_cluster (cluster_id=?)"),
            (sqlite_rows.by_owner("namespace", ["n"], "z", 50), "services_namespace (namespace_id=?)"),
            (sqlite_rows.page(Filter(zone="z"), object_id(1), 50), "registrations_zone (zone=? AND id>?)"),
            (
                sqlite_rows.page(Filter(zone="z", ip_family="ipv4"), object_id(1), 50),
                "registrations_zone_family (zone=? AND ip_family=? AND id>?)",
            ),
            (sqlite_rows.page(Filter(zone="z", cluster_id="c"), None, 50), "services_cluster (cluster_id=?)"),
            (sqlite_rows.page(Filter(zone="z", namespace_id="n"), None, 50), "services_namespace (namespace_id=?)"),
            (sqlite_rows.page(Filter(zone="z", service_name="s"), None, 50), "services_name (service_name=?)"),
            (sqlite_rows.page(Filter(zone="z", address="a"), None, 50), "registrations_address (address=?)"),
        ],
        ids=str,
    )
    def test_each_query_has_its_index(
        self, statements: tuple[sqlite3.Connection, list[str]], query: sqlite_rows.Query, index: str
    ) -> None:
        connection, _ = statements
        connection.set_trace_callback(None)
        sql, values = query
        lines = plan(connection, sql, *values)
        assert any(f"INDEX {index}" in line for line in lines), lines

    @pytest.mark.parametrize("owner", ["cluster", "namespace"])
    def test_the_count_for_a_quota_stops_at_its_limit(
        self, statements: tuple[sqlite3.Connection, list[str]], owner: QuotaOwner
    ) -> None:
        connection, _ = statements
        connection.set_trace_callback(None)

        def steps(number: int) -> int:
            """The instructions of SQLite's virtual machine to count among so many registrations of the owner."""
            for _ in range(number):
                sqlite_rows.insert(connection, registration(services=(service(**{owner: "big"}),)))
            ran = itertools.count()
            connection.set_progress_handler(lambda: next(ran) < 0, 1)
            counted = sqlite_rows.count_owned(connection, owner, ["big", "BIG"], "inet", 10)
            connection.set_progress_handler(None, 1)
            assert counted == 10
            return next(ran)

        assert steps(20) == steps(2000)

    def test_counting_reads_an_index_in_its_order_and_no_document(
        self, statements: tuple[sqlite3.Connection, list[str]]
    ) -> None:
        connection, ran = statements
        sqlite_rows.counts(connection)
        connection.set_trace_callback(None)
        assert plan(connection, ran[-1]) == ["SCAN registrations USING COVERING INDEX registrations_zone_family"]

    @pytest.mark.parametrize(
        ("zone", "before", "searched"),
        [
            (None, None, "address=?"),
            ("inet", None, "address=?"),
            (None, HistoryPosition(NOW, object_id(1)), "address=? AND (until,id)<(?,?)"),
            ("inet", HistoryPosition(NOW, object_id(1)), "address=? AND (until,id)<(?,?)"),
        ],
    )
    def test_a_page_of_the_history_is_read_in_its_order(
        self,
        statements: tuple[sqlite3.Connection, list[str]],
        zone: str | None,
        before: HistoryPosition | None,
        searched: str,
    ) -> None:
        connection, _ = statements
        connection.set_trace_callback(None)
        sql, values = sqlite_history.page("10.0.0.1/32", zone, before, 50)
        lines = plan(connection, sql, *values)
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"SEARCH history USING INDEX history_address ({searched}"), lines

    def test_the_history_is_pruned_by_an_index(self, statements: tuple[sqlite3.Connection, list[str]]) -> None:
        connection, ran = statements
        sqlite_history.prune(connection, NOW, 50)
        sql = next(one for one in ran if "DELETE" in one)
        connection.set_trace_callback(None)
        lines = plan(connection, sql)
        assert "SEARCH history USING PRIMARY KEY (id=?)" in lines
        assert "SEARCH history USING COVERING INDEX history_until (until<?)" in lines


def plan(connection: sqlite3.Connection, sql: str, *values: str | int) -> list[str]:
    return [line[3] for line in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


async def test_what_root_makes_belongs_to_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_: given.append((path, uid, gid)))
    path = tmp_path / "state" / "ipam.sqlite"
    for _ in range(2):
        sqlite_file.connect(path, busy_seconds=1, writable=True).close()
    owner = tmp_path.stat()
    assert given == [(one, owner.st_uid, owner.st_gid) for one in (path.parent, path)]


async def test_readyz_gets_told_why_the_file_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.mkdir()
    store = SQLiteStore(path)
    await store.open()
    try:
        with pytest.raises(StorageUnavailable) as caught:
            await store.ping()
    finally:
        await store.close()
    condition = "its file cannot be opened"
    told = (caught.value.condition, caught.value.message)
    assert told == (condition, f"storage is unavailable ({condition}); try again")
