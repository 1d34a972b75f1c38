"""What a store promises to a copy of all its data, in the stores of the program: read, fit, load, and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import bson
import pytest
from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorDatabase

from ipam_lib.errors import ConfigError, StorageUnavailable, StoreConflict
from ipam_lib.models import Filter, PoolEntry, PoolState, State, Tenure
from ipam_lib.storage import history_store, pool_store
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bson_documents import to_bson
from ipam_lib.storage.bulk_copy import (
    PAGE_BYTES,
    PAGE_DOCUMENTS,
    CollectionKind,
    Contents,
    CopyableStore,
    UnfitDocument,
)
from ipam_lib.storage.documents import Document
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.mongo_queries import COLLECTION_INDEXES
from tests.storage.backends import Backend, MongoBackend, SQLiteBackend
from tests.storage.conftest import OpenStore, make_backend
from tests.storage.samples import NOW, key, legacy_documents, object_id, registration, service

Pages = Mapping[CollectionKind, Sequence[bytes]]

ENTRY = PoolEntry(object_id(900), "inet", "ipv4", "192.0.2.9/32", PoolState.READY, netbox_id=9)
TENURE = Tenure(object_id(901), object_id(1), "inet", "ipv4", "192.0.2.8/32", key(), None, NOW)
EVERYTHING: Pages = {
    CollectionKind.REGISTRATIONS: [to_bson(one) for one in legacy_documents()],
    CollectionKind.DOCUMENTS: [bson.encode({"_id": "zones", "content": '{"æ": 1}'})],
    CollectionKind.POOL: [to_bson(pool_store.to_document(ENTRY) | {"unknown": bson.Int64(1)})],
    CollectionKind.HISTORY: [to_bson(history_store.to_document(TENURE) | {"unknown": {"$date": 1}})],
}


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return make_backend(request)


@pytest.fixture
async def copyable(open_store: OpenStore) -> CopyableStore:
    """A store that is open, over a database that was never made ready."""
    store = await open_store()
    assert isinstance(store, CopyableStore)
    return store


async def given(pages: Pages) -> AsyncIterator[tuple[CollectionKind, list[bytes]]]:
    for kind, documents in pages.items():
        for at in range(0, len(documents), 2):
            yield kind, list(documents[at : at + 2])


async def load(store: CopyableStore, pages: Pages, *, replace: bool = False) -> list[DuplicateReport]:
    for kind, documents in pages.items():
        for one in documents:
            store.validate(kind, one)
    return await store.load(given(pages), kinds=list(pages), replace=replace)


async def everything(store: CopyableStore) -> tuple[Contents, dict[CollectionKind, list[bytes]]]:
    async with store.snapshot() as snapshot:
        found = {kind: [one async for page in snapshot.dump(kind) for one in page] for kind in CollectionKind}
    return snapshot.contents, found


async def test_what_was_never_there_is_nothing_and_stays_so(backend: Backend, copyable: CopyableStore) -> None:
    contents, found = await everything(copyable)
    assert (contents.collections, contents.unfinished) == ({}, False)
    assert not any(found.values())
    if isinstance(backend, SQLiteBackend):
        assert not backend.path.exists()
    else:
        assert isinstance(backend, MongoBackend)
        assert backend.collection.database.list_collection_names() == []


async def test_all_of_it_comes_back_as_it_was(copyable: CopyableStore) -> None:
    assert await load(copyable, EVERYTHING) == []
    contents, found = await everything(copyable)
    assert found == EVERYTHING
    assert {kind: info.documents for kind, info in contents.collections.items()} == {
        kind: len(documents) for kind, documents in EVERYTHING.items()
    }
    assert {info.name for info in contents.collections.values()} == {f"addresses{kind}" for kind in CollectionKind}
    assert not contents.unfinished
    assert await copyable.load_document("zones") == {"æ": 1}
    assert await copyable.pool_get_many([ENTRY.id]) == [ENTRY]
    assert await copyable.history_page(address=TENURE.address, zone=None, before=None, limit=9) == [TENURE]
    one = legacy_documents()[0]
    assert [found.id for found in await copyable.find_address(zone=one["zone"], addresses=[one["address"]])] == [
        one["_id"]
    ]


async def test_the_store_is_ready_afterwards(copyable: CopyableStore) -> None:
    await load(copyable, EVERYTHING)
    contents, _ = await everything(copyable)
    for kind, info in contents.collections.items():
        made = {one["name"]: (list(one["key"]), bool(one.get("unique"))) for one in info.indexes}
        wanted = {index.name: (list(index.fields), index.unique) for index in COLLECTION_INDEXES[kind]}
        assert made == {"_id_": (["_id"], False), **wanted}
    taken = legacy_documents()[0]
    with pytest.raises(StoreConflict):
        await copyable.insert(registration(zone=taken["zone"], address=taken["address"]))
    assert await copyable.prepare() == []


async def test_pages_are_small_and_in_order(copyable: CopyableStore) -> None:
    number = 2 * PAGE_DOCUMENTS + 1
    documents = [to_bson({"_id": object_id(one), "zone": "inet", "address": f"p{one}"}) for one in range(number)]
    await load(copyable, {CollectionKind.REGISTRATIONS: documents[::-1]})
    async with copyable.snapshot() as snapshot:
        pages = [page async for page in snapshot.dump(CollectionKind.REGISTRATIONS)]
    assert max(map(len, pages)) <= PAGE_DOCUMENTS
    assert [one for page in pages for one in page] == documents


async def test_large_documents_make_small_pages(copyable: CopyableStore) -> None:
    documents = [
        to_bson({"_id": object_id(one), "zone": "inet", "address": f"p{one}", "padding": "x" * (PAGE_BYTES // 3 + 1)})
        for one in range(7)
    ]
    await load(copyable, {CollectionKind.REGISTRATIONS: documents})
    async with copyable.snapshot() as snapshot:
        pages = [page async for page in snapshot.dump(CollectionKind.REGISTRATIONS)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one for page in pages for one in page] == documents


async def test_ids_of_others_come_too(copyable: CopyableStore) -> None:
    ours = to_bson({"_id": object_id(1), "zone": "inet", "address": "10.0.0.1/32"})
    foreign = bson.encode({"_id": "note", "address": "10.0.0.2/32", "zone": "inet"})
    await load(copyable, {CollectionKind.REGISTRATIONS: [ours, foreign]})
    _, found = await everything(copyable)
    assert sorted(found[CollectionKind.REGISTRATIONS]) == sorted([ours, foreign])


async def test_a_snapshot_takes_no_part_in_what_happens_meanwhile(backend: Backend, copyable: CopyableStore) -> None:
    """Of one moment, where the store can do so; in any case whole, and once each."""
    await load(copyable, EVERYTHING)
    async with copyable.snapshot() as snapshot:
        pages = snapshot.dump(CollectionKind.REGISTRATIONS)
        first = await anext(pages)
        await copyable.insert(registration(800))
        found = [*first, *[one async for page in pages for one in page]]
    expected = list(EVERYTHING[CollectionKind.REGISTRATIONS])
    assert [one for one in found if one in expected] == expected
    assert len(set(found)) == len(found)
    if isinstance(backend, SQLiteBackend):
        assert found == expected


async def test_nothing_is_replaced_unless_that_is_asked_for(copyable: CopyableStore) -> None:
    await load(copyable, EVERYTHING)
    less = {CollectionKind.REGISTRATIONS: EVERYTHING[CollectionKind.REGISTRATIONS][:1]}
    with pytest.raises(StoreConflict):
        await load(copyable, less)
    for kind in (CollectionKind.POOL, CollectionKind.HISTORY):
        with pytest.raises(StoreConflict):
            await load(copyable, {kind: []})
    assert (await everything(copyable))[1] == EVERYTHING
    await load(copyable, less, replace=True)
    assert (await everything(copyable))[1] == {**EVERYTHING, **less}
    await load(copyable, {CollectionKind.DOCUMENTS: []})
    await load(copyable, {CollectionKind.REGISTRATIONS: [], CollectionKind.POOL: []}, replace=True)
    kept = {kind: [] for kind in CollectionKind} | {CollectionKind.HISTORY: list(EVERYTHING[CollectionKind.HISTORY])}
    assert (await everything(copyable))[1] == kept
    assert await copyable.page(Filter(), after=None, limit=9) == []
    assert await copyable.find_cluster([one.key.cluster_id for one in [service()]], after=None, limit=9) == []


def twice(*numbers: int, **fields: Any) -> list[bytes]:
    """Registrations of one address, as the earlier service's database may have them."""
    return [
        to_bson({"_id": object_id(one), "zone": "inet", "address": "10.0.0.1/32", "secret": "s", **fields})
        for one in numbers
    ]


@pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
async def test_what_stands_twice_is_told_apart(copyable: CopyableStore, numbers: tuple[int, ...]) -> None:
    [report] = await load(copyable, {CollectionKind.REGISTRATIONS: twice(*numbers)})
    assert report == DuplicateReport("inet", "10.0.0.1/32", object_id(1), (object_id(2), object_id(3)))
    assert await copyable.prepare() == [report]
    found = await copyable.find_address(zone="inet", addresses=["10.0.0.1/32"])
    assert [(one.duplicate, one.revision) for one in found] == [(False, None), (True, 1), (True, 1)]
    contents, documents = await everything(copyable)
    assert contents.count(CollectionKind.REGISTRATIONS) == 3
    assert await load(copyable, documents, replace=True) == [report]
    assert (await everything(copyable))[1] == documents


async def test_a_second_placeholder_is_given_up(copyable: CopyableStore) -> None:
    documents = twice(2, 1, address="pending:abc", state="creating", revision=1)
    assert await load(copyable, {CollectionKind.REGISTRATIONS: documents}) == []
    [second] = await copyable.find_states({State.ABORTING}, after=None, limit=9)
    assert (second.id, second.address) == (object_id(2), f"pending:{object_id(2)}")


async def test_an_id_that_stands_twice_is_refused(copyable: CopyableStore) -> None:
    await load(copyable, EVERYTHING)
    for kind, documents in EVERYTHING.items():
        with pytest.raises(StoreConflict):
            await load(copyable, {kind: [*documents, documents[0]]}, replace=True)
    other_id = to_bson(pool_store.to_document(ENTRY) | {"_id": object_id(902)})
    with pytest.raises(StoreConflict):
        await load(copyable, {CollectionKind.POOL: [*EVERYTHING[CollectionKind.POOL], other_id]}, replace=True)
    assert (await everything(copyable))[1] == EVERYTHING


UNFIT: list[tuple[CollectionKind, Document | bytes]] = [
    (CollectionKind.REGISTRATIONS, b"garbage"),
    (CollectionKind.REGISTRATIONS, bson.encode({"zone": "inet"})),
    (CollectionKind.REGISTRATIONS, {"_id": object_id(1), "state": "of a newer version"}),
    (CollectionKind.POOL, {"_id": object_id(1)}),
    (CollectionKind.POOL, pool_store.to_document(ENTRY) | {"state": "of a newer version"}),
    (CollectionKind.POOL, pool_store.to_document(ENTRY) | {"address": "no address"}),
    (CollectionKind.POOL, pool_store.to_document(ENTRY) | {"address": 1}),
    (CollectionKind.HISTORY, {"_id": object_id(1), "zone": "inet"}),
    (CollectionKind.HISTORY, history_store.to_document(TENURE) | {"until": "yesterday"}),
    (CollectionKind.DOCUMENTS, {"_id": "zones"}),
    (CollectionKind.DOCUMENTS, {"_id": "zones", "content": 1}),
    (CollectionKind.DOCUMENTS, {"_id": "zones", "content": "{}", "more": 1}),
    (CollectionKind.DOCUMENTS, {"_id": object_id(1), "content": "{}"}),
]


@pytest.mark.parametrize(("kind", "document"), UNFIT)
async def test_what_the_store_could_not_use_is_no_fit(
    backend: Backend, kind: CollectionKind, document: Document | bytes
) -> None:
    store = backend.store()
    assert isinstance(store, CopyableStore)
    with pytest.raises(UnfitDocument):
        store.validate(kind, document if isinstance(document, bytes) else to_bson(document))


async def test_a_fitting_registration_is_read(backend: Backend) -> None:
    store = backend.store()
    assert isinstance(store, CopyableStore)
    for document in legacy_documents():
        read = store.validate(CollectionKind.REGISTRATIONS, to_bson(document))
        assert read is not None
        assert (read.id, read.address, read.secret) == (document["_id"], document["address"], document["secret"])
    for kind in (CollectionKind.POOL, CollectionKind.HISTORY, CollectionKind.DOCUMENTS):
        assert store.validate(kind, EVERYTHING[kind][0]) is None


class Cut(Exception):
    """Whoever gives the pages has lost its archive."""


async def cut_off(pages: Pages, after: int) -> AsyncIterator[tuple[CollectionKind, list[bytes]]]:
    given_so_far = 0
    async for one in given(pages):
        if given_so_far == after:
            raise Cut
        yield one
        given_so_far += 1


@pytest.mark.parametrize("after", range(6))
async def test_pages_that_break_off_change_nothing(copyable: CopyableStore, after: int) -> None:
    await load(copyable, EVERYTHING)
    with pytest.raises(Cut):
        await copyable.load(cut_off(EVERYTHING, after), kinds=list(CollectionKind), replace=True)
    contents, found = await everything(copyable)
    assert (found, contents.unfinished) == (EVERYTHING, False)
    less = {kind: [] for kind in CollectionKind}
    await load(copyable, less, replace=True)
    assert (await everything(copyable))[1] == less


async def test_a_load_that_is_given_up_changes_nothing(copyable: CopyableStore) -> None:
    await load(copyable, EVERYTHING)
    stuck = asyncio.Event()

    async def pages() -> AsyncIterator[tuple[CollectionKind, list[bytes]]]:
        yield CollectionKind.REGISTRATIONS, twice(1)
        stuck.set()
        await asyncio.Event().wait()

    loading = asyncio.create_task(copyable.load(pages(), kinds=list(CollectionKind), replace=True))
    await stuck.wait()
    assert (await everything(copyable))[1] == EVERYTHING
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (await everything(copyable))[1] == EVERYTHING


class TestMongoDBCutOff:
    """A load that dies before or after any of its calls: the old or, once begun, the new; again, and it is the new."""

    NEW: Pages = {kind: [] for kind in CollectionKind} | {
        CollectionKind.REGISTRATIONS: twice(1, 2),
        CollectionKind.HISTORY: [to_bson(history_store.to_document(TENURE))],
    }

    @pytest.fixture
    def backend(self, mongodb_backend: MongoBackend) -> MongoBackend:
        return mongodb_backend

    @pytest.mark.mongodb
    async def test_at_every_step(
        self, backend: MongoBackend, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = await open_store()
        assert isinstance(store, MongoStore)
        await load(store, self.NEW)
        expected = (await everything(store))[1]
        outcomes = []
        for step in range(1000):
            await load(store, EVERYTHING, replace=True)
            with monkeypatch.context() as patched:
                steps = dying_at(patched, step)
                try:
                    await load(store, self.NEW, replace=True)
                except Killed:
                    died = True
                else:
                    died = False
            contents, found = await everything(store)
            outcomes.append(found == EVERYTHING and not contents.unfinished)
            if contents.unfinished:
                with pytest.raises(ConfigError, match="cut off half-way; run mongo-restore again"):
                    await store.prepare()
                await load(store, self.NEW)  # without `replace`: what is there was agreed upon
            elif found == EVERYTHING:
                await load(store, self.NEW, replace=True)
            contents, found = await everything(store)
            assert (found, contents.unfinished) == (expected, False)
            names = set(backend.collection.database.list_collection_names())
            assert names == {f"addresses{kind}" for kind in CollectionKind}
            if not died:
                break
        assert not died
        assert steps() == step
        assert outcomes.count(True) > 10
        assert outcomes.count(False) > 5


class Killed(BaseException):
    """The process is no more."""


WRITES = (
    (AsyncIOMotorDatabase, ("create_collection",)),
    (AsyncIOMotorCollection, ("insert_many", "replace_one", "update_one", "create_index", "rename", "drop")),
)


def dying_at(patched: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Have the process die before or after one of its writes (two steps each). Returns a function that gives how many
    steps it took."""
    taken = 0

    def point() -> None:
        nonlocal taken
        if taken >= step:
            raise Killed
        taken += 1

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            point()
            result = await original(*args, **options)
            point()
            return result

        return call

    for owner, names in WRITES:
        for name in names:
            patched.setattr(owner, name, dying(getattr(owner, name)))
    return lambda: taken


@pytest.mark.mongodb
async def test_a_backup_of_mongodb_is_told_of_a_server_that_is_away(mongodb_backend: MongoBackend) -> None:
    store = MongoStore("mongodb://127.0.0.1:9", "x", timeout_seconds=0.5, prepare_seconds=0.5)
    await store.open()
    try:
        with pytest.raises(StorageUnavailable):
            async with store.snapshot():
                pass
        with pytest.raises(StorageUnavailable):
            await store.load(given({}), kinds=list(CollectionKind), replace=True)
    finally:
        await store.close()
