"""While the earlier service writes beside this one: it knows no revision, so what it changed tells its changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ipam_lib.models import Departure, Registration, State
from ipam_lib.storage.base import Store
from ipam_lib.storage.documents import Document
from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore, make_backend
from tests.storage.samples import DAY, NOW, legacy_documents, registration, service


@pytest.fixture(params=["memory", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The earlier service knows no embedded database."""
    return make_backend(request)


@pytest.fixture
async def coexisting(open_store: OpenStore) -> Store:
    """A store beside the earlier service."""
    store = await open_store(coexist=True)
    await store.prepare()
    return store


def expire(document: Document) -> None:
    document["services"][0]["expires_at"] = NOW


def remove(document: Document) -> None:
    document["services"].pop()


def add(document: Document) -> None:
    document["services"].append({"service_name": "x", "namespace_id": "n", "cluster_id": "c"})


def reseal(document: Document) -> None:
    document["secret"] = "replaced"


def drop_all(document: Document) -> None:
    document["services"] = []


CHANGES = [expire, remove, add, reseal, drop_all]


@pytest.mark.parametrize("edit", CHANGES)
@pytest.mark.parametrize("ours", [False, True], ids=["theirs", "ours"])
async def test_a_change_of_the_earlier_service_is_not_overwritten(
    backend: Backend, coexisting: Store, edit: Callable[[Document], None], ours: bool
) -> None:
    if ours:
        inserted = registration(services=(service(expires_at=NOW - DAY), service("b")))
        await coexisting.insert(inserted)
        document = backend.raw(inserted.id)
        assert document is not None
    else:
        document = legacy_documents()[0]
        backend.seed([document])
    read = await coexisting.get(document["_id"])
    assert read is not None
    edit(document)
    backend.overwrite(document)

    assert not await coexisting.replace(read, read.changed(netbox_id=1))
    assert not await coexisting.delete(read)
    assert backend.raw(document["_id"]) == document
    again = await coexisting.get(document["_id"])
    assert again is not None
    assert await coexisting.replace(again, again.changed(netbox_id=1))


async def test_a_change_of_another_field_is_kept(backend: Backend, coexisting: Store) -> None:
    """The earlier service writes the NetBox id in a step of its own."""
    document = legacy_documents()[0]
    del document["netbox_id"]
    backend.seed([document])
    read = await coexisting.get(document["_id"])
    assert read is not None
    document["netbox_id"] = 4711
    backend.overwrite(document)
    assert await coexisting.replace(read, read.changed(services=read.services[1:]))
    raw = backend.raw(document["_id"])
    assert raw is not None
    assert raw["netbox_id"] == 4711
    assert raw["services"] == document["services"][1:]


@pytest.mark.parametrize("document", legacy_documents(), ids=lambda one: one["address"])
async def test_every_legacy_document_is_changed_and_deleted(
    backend: Backend, coexisting: Store, document: Document
) -> None:
    backend.seed([document])
    read = await coexisting.get(document["_id"])
    assert read is not None
    current = read
    # In a chain, without reading in between.
    for changes in (
        {"services": (*read.services, service("new", expires_at=NOW))},
        {"netbox_id": 5},
        {"secret": "resealed"},
        {"services": read.services},
        {"services": (), "state": State.RELEASING},
        {"lease_until": NOW},
    ):
        changed = current.changed(**changes)
        assert await coexisting.replace(current, changed), changes
        current = changed
    assert await coexisting.get(document["_id"]) == current
    assert await coexisting.delete(current)


async def test_what_was_inserted_goes_on_without_reading(coexisting: Store) -> None:
    current = registration(state=State.CREATING, netbox_id=None, lease_until=NOW)
    await coexisting.insert(current)
    for changes in (
        {"netbox_id": 5},
        {"state": State.LIVE, "lease_until": None},
        {"services": (service("b", retention_period_days=3), *current.services)},
        {"services": ()},
        {"state": State.RELEASING},
    ):
        changed = current.changed(**changes)
        assert await coexisting.replace(current, changed), changes
        current = changed
    assert await coexisting.delete(current)


async def test_unknown_fields_of_services_go_on_without_reading(backend: Backend, coexisting: Store) -> None:
    document = legacy_documents()[0]
    document["services"][1]["label"] = "kept"
    backend.seed([document])
    current = await coexisting.get(document["_id"])
    assert current is not None
    first, second, third = current.services
    later = type(second)(second.key, 9)
    for services in ((second,), (later, first), (), (third, second), (later,)):
        changed = current.changed(services=services)
        assert await coexisting.replace(current, changed)
        current = changed
        raw = backend.raw(document["_id"])
        assert raw is not None
        labels = [one.get("label") for one in raw["services"]]
        assert labels == ["kept" if one.key == second.key else None for one in services]


@pytest.mark.parametrize("services", [[], None, "absent"])
async def test_missing_services_are_compared_too(
    backend: Backend, coexisting: Store, services: list[Document] | str | None
) -> None:
    document: dict[str, Any] = legacy_documents()[0]
    if services == "absent":
        del document["services"]
    else:
        document["services"] = services
    backend.seed([document])
    read = await coexisting.get(document["_id"])
    assert read is not None
    changed = read.changed(services=(service(),))
    assert await coexisting.replace(read, changed)
    assert not await coexisting.replace(read, changed)
    assert await coexisting.replace(changed, changed.changed(services=()))


async def test_without_the_setting_only_the_revision_counts(backend: Backend, store: Store) -> None:
    inserted = registration()
    await store.insert(inserted)
    raw = backend.raw(inserted.id)
    assert raw is not None
    raw["secret"] = "replaced"
    backend.overwrite(raw)
    changed: Registration = inserted.changed(netbox_id=9)
    assert await store.replace(inserted, changed)
    after = backend.raw(inserted.id)
    assert after is not None
    assert after["secret"] == "replaced"


async def test_a_service_departs_and_is_let_go_of_beside_the_earlier_service(
    backend: Backend, coexisting: Store
) -> None:
    """Two writes in a row, without a look in between; what the earlier service wrote of the others stays."""
    document = legacy_documents()[0]
    backend.seed([document])
    read = await coexisting.get(document["_id"])
    assert read is not None
    gone = Departure("a" * 24, read.services[0].key, None, NOW)
    departed = read.changed(services=read.services[1:], departed=(gone,))
    assert await coexisting.replace(read, departed)
    raw = backend.raw(document["_id"])
    assert raw is not None
    assert raw["services"] == document["services"][1:]
    assert await coexisting.replace(departed, departed.changed(departed=()))
    raw = backend.raw(document["_id"])
    assert raw is not None
    assert raw == document | {"services": document["services"][1:], "revision": 2}


async def test_what_the_earlier_service_wrote_anew_has_no_beginning_and_is_not_overwritten(
    backend: Backend, coexisting: Store
) -> None:
    one = registration(services=(service("a", since=NOW), service("b", since=NOW)))
    await coexisting.insert(one)
    read = await coexisting.get(one.id)
    raw = backend.raw(one.id)
    assert raw is not None
    assert read is not None
    for each in raw["services"]:
        del each["since"]
    backend.overwrite(raw)
    gone = Departure("a" * 24, read.services[0].key, NOW, NOW)
    assert not await coexisting.replace(read, read.changed(services=read.services[1:], departed=(gone,)))
    again = await coexisting.get(one.id)
    assert again is not None
    assert [each.since for each in again.services] == [None, None]
