"""After an address was given out of the pool: NetBox is told, in bulk and in the background, whatever happens
meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable, Unavailable
from ipam_lib.models import PoolState, State
from ipam_lib.storage.pool_store import PoolKey
from tests.registry.test_pool import addresses, warmed
from tests.registry.watched import Died, after, before, done_but, fails, netbox_lost
from tests.registry.world import FIRST, LONGEST_REQUEST, SECOND, THIRD, World, request


async def given(world: World, *names: str, number: int = 4) -> None:
    """Services with addresses out of the pool, of which NetBox knows nothing yet."""
    await warmed(world, number)
    for name in names:
        await world.register(name)
    world.forget()


async def expired(world: World, *names: str) -> None:
    """They have expired."""
    for name in names:
        await world.registry.expire(request(name))


async def test_prefixes_become_active_under_the_registrations_ids_in_bulk(world: World) -> None:
    await given(world, *"abcd", number=8)
    calls = Counter(world.server.calls)
    report = await world.registry.maintain_pool()
    assert report.handed_over == 4
    assert report.counts[PoolKey("inet", "ipv4", PoolState.CLAIMED)] == 4
    assert report.counts[PoolKey("inet", "ipv4", PoolState.READY)] == 4
    assert world.netbox.counted["update_many"] == 1
    assert (Counter(world.server.calls) - calls)["prefixes.update_many"] == 1
    assert await world.pool(PoolState.CLAIMED) == []
    await world.settled()
    mine = await world.on(FIRST)
    assert [(one.status, one.uuid) for one in world.prefixes if one.prefix == FIRST] == [("active", mine.id)]


async def test_it_is_not_done_before_the_registration_is_live(world: World) -> None:
    await warmed(world)
    keeping = []

    async def look() -> None:
        keeping.append(await world.instance().maintain_pool())

    world.store.next("replace", before(look))
    assert await world.register("a") == FIRST
    assert [(one.handed_over, one.put_back) for one in keeping] == [(0, 0)]
    await world.settled_after_keeping()


async def test_several_keepers_hand_each_address_over_once(world: World) -> None:
    await given(world, *"abcdef", number=8)
    reports = await asyncio.gather(*(world.instance(seed=seed).maintain_pool() for seed in range(4)))
    assert sum(one.handed_over for one in reports) == 6
    assert world.netbox.counted["update_many"] <= 4
    await world.settled_after_keeping()


async def test_while_netbox_is_away_the_pool_works_until_it_is_empty(world: World) -> None:
    await warmed(world, 3)
    world.server.reachable = False
    assert [await world.register(name) for name in "abc"] == [FIRST, SECOND, THIRD]
    for _ in range(3):
        await asyncio.sleep(5)
        await world.registry.maintain_pool()
    with pytest.raises(NetBoxUnavailable):
        await world.register("d")
    assert [await world.register(name) for name in "abc"] == [FIRST, SECOND, THIRD], "what is there goes on"
    assert set(await world.names()) == {FIRST, SECOND, THIRD}, "nothing is left of what was refused"
    world.server.reachable = True
    await asyncio.sleep(60)
    await world.registry.maintain_pool()
    await world.settled()
    assert [one for one in await world.ready() if ":" not in one] == addresses(3, 5)
    assert await world.register("d") == "192.0.2.3/32"


async def test_a_keeper_asks_a_netbox_that_is_away_only_now_and_then(world: World) -> None:
    await given(world, "a")
    world.server.reachable = False
    for _ in range(120):
        await world.registry.maintain_pool()
        await asyncio.sleep(1)
    assert len(world.netbox.calls) < 20
    world.server.reachable = True
    await asyncio.sleep(60)
    await world.settled_after_keeping()


async def test_a_lost_reply_is_no_matter(world: World) -> None:
    await given(world, "a")
    world.netbox.next("update_many", done_but(netbox_lost()))
    report = await world.registry.maintain_pool()
    assert isinstance(report.error, NetBoxUnavailable)
    assert (await world.registry.maintain_pool()).handed_over == 0, "its lease is not over"
    await asyncio.sleep(LONGEST_REQUEST)
    assert (await world.registry.maintain_pool()).handed_over == 1
    await world.settled()


async def test_what_netbox_refuses_is_tried_again_after_the_lease_and_hinders_nobody(world: World) -> None:
    await given(world, "a")
    world.netbox.next("update_many", fails(NetBoxRejected("no right to change prefixes")))
    report = await world.registry.maintain_pool()
    assert isinstance(report.error, NetBoxRejected)
    assert report.made == 1, "the other steps of the round are done"
    assert await world.register("b") == SECOND
    await asyncio.sleep(LONGEST_REQUEST)
    assert (await world.registry.maintain_pool()).handed_over == 2
    await world.settled()


@pytest.mark.parametrize("when", ["before NetBox was told", "after NetBox was told"])
async def test_a_keeper_that_dies_is_replaced_by_another(world: World, when: str) -> None:
    await given(world, "a", "b")
    died = fails(Died()) if when.startswith("before") else done_but(Died())
    world.netbox.next("update_many", died)
    with pytest.raises(Died):
        await world.registry.maintain_pool()
    other = world.instance()
    assert (await other.maintain_pool()).handed_over == 0
    await asyncio.sleep(LONGEST_REQUEST)
    assert (await other.maintain_pool()).handed_over == 2
    await world.settled()


async def test_a_keeper_that_was_suspended_writes_nothing_any_more(world: World) -> None:
    """What it was about to hand over has been released meanwhile, and must cool down."""
    await given(world, "a")
    world.configure(cooldown=world.cooldown(minutes=60))

    async def meanwhile() -> None:
        await asyncio.sleep(2 * LONGEST_REQUEST)
        other = world.instance(seed=1)
        await other.maintain_pool()
        await expired(world, "a")
        assert (await other.release_expired()).released == 1
        await world.settled()

    world.store.next("get_many", after(meanwhile))
    await world.registry.maintain_pool()
    await world.settled()
    assert [one.state for one in await world.pool() if one.address == FIRST] == [PoolState.COOLING]


@pytest.mark.parametrize("call", ["pool_replace", "get_many"])
async def test_a_keeper_that_was_suspended_with_the_lease_in_hand_writes_nothing_any_more(
    world: World, call: str
) -> None:
    await given(world, "a")
    world.configure(cooldown=world.cooldown(minutes=60))

    async def meanwhile() -> None:
        await asyncio.sleep(2 * LONGEST_REQUEST)
        await expired(world, "a")
        assert (await world.instance(seed=1).release_expired()).released == 1
        await world.settled()

    (world.store if call == "pool_replace" else world.netbox).next(call, after(meanwhile))
    report = await world.registry.maintain_pool()
    assert isinstance(report.error, Unavailable)
    await world.settled()


# -- released before it is handed over -------------------------------------------------------------------------------


async def test_an_address_that_is_released_before_netbox_is_told_is_deleted(world: World) -> None:
    await given(world, "a")
    await expired(world, "a")
    assert (await world.registry.release_expired()).released == 1
    assert FIRST not in [one.address for one in await world.pool()]
    await world.settled()
    await world.settled_after_keeping()


async def test_released_while_it_is_being_handed_over(world: World) -> None:
    """The release does not leave the entry behind: it would be handed out again, without a prefix."""
    await given(world, "a")
    await expired(world, "a")
    taken = after(partial(_take_lease, world))
    world.netbox.next("delete_many", taken)
    report = await world.registry.release_expired()
    assert (report.released, report.failed) == (0, 1)
    assert (await world.only()).state is State.RELEASING
    assert (await world.registry.release_expired()).released == 1
    assert FIRST not in [one.address for one in await world.pool()]
    await world.settled()


async def _take_lease(world: World) -> None:
    [entry] = await world.pool(PoolState.CLAIMED)
    held = entry.changed(PoolState.CLAIMED, lease_until=world.now(seconds=LONGEST_REQUEST))
    assert await world.store.unseen("pool_replace", entry, held)


async def test_an_address_that_is_being_handed_over_cools_down_afterwards(world: World) -> None:
    await given(world, "a")
    world.configure(cooldown=world.cooldown(minutes=5))
    await expired(world, "a")
    await _take_lease(world)
    assert (await world.registry.release_expired()).failed == 1
    await asyncio.sleep(LONGEST_REQUEST)
    assert (await world.registry.release_expired()).released == 1
    assert [one.address for one in await world.pool(PoolState.COOLING)] == [FIRST]
    await world.settled()


# -- what others do in NetBox ----------------------------------------------------------------------------------------


async def test_a_prefix_that_somebody_deleted_is_left_to_reconcile(world: World) -> None:
    await given(world, "a")
    world.steal(FIRST)
    assert (await world.registry.maintain_pool()).handed_over == 1
    assert await world.names() == {FIRST: ["a"]}
    for _ in range(3):
        await asyncio.sleep(60)
        async for _found in world.instance(warm=0).reconcile(fix=True):
            pass
    await world.settled_after_keeping()
    assert await world.names() == {FIRST: ["a"]}


async def test_the_pools_address_goes_to_a_registration_whose_own_prefix_was_deleted(world: World) -> None:
    """NetBox thought the address free, and gave it to the pool."""
    await world.register("a")
    world.steal(FIRST)
    world.configure(warm={"inet": 2})
    await world.registry.maintain_pool()
    [given] = [one for one in await world.pool() if one.address == FIRST]
    assert (given.state, given.registration_id) == (PoolState.CLAIMED, (await world.only()).id)
    await world.settled_after_keeping()
    assert await world.names() == {FIRST: ["a"]}


async def test_it_is_given_up_where_that_registration_has_its_prefix_after_all(world: World) -> None:
    await world.register("a")
    mine = await world.only()
    world.steal(FIRST)
    world.configure(warm={"inet": 2})
    await world.registry.maintain_pool()
    world.server.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    restored = world.server.add(world.server.container("inet"), FIRST, mine.id)
    assert await world.store.unseen("replace", mine, mine.changed(netbox_id=restored.id))
    for _ in range(2):
        await world.registry.maintain_pool()
    await world.settled()
    assert (await world.only()).netbox_id == restored.id
