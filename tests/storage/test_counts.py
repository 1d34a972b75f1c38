"""How many registrations every store counts, by zone and family."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ipam_lib.models import State
from ipam_lib.storage.base import Store
from tests.storage.backends import Backend, MongoBackend
from tests.storage.samples import legacy_documents, registration, service


async def test_there_are_none_at_first(store: Store) -> None:
    assert dict(await store.counts()) == {}


async def test_every_registration_counts_once_in_whatever_state(store: Store) -> None:
    chance = random.Random(1)
    some = [
        registration(
            zone=chance.choice(("inet", "private", "tiny")),
            ip_family=chance.choice(("ipv4", "ipv6")),
            state=chance.choice(list(State)),
            # Neither how many services there are, nor in which clusters, makes a difference.
            services=tuple(service(f"web-{number}", cluster=f"c{number}") for number in range(chance.randrange(4))),
            duplicate=chance.random() < 0.2,
        )
        for _ in range(60)
    ]
    for one in some:
        await store.insert(one)
    assert dict(await store.counts()) == Counter((one.zone, one.ip_family) for one in some)


async def test_the_counts_follow_every_change(store: Store) -> None:
    one, other = registration(), registration(ip_family="ipv6", address="2001:db8::1/128")
    await store.insert(one)
    await store.insert(other)
    assert dict(await store.counts()) == {("inet", "ipv4"): 1, ("inet", "ipv6"): 1}
    changed = one.changed(state=State.RELEASING)
    assert await store.replace(one, changed)
    assert dict(await store.counts()) == {("inet", "ipv4"): 1, ("inet", "ipv6"): 1}
    assert await store.delete(changed)
    assert dict(await store.counts()) == {("inet", "ipv6"): 1}


async def test_a_state_of_a_newer_version_counts(backend: Backend, store: Store) -> None:
    one = registration()
    await store.insert(one)
    backend.set_state(one.id, "migrating")
    assert dict(await store.counts()) == {("inet", "ipv4"): 1}


async def test_the_earlier_services_registrations_count(backend: Backend, store: Store) -> None:
    documents = legacy_documents()
    backend.seed(documents)
    assert dict(await store.counts()) == Counter((one["zone"], one["ip_family"]) for one in documents)


@pytest.mark.mongodb
async def test_a_document_without_zone_or_family_counts_as_it_is_read(mongodb_backend: MongoBackend) -> None:
    store = mongodb_backend.store()
    await store.open()
    await store.prepare()
    whole = legacy_documents()[0]
    mongodb_backend.collection.insert_one({"_id": "a", "address": "10.0.0.1/32"})
    mongodb_backend.collection.insert_one({"_id": "b", "address": "10.0.0.2/32", "zone": None, "ip_family": 4})
    mongodb_backend.seed([whole])
    assert dict(await store.counts()) == {("", "ipv4"): 2, (whole["zone"], whole["ip_family"]): 1}
    await store.close()
