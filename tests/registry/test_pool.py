"""The warm pool: addresses are made ahead of demand, and given out without a call to NetBox."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from ipam_lib.errors import (
    AddressTaken,
    NetBoxUnavailable,
    StillInFlight,
    StorageUnavailable,
    WrongSecret,
    ZoneFull,
)
from ipam_lib.models import PoolState, Registered
from ipam_lib.registry import Registry
from tests.registry.watched import Died, after, before, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import FIRST, SECOND, THIRD, World, request
from tests.support.plain_netbox import PlainZones

V6 = "2001:db8::/128"


async def warmed(world: World, number: int = 4, zone: str = "inet") -> None:
    """So many addresses of each family of the zone are ready, and nothing is counted yet."""
    world.configure(warm={zone: number})
    report = await world.registry.maintain_pool()
    assert report.error is None
    await world.settled()
    world.forget()


def addresses(first: int, last: int) -> list[str]:
    """Those of the zone's first container."""
    return [f"192.0.2.{number}/32" for number in range(first, last + 1)]


# -- filling ---------------------------------------------------------------------------------------------------------


async def test_addresses_are_made_in_bulk_and_reserved(world: World) -> None:
    world.configure(warm={"inet": 4})
    before = Counter(world.server.calls)
    report = await world.registry.maintain_pool()
    assert (report.made, report.error) == (8, None), "four of each family"
    assert (Counter(world.server.calls) - before)["prefixes.allocate"] == 2
    assert await world.ready() == [*addresses(0, 3), *(f"2001:db8::{n or ''}/128" for n in range(4))]
    assert {one.status for one in world.prefixes} == {"reserved"}
    assert {one.zone for one in world.prefixes} == {"inet"}
    await world.settled()


async def test_a_number_is_for_every_zone_that_has_containers(world: World) -> None:
    world.configure(warm=2)
    await world.registry.maintain_pool()
    assert Counter((one.zone, one.ip_family) for one in await world.pool()) == {
        ("inet", "ipv4"): 2,
        ("inet", "ipv6"): 2,
        ("office", "ipv4"): 2,
        ("tiny", "ipv4"): 2,
    }


async def test_each_zone_may_have_its_own_number(world: World) -> None:
    world.configure(warm={"inet": 0, "office": 3, "no such zone": 5})
    assert (await world.registry.maintain_pool()).made == 3
    assert {one.zone for one in await world.pool()} == {"office"}
    world.forget()
    await world.registry.maintain_pool()
    assert world.netbox.calls == [], "nothing is missing"


async def test_a_list_is_not_longer_than_a_batch(world: World) -> None:
    world.configure(warm={"office": 7}, batch=3)
    await world.registry.maintain_pool()
    assert world.netbox.counted == {"create_next_many": 3, "conflict": 7}
    assert await world.ready() == [f"10.0.0.{number}/32" for number in range(7)]


async def test_it_goes_on_to_the_next_container_and_takes_what_fits(world: World) -> None:
    world.foreign_prefix("192.0.2.4/30")
    world.configure(warm={"inet": 100}, batch=100)
    report = await world.registry.maintain_pool()
    assert await world.ready() == [
        *addresses(0, 3),
        *(f"198.51.100.{n}/32" for n in range(4)),
        *(f"2001:db8::{n or ''}/128" for n in range(4)),
    ]
    assert report.error is None, "a full zone is no failure"
    await world.settled()


async def test_a_full_zone_is_asked_again_ever_less_often(world: World) -> None:
    world.configure(warm={"tiny": 10})
    await world.registry.maintain_pool()
    asked = []
    for second in range(0, 3600, 5):
        world.forget()
        await world.registry.maintain_pool()
        if world.netbox.calls:
            asked.append(second)
        await asyncio.sleep(5)
    gaps = [later - earlier for earlier, later in pairwise([0, *asked])]
    expected = [30, 60, 120, 240, 480, *[600] * 10]
    assert len(gaps) >= 7
    for gap, seconds in zip(gaps, expected, strict=False):
        assert 0.9 * seconds <= gap <= 1.1 * seconds + 5, gaps


async def test_a_full_zone_is_filled_up_when_there_is_room_again(world: World) -> None:
    foreign = world.foreign_prefix("203.0.113.0/32", "tiny")
    world.configure(warm={"tiny": 2})
    await world.registry.maintain_pool()
    assert await world.ready() == ["203.0.113.1/32"]
    world.server.remove(foreign.id)
    await asyncio.sleep(700)
    assert (await world.registry.maintain_pool()).made == 1
    await world.settled()


async def test_it_is_filled_up_when_a_quarter_is_missing(world: World) -> None:
    await warmed(world, 8)
    await world.register("a")
    await world.registry.maintain_pool()
    assert world.netbox.counted["create_next_many"] == 0, "one of eight is not worth a call"
    await world.register("b")
    assert (await world.registry.maintain_pool()).made == 2
    assert await world.ready() == [*addresses(2, 7), "198.51.100.0/32", "198.51.100.1/32", *await _ipv6(world)]


async def _ipv6(world: World) -> list[str]:
    return [one for one in await world.ready() if ":" in one]


async def test_a_pool_of_one_is_filled_up_as_well(world: World) -> None:
    await warmed(world, 1)
    await world.register("a")
    await world.registry.maintain_pool()
    assert (await world.ready())[0] == SECOND


async def test_several_instances_come_to_rest(world: World) -> None:
    """Each may make what is missing before it sees what the others made."""
    world.configure(warm={"inet": 4}, batch=50)
    instances = [world.instance(seed=seed) for seed in range(3)]
    await asyncio.gather(*(one.maintain_pool() for one in instances))
    for _ in range(3):
        await asyncio.gather(*(one.maintain_pool() for one in instances))
    ready = await world.ready()
    assert 3 <= len([one for one in ready if ":" not in one]) <= 5
    await world.settled()
    world.forget()
    for one in instances:
        await one.maintain_pool()
    assert "create_next_many" not in world.netbox.calls
    assert "delete_many" not in world.netbox.calls
    assert await world.ready() == ready


async def test_nothing_is_made_or_dropped_before_the_zones_are_known(world: World) -> None:
    await warmed(world)
    started_anew = replace(world.registry.context, zones=PlainZones([]))
    report = await Registry(started_anew).maintain_pool()
    assert (report.made, report.dropped) == (0, 0)
    assert len(await world.ready()) == 8
    await world.settled()


# -- what goes wrong while filling -----------------------------------------------------------------------------------


async def test_a_lost_list_is_looked_for(world: World) -> None:
    world.configure(warm={"office": 3})
    world.netbox.next("create_next_many", done_but(netbox_lost()))
    report = await world.registry.maintain_pool()
    assert isinstance(report.error, NetBoxUnavailable)
    assert await world.ready() == [f"10.0.0.{n}/32" for n in range(3)], "they were found"
    await world.settled()


async def test_a_list_that_arrives_after_everybody_gave_up_is_taken_back(world: World) -> None:
    world.configure(warm={"office": 3})
    late: list[asyncio.Task[object]] = []

    async def hangs(work):  # type: ignore[no-untyped-def]
        late.append(world.begin(_after(20, work)))
        await asyncio.sleep(10)
        raise netbox_lost(timed_out=True)

    world.netbox.next("create_next_many", hangs)
    await world.registry.maintain_pool()
    assert [one.state for one in await world.pool()] == [PoolState.MAKING] * 3
    await late[0]
    assert len(world.prefixes) == 3
    for _ in range(8):
        await asyncio.sleep(10)
        await world.registry.maintain_pool()
    assert len(await world.ready()) == 3
    await world.settled()


async def _after(seconds: float, work):  # type: ignore[no-untyped-def]
    await asyncio.sleep(seconds)
    return await work()


async def test_a_process_that_dies_while_filling_leaves_nothing(world: World) -> None:
    world.configure(warm={"office": 3})
    world.netbox.next("create_next_many", done_but(Died()))
    with pytest.raises(Died):
        await world.registry.maintain_pool()
    assert len(world.prefixes) == 3
    other = world.instance(warm=0)
    for seconds in (24, 24):
        await asyncio.sleep(seconds)
        assert (await other.maintain_pool()).dropped == 0, "their worker may still create them"
    await asyncio.sleep(3)
    assert (await other.maintain_pool()).dropped == 3
    await world.nothing()


async def test_an_address_that_the_pool_has_already_takes_the_place_of_the_one_that_was_deleted(world: World) -> None:
    await warmed(world, 4)
    world.steal(FIRST)
    for name in "ab":
        await world.register(name)  # FIRST, whose deletion is not known yet, and SECOND
    assert await world.names() == {FIRST: ["a"], SECOND: ["b"]}
    for _ in range(4):
        await world.registry.maintain_pool()
        await asyncio.sleep(30)
    await world.settled()
    assert len(world.prefixes) == 2 + 4 + 4


async def test_a_ready_address_whose_prefix_was_deleted_makes_room_for_the_new_one(world: World) -> None:
    await warmed(world, 4)
    world.steal(SECOND)
    await world.register("a")
    assert (await world.registry.maintain_pool()).made == 1, "NetBox gives the second address once more"
    assert await world.ready() == [*addresses(1, 3), *await _ipv6(world)]
    await world.settled_after_keeping()
    assert await world.ready() == [*addresses(1, 4), *await _ipv6(world)]


async def test_an_address_whose_registration_was_robbed_is_given_back_to_it(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)
    world.configure(warm={"inet": 2})
    for _ in range(3):
        assert (await world.registry.maintain_pool()).error is None
    assert FIRST not in await world.ready()
    assert await world.names() == {FIRST: ["a"]}
    await world.settled()


# -- giving out ------------------------------------------------------------------------------------------------------


async def test_the_lowest_is_given_first_and_netbox_is_not_asked(world: World) -> None:
    await warmed(world)
    for name, address in zip("abc", (FIRST, SECOND, THIRD), strict=True):
        assert await world.register(name) == address
    assert await world.register("six", ip_family="ipv6") == V6
    assert world.netbox.calls == []
    await world.settled_after_keeping()


async def test_registering_again_leaves_the_pool_alone(world: World) -> None:
    await warmed(world)
    await world.register("a")
    ready = await world.ready()
    for _ in range(3):
        assert await world.register("a") == FIRST
    assert await world.ready() == ready
    assert len(await world.pool(PoolState.CLAIMED)) == 1


async def test_a_burst_gets_different_addresses(world: World) -> None:
    await warmed(world, 8)
    other = world.instance(seed=1)
    work = [
        (world.registry, other)[number % 2].register(request(f"service-{number // 2}"))
        for number in range(16)  # each asks twice at once, of two instances
    ]
    given = [one.address for one in await asyncio.gather(*work)]
    assert given[::2] == given[1::2]
    assert sorted(given[::2]) == addresses(0, 7)
    assert world.netbox.calls == []
    await world.settled_after_keeping()


async def test_when_it_is_empty_netbox_is_asked(world: World) -> None:
    await warmed(world, 1)
    assert await world.register("a") == FIRST
    assert await world.register("b") == SECOND
    assert world.netbox.calls == ["create_next", "conflict"]
    await world.settled_after_keeping()


async def test_a_given_address_is_taken_out_of_the_pool(world: World) -> None:
    await warmed(world)
    assert await world.register("a", address=SECOND) == SECOND
    assert world.netbox.calls == []
    assert SECOND not in await world.ready()
    assert await world.register("b") == FIRST
    assert await world.register("c") == THIRD
    await world.settled_after_keeping()


async def test_a_given_address_outside_the_pool_is_created(world: World) -> None:
    await warmed(world, 2)
    assert await world.register("a", address="192.0.2.7/32") == "192.0.2.7/32"
    assert world.netbox.calls == ["covering", "create_exact", "conflict"]
    await world.settled()


async def test_an_instance_without_a_pool_finds_a_given_address_in_it(world: World) -> None:
    """The settings of instances differ while they are being changed."""
    await warmed(world)
    other = world.instance(warm=0)
    assert (await other.register(request("a", address=SECOND))).address == SECOND
    assert "create_exact" not in world.netbox.calls
    await world.settled_after_keeping()


async def test_two_that_want_the_same_address_of_the_pool(world: World) -> None:
    await warmed(world)
    wishes = [world.registry.register(request(name, address=SECOND, secret=f"Secret of {name}")) for name in "ab"]
    outcomes = await asyncio.gather(*wishes, return_exceptions=True)
    [winner] = [one for one in outcomes if isinstance(one, Registered)]
    [loser] = [one for one in outcomes if isinstance(one, WrongSecret | StillInFlight)]
    assert (winner.address, loser.status in (403, 409)) == (SECOND, True)
    await world.settled_after_keeping()


async def test_a_given_address_that_is_being_made_is_waited_for(world: World) -> None:
    """The pool makes it at this very moment: then it is the pool's to give."""
    world.configure(warm={"inet": 4})
    world.netbox.next("create_next_many", after(partial(asyncio.sleep, 5)))
    refill = world.begin(world.registry.maintain_pool())
    await asyncio.sleep(1)  # it stands in NetBox, and no entry names it
    assert await world.register("a", address=FIRST) == FIRST
    assert "create_exact" not in world.netbox.calls
    await refill
    await world.settled_after_keeping()


async def test_a_given_address_of_somebody_else_stays_taken(world: World) -> None:
    world.foreign_prefix(SECOND)
    await warmed(world)
    with pytest.raises(AddressTaken):
        await world.register("a", address=SECOND)
    await world.settled()


async def test_a_lost_claim_is_found(world: World) -> None:
    await warmed(world)
    world.store.next("pool_claim", done_but(storage_lost()))
    assert await world.register("a") == FIRST
    assert len(await world.pool(PoolState.CLAIMED)) == 1
    await world.settled_after_keeping()


async def test_a_claim_that_was_not_done_is_sent_again(world: World) -> None:
    await warmed(world)
    world.store.next("pool_claim", fails(storage_lost()), fails(storage_lost(applied=False)))
    assert await world.register("a") == FIRST
    assert len(await world.pool(PoolState.CLAIMED)) == 1


async def test_a_claim_that_cannot_be_done_is_an_outage_and_leaves_nothing(world: World) -> None:
    await warmed(world)
    world.store.next("pool_claim", *[fails(storage_lost())] * 3)
    with pytest.raises(StorageUnavailable):
        await world.register("a")
    assert await world.registrations() == []
    await world.settled()


async def test_a_claim_whose_registration_died_goes_back(world: World) -> None:
    await warmed(world)
    world.store.next("replace", fails(Died()))
    with pytest.raises(Died):
        await world.register("a")
    assert FIRST not in await world.ready()
    await world.registry.maintain_pool()
    assert FIRST not in await world.ready(), "its creation may still be finished"
    await asyncio.sleep(51)
    await world.registry.recover()
    assert (await world.registry.maintain_pool()).put_back == 1
    assert (await world.ready())[0] == FIRST
    assert await world.registrations() == []
    await world.settled()


async def test_a_creation_that_is_taken_over_claims_once_more_and_the_first_goes_back(world: World) -> None:
    await warmed(world)
    world.store.next("replace", fails(Died()))
    with pytest.raises(Died):
        await world.register("a")
    await asyncio.sleep(25)
    assert await world.register("a") == SECOND
    assert (await world.registry.maintain_pool()).put_back == 1
    assert (await world.ready())[0] == FIRST
    await world.settled()


async def test_an_address_that_is_registered_all_the_same_is_passed_on(world: World) -> None:
    """The pool has an address ready that was registered meanwhile, because its prefix was gone from NetBox."""
    await warmed(world)
    world.steal(FIRST)
    off = world.instance(warm=0)
    assert (await off.register(request("a", address=FIRST))).address == FIRST
    assert await world.register("b") == SECOND
    for _ in range(3):
        await world.settled_after_keeping()
    assert await world.names() == {FIRST: ["a"], SECOND: ["b"]}


# -- a zone that is full ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [{"tiny": 2}, 0], ids=["kept", "no longer kept"])
async def test_a_full_zone_hands_out_its_pool(world: World, warm: object) -> None:
    await warmed(world, 2, "tiny")
    registry = world.instance(warm=warm)
    given = [(await registry.register(request(name, zone="tiny"))).address for name in "ab"]
    assert given == ["203.0.113.0/32", "203.0.113.1/32"]
    with pytest.raises(ZoneFull) as full:
        await registry.register(request("c", zone="tiny"))
    assert full.value.message == "no free ipv4 address left in zone 'tiny'"
    await registry.maintain_pool()
    await world.settled()


# -- giving up what is too much --------------------------------------------------------------------------------------


async def test_lowering_the_setting_drains_the_highest(world: World) -> None:
    await warmed(world, 8)
    world.configure(warm={"inet": 4}, batch=50)
    assert (await world.registry.maintain_pool()).dropped == 4
    assert await world.ready() == [*addresses(0, 3), *await _ipv6(world)]
    await world.settled()


async def test_two_that_drain_at_once_agree_on_what_stays(world: World) -> None:
    """One has counted, and reads what to give up only when the other has given it up already."""
    await warmed(world, 12)
    world.configure(warm={"inet": 4}, batch=50)
    other = world.instance(seed=1)
    world.store.next("pool_beyond", before(other.maintain_pool))
    await world.registry.maintain_pool()
    assert await world.ready() == [*addresses(0, 3), *await _ipv6(world)]
    assert len(await world.ready()) == 4 + 4
    await world.settled()


async def test_a_little_too_much_stays(world: World) -> None:
    await warmed(world, 5)
    world.configure(warm={"inet": 4})
    await world.registry.maintain_pool()
    assert len(await world.ready()) == 5 + 4


async def test_it_is_drained_batch_by_batch(world: World) -> None:
    await warmed(world, 8)
    world.configure(warm=0, batch=3)
    dropped = [(await world.registry.maintain_pool()).dropped for _ in range(4)]
    assert dropped == [6, 4, 2, 0], "three of each family"
    await world.nothing()


async def test_a_zone_without_containers_is_drained(world: World) -> None:
    await warmed(world, 2, "office")
    for container in [one for one in world.server.containers if one.zone == "office"]:
        world.server.admin("PATCH", f"/api/ipam/prefixes/{container.id}/", {"custom_fields": {"k8s_zone": None}})
    await world.zones.reload()
    await world.registry.maintain_pool()
    await world.nothing()


async def test_draining_waits_for_netbox(world: World) -> None:
    await warmed(world, 2)
    world.configure(warm=0)
    world.netbox.next("delete_many", fails(netbox_lost(applied=False)))
    report = await world.registry.maintain_pool()
    assert isinstance(report.error, NetBoxUnavailable)
    assert {one.state for one in await world.pool()} == {PoolState.DROPPING}
    assert (await world.registry.maintain_pool()).dropped == 4
    await world.nothing()
