"""Documents of the earlier service: read, kept, and replaced without harm, in every store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import PENDING, Filter, ServiceKey, State
from ipam_lib.storage.base import Store
from ipam_lib.storage.documents import Document
from tests.storage.backends import Backend
from tests.storage.samples import NOW, key, legacy_documents, object_id, registration, service

LEGACY = legacy_documents()


@pytest.fixture
async def legacy_store(backend: Backend, open_store: Callable[..., Any]) -> Store:
    """A store over the earlier service's documents."""
    backend.seed(LEGACY)
    store: Store = await open_store()
    assert await store.prepare() == []
    return store


@pytest.mark.parametrize("document", LEGACY, ids=lambda one: one["address"])
async def test_every_document_is_read(legacy_store: Store, document: Document) -> None:
    read = await legacy_store.get(document["_id"])
    assert read is not None
    assert read.state is State.LIVE
    assert read.revision is None
    assert not read.duplicate
    assert read.lease_until is None
    for name in ("zone", "address", "ip_family", "secret", "netbox_id"):
        assert getattr(read, name) == document[name]
    assert len(read.services) == len(document["services"])
    for found, raw in zip(read.services, document["services"], strict=True):
        assert found.key == ServiceKey(raw["service_name"], raw["namespace_id"], raw["cluster_id"])
        assert found.retention_period_days == raw.get("retention_period_days", 0)
        assert found.deny_external_cleanup is raw["deny_external_cleanup"]
        assert found.expires_at == raw.get("expires_at")
        assert await legacy_store.find_service(
            secrets=["wrong", document["secret"]],
            zone=document["zone"],
            ip_family=document["ip_family"],
            service=found.key,
        ) == [read]
        assert read in await legacy_store.find_cluster([found.key.cluster_id], after=None, limit=100)
    assert await legacy_store.find_address(zone=document["zone"], addresses=[document["address"]]) == [read]


async def test_all_of_them_are_listed(legacy_store: Store) -> None:
    listed = await legacy_store.page(Filter(), after=None, limit=100)
    assert [one.id for one in listed] == sorted(document["_id"] for document in LEGACY)
    assert sum(one.address == "83.118.168.0/24" for one in listed) == 1


async def test_those_that_have_expired_are_due(legacy_store: Store) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    expected = [
        document["_id"]
        for document in LEGACY
        if any(one.get("expires_at", now + timedelta(1)) <= now for one in document["services"])
    ]
    assert [one.id for one in await legacy_store.find_due(now=now, after=None, limit=100)] == expected
    assert len(expected) == 1


@pytest.mark.parametrize("document", LEGACY, ids=lambda one: one["address"])
async def test_a_change_touches_only_what_changes(backend: Backend, legacy_store: Store, document: Document) -> None:
    read = await legacy_store.get(document["_id"])
    assert read is not None
    changed = read.changed(netbox_id=4711)
    assert await legacy_store.replace(read, changed)
    assert backend.raw(document["_id"]) == document | {"netbox_id": 4711, "revision": 1}

    added = changed.changed(services=(*changed.services, service()))
    assert await legacy_store.replace(changed, added)
    raw = backend.raw(document["_id"])
    assert raw is not None
    assert raw["services"][:-1] == document["services"]
    assert [list(one) for one in raw["services"][:-1]] == [list(one) for one in document["services"]]
    assert await legacy_store.get(document["_id"]) == added

    assert await legacy_store.delete(added)
    assert backend.raw(document["_id"]) is None


async def test_a_changed_service_keeps_its_place_and_what_it_had(backend: Backend, legacy_store: Store) -> None:
    document = LEGACY[0]
    read = await legacy_store.get(document["_id"])
    assert read is not None
    first, second, third = read.services
    expiring = type(second)(second.key, second.retention_period_days, second.deny_external_cleanup, NOW)
    assert await legacy_store.replace(read, read.changed(services=(first, expiring, third)))
    raw = backend.raw(document["_id"])
    assert raw is not None
    one, two, three = document["services"]
    assert raw["services"] == [one, two | {"expires_at": NOW}, three]


async def test_a_legacy_registration_is_released(legacy_store: Store) -> None:
    document = LEGACY[1]
    read = await legacy_store.get(document["_id"])
    assert read is not None
    releasing = read.changed(services=(), state=State.RELEASING)
    assert await legacy_store.replace(read, releasing)
    assert await legacy_store.find_states({State.RELEASING}, after=None, limit=9) == [releasing]
    assert await legacy_store.delete(releasing)


def bare(number: int, **fields: Any) -> Document:
    """A document with the least that makes one."""
    return {"_id": object_id(number), "address": f"10.3.0.{number}/32", "zone": "inet", "secret": "s", **fields}


ODD: list[tuple[str, Document, dict[str, Any]]] = [
    ("nothing else", bare(1), {"ip_family": "ipv4", "netbox_id": None, "services": ()}),
    ("no family, IPv6", bare(2, address="2a0d:a00::2/128"), {"ip_family": "ipv6"}),
    ("nulls", bare(3, netbox_id=None, services=None, state=None, revision=None, duplicate=None), {"services": ()}),
    ("doubles of a shell", bare(4, netbox_id=20187.0, revision=3.0), {"netbox_id": 20187, "revision": 3}),
    ("a fraction", bare(5, netbox_id=1.5), {"netbox_id": None}),
    ("text for a number", bare(6, netbox_id="20187"), {"netbox_id": None}),
    ("a boolean for a number", bare(7, netbox_id=True), {"netbox_id": None}),
    ("a number past 32 bits", bare(8, netbox_id=2**40), {"netbox_id": 2**40}),
    ("services that are none", bare(9, services="web"), {"services": ()}),
    ("no secret", {**bare(10), "secret": None}, {"secret": ""}),
    ("explicitly live", bare(11, state="live"), {"state": State.LIVE}),
    ("a network", bare(12, address="10.3.0.0/24"), {"address": "10.3.0.0/24"}),
    ("without a mask", bare(13, address="10.3.0.13"), {"address": "10.3.0.13"}),
]


@pytest.mark.parametrize(("_what", "document", "expected"), ODD, ids=lambda one: one if isinstance(one, str) else "")
async def test_odd_documents_are_read(
    backend: Backend, store: Store, _what: str, document: Document, expected: dict[str, Any]
) -> None:
    backend.seed([document])
    read = await store.get(document["_id"])
    assert read is not None
    assert {name: getattr(read, name) for name in expected} == expected
    changed = read.changed(services=(service(),))
    assert await store.replace(read, changed)
    assert await store.get(read.id) == changed
    assert await store.delete(changed)


async def test_odd_services_are_read(backend: Backend, store: Store) -> None:
    whole = {"service_name": "web", "namespace_id": "namespace", "cluster_id": "cluster"}
    zero_of_go = datetime(1, 1, 1, tzinfo=UTC)
    backend.seed(
        [
            bare(
                1,
                ip_family="ipv4",
                services=[
                    whole,
                    {**whole, "service_name": "null", "retention_period_days": None, "expires_at": None},
                    {**whole, "service_name": "zero", "expires_at": zero_of_go, "deny_external_cleanup": 1},
                    {"service_name": "lonely"},
                    "garbage",
                ],
            )
        ]
    )
    read = await store.get(object_id(1))
    assert read is not None
    assert read.services == (
        service("web"),
        service("null"),
        service("zero"),
        service("lonely", cluster="", namespace=""),
    )
    found = await store.find_service(secrets=["s"], zone="inet", ip_family="ipv4", service=key("zero"))
    assert found == [read]
    # The zero of Go's time is no expiration of two thousand years ago.
    assert await store.find_due(now=NOW, after=None, limit=9) == []
    assert await store.page(Filter(expiring=True), after=None, limit=9) == []
    assert await store.page(Filter(expiring=False), after=None, limit=9) == [read]


@pytest.mark.parametrize("services", [[], None, "absent"])
async def test_without_services_it_is_due_however_that_is_written(
    backend: Backend, store: Store, services: list[Document] | str | None
) -> None:
    document = bare(1) if services == "absent" else bare(1, services=services)
    backend.seed([document, bare(2, services=[{"service_name": "web", "cluster_id": "c", "namespace_id": "n"}])])
    due = await store.find_due(now=NOW, after=None, limit=9)
    assert [one.id for one in due] == [object_id(1)]
    releasing = due[0].changed(state=State.RELEASING)
    assert await store.replace(due[0], releasing)
    assert await store.find_due(now=NOW, after=None, limit=9) == []


async def test_a_state_of_a_newer_version_is_not_passed_over(backend: Backend, store: Store) -> None:
    """To read it as live, or as not there, would give its address away."""
    backend.seed([bare(1), bare(2)])
    backend.set_state(object_id(2), "hibernating")
    with pytest.raises(StorageUnavailable) as caught:
        await store.get(object_id(2))
    assert not caught.value.applied
    assert "newest version" in caught.value.message
    with pytest.raises(StorageUnavailable):
        await store.find_address(zone="inet", addresses=["10.3.0.2/32"])
    with pytest.raises(StorageUnavailable):
        await store.get_many([object_id(1), object_id(2)])
    with pytest.raises(StorageUnavailable):
        await store.page(Filter(states=None), after=None, limit=9)
    # What the workers and the requests ask for is not held up by it.
    assert [one.id for one in await store.find_due(now=NOW, after=None, limit=9)] == [object_id(1)]
    assert await store.find_states({State.RELEASING, State.CREATING}, after=None, limit=9) == []
    assert [one.id for one in await store.page(Filter(), after=None, limit=9)] == [object_id(1)]


async def test_a_creation_is_invisible_to_the_earlier_service(backend: Backend, store: Store) -> None:
    """It looks registrations up by secret, and by service with a secret."""
    one = registration(state=State.CREATING, address=PENDING + "0" * 40, netbox_id=None)
    await store.insert(one)
    raw = backend.raw(one.id)
    assert raw is not None
    assert "secret" not in raw
    assert "netbox_id" not in raw
