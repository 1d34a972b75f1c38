"""What every store counts for the metrics, by zone and family."""

from __future__ import annotations

import random
from collections import Counter

from ipam_lib.models import State
from ipam_lib.storage.base import Store
from ipam_lib.storage.usage import Usage
from tests.storage.backends import Backend
from tests.storage.samples import NOW, legacy_documents, registration, service


async def test_there_is_nothing_at_first(store: Store) -> None:
    assert dict(await store.usage()) == {}


async def test_states_services_and_expirations_are_counted(store: Store) -> None:
    chance = random.Random(2)
    states: dict[tuple[str, str], Counter[str]] = {}
    services: Counter[tuple[str, str]] = Counter()
    expiring: Counter[tuple[str, str]] = Counter()
    for _ in range(60):
        one = registration(
            zone=chance.choice(("inet", "private")),
            ip_family=chance.choice(("ipv4", "ipv6")),
            state=chance.choice(list(State)),
            services=tuple(
                service(f"web-{number}", expires_at=NOW if chance.random() < 0.3 else None)
                for number in range(chance.randrange(4))
            ),
        )
        await store.insert(one)
        place = one.zone, one.ip_family
        states.setdefault(place, Counter())[one.state.value] += 1
        services[place] += len(one.services)
        expiring[place] += sum(each.expires_at is not None for each in one.services)
    assert len(states) == 4
    assert dict(await store.usage()) == {
        place: Usage(dict(found), services[place], expiring[place]) for place, found in states.items()
    }


async def test_a_state_of_a_newer_version_is_another(backend: Backend, store: Store) -> None:
    one = registration(services=(service(expires_at=NOW), service("other")))
    await store.insert(one)
    backend.set_state(one.id, "migrating")
    assert dict(await store.usage()) == {("inet", "ipv4"): Usage({"other": 1}, services=2, expiring=1)}


async def test_the_earlier_services_registrations_are_live(backend: Backend, store: Store) -> None:
    documents = legacy_documents()
    backend.seed(documents)
    found = await store.usage()
    assert sum(one.states["live"] for one in found.values()) == len(documents)
    assert all(one.states.keys() == {"live"} for one in found.values())
    everything = [each for one in documents for each in one.get("services") or []]
    assert sum(one.services for one in found.values()) == len(everything)
    assert sum(one.expiring for one in found.values()) == sum(each.get("expires_at") is not None for each in everything)
    assert any(one.expiring for one in found.values())
