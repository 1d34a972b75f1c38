"""How many addresses every store counts for a cluster and a namespace."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ipam_lib.models import QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage.base import Store
from tests.storage.backends import Backend
from tests.storage.samples import legacy_documents, registration, service

OWNERS: tuple[QuotaOwner, ...] = ("cluster", "namespace")


def id_of(key: ServiceKey, owner: QuotaOwner) -> str:
    return key.cluster_id if owner == "cluster" else key.namespace_id


@pytest.mark.parametrize("owner", OWNERS)
async def test_there_are_none_at_first(store: Store, owner: QuotaOwner) -> None:
    assert await store.count_owned(owner, ["c"], zone="inet", limit=9) == 0
    assert dict(await store.owned(owner)) == {}


@pytest.mark.parametrize("owner", OWNERS)
async def test_a_registration_counts_once_in_any_state(store: Store, owner: QuotaOwner) -> None:
    chance = random.Random(3)
    some: list[Registration] = []
    for number in range(60):
        services = tuple(
            service(f"web-{number}-{at}", cluster=chance.choice("abc"), namespace=chance.choice("xyz"))
            for at in range(chance.randrange(4))
        )
        one = registration(zone=chance.choice(("inet", "private")), state=chance.choice(list(State)), services=services)
        await store.insert(one)
        some.append(one)
    wanted = Counter(
        (one.zone, owner_id) for one in some for owner_id in {id_of(each.key, owner) for each in one.services}
    )
    assert len(wanted) == 6
    assert dict(await store.owned(owner)) == wanted
    for (zone, owner_id), number in wanted.items():
        assert await store.count_owned(owner, [owner_id], zone=zone, limit=100) == number
        assert await store.count_owned(owner, [owner_id], zone=zone, limit=number - 1) == number - 1
    ids = ["a", "b"] if owner == "cluster" else ["x", "y"]
    either = sum(one.zone == "inet" and any(id_of(each.key, owner) in ids for each in one.services) for one in some)
    assert await store.count_owned(owner, ids, zone="inet", limit=100) == either


@pytest.mark.parametrize("owner", OWNERS)
async def test_documents_of_the_earlier_service_count(backend: Backend, store: Store, owner: QuotaOwner) -> None:
    documents = legacy_documents()
    backend.seed(documents)
    field = f"{owner}_id"
    wanted = Counter(
        (one["zone"], owner_id) for one in documents for owner_id in {each[field] for each in one.get("services") or []}
    )
    assert dict(await store.owned(owner)) == wanted
