"""What every store finds: services, addresses, what is due, states, clusters, pages."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from ipam_lib.models import Filter, Registration, ServiceKey, State
from ipam_lib.storage.base import Store
from ipam_lib.storage.documents import Document
from tests.storage.backends import Backend
from tests.storage.samples import (
    DAY,
    MILLISECOND,
    NOW,
    filter_id,
    key,
    legacy_documents,
    object_id,
    registration,
    service,
)

Fetch = Callable[[str | None, int], Awaitable[list[Registration]]]


async def fill(store: Store, *registrations: Registration) -> None:
    """Insert in an order of its own, so that none comes out right by chance."""
    for one in random.Random(1).sample(registrations, len(registrations)):
        await store.insert(one)


async def pages(fetch: Fetch, limit: int) -> list[Registration]:
    """Everything, page by page."""
    found: list[Registration] = []
    while page := await fetch(found[-1].id if found else None, limit):
        assert len(page) <= limit
        found += page
    return found


def service_of(store: Store, wanted: ServiceKey, *secrets: str) -> Awaitable[list[Registration]]:
    return store.find_service(secrets=secrets or ["sealed"], zone="inet", ip_family="ipv4", service=wanted)


async def test_a_service_is_found_by_all_three_parts_in_one_element(store: Store) -> None:
    crossed = registration(
        services=(
            service("a", cluster="c1", namespace="n1"),
            service("b", cluster="c2", namespace="n1"),
            service("a", cluster="c2", namespace="n2"),
        )
    )
    await store.insert(crossed)
    for name, cluster, namespace, there in [
        ("a", "c1", "n1", True),
        ("b", "c2", "n1", True),
        ("a", "c2", "n2", True),
        ("a", "c2", "n1", False),
        ("b", "c1", "n1", False),
        ("b", "c2", "n2", False),
        ("a", "c1", "n2", False),
        ("A", "c1", "n1", False),
        ("", "", "", False),
    ]:
        found = await service_of(store, key(name, cluster=cluster, namespace=namespace))
        assert found == ([crossed] if there else []), (name, cluster, namespace)


async def test_a_service_is_found_under_any_of_the_secrets_lowest_id_first(store: Store) -> None:
    old, new, other = (registration(secret=secret) for secret in ("old form", "new form", "another"))
    await fill(store, new, other, old)
    assert await service_of(store, key(), "new form", "old form") == [old, new]
    assert await service_of(store, key(), "new form") == [new]
    assert await service_of(store, key(), "wrong") == []
    assert await store.find_service(secrets=[], zone="inet", ip_family="ipv4", service=key()) == []


async def test_a_service_is_found_in_its_zone_and_family_while_live(store: Store) -> None:
    live = registration()
    await fill(
        store,
        live,
        registration(zone="another"),
        registration(ip_family="ipv6", address="2001:db8::1/128"),
        *(registration(state=state) for state in State if state is not State.LIVE),
    )
    assert await service_of(store, key()) == [live]


async def test_a_service_that_expires_or_stands_twice_in_one_registration_is_found_once(store: Store) -> None:
    one = registration(services=(service(expires_at=NOW - DAY), service(), service("b")))
    await store.insert(one)
    assert await service_of(store, key()) == [one]


async def test_no_expression_of_a_query_language_finds_anything(store: Store) -> None:
    await store.insert(registration())
    for text in ("%", "*", ".*", "web%", '{"$ne": ""}', "' OR 1=1 --", "web\x00"):
        assert await service_of(store, key(text)) == []
        assert await service_of(store, key(), text) == []


async def test_an_address_is_found_under_any_spelling_in_whatever_state(store: Store) -> None:
    canonical = registration(ip_family="ipv6", address="2a0d:a00::1/128", state=State.RELEASING)
    spelled = registration(ip_family="ipv6", address="2A0D:A00:0::1", state=State.CREATING)
    await fill(store, spelled, canonical, registration(zone="another", address=canonical.address))
    spellings = [spelled.address, canonical.address]
    assert await store.find_address(zone="inet", addresses=spellings) == [canonical, spelled]
    assert await store.find_address(zone="inet", addresses=[spelled.address]) == [spelled]
    assert await store.find_address(zone="nowhere", addresses=spellings) == []
    assert await store.find_address(zone="inet", addresses=[]) == []


async def test_undescribed_is_what_is_live_and_due(store: Store) -> None:
    due = [registration(description_due=True) for _ in range(3)]
    await fill(
        store,
        *due,
        registration(described=("a",)),
        registration(),
        *(registration(state=state, description_due=True) for state in State if state is not State.LIVE),
    )
    assert await store.find_undescribed(after=None, limit=100) == due
    assert await pages(lambda after, limit: store.find_undescribed(after=after, limit=limit), 1) == due
    assert await store.replace(due[0], due[0].changed(description_due=False, described=("a",)))
    assert await store.find_undescribed(after=None, limit=100) == due[1:]
    assert await store.replace(due[1], due[1].changed(state=State.RELEASING))
    assert await store.delete(due[2])
    assert await store.find_undescribed(after=None, limit=100) == []


@pytest.mark.parametrize(
    ("fields", "described", "due"),
    [
        ({"described": None, "description_due": None}, (), False),
        ({"described": "text", "description_due": "yes"}, (), False),
        ({"described": ["a", 7, None, "b"], "description_due": 1}, ("a", "b"), False),
        ({"described": [], "description_due": True}, (), True),
    ],
)
async def test_odd_descriptions_of_another_program_are_read(
    backend: Backend, store: Store, fields: Document, described: tuple[str, ...], due: bool
) -> None:
    document = legacy_documents()[0] | fields
    backend.seed([document])
    read = await store.get(document["_id"])
    assert read is not None
    assert (read.described, read.description_due) == (described, due)
    assert await store.find_undescribed(after=None, limit=9) == ([read] if due else [])


async def test_due_is_what_has_expired_or_has_no_service(store: Store) -> None:
    past = registration(services=(service("a"), service("b", expires_at=NOW - DAY)))
    exactly = registration(services=(service(expires_at=NOW),))
    both = registration(services=(service("a", expires_at=NOW - DAY), service("b", expires_at=NOW - 2 * DAY)))
    empty = registration(services=())
    await fill(
        store,
        past,
        exactly,
        both,
        empty,
        registration(),
        registration(services=(service(expires_at=NOW + MILLISECOND),)),
        registration(services=(service("a", expires_at=NOW + DAY), service("b"))),
        *(registration(state=state, services=()) for state in State if state is not State.LIVE),
        *(registration(state=state, services=past.services) for state in State if state is not State.LIVE),
    )
    assert await store.find_due(now=NOW, after=None, limit=100) == [past, exactly, both, empty]
    assert await store.find_due(now=NOW - MILLISECOND, after=None, limit=100) == [past, both, empty]
    assert await store.find_due(now=NOW - 9 * DAY, after=None, limit=100) == [empty]
    assert await pages(lambda after, limit: store.find_due(now=NOW, after=after, limit=limit), 1) == [
        past,
        exactly,
        both,
        empty,
    ]


async def test_due_follows_every_change(store: Store) -> None:
    current = registration()
    await store.insert(current)
    for services, state, due in [
        ((service(expires_at=NOW),), State.LIVE, True),
        ((service(),), State.LIVE, False),
        ((service(), service("b", expires_at=NOW - DAY)), State.LIVE, True),
        ((), State.LIVE, True),
        ((), State.RELEASING, False),
        ((service(expires_at=NOW),), State.CREATING, False),
        ((service(expires_at=NOW + DAY),), State.LIVE, False),
    ]:
        changed = current.changed(services=services, state=state)
        assert await store.replace(current, changed)
        current = changed
        assert await store.find_due(now=NOW, after=None, limit=9) == ([changed] if due else [])
    assert await store.delete(current)
    assert await store.find_due(now=NOW + 2 * DAY, after=None, limit=9) == []


async def test_states_are_found(store: Store) -> None:
    by_state = {state: [registration(state=state) for _ in range(3)] for state in State}
    await fill(store, *(one for some in by_state.values() for one in some))
    for state in (State.CREATING, State.RELEASING, State.ABORTING):
        assert await store.find_states({state}, after=None, limit=9) == by_state[state]
    both = sorted(by_state[State.CREATING] + by_state[State.ABORTING], key=lambda one: one.id)
    assert await store.find_states([State.ABORTING, State.CREATING], after=None, limit=9) == both
    assert await pages(lambda a, n: store.find_states([State.ABORTING, State.CREATING], after=a, limit=n), 2) == both
    assert await store.find_states([], after=None, limit=9) == []


async def test_a_cluster_is_found_under_any_spelling(store: Store) -> None:
    lower = registration(services=(service(cluster="abc"), service("b", cluster="abc"), service(cluster="x")))
    upper = registration(services=(service(cluster="x"), service("b", cluster="ABC")))
    both = registration(services=(service(cluster="ABC"), service("b", cluster="abc")))
    await fill(
        store,
        lower,
        upper,
        both,
        registration(services=()),
        registration(services=(service("abc", namespace="abc", cluster="Abc"),)),
        *(registration(services=lower.services, state=state) for state in State if state is not State.LIVE),
    )
    assert await store.find_cluster(["abc", "ABC"], after=None, limit=9) == [lower, upper, both]
    assert await store.find_cluster(["ABC"], after=None, limit=9) == [upper, both]
    assert await pages(lambda a, n: store.find_cluster(["abc", "ABC"], after=a, limit=n), 1) == [lower, upper, both]
    assert await store.find_cluster([], after=None, limit=9) == []


@pytest.fixture
def various() -> list[Registration]:
    """Two of every combination of zone, family, state, cluster and expiring."""
    return [
        registration(
            zone=zone,
            ip_family="ipv6" if six else "ipv4",
            state=state,
            services=(
                service("web", cluster=cluster, namespace="n1", expires_at=NOW if expiring else None),
                service("api", cluster="common", namespace="n2"),
            ),
        )
        for _ in range(2)
        for zone in ("inet", "private")
        for six in (False, True)
        for state in State
        for cluster in ("c1", "c2")
        for expiring in (False, True)
    ]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(states=None), lambda one: True),
        (Filter(), lambda one: one.state in (State.LIVE, State.RELEASING)),
        (Filter(states=frozenset({State.LIVE})), lambda one: one.state is State.LIVE),
        (Filter(states=frozenset({State.CREATING})), lambda one: one.state is State.CREATING),
        (Filter(states=frozenset()), lambda one: False),
        (Filter(states=None, zone="inet"), lambda one: one.zone == "inet"),
        (Filter(states=None, zone="nowhere"), lambda one: False),
        (Filter(states=None, ip_family="ipv6"), lambda one: one.ip_family == "ipv6"),
        (Filter(states=None, expiring=True), lambda one: one.services[0].expires_at is not None),
        (Filter(states=None, expiring=False), lambda one: one.services[0].expires_at is None),
        (Filter(states=None, cluster_id="c1"), lambda one: one.services[0].key.cluster_id == "c1"),
        (Filter(states=None, cluster_id="common"), lambda one: True),
        (Filter(states=None, namespace_id="n2"), lambda one: True),
        (Filter(states=None, service_name="api"), lambda one: True),
        (Filter(states=None, service_name="api", cluster_id="c1"), lambda one: False),
        (Filter(states=None, service_name="web", namespace_id="n2"), lambda one: False),
        (
            Filter(states=None, service_name="web", namespace_id="n1", cluster_id="c2", expiring=True, zone="private"),
            lambda one: (
                one.zone == "private"
                and one.services[0].key.cluster_id == "c2"
                and one.services[0].expires_at is not None
            ),
        ),
    ],
    ids=filter_id,
)
async def test_a_page_is_what_fits(
    store: Store, various: list[Registration], wanted: Filter, fits: Callable[[Registration], bool]
) -> None:
    await fill(store, *various)
    expected = [one for one in various if fits(one)]
    assert await store.page(wanted, after=None, limit=1000) == expected
    assert await pages(lambda after, limit: store.page(wanted, after=after, limit=limit), 7) == expected


async def test_a_page_of_an_address_is_one_whatever_its_zone(store: Store, various: list[Registration]) -> None:
    there = various[0]
    twin = registration(zone="elsewhere", address=there.address)
    await fill(store, *various, twin)
    wanted = Filter(address=there.address, states=None)
    assert await store.page(wanted, after=None, limit=9) == [there, twin]
    wanted = Filter(address=there.address, zone=there.zone, states=None)
    assert await store.page(wanted, after=None, limit=9) == [there]


async def test_a_registration_without_services_does_not_expire(store: Store) -> None:
    one = registration(services=())
    await store.insert(one)
    assert await store.page(Filter(expiring=False), after=None, limit=9) == [one]
    assert await store.page(Filter(expiring=True), after=None, limit=9) == []
    assert await store.page(Filter(cluster_id=""), after=None, limit=9) == []


async def test_pages_are_stable_under_inserts_and_deletions(store: Store) -> None:
    """What comes in below the cursor is not seen, what comes in above is, and nothing comes twice."""
    some = [registration(number) for number in range(1000, 1100, 2)]
    await fill(store, *some)
    first = await store.page(Filter(), after=None, limit=20)
    await store.insert(registration(1001))
    await store.insert(registration(1099))
    assert await store.delete(first[3])
    assert await store.delete(some[30])
    moved = first[0].changed(services=(), netbox_id=1)
    assert await store.replace(first[0], moved)
    rest = await pages(lambda after, limit: store.page(Filter(), after=after or first[-1].id, limit=limit), 7)
    ids = [one.id for one in first + rest]
    assert ids == [*(one.id for one in some[:30]), *(one.id for one in some[31:]), object_id(1099)]


async def test_ids_are_paged_in_one_order_however_far_apart(store: Store) -> None:
    ids = ["0" * 23 + "1", "0" * 24, "f" * 24, "7fffffff" + "0" * 16, "80000000" + "0" * 16, "6b04df5c89ee3b54e38fc946"]
    await fill(store, *(registration(id=one) for one in ids[:1] + ids[2:]))
    found = await pages(lambda after, limit: store.page(Filter(), after=after, limit=limit), 1)
    assert [one.id for one in found] == sorted(ids[:1] + ids[2:])
