"""Reading what is registered: pages, one address, and how full the zones are."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.addresses import spellings
from ipam_lib.errors import BadRequest, StorageUnavailable
from ipam_lib.models import Filter, PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Container
from ipam_lib.registry import Context, Registry
from ipam_lib.registry.zone_usage import SECONDS_BETWEEN_COUNTS, ZoneUse
from tests.registry.world import CIPHER, CLUSTER, FIRST, NAMESPACE, SECOND, World, request
from tests.storage.samples import legacy_documents, object_id, registration, service
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones

CURSORS = [
    "",
    "x",
    "AAAA",
    "A" * 16 + "=",
    "A" * 17,
    "æ" * 16,
    "A" * 16000,
    "\0" * 16,
    "....////++++====",
    "AAAAAAAAAAAAAAA=",
]


async def listed(world: World, wanted: Filter, limit: int = 1000) -> list[Registration]:
    """Everything that fits, page by page."""
    found: list[Registration] = []
    cursor = None
    while True:
        page = await world.registry.addresses(wanted, limit=limit, cursor=cursor)
        assert len(page.registrations) <= limit
        found += page.registrations
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.registrations) == limit


async def filled(world: World, *some: Registration) -> None:
    for one in some:
        await world.store.unseen("insert", one)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 1000])
async def test_pages_hold_each_once_in_the_order_of_their_making(world: World, limit: int) -> None:
    some = [registration() for _ in range(6)]
    await filled(world, *reversed(some))
    assert await listed(world, Filter(), limit) == some


async def test_a_page_is_one_query_and_asks_netbox_nothing(world: World) -> None:
    await filled(world, registration())
    world.forget()
    await world.registry.addresses(Filter(zone="inet", service_name="web"), limit=50)
    assert world.store.calls == ["page"]
    assert world.netbox.calls == []


async def test_what_is_being_made_or_given_up_is_not_shown(world: World) -> None:
    by_state = {state: registration(state=state) for state in State}
    await filled(world, *by_state.values())
    assert await listed(world, Filter()) == [by_state[State.LIVE], by_state[State.RELEASING]]


async def test_ids_of_clusters_and_namespaces_are_taken_in_any_case(world: World) -> None:
    """Each is shown once, also one that holds the id in two cases, and the pages keep their order."""
    upper, lower = CLUSTER.upper(), CLUSTER.lower()
    some = [
        registration(services=(service("a", cluster=upper, namespace=NAMESPACE.upper()),)),
        registration(services=(service("a", cluster=lower, namespace=NAMESPACE),)),
        registration(
            services=(
                service("a", cluster=upper, namespace=NAMESPACE),
                service("b", cluster=lower, namespace=NAMESPACE.upper()),
            )
        ),
        registration(services=(service("a", cluster=lower, namespace=NAMESPACE.upper()),)),
    ]
    await filled(world, *some, registration(services=(service("a", cluster="another"),)))
    for asked in (upper, lower, CLUSTER.title()):
        for limit in (1, 2, 1000):
            wanted = Filter(cluster_id=asked, namespace_id=NAMESPACE.upper(), service_name="a")
            assert await listed(world, wanted, limit) == some


@pytest.mark.parametrize("cursor", CURSORS)
async def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await world.registry.addresses(Filter(), limit=1, cursor=cursor)
    assert caught.value.errors == {"cursor": ["is not a cursor of an earlier page"]}
    assert len(caught.value.message) < 200
    assert world.store.calls == []


async def test_a_cursor_tells_nothing_but_its_place(world: World) -> None:
    """What stood there may be gone; the next page is what comes after."""
    some = [registration() for _ in range(3)]
    await filled(world, *some)
    page = await world.registry.addresses(Filter(), limit=1)
    assert page.cursor is not None
    assert page.cursor.isascii()
    assert await world.store.unseen("delete", some[0])
    page = await world.registry.addresses(Filter(), limit=5, cursor=page.cursor)
    assert (page.registrations, page.cursor) == (some[1:], None)


@st.composite
def _readings(draw: st.DrawFn) -> tuple[set[int], list[tuple[int, set[int], set[int]]]]:
    """What there is at first, and before each page: its limit, what is registered, and what is released."""
    numbers = st.integers(1, 40)
    steps = st.tuples(st.integers(1, 6), st.sets(numbers, max_size=4), st.sets(numbers, max_size=2))
    return draw(st.sets(numbers)), draw(st.lists(steps, min_size=50, max_size=50))


@given(_readings())
@settings(max_examples=150, deadline=None)
def test_pages_are_stable_while_others_register_and_release(
    reading: tuple[set[int], list[tuple[int, set[int], set[int]]]],
) -> None:
    """Nothing comes twice, nothing that was there all along is missed, and what comes in above the cursor is seen."""
    first, steps = reading

    async def read() -> None:
        store = MemoryStore()
        await store.open()
        context = Context(store, PlainNetBox(), PlainZones(()), CIPHER, FakeClock(), lambda: object_id(999))
        registry = Registry(context)
        there = {number: registration(number) for number in first}
        always = set(first)
        for one in there.values():
            await store.insert(one)
        seen: list[int] = []
        due: set[int] = set()
        cursor = None
        for limit, coming, going in steps:
            for number in coming - there.keys() - set(seen):
                there[number] = registration(number)
                await store.insert(there[number])
                if not seen or number > seen[-1]:
                    due.add(number)
            for number in going & there.keys():
                assert await store.delete(there.pop(number))
                always.discard(number)
                due.discard(number)
            page = await registry.addresses(Filter(), limit=limit, cursor=cursor)
            seen += [int(one.netbox_id or 0) for one in page.registrations]
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == sorted(set(seen))
        assert always | due <= set(seen)

    asyncio.run(read())


@pytest.mark.parametrize("asked", ["192.0.2.0", "192.0.2.0/32"])
async def test_an_address_is_read_in_every_zone_or_in_one(world: World, asked: str) -> None:
    await world.register("a", zone="inet")
    here = await world.on(FIRST)
    there = registration(zone="office", address=FIRST)
    await filled(world, there)
    read = world.registry.address
    assert await read(spellings(asked)) == sorted([here, there], key=lambda one: one.id)
    assert await read(spellings(asked), zone="office") == [there]
    assert await read(spellings(asked), zone="nowhere") == []
    assert await read(spellings("192.0.2.1")) == []


async def test_an_address_of_a_zone_that_is_no_choice_any_more(world: World) -> None:
    old = registration(zone="closed")
    await filled(world, old)
    assert await world.registry.address(spellings(old.address)) == [old]


async def test_an_address_shows_its_duplicates_and_nothing_that_is_being_made(world: World) -> None:
    kept, marked = registration(), registration(duplicate=True)
    marked = replace(marked, address=kept.address)
    await filled(world, kept, marked, registration(zone="office", address=kept.address, state=State.CREATING))
    assert await world.registry.address(spellings(kept.address)) == [kept, marked]


async def test_addresses_are_found_however_the_earlier_service_wrote_them(world: World) -> None:
    """Also the network that it took for an address."""
    documents = legacy_documents()
    odd = {"2001:DB8:5::A": "2001:db8:5::a", "2001:0db8:0005:0000:0000:0000:0000:000b/128": "2001:db8:5::b/128"}
    odd["10.9.8.7"] = "10.9.8.7/32"
    for number, written in enumerate(odd):
        documents.append(
            documents[0] | {"_id": object_id(7000 + number), "address": written, "netbox_id": 7000 + number}
        )
    await world.seed(*documents)
    for document in documents:
        asked = odd.get(document["address"], document["address"])
        for text in (asked, asked.upper()):
            found = await world.registry.address(spellings(text))
            assert document["_id"] in {one.id for one in found}, text
    [network] = await world.registry.address(spellings("83.118.168.0/24"))
    assert network.address == "83.118.168.0/24"
    assert await world.registry.address(spellings("83.118.168.0")) == []


def use(zones: list[ZoneUse], zone: str, family: str = "ipv4") -> tuple[int, int, int, int | None]:
    [one] = [use for each in zones if each.zone == zone for use in each.families if use.ip_family == family]
    return one.size, one.used, one.reserved, one.free


async def test_zones_are_as_full_as_they_are(world: World) -> None:
    for name in ("a", "b"):
        await world.register(name)
    await world.register("c", ip_family="ipv6")
    await world.see_space()
    found = await world.registry.zones()
    assert [one.zone for one in found] == list(world.zones.names)
    assert use(found, "inet") == (12, 2, 0, 10)
    assert use(found, "inet", "ipv6") == (4, 1, 0, 3)
    assert use(found, "tiny") == (2, 0, 0, 2)
    by_name = {one.zone: one for one in found}
    assert by_name["bare"].families == []
    containers = by_name["inet"].families[0].containers
    assert [one.container.prefix for one in containers] == ["192.0.2.0/29", "198.51.100.0/30"]


async def test_the_counts_are_read_once_for_everybody_and_at_most_fifteen_seconds_old(world: World) -> None:
    await world.register("a")
    world.forget()
    many = await asyncio.gather(*(world.registry.zones() for _ in range(5)))
    assert {use(found, "inet")[1] for found in many} == {1}
    assert world.store.counted["counts"] == 1
    await world.register("b")
    await asyncio.sleep(SECONDS_BETWEEN_COUNTS - 0.01)
    assert use(await world.registry.zones(), "inet")[1] == 1
    await asyncio.sleep(0.01)
    assert use(await world.registry.zones(), "inet")[1] == 2
    assert world.store.counted["counts"] == 2


async def test_counts_that_fail_are_asked_for_again(world: World) -> None:
    async def away(_work: object) -> None:
        raise StorageUnavailable

    world.store.next("counts", away)
    with pytest.raises(StorageUnavailable):
        await world.registry.zones()
    assert use(await world.registry.zones(), "inet")[1] == 0


async def test_what_the_pool_holds_is_reserved_unless_a_registration_has_it(world: World) -> None:
    entries = [
        PoolEntry(object_id(9000 + number), "inet", "ipv4", f"192.0.2.{number}/32", state)
        for number, state in enumerate(PoolState)
    ]
    await world.store.unseen("pool_insert", entries)
    assert use(await world.registry.zones(), "inet") == (12, 0, len(PoolState) - 1, None)


async def test_a_zone_that_only_registrations_know_comes_last_and_without_containers(world: World) -> None:
    await filled(world, registration(zone="closed"), registration(zone="another"))
    found = await world.registry.zones()
    assert [one.zone for one in found] == [*world.zones.names, "another", "closed"]
    assert use(found, "closed") == (0, 1, 0, 0)


async def test_containers_that_overlap_count_once_in_one_vrf_and_twice_in_two() -> None:
    containers = (
        Container(1, "10.0.0.0/24", "ipv4", "inet", 1),
        Container(2, "10.0.0.128/25", "ipv4", "inet", 1),
        Container(3, "10.0.0.0/24", "ipv4", "inet", None),
        Container(4, "2001:db8::/64", "ipv6", "inet", 1),
        Container(5, "2001:db8:0:1::/64", "ipv6", "inet", 1),
    )
    store = MemoryStore()
    await store.open()
    registry = Registry(
        Context(store, PlainNetBox(containers), PlainZones(containers), CIPHER, FakeClock(), lambda: object_id(1))
    )
    found = await registry.zones()
    assert use(found, "inet")[0] == 512
    assert use(found, "inet", "ipv6") == (2**65, 0, 0, None)


async def test_reading_needs_no_netbox(world: World) -> None:
    await world.register("a")
    await world.register("b", address=SECOND)
    world.server.reachable = False
    world.forget()
    assert len(await listed(world, Filter(zone="inet"))) == 2
    assert len(await world.registry.address(spellings(SECOND))) == 1
    assert use(await world.registry.zones(), "inet")[1] == 2
    assert world.netbox.calls == []
    assert request().secret not in str(await listed(world, Filter()))
