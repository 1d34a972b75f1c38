"""`prepare`: indexes and duplicates, on a new database and on one of the earlier service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from ipam_lib.errors import StoreConflict
from ipam_lib.models import PENDING, Filter, State, placeholder
from ipam_lib.storage.base import DuplicateReport, Store
from ipam_lib.storage.documents import Document
from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore, make_backend
from tests.storage.samples import NOW, key, legacy_documents, object_id, registration, service


async def test_it_may_be_repeated(open_store: OpenStore) -> None:
    store = await open_store()
    assert await store.prepare() == []
    one = registration()
    await store.insert(one)
    for again in (store, await open_store()):
        assert await again.prepare() == []
        assert await again.get(one.id) == one


async def test_several_at_once(open_store: OpenStore) -> None:
    stores = [await open_store() for _ in range(6)]
    assert await asyncio.gather(*(store.prepare() for store in stores)) == [[]] * 6
    await stores[0].insert(registration(1))
    with pytest.raises(StoreConflict):
        await stores[1].insert(registration(2, address=registration(1).address))


async def test_an_inserted_duplicate_stands_beside_the_one_that_counts(store: Store) -> None:
    one = registration(1)
    copies = [registration(number, address=one.address, duplicate=True) for number in (2, 3)]
    for each in (*copies, one):
        await store.insert(each)
    assert await store.find_address(zone="inet", addresses=[one.address]) == [one, *copies]
    expected = [DuplicateReport("inet", one.address, one.id, tuple(each.id for each in copies))]
    assert await store.prepare() == expected
    with pytest.raises(StoreConflict):
        await store.insert(registration(4, address=one.address))


async def test_a_duplicate_whose_original_is_gone_is_still_reported(store: Store) -> None:
    copy = registration(2, duplicate=True)
    await store.insert(copy)
    assert await store.prepare() == [DuplicateReport("inet", copy.address, "", (copy.id,))]


class TestDuplicatesOfTheEarlierService:
    """It has no unique index, and registers an address twice when two requests meet."""

    @pytest.fixture(params=["memory", pytest.param("mongodb", marks=pytest.mark.mongodb)])
    def backend(self, request: pytest.FixtureRequest) -> Backend:
        """An embedded database never was without its unique index."""
        return make_backend(request)

    @pytest.fixture
    def documents(self) -> list[Document]:
        """What it wrote, and its first document three times, its second twice."""
        first, second, *others = legacy_documents()
        return [
            first | {"_id": object_id(0xFFFF_0000_0000_0000)},
            *others,
            second | {"_id": object_id(0xFFFF_0000_0000_0002)},
            first,
            second,
            first | {"_id": object_id(0xFFFF_0000_0000_0001), "secret": "another"},
        ]

    async def test_they_are_told_apart_and_reported(
        self, backend: Backend, open_store: OpenStore, documents: list[Document]
    ) -> None:
        backend.seed(documents)
        store = await open_store()
        expected = reports(documents)
        assert len(expected) == 2
        assert await in_order(store.prepare()) == expected
        assert await in_order(store.prepare()) == expected
        assert await in_order((await open_store()).prepare()) == expected
        for document in documents:
            read = await store.get(document["_id"])
            assert read is not None
            marked = any(read.id in one.marked for one in expected)
            assert read.duplicate is marked
            assert read.revision == (1 if marked else None)
            raw = backend.raw(read.id)
            assert raw is not None
            added = {"duplicate": read.id, "revision": 1} if marked else {}
            assert raw == document | added
        with pytest.raises(StoreConflict):
            await store.insert(registration(zone=documents[0]["zone"], address=documents[0]["address"]))

    async def test_several_at_once(self, backend: Backend, open_store: OpenStore, documents: list[Document]) -> None:
        backend.seed(documents)
        stores = [await open_store() for _ in range(4)]
        await asyncio.gather(*(store.prepare() for store in stores))
        assert await in_order(stores[0].prepare()) == reports(documents)
        for report in reports(documents):
            for registration_id in report.marked:
                read = await stores[0].get(registration_id)
                assert read is not None
                assert read.revision == 1

    async def test_a_duplicate_lives_like_any_other(
        self, backend: Backend, open_store: OpenStore, documents: list[Document]
    ) -> None:
        backend.seed(documents)
        store = await open_store()
        [report] = [one for one in await store.prepare() if len(one.marked) == 2]
        copy = await store.get(report.marked[-1])
        assert copy is not None
        found = await store.find_service(
            secrets=[copy.secret], zone=copy.zone, ip_family=copy.ip_family, service=copy.services[0].key
        )
        assert [one.id for one in found] == [report.kept, copy.id]
        changed = copy.changed(services=(service(expires_at=NOW),))
        assert await store.replace(copy, changed)
        due = await store.find_due(now=NOW, after=None, limit=9)
        assert changed in due
        releasing = changed.changed(services=(), state=State.RELEASING)
        assert await store.replace(changed, releasing)
        raw = backend.raw(copy.id)
        assert raw is not None
        assert "secret" not in raw
        assert await store.find_states({State.RELEASING}, after=None, limit=9) == [releasing]
        assert await store.delete(releasing)
        assert await store.get(copy.id) is None
        assert len(await store.page(Filter(), after=None, limit=100)) == len(documents) - 1

    async def test_who_was_at_it_when_it_was_marked_reads_it_anew(
        self, backend: Backend, open_store: OpenStore, documents: list[Document]
    ) -> None:
        backend.seed(documents)
        store = await open_store()
        before = {document["_id"]: await store.get(document["_id"]) for document in documents}
        [report] = [one for one in await store.prepare() if len(one.marked) == 2]
        marked, kept = before[report.marked[0]], before[report.kept]
        assert marked is not None
        assert kept is not None
        assert not await store.replace(marked, marked.changed(netbox_id=1))
        assert await store.replace(kept, kept.changed(netbox_id=1))

    async def test_a_second_placeholder_is_given_up(self, backend: Backend, open_store: OpenStore) -> None:
        """Only without its index could a placeholder stand twice; marking it would let a second creation through."""
        address = placeholder("ipv4", key())
        backend.seed(
            {"_id": object_id(number), "zone": "inet", "address": address, "state": "creating", "revision": number}
            for number in (1, 2, 3)
        )
        store = await open_store()
        holders = await store.get_many([object_id(number) for number in (1, 2, 3)])
        assert await store.prepare() == []
        assert [one.id for one in await store.find_address(zone="inet", addresses=[address])] == [object_id(1)]
        aborting = await store.find_states({State.ABORTING}, after=None, limit=9)
        assert [one.id for one in aborting] == [object_id(2), object_id(3)]
        assert all(one.pending and not one.duplicate for one in aborting)
        assert {one.address for one in aborting} == {PENDING + object_id(2), PENDING + object_id(3)}
        done = {
            one.id: await store.replace(one, one.changed(state=State.LIVE, address=f"10.0.0.{number}/32"))
            for number, one in enumerate(sorted(holders, key=lambda one: one.id))
        }
        assert list(done.values()) == [True, False, False]


def reports(documents: Iterable[Document]) -> list[DuplicateReport]:
    """What `prepare` is to say of these documents, in the order of the places."""
    places: dict[tuple[str, str], list[str]] = {}
    for document in documents:
        places.setdefault((document["zone"], document["address"]), []).append(document["_id"])
    return [
        DuplicateReport(zone, address, min(ids), tuple(sorted(ids)[1:]))
        for (zone, address), ids in sorted(places.items())
        if len(ids) > 1
    ]


async def in_order(preparing: object) -> list[DuplicateReport]:
    found: list[DuplicateReport] = await preparing  # type: ignore[misc]
    return sorted(found, key=lambda report: (report.zone, report.address))
