"""What the MongoDB store makes of errors, lost replies and silence, and what it asks for in the first place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from ipam_lib.errors import ConfigError, StorageUnavailable, StoreConflict
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.mongo_indexes import IndexBuilder
from tests.storage.samples import NOW, key, registration
from tests.storage.scripted_mongo import Command, Instead, ScriptedMongo

Operation = Callable[[MongoStore], Awaitable[Any]]

ONE = registration(1)
WRITES: dict[str, Operation] = {
    "insert": lambda store: store.insert(ONE),
    "replace": lambda store: store.replace(ONE, ONE.changed(netbox_id=9)),
    "delete": lambda store: store.delete(ONE),
    "save_document": lambda store: store.save_document("zones", {}),
}
READS: dict[str, Operation] = {
    "get": lambda store: store.get(ONE.id),
    "get_many": lambda store: store.get_many([ONE.id]),
    "find_service": lambda store: store.find_service(secrets=["s"], zone="inet", ip_family="ipv4", service=key()),
    "find_undescribed": lambda store: store.find_undescribed(after=None, limit=9),
    "find_due": lambda store: store.find_due(now=NOW, after=None, limit=9),
    "load_document": lambda store: store.load_document("zones"),
    "ping": lambda store: store.ping(),
}

NOT_PRIMARY = {"ok": 0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
ERRORS: dict[str, Command | Instead] = {
    "the primary steps down": NOT_PRIMARY,
    "interrupted by the step-down": {"ok": 0, "code": 11602, "errmsg": "operation was interrupted"},
    "shutting down": {"ok": 0, "code": 91, "errmsg": "shutdown in progress"},
    "too slow": {"ok": 0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "operation exceeded time limit"},
    "no majority": {
        "ok": 1,
        "n": 1,
        "nModified": 1,
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
    },
    "stepping down while waiting for a majority": {
        "ok": 1,
        "n": 1,
        "nModified": 1,
        "writeConcernError": {"code": 11602, "errmsg": "operation was interrupted"},
    },
    "a validator": {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 121, "errmsg": "failed validation"}]},
    "a lost reply": Instead.CUT,
}
READ_ERRORS = {name: error for name, error in ERRORS.items() if isinstance(error, Instead) or error["ok"] == 0}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedMongo]:
    async with ScriptedMongo().running() as server:
        yield server


@pytest.fixture
async def store(server: ScriptedMongo) -> AsyncIterator[MongoStore]:
    store = MongoStore(server.uri, "ipam", timeout_seconds=2)
    await store.open()
    yield store
    await store.close()


async def test_the_count_for_a_quota_stops_at_its_limit(server: ScriptedMongo, store: MongoStore) -> None:
    server.script = lambda command: {"ok": 1, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": [{"n": 10}]}}
    assert await store.count_owned("cluster", ["c", "C"], zone="inet", limit=10) == 10
    match, limit, _ = next(one for one in server.commands if "aggregate" in one)["pipeline"]
    assert match == {"$match": {"services.cluster_id": {"$in": ["c", "C"]}, "zone": "inet"}}
    assert limit == {"$limit": 10}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_may_have_happened(server: ScriptedMongo, store: MongoStore, write: str, error: str) -> None:
    server.script = lambda command: ERRORS[error]
    with pytest.raises(StorageUnavailable) as caught:
        await WRITES[write](store)
    assert caught.value.applied
    assert len(server.commands) == 1


@pytest.mark.parametrize("error", READ_ERRORS)
@pytest.mark.parametrize("read", READS)
async def test_a_read_fails_as_unavailable(server: ScriptedMongo, read: str, error: str) -> None:
    """In time, however often PyMongo repeats it until then."""
    store = MongoStore(server.uri, "ipam", timeout_seconds=0.4)
    await store.open()
    server.script = lambda command: READ_ERRORS[error]
    with pytest.raises(StorageUnavailable):
        await READS[read](store)
    assert server.commands
    await store.close()


@pytest.mark.parametrize("operation", [*WRITES, "get"])
async def test_without_a_server_nothing_was_sent(server: ScriptedMongo, operation: str) -> None:
    store = MongoStore(server.uri, "ipam", timeout_seconds=1)
    await store.open()
    server.vanish()
    with pytest.raises(StorageUnavailable, match="unreachable") as caught:
        await {**WRITES, **READS}[operation](store)
    assert not caught.value.applied
    await store.close()


@pytest.mark.parametrize("operation", [*WRITES, "get"])
async def test_silence_ends_in_time(server: ScriptedMongo, operation: str) -> None:
    store = MongoStore(server.uri, "ipam", timeout_seconds=0.3)
    await store.open()
    server.script = lambda command: Instead.HANG
    with pytest.raises(StorageUnavailable) as caught:
        await {**WRITES, **READS}[operation](store)
    assert caught.value.applied
    await store.close()


async def test_many_that_were_not_answered_hold_up_nobody(server: ScriptedMongo) -> None:
    """More of them than there are threads; then the server wakes up."""
    store = MongoStore(server.uri, "ipam", timeout_seconds=0.5)
    await store.open()
    server.script = lambda command: Instead.HANG
    outcomes = await asyncio.gather(*(store.get(ONE.id) for _ in range(200)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
    server.script = lambda command: {"ok": 1}
    for _ in range(3):
        try:
            await store.ping()
            break
        except StorageUnavailable:
            # The threads of the last ones end half a second after those of the first.
            continue
    else:
        pytest.fail("the store did not come back")
    await store.close()


@pytest.mark.parametrize(("code", "name"), [(13, "Unauthorized"), (18, "AuthenticationFailed"), (8000, "AtlasError")])
@pytest.mark.parametrize("operation", ["insert", "get"])
async def test_missing_rights_are_told(
    server: ScriptedMongo, store: MongoStore, operation: str, code: int, name: str
) -> None:
    server.script = lambda command: {
        "ok": 0,
        "code": code,
        "codeName": name,
        "errmsg": 'not authorized on ipam to execute command { find: "addresses", filter: { secret: "x" } }',
    }
    with pytest.raises(StorageUnavailable, match="refuses this service's user") as caught:
        await {**WRITES, **READS}[operation](store)
    called = {"insert": "insert", "get": "find"}[operation]
    assert caught.value.detail == f"{called} on addresses: not authorized on ipam to execute command"
    wanted = f"refuses the user a right that is needed ({called} on addresses)"
    assert caught.value.condition == (wanted if code == 13 else "refuses the user or the password")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"code": 1, "codeName": "InternalError", "errmsg": "out of disk: {x: 1}"}, "InternalError, code 1"),
        ({"code": 1, "errmsg": "out of disk"}, "code 1"),
    ],
)
async def test_what_was_refused_is_told(server: ScriptedMongo, store: MongoStore, error: Command, told: str) -> None:
    server.script = lambda command: {"ok": 0, **error}
    with pytest.raises(StorageUnavailable) as caught:
        await store.get(ONE.id)
    assert caught.value.message == f"storage refused the operation (find on addresses: {told}); try again"
    assert caught.value.detail == "find on addresses: out of disk"
    assert caught.value.condition == f"refuses an operation (find on addresses: {told})"


@pytest.mark.parametrize("write", ["insert", "replace"])
async def test_a_duplicate_key_is_a_conflict(server: ScriptedMongo, store: MongoStore, write: str) -> None:
    error = {"index": 0, "code": 11000, "errmsg": 'E11000 dup key: { address: "10.0.0.1/32" }'}
    server.script = lambda command: {"ok": 1, "n": 0, "nModified": 0, "writeErrors": [error]}
    with pytest.raises(StoreConflict):
        await WRITES[write](store)


async def test_two_that_save_the_same_new_document_both_succeed(server: ScriptedMongo, store: MongoStore) -> None:
    """An upsert that finds nothing may meet another's: it then finds that one."""
    error = {"index": 0, "code": 11000, "errmsg": "E11000"}
    duplicate: Command = {"ok": 1, "n": 0, "nModified": 0, "writeErrors": [error]}
    replies = iter([duplicate, {"ok": 1, "n": 1, "nModified": 1}])
    server.script = lambda command: next(replies)
    await store.save_document("zones", {})
    assert [command["updates"][0]["upsert"] for command in server.commands] == [True, True]


async def test_the_text_for_the_caller_tells_nothing_of_the_inside(server: ScriptedMongo, store: MongoStore) -> None:
    server.script = lambda command: {"ok": 0, "code": 8, "errmsg": "document {secret: 'x'} at mongo-1.internal"}
    with pytest.raises(StorageUnavailable) as caught:
        await store.insert(ONE)
    assert "internal" not in caught.value.message
    assert "secret" not in caught.value.message


async def test_writes_ask_for_a_majority_and_its_journal(server: ScriptedMongo, store: MongoStore) -> None:
    server.script = lambda command: {"ok": 1, "n": 1, "nModified": 1}
    for write in WRITES.values():
        await write(store)
    assert [next(iter(command)) for command in server.commands] == ["insert", "update", "delete", "update"]
    for command in server.commands:
        assert command["writeConcern"] == {"w": "majority", "j": True}
        assert 0 < command["maxTimeMS"] <= 2000
        # A server by itself does not know transaction numbers, and nothing is sent to it twice.
        assert "txnNumber" not in command


@pytest.mark.parametrize("options", ["", "/?w=1&journal=false&readPreference=secondary&timeoutMS=99999999"])
async def test_reads_ask_the_primary_for_what_a_majority_has(server: ScriptedMongo, options: str) -> None:
    store = MongoStore(server.uri + options, "ipam", timeout_seconds=2)
    await store.open()
    server.script = lambda command: {"ok": 1, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": []}}
    for name, read in READS.items():
        if name != "ping":
            await read(store)
    for command in server.commands:
        assert command["readConcern"] == {"level": "majority"}
        assert command.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}
        assert 0 < command["maxTimeMS"] <= 2000
    server.script = lambda command: {"ok": 1, "n": 1}
    await store.insert(ONE)
    assert server.commands[-1]["writeConcern"] == {"w": "majority", "j": True}
    await store.close()


async def test_the_uri_may_name_another_read_concern(server: ScriptedMongo) -> None:
    store = MongoStore(f"{server.uri}/?readConcernLevel=local", "ipam", timeout_seconds=2)
    await store.open()
    server.script = lambda command: {"ok": 1, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": []}}
    await store.get(ONE.id)
    assert server.commands[-1]["readConcern"] == {"level": "local"}
    await store.close()


class TestReplicaSet:
    """PyMongo repeats a write there, under a number by which the servers know the repetition."""

    @pytest.fixture
    async def server(self) -> AsyncIterator[ScriptedMongo]:
        async with ScriptedMongo(replica_set=True).running() as server:
            yield server

    @pytest.mark.parametrize("first", ["a lost reply", "the primary steps down"])
    async def test_a_write_is_repeated_under_its_number(
        self, server: ScriptedMongo, store: MongoStore, first: str
    ) -> None:
        label = {"errorLabels": ["RetryableWriteError"]}
        error = ERRORS[first]
        labelled = error if isinstance(error, Instead) else error | label
        replies: Iterator[Command | Instead] = iter([labelled, {"ok": 1, "n": 1, "nModified": 1}])
        server.script = lambda command: next(replies)
        assert await store.replace(ONE, ONE.changed(netbox_id=9))
        one, again = server.commands
        assert one["txnNumber"] == again["txnNumber"]
        assert one["lsid"] == again["lsid"]
        assert one["updates"] == again["updates"]

    @pytest.mark.parametrize("write", WRITES)
    async def test_one_whose_repetition_finds_no_server_may_have_happened(
        self, server: ScriptedMongo, write: str
    ) -> None:
        """That there is no server now says nothing about what became of it the first time."""
        store = MongoStore(server.uri, "ipam", timeout_seconds=2)
        await store.open()
        server.script = lambda command: server.vanish()
        with pytest.raises(StorageUnavailable) as caught:
            await WRITES[write](store)
        assert caught.value.applied
        assert len(server.commands) == 1
        await store.close()

    async def test_not_when_the_uri_forbids_it(self, server: ScriptedMongo) -> None:
        store = MongoStore(f"{server.uri}/?retryWrites=false", "ipam", timeout_seconds=2)
        await store.open()
        server.script = lambda command: Instead.CUT
        with pytest.raises(StorageUnavailable) as caught:
            await store.insert(ONE)
        assert caught.value.applied
        [command] = server.commands
        assert "txnNumber" not in command
        await store.close()


class TestIndexes:
    """`prepare` on servers whose indexes are not as they should be."""

    @staticmethod
    def script(indexes: list[Command], creation: Command) -> Callable[[Command], Command]:
        def reply(command: Command) -> Command:
            name = next(iter(command))
            if name == "listIndexes":
                return {"ok": 1, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": indexes}}
            if name == "createIndexes":
                return creation
            return {"ok": 1, "n": 8000, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": []}}

        return reply

    @staticmethod
    def made(server: ScriptedMongo, collection: str = "addresses") -> list[Command]:
        """The indexes that the server was told to make."""
        return [one["indexes"][0] for one in server.commands if one.get("createIndexes") == collection]

    @pytest.mark.parametrize("code", [85, 86, 67])
    async def test_an_index_of_another_shape_is_told_with_what_to_do(
        self, server: ScriptedMongo, store: MongoStore, code: int
    ) -> None:
        server.script = self.script([], {"ok": 0, "code": code, "codeName": "IndexKeySpecsConflict", "errmsg": "no"})
        with pytest.raises(ConfigError) as caught:
            await store.prepare()
        [problem] = caught.value.problems
        assert "ipam_service" in problem
        assert "db.addresses.dropIndex" in problem

    async def test_indexes_that_are_there_are_not_made_again(self, server: ScriptedMongo, store: MongoStore) -> None:
        """Whatever their names, and whatever numbers a shell wrote."""
        server.script = self.script([], {"ok": 1})
        await store.prepare()
        made = self.made(server)
        assert len(made) == len(queries.INDEXES) + 1
        beside = [self.made(server, f"addresses_{name}") for name in ("pool", "history")]
        assert all(beside)
        server.commands.clear()
        renamed = [
            {"v": 2, **one, "name": f"of_an_admin_{number}", "key": dict.fromkeys(one["key"], 1.0)}
            for number, one in enumerate(made + beside[0] + beside[1])
        ]
        server.script = self.script(renamed, {"ok": 0, "code": 85, "errmsg": "no"})
        assert await store.prepare() == []
        assert not any("createIndexes" in command for command in server.commands)

    @pytest.mark.parametrize("flaw", [{"unique": False}, {"sparse": True}, {"partialFilterExpression": {"a": 1}}])
    async def test_an_index_that_lets_something_pass_is_not_enough(
        self, server: ScriptedMongo, store: MongoStore, flaw: Command
    ) -> None:
        key_of_it = {"address": 1, "zone": 1, "duplicate": 1}
        server.script = self.script([{"v": 2, "name": "x", "key": key_of_it, "unique": True, **flaw}], {"ok": 1})
        await store.prepare()
        assert [one["key"] for one in self.made(server) if one.get("unique")] == [key_of_it]

    async def test_making_an_index_may_take_longer_than_a_request(self, server: ScriptedMongo) -> None:
        store = MongoStore(server.uri, "ipam", timeout_seconds=2, prepare_seconds=300)
        await store.open()
        server.script = self.script([], {"ok": 1})
        await store.prepare()
        for command in server.commands:
            if "createIndexes" in command:
                assert 290_000 < command["maxTimeMS"] <= 300_000
                assert command["writeConcern"]["w"] == "majority"
        await store.close()

    @staticmethod
    def slow(inprog: Command) -> Callable[[Command], Command | Instead]:
        """A server that says nothing while it builds an index, and this when it is asked how far it is."""
        answer = TestIndexes.script([], {"ok": 1})
        return lambda command: (
            Instead.HANG if "createIndexes" in command else inprog if "currentOp" in command else answer(command)
        )

    @pytest.mark.parametrize(
        ("inprog", "words"),
        [
            ({"ok": 1, "inprog": [{"msg": "x"}, {"progress": {"done": 350, "total": 1000}}]}, ", 35 % of this step"),
            ({"ok": 1, "inprog": []}, "s so far"),
            ({"ok": 1, "inprog": [{"progress": {"done": 0, "total": 0}}]}, "s so far"),
            ({"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "no"}, "s so far"),
        ],
    )
    async def test_a_slow_build_says_how_far_it_is(
        self, server: ScriptedMongo, caplog: pytest.LogCaptureFixture, inprog: Command, words: str
    ) -> None:
        caplog.set_level(logging.INFO, "ipam_lib.storage")
        store = MongoStore(server.uri, "ipam", timeout_seconds=2)
        store._builder = IndexBuilder(600, report_seconds=0.05)
        await store.open()
        slow, asked, twice = self.slow(inprog), 0, asyncio.Event()

        def script(command: Command) -> Command | Instead:
            nonlocal asked
            asked += "currentOp" in command
            if asked == 2:  # the first report has been logged
                twice.set()
            return slow(command)

        server.script = script
        preparing = asyncio.create_task(store.prepare())
        async with asyncio.timeout(60):
            await twice.wait()
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        record = caplog.records[0]
        assert words in record.message
        assert (record.__dict__["index"], record.__dict__["documents"]) == ("ipam_service", 8000)
        await store.close()

    async def test_a_build_that_ended_late_is_logged(
        self, server: ScriptedMongo, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "ipam_lib.storage")
        answer = self.script([], {"ok": 1})
        store = MongoStore(server.uri, "ipam", timeout_seconds=2)
        store._builder = IndexBuilder(600, report_seconds=0.0)
        await store.open()
        server.script = answer
        await store.prepare()
        assert "an index was built in" in caplog.text
        await store.close()

    async def test_a_start_that_cannot_finish_says_what_to_do(self, server: ScriptedMongo) -> None:
        """And does not try it again: the server may answer nothing else meanwhile."""
        store = MongoStore(server.uri, "ipam", timeout_seconds=2, prepare_seconds=0.5)
        await store.open()
        server.script = self.slow({"ok": 1, "inprog": []})
        for _ in range(2):
            with pytest.raises(ConfigError) as caught:
                await store.prepare()
            [problem] = caught.value.problems
            assert "did not build the index ipam_service of addresses (8000 documents) within 0 s" in problem
            assert 'db.addresses.createIndex({"services.service_name": 1, ' in problem
            assert '{name: "ipam_service"}' in problem
            assert problem.endswith("then restart the service")
        assert len(self.made(server)) == 1
        await store.close()

    def test_the_advice_fits_the_collection(self) -> None:
        told = queries.too_slow(queries.UNIQUE_INDEX, "addresses", 100_000, 600.0)
        assert '"duplicate": 1}, {name: "ipam_address", unique: true})' in told
        told = queries.too_slow(queries.UNIQUE_INDEX, f"addresses{queries.STAGED}", 100_000, 600.0)
        assert "createIndex" not in told
        assert "embedded database" in told

    async def test_duplicates_that_keep_coming_end_the_start(self, server: ScriptedMongo, store: MongoStore) -> None:
        duplicate = {"ok": 0, "code": 11000, "codeName": "DuplicateKey", "errmsg": "E11000"}
        ready = [
            {"v": 2, "name": f"there_{number}", "key": dict.fromkeys(fields, 1)}
            for number, fields in enumerate(index.fields for index in queries.INDEXES)
        ]
        server.script = self.script(ready, duplicate)
        with pytest.raises(StorageUnavailable):
            await store.prepare()
        assert sum("createIndexes" in command for command in server.commands) == 10


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "percent-encoded"),
        ("http://localhost", "percent-encoded"),
        ("mongodb://", "percent-encoded"),
        ("mongodb://user:hun:ter@host", "percent-encoded"),
        ("mongodb://user:hunter%zz@host", "percent-encoded"),
        ("mongodb://host:port", "percent-encoded"),
        ("mongodb://user:hun?te=ter@host", "percent-encoded"),
        ("mongodb://user:hun/?te=ter@host", "percent-encoded"),
        ("mongodb://host/?tls=yes", "tls must be 'true' or 'false'"),
        ("mongodb://host/?tsl=true", "tsl"),
    ],
)
async def test_a_uri_that_cannot_be_used_is_told_without_its_password(uri: str, words: str) -> None:
    store = MongoStore(uri, "ipam")
    with pytest.raises(ConfigError) as caught:
        await store.open()
    assert "ter" not in str(caught.value).replace("PORT", "")
    assert "mongodb.uri" in str(caught.value)
    assert words in str(caught.value)


async def test_what_the_server_is_can_be_asked(server: ScriptedMongo, store: MongoStore) -> None:
    server.script = lambda command: {"ok": 1, "version": "7.0.77", "ferretdb": {"version": "1.24"}}
    assert (await store.server())["ferretdb"] == {"version": "1.24"}
    assert next(iter(server.commands[-1])) == "buildInfo"
