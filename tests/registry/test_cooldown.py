"""Released addresses cool down: for some time no request gets them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from ipam_lib.errors import AddressHeld, NetBoxUnavailable, StorageUnavailable, ZoneFull
from ipam_lib.models import PoolState, State
from ipam_lib.registry import writes
from tests.registry.test_pool import warmed
from tests.registry.watched import Died, Plan, after, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import FIRST, SECOND, THIRD, World, request

MINUTES = 10


@pytest.fixture
async def cooling(world: World) -> World:
    """A world in which released addresses cool down for ten minutes."""
    world.configure(cooldown=world.cooldown(minutes=MINUTES))
    return world


async def released(world: World, *names: str, **fields: Any) -> None:
    """They had addresses, which cool down from now on."""
    for name in names:
        await world.register(name, **fields)
        await world.registry.expire(request(name, **fields))
    assert (await world.registry.release_expired()).released == len(names)


async def test_a_released_address_is_held_as_reserved(cooling: World) -> None:
    await released(cooling, "a")
    assert await cooling.registrations() == []
    [held] = await cooling.pool()
    assert (held.state, held.address, held.cooldown_until) == (PoolState.COOLING, FIRST, cooling.now(minutes=MINUTES))
    [prefix] = cooling.prefixes
    assert (prefix.prefix, prefix.status, prefix.uuid) == (FIRST, "reserved", held.id)
    await cooling.settled()


async def test_several_are_held_in_two_calls(cooling: World) -> None:
    await released(cooling, *"abcd")
    assert cooling.netbox.counted["update_many"] == 1
    assert cooling.netbox.counted["delete_many"] == 0
    await cooling.settled()


async def test_it_is_not_handed_out_before_its_time(cooling: World) -> None:
    await released(cooling, "a")
    assert await cooling.register("b") == SECOND
    await asyncio.sleep(60 * MINUTES - 1)
    await cooling.registry.maintain_pool()
    assert await cooling.register("c") == THIRD
    await cooling.settled()


async def test_its_service_gets_another_one_as_well(cooling: World) -> None:
    """A client that still sends to the old address wants the earlier service."""
    await released(cooling, "a")
    assert await cooling.register("a") == SECOND


async def test_when_it_is_over_the_prefix_is_deleted_and_the_address_is_free(cooling: World) -> None:
    await released(cooling, "a")
    await asyncio.sleep(60 * MINUTES)
    assert (await cooling.registry.maintain_pool()).dropped == 1
    await cooling.nothing()
    assert await cooling.register("b") == FIRST


async def test_a_given_address_that_cools_down_is_refused_with_the_moment(cooling: World) -> None:
    await released(cooling, "a")
    with pytest.raises(AddressHeld) as refused:
        await cooling.register("a", address=FIRST)
    until = cooling.now(minutes=MINUTES).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert refused.value.status == 409
    assert refused.value.message == (
        f"address {FIRST} was released a short while ago and is cooling down until {until}"
    )
    assert await cooling.registrations() == []
    await cooling.settled()
    await asyncio.sleep(60 * MINUTES)
    await cooling.registry.maintain_pool()
    assert await cooling.register("a", address=FIRST) == FIRST


async def test_a_given_address_that_cools_down_is_refused_by_an_instance_that_knows_no_cooldown(cooling: World) -> None:
    await released(cooling, "a")
    off = cooling.instance(cooldown=cooling.cooldown())
    with pytest.raises(AddressHeld):
        await off.register(request("a", address=FIRST))
    await cooling.settled()


async def test_a_full_zone_says_how_many_cool_down_and_until_when(cooling: World) -> None:
    await released(cooling, "a", zone="tiny")
    await asyncio.sleep(60)
    await released(cooling, "b", zone="tiny")
    with pytest.raises(ZoneFull) as full:
        await cooling.register("c", zone="tiny")
    first = cooling.now(minutes=MINUTES - 1).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert full.value.message == (
        f"no free ipv4 address left in zone 'tiny'; 2 addresses are cooling down, the first until {first}"
    )
    await asyncio.sleep(60 * (MINUTES - 1))
    await cooling.registry.maintain_pool()
    cooling.foreign_prefix("203.0.113.0/32", "tiny")
    with pytest.raises(ZoneFull, match="; 1 address is cooling down until 20"):
        await cooling.register("c", zone="tiny")
    await asyncio.sleep(60)
    await cooling.registry.maintain_pool()
    assert await cooling.register("c", zone="tiny") == "203.0.113.1/32"


async def test_it_comes_to_an_end_also_when_the_setting_is_taken_back(cooling: World) -> None:
    await released(cooling, "a")
    cooling.configure(cooldown=cooling.cooldown())
    await cooling.registry.maintain_pool()
    assert len(cooling.prefixes) == 1, "what was promised is kept"
    await asyncio.sleep(60 * MINUTES)
    assert (await cooling.registry.maintain_pool()).dropped == 1
    await cooling.nothing()


async def test_it_cools_down_again_though_the_entry_of_its_last_cooldown_is_left(cooling: World) -> None:
    """The worker deleted the prefix and could not delete the entry: the address was free in NetBox, and was given to
    another registration, which has been released too."""
    await released(cooling, "a")
    await asyncio.sleep(60 * MINUTES)
    cooling.store.next("pool_delete", *[fails(storage_lost(applied=False))] * writes.ATTEMPTS)
    assert isinstance((await cooling.registry.maintain_pool()).error, StorageUnavailable)
    [left] = await cooling.pool()
    assert (left.state, left.address, cooling.prefixes) == (PoolState.DROPPING, FIRST, [])
    await released(cooling, "b", address=FIRST)
    [held] = await cooling.pool()
    assert (held.state, held.address, held.cooldown_until) == (PoolState.COOLING, FIRST, cooling.now(minutes=MINUTES))
    assert held.id != left.id
    with pytest.raises(AddressHeld):
        await cooling.register("c", address=FIRST)
    assert await cooling.register("c") == SECOND
    await cooling.settled()


async def test_a_suspended_worker_does_not_end_the_next_cooldown_of_an_address(cooling: World) -> None:
    """The worker sleeps between the deletion of the prefix and that of the entry, for as long as the address is given
    to another registration and released."""
    await released(cooling, "a")
    await asyncio.sleep(60 * MINUTES)
    cooling.netbox.next("delete_many", after(lambda: released(cooling, "b", address=FIRST)))
    assert (await cooling.registry.maintain_pool()).dropped == 0
    [held] = await cooling.pool()
    assert (held.state, held.address, held.cooldown_until) == (PoolState.COOLING, FIRST, cooling.now(minutes=MINUTES))
    await cooling.settled()


async def test_an_address_of_the_pool_cools_down_too(cooling: World) -> None:
    """It is neither ready again, nor made anew."""
    await warmed(cooling, 2)
    cooling.configure(cooldown=cooling.cooldown(minutes=MINUTES))
    await cooling.register("a")
    await cooling.registry.maintain_pool()
    await cooling.registry.expire(request("a"))
    await cooling.registry.release_expired()
    await cooling.registry.maintain_pool()
    assert FIRST not in await cooling.ready()
    assert [one.address for one in await cooling.pool(PoolState.COOLING)] == [FIRST]
    await cooling.settled()


@pytest.mark.parametrize("address", [None, THIRD], ids=["next free", "given"])
async def test_one_that_was_not_handed_over_yet_cools_down_under_its_own_entry(
    cooling: World, address: str | None
) -> None:
    await warmed(cooling, 4)
    given = await cooling.register("a", address=address)
    [entry] = await cooling.pool(PoolState.CLAIMED)
    await cooling.registry.expire(request("a"))
    await cooling.registry.release_expired()
    [held] = await cooling.pool(PoolState.COOLING)
    assert (held.id, held.address) == (entry.id, given)
    await cooling.settled()


async def test_a_release_while_netbox_is_away_is_done_when_it_is_back(cooling: World) -> None:
    await cooling.register("a")
    await cooling.registry.expire(request("a"))
    cooling.server.reachable = False
    assert (await cooling.registry.release_expired()).failed == 1
    assert (await cooling.only()).state is State.RELEASING
    cooling.server.reachable = True
    await asyncio.sleep(60)
    assert (await cooling.registry.release_expired()).released == 1
    assert [one.address for one in await cooling.pool(PoolState.COOLING)] == [FIRST]
    await cooling.settled()


async def test_a_cooldown_that_ends_while_netbox_is_away_ends_afterwards(cooling: World) -> None:
    await released(cooling, "a")
    cooling.server.reachable = False
    await asyncio.sleep(60 * MINUTES)
    report = await cooling.registry.maintain_pool()
    assert isinstance(report.error, NetBoxUnavailable)
    assert report.dropped == 0
    cooling.server.reachable = True
    await asyncio.sleep(60)
    assert (await cooling.registry.maintain_pool()).dropped == 1
    await cooling.nothing()


async def test_a_registration_that_meets_the_release_helps_it_into_its_cooldown(cooling: World) -> None:
    await cooling.register("a")
    await cooling.registry.expire(request("a"))
    cooling.netbox.next("update_many", fails(Died()))
    with pytest.raises(Died):
        await cooling.registry.release_expired()
    with pytest.raises(AddressHeld):
        await cooling.register("b", address=FIRST)
    assert await cooling.registrations() == []
    await cooling.settled()


@pytest.mark.parametrize(
    ("call", "trouble"),
    [
        ("update_many", done_but(netbox_lost())),
        ("update_many", fails(netbox_lost())),
        ("pool_insert", done_but(storage_lost())),
        ("pool_insert", fails(storage_lost())),
        ("delete", fails(Died())),
    ],
    ids=["update lost", "update not done", "insert lost", "insert not done", "died before the document went"],
)
async def test_a_release_that_was_broken_off_goes_on_with_the_same_entry(
    cooling: World, call: str, trouble: Plan
) -> None:
    await cooling.register("a")
    await cooling.registry.expire(request("a"))
    (cooling.netbox if call == "update_many" else cooling.store).next(call, trouble)
    with suppress(Died):
        await cooling.registry.release_expired()
    await asyncio.sleep(60)
    await cooling.instance().release_expired()
    assert await cooling.registrations() == []
    assert [one.address for one in await cooling.pool()] == [FIRST]
    await cooling.settled()


async def test_a_prefix_that_somebody_deleted_needs_no_cooldown(cooling: World) -> None:
    """There is nothing to hold: NetBox has given it away, or may."""
    await cooling.register("a")
    cooling.steal(FIRST)
    await cooling.registry.expire(request("a"))
    assert (await cooling.registry.release_expired()).released == 1
    await cooling.nothing()


async def test_a_prefix_that_somebody_deleted_during_the_cooldown(cooling: World) -> None:
    await released(cooling, "a")
    cooling.steal(FIRST)
    assert await cooling.register("b") == FIRST, "NetBox gives it away, and knows no better"
    await asyncio.sleep(60 * MINUTES)
    await cooling.registry.maintain_pool()
    await cooling.settled()
    assert await cooling.names() == {FIRST: ["b"]}


async def test_without_a_cooldown_the_prefix_is_deleted_at_once(world: World) -> None:
    await released(world, "a")
    await world.nothing()
