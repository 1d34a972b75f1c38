"""Reconcile: each kind of drift is named; what is provably ours is repaired, after three sightings and no sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ipam_lib.errors import Unavailable
from ipam_lib.models import State
from ipam_lib.registry import DriftKind, DriftResult
from tests.registry.watched import Died, Work, before, done_but, fails, netbox_lost
from tests.registry.world import FIRST, LONGEST_REQUEST, MILLISECOND, SECOND, World, request

PREFIXES = "/api/ipam/prefixes/"
MINUTE = 60.0


async def one_round(world: World, *, fix: bool = True, **options: Any) -> list[DriftResult]:
    """What one round finds."""
    return [found async for found in world.registry.reconcile(fix=fix, **options)]


async def kinds(world: World, *, fix: bool = False) -> list[DriftKind]:
    return [found.drift.kind for found in await one_round(world, fix=fix)]


async def rounds(world: World, *, seconds: float = MINUTE) -> list[DriftResult]:
    """What the third of three rounds finds."""
    for _ in range(2):
        for found in await one_round(world):
            assert not found.repaired
        await asyncio.sleep(seconds)
    return await one_round(world)


async def seen_twice(world: World) -> None:
    """The next round may repair what there is."""
    for _ in range(2):
        await one_round(world)
        await asyncio.sleep(MINUTE)


def released(world: World, name: str) -> Work:
    """Its only service expires, and the cleanup comes by."""

    async def work() -> None:
        await world.registry.expire(request(name))
        await world.registry.release_expired()

    return work


async def edit(world: World, address: str, **fields: Any) -> None:
    """Another user changes the prefix of a registration in NetBox."""
    one = await world.on(address)
    world.server.admin("PATCH", f"{PREFIXES}{one.netbox_id}/", fields)


# -- the kinds of drift ------------------------------------------------------------------------------------------------


async def robbed(world: World) -> None:
    world.steal(FIRST)


async def forgotten(world: World) -> None:
    await world.store.unseen("delete", await world.on(FIRST))


async def renumbered(world: World) -> None:
    """Another user deletes the prefix, and creates it again with the same `k8s_uuid` and description."""
    one = await world.on(FIRST)
    world.steal(FIRST)
    world.foreign_prefix(FIRST, uuid=one.id, description=one.described[-1])


async def unmarked(world: World) -> None:
    await edit(world, FIRST, custom_fields={"k8s_uuid": None})


async def left_over(world: World) -> None:
    world.foreign_prefix("192.0.2.5/32", uuid=(await world.on(FIRST)).id)


REPAIRABLE: dict[DriftKind, Callable[[World], Awaitable[None]]] = {
    DriftKind.REGISTRATION_WITHOUT_PREFIX: robbed,
    DriftKind.PREFIX_WITHOUT_REGISTRATION: forgotten,
    DriftKind.NETBOX_ID_DIFFERS: renumbered,
    DriftKind.UUID_MISSING: unmarked,
    DriftKind.PREFIX_LEFT_OVER: left_over,
}


async def marked_as_anothers(world: World) -> None:
    await edit(world, FIRST, custom_fields={"k8s_uuid": "somebody"})


async def moved(world: World) -> None:
    await edit(world, FIRST, prefix="192.0.2.6/32", custom_fields={"k8s_uuid": None})


async def in_another_zone(world: World) -> None:
    await edit(world, FIRST, custom_fields={"k8s_zone": "tiny"})


async def doubled(world: World) -> None:
    world.server.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    world.foreign_prefix(FIRST)


async def stuck_release(world: World) -> None:
    one = await world.on(FIRST)
    await world.store.unseen("replace", one, one.changed(state=State.RELEASING, services=()))


async def stuck_undoing(world: World) -> None:
    world.netbox.next("create_next", fails(Died()))
    with pytest.raises(Died):
        await world.register("b")
    [one] = [one for one in await world.registrations() if one.state is State.CREATING]
    await world.store.unseen("replace", one, one.changed(state=State.ABORTING))
    await asyncio.sleep(6 * LONGEST_REQUEST)


async def stuck_creation(world: World) -> None:
    world.netbox.next("create_next", fails(Died()))
    with pytest.raises(Died):
        await world.register("b")
    await asyncio.sleep(6 * LONGEST_REQUEST)


UNREPAIRED: dict[str, tuple[DriftKind, Callable[[World], Awaitable[None]]]] = {
    "marked as another's": (DriftKind.UUID_DIFFERS, marked_as_anothers),
    "moved": (DriftKind.ADDRESS_DIFFERS, moved),
    "in another zone": (DriftKind.ZONE_DIFFERS, in_another_zone),
    "doubled": (DriftKind.DUPLICATE_PREFIX, doubled),
    "a release": (DriftKind.STUCK, stuck_release),
    "a creation": (DriftKind.STUCK, stuck_creation),
    "one that is undone": (DriftKind.STUCK, stuck_undoing),
}


async def test_a_sound_world_has_no_drift(world: World) -> None:
    for name in "abc":
        await world.register(name)
    await world.register("d", address="192.0.2.5/32")
    await world.register("e", zone="office", address="10.0.1.3/32")
    await world.register("f", ip_family="ipv6")
    world.foreign_prefix("192.0.2.6/32")
    world.foreign_prefix("198.51.100.0/31", uuid="somebody")
    assert await one_round(world) == []


@pytest.mark.parametrize("kind", REPAIRABLE)
async def test_it_is_named_and_repaired_at_the_third_sighting(world: World, kind: DriftKind) -> None:
    await world.register("a")
    await REPAIRABLE[kind](world)
    assert kind in await kinds(world)
    [found] = [one for one in await rounds(world) if one.drift.kind is kind]
    assert (found.sightings, found.repaired, found.note) == (3, True, "")
    await world.settled()
    assert await one_round(world, fix=False) == []


@pytest.mark.parametrize("kind", REPAIRABLE)
async def test_it_is_not_repaired_before_the_longest_request_has_passed_twice(world: World, kind: DriftKind) -> None:
    await world.register("a")
    await REPAIRABLE[kind](world)
    prefixes, registrations = world.prefixes, await world.registrations()
    for found in await rounds(world, seconds=LONGEST_REQUEST):
        assert (found.sightings, found.repaired) == (3, False)
    assert (world.prefixes, await world.registrations()) == (prefixes, registrations)
    await asyncio.sleep(MILLISECOND)
    assert all(found.repaired for found in await one_round(world) if found.drift.kind is kind)
    await world.settled()


@pytest.mark.parametrize("kind", REPAIRABLE)
async def test_a_dry_run_writes_nothing_however_often_it_looks(world: World, kind: DriftKind) -> None:
    await world.register("a")
    await REPAIRABLE[kind](world)
    prefixes, registrations = world.prefixes, await world.registrations()
    world.forget()
    for _ in range(5):
        await one_round(world, fix=False)
        await asyncio.sleep(MINUTE)
    assert (world.prefixes, await world.registrations()) == (prefixes, registrations)
    assert not {"replace", "insert", "delete", "save_document"} & set(world.store.calls)
    assert not {"create_exact", "delete_many", "assign"} & set(world.netbox.calls)
    assert not (await one_round(world))[0].repaired, "and what it saw does not count"


@pytest.mark.parametrize("case", UNREPAIRED)
async def test_it_is_named_and_left_to_people(world: World, case: str) -> None:
    kind, make = UNREPAIRED[case]
    await world.register("a")
    await make(world)
    prefixes, registrations = world.prefixes, await world.registrations()
    for _ in range(4):
        found = await one_round(world)
        await asyncio.sleep(MINUTE)
        assert kind in [one.drift.kind for one in found]
        assert not any(one.repaired for one in found)
    assert (world.prefixes, await world.registrations()) == (prefixes, registrations)


async def test_a_duplicate_of_the_earlier_service_is_named(world: World) -> None:
    await world.register("a")
    one = await world.on(FIRST)
    fields = {"service_name": "b", "namespace_id": "n", "cluster_id": "c"}
    double = {"_id": world.new_id(), "secret": one.secret, "zone": "inet", "address": FIRST, "ip_family": "ipv4"}
    await world.seed(double | {"services": [fields], "duplicate": double["_id"], "netbox_id": one.netbox_id})
    assert DriftKind.DUPLICATE_REGISTRATION in await kinds(world)


@pytest.mark.parametrize("uuid", [None, "somebody", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", "6B" * 12, "6b" * 11])
async def test_what_does_not_bear_an_id_of_ours_is_nobodys_business(world: World, uuid: str | None) -> None:
    world.foreign_prefix(FIRST, uuid=uuid)
    for _ in range(4):
        assert await one_round(world) == []
        await asyncio.sleep(MINUTE)


@pytest.mark.parametrize(("prefix", "status"), [("192.0.2.4/31", "active"), ("192.0.2.4/32", "container")])
async def test_a_network_or_container_with_an_id_of_ours_is_left_alone(world: World, prefix: str, status: str) -> None:
    made = world.foreign_prefix(prefix, uuid="6b" * 12, status=status)
    await rounds(world)
    assert world.server.shown(made.id)["prefix"] == prefix


async def test_what_lies_outside_our_containers_is_left_alone(world: World) -> None:
    made = world.foreign_prefix("172.16.0.1/32", uuid="6b" * 12)
    assert await rounds(world) == []
    assert made in world.prefixes


# -- counting ----------------------------------------------------------------------------------------------------------


async def test_only_rounds_in_a_row_count(world: World) -> None:
    await world.register("a")
    one = await world.on(FIRST)
    for _ in range(3):
        world.steal(FIRST)
        for sightings in (1, 2):
            [found] = await one_round(world)
            assert (found.sightings, found.repaired) == (sightings, False)
            await asyncio.sleep(MINUTE)
        again = world.foreign_prefix(FIRST, uuid=one.id, description=one.described[-1])
        current = await world.on(FIRST)
        await world.store.unseen("replace", current, current.changed(netbox_id=again.id))
        assert await one_round(world) == []
        await asyncio.sleep(MINUTE)


async def test_the_count_outlives_the_process(world: World) -> None:
    await world.register("a")
    await forgotten(world)
    for sightings in (1, 2, 3):
        [found] = [one async for one in world.instance().reconcile(fix=True)]
        assert (found.sightings, found.repaired) == (sightings, sightings == 3)
        await asyncio.sleep(MINUTE)
    await world.nothing()


async def test_of_a_stuck_release_nothing_but_that_is_told(world: World) -> None:
    """What it leaves in NetBox, it will delete itself."""
    await world.register("a")
    await left_over(world)
    await stuck_release(world)
    assert await kinds(world) == [DriftKind.STUCK]


async def test_a_creation_that_is_under_way_is_no_drift(world: World) -> None:
    async def look(work: Work) -> Any:
        made = await work()
        assert await one_round(world) == []
        return made

    world.netbox.next("create_next", look)
    await world.register("a")
    world.netbox.next("create_exact", look)
    await world.register("b", address=SECOND)


async def test_a_registration_that_is_being_released_is_no_lost_one(world: World) -> None:
    await world.register("a")
    await world.registry.expire(request("a"))

    async def look(work: Work) -> Any:
        done = await work()
        assert [found.drift.kind for found in await one_round(world)] == [DriftKind.STUCK]
        return done

    world.netbox.next("delete_many", look)
    await world.registry.release_expired()
    await world.nothing()


# -- what cannot be repaired -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [FIRST, "192.0.2.0/31"])
async def test_a_lost_prefix_whose_address_somebody_took_is_reported(world: World, theirs: str) -> None:
    await world.register("a")
    world.steal(FIRST)
    taken = world.foreign_prefix(theirs)
    [found] = [one for one in await rounds(world) if one.drift.kind is DriftKind.REGISTRATION_WITHOUT_PREFIX]
    assert not found.repaired
    assert f"taken in NetBox by {theirs}" in found.note
    assert world.prefixes == [taken]
    assert await world.names() == {FIRST: ["a"]}


async def test_a_wrong_database_does_not_empty_netbox(world: World) -> None:
    for number in range(8):
        await world.register(f"service-{number}")
    for one in await world.registrations():
        await world.store.unseen("delete", one)
    await rounds(world, seconds=0)
    await asyncio.sleep(MINUTE)
    found = await one_round(world, most_deletions=3)
    assert [one.repaired for one in found] == [True] * 3 + [False] * 5
    assert "is this the right database" in found[-1].note
    assert len(world.prefixes) == 5


async def test_what_changes_between_finding_and_repairing_is_left_alone(world: World) -> None:
    """Three sightings are not enough: one more look at both sides comes first."""
    await world.register("a")
    await forgotten(world)
    [prefix] = world.prefixes
    await seen_twice(world)

    async def somebody_takes_it_over() -> None:
        world.server.admin("PATCH", f"{PREFIXES}{prefix.id}/", {"custom_fields": {"k8s_uuid": "somebody"}})

    world.netbox.next("get_many", before(somebody_takes_it_over))
    [found] = await one_round(world)
    assert (found.repaired, found.note) == (False, "the prefix has changed")
    assert [one.id for one in world.prefixes] == [prefix.id]


async def test_a_registration_that_is_released_while_its_prefix_is_made_again_keeps_none(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)
    await seen_twice(world)

    world.netbox.next("create_exact", before(released(world, "a")))
    [found] = await one_round(world)
    assert not found.repaired
    await world.nothing()


@pytest.mark.parametrize("how", [fails, done_but])
async def test_a_lost_reply_is_told_and_made_good_by_the_next_rounds(world: World, how: Any) -> None:
    await world.register("a")
    world.steal(FIRST)
    await seen_twice(world)
    world.netbox.next("create_exact", how(netbox_lost()))
    [found] = await one_round(world)
    assert not found.repaired
    for _ in range(3):
        await asyncio.sleep(MINUTE)
        await one_round(world)
    await world.settled()


async def test_one_that_fails_does_not_stop_the_others(world: World) -> None:
    for name in "abc":
        await world.register(name)
    for one in await world.registrations():
        await world.store.unseen("delete", one)
    await seen_twice(world)
    world.netbox.next("delete_many", fails(netbox_lost()))
    assert sorted(found.repaired for found in await one_round(world)) == [False, True, True]
    await asyncio.sleep(MINUTE)
    await one_round(world)
    await world.nothing()


async def test_while_netbox_is_away_it_says_so(world: World) -> None:
    await world.register("a")
    world.server.reachable = False
    with pytest.raises(Unavailable):
        await one_round(world)
    assert await world.names() == {FIRST: ["a"]}


async def test_a_prefix_that_a_registration_names_gets_its_id_and_is_not_deleted(world: World) -> None:
    """A hand-over to a registration that has gone since came too late: its id stands on another's prefix."""
    await world.register("a")
    one = await world.on(FIRST)
    await edit(world, FIRST, custom_fields={"k8s_uuid": "0" * 23 + "7"})
    found = {each.drift.kind: each for each in await rounds(world)}
    assert found.keys() == {DriftKind.UUID_DIFFERS, DriftKind.PREFIX_WITHOUT_REGISTRATION}
    assert found[DriftKind.PREFIX_WITHOUT_REGISTRATION].repaired
    assert await world.on(FIRST) == one
    await world.settled()
    assert await one_round(world, fix=False) == []


async def test_a_registration_that_is_released_while_its_prefix_gets_its_id_leaves_nothing_for_good(
    world: World,
) -> None:
    """The release finds another ID on the prefix and leaves it; the ID that is written later has no registration."""
    await world.register("a")
    gone = await world.on(FIRST)
    await edit(world, FIRST, custom_fields={"k8s_uuid": "0" * 23 + "7"})
    await seen_twice(world)

    world.netbox.next("assign", before(released(world, "a")))
    await one_round(world)
    assert await world.registrations() == []
    assert [one.uuid for one in world.prefixes] == [gone.id]
    for _ in range(3):
        await asyncio.sleep(MINUTE)
        last = await one_round(world)
    assert [(each.drift.kind, each.repaired) for each in last] == [(DriftKind.PREFIX_WITHOUT_REGISTRATION, True)]
    await world.nothing()
