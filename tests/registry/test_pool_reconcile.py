"""Reconcile knows the pool: its prefixes are no drift; what is wrong with its entries is named, and ended safely."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from ipam_lib.models import PoolState
from ipam_lib.registry import DriftKind
from tests.registry.test_pool import warmed
from tests.registry.test_pool_handover import given
from tests.registry.test_reconcile import MINUTE, PREFIXES, kinds, one_round, rounds
from tests.registry.watched import Died, before, done_but, fails
from tests.registry.world import FIRST, SECOND, THIRD, World, request

HOUR = 3600.0


async def cooling_down(world: World, name: str = "a") -> None:
    """One that cools down for an hour."""
    world.configure(cooldown=world.cooldown(hours=1))
    await world.register(name)
    await world.registry.expire(request(name))
    assert (await world.registry.release_expired()).released == 1


async def entry_of(world: World, address: str) -> str:
    """The id of the pool's entry."""
    [entry] = [one for one in await world.pool() if one.address == address]
    return entry.id


async def edit(world: World, address: str, **fields: object) -> None:
    """Another user changes a prefix in NetBox."""
    [prefix] = [one for one in world.prefixes if one.prefix == address]
    world.server.admin("PATCH", f"{PREFIXES}{prefix.id}/", fields)


# -- what is as it should be -----------------------------------------------------------------------------------------


async def test_whatever_the_pool_holds_is_no_drift(world: World) -> None:
    await given(world, "a", "b")  # claimed, and not handed over
    await cooling_down(world, "c")
    assert {one.state for one in await world.pool()} == {PoolState.READY, PoolState.CLAIMED, PoolState.COOLING}
    before_it = await world.pool()
    for _ in range(4):
        assert await kinds(world, fix=True) == []
        await asyncio.sleep(MINUTE)
    assert await world.pool() == before_it
    await world.settled_after_keeping()


async def test_what_the_pool_is_making_is_no_drift(world: World) -> None:
    world.configure(warm={"office": 3})
    world.netbox.next("create_next_many", done_but(Died()))
    with contextlib.suppress(Died):
        await world.registry.maintain_pool()
    assert len(world.prefixes) == 3
    assert await kinds(world) == []
    await asyncio.sleep(49)
    assert await kinds(world) == []


async def test_what_is_claimed_while_a_round_goes_on_is_no_drift(world: World) -> None:
    await warmed(world)

    async def meanwhile() -> None:
        await world.register("a")
        await world.registry.maintain_pool()

    world.netbox.next("get_many", before(meanwhile))
    assert await kinds(world) == []
    assert await world.names() == {FIRST: ["a"]}


# -- what is ended ---------------------------------------------------------------------------------------------------


async def deleted(world: World) -> None:
    world.steal(SECOND)


async def renamed(world: World) -> None:
    await edit(world, SECOND, custom_fields={"k8s_uuid": "of another system"})


async def unmarked(world: World) -> None:
    await edit(world, SECOND, custom_fields={"k8s_uuid": None})


async def moved(world: World) -> None:
    await edit(world, SECOND, prefix="192.0.2.7/32")


async def made_a_container(world: World) -> None:
    await edit(world, SECOND, status="container")


@pytest.mark.parametrize("change", [deleted, renamed, unmarked, moved, made_a_container])
async def test_a_ready_address_whose_prefix_somebody_took_is_not_handed_out(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    await warmed(world)
    identity = await entry_of(world, SECOND)
    await change(world)
    found = await one_round(world, fix=False)
    assert [(one.drift.kind, one.drift.address, one.drift.registration_id) for one in found] == [
        (DriftKind.POOL_ENTRY_WITHOUT_PREFIX, SECOND, identity)
    ]
    third = await rounds(world)
    assert [one.repaired for one in third if one.drift.kind is DriftKind.POOL_ENTRY_WITHOUT_PREFIX] == [True]
    assert SECOND not in await world.ready()
    for _ in range(3):
        await asyncio.sleep(MINUTE)
        await one_round(world)
    assert await kinds(world) == []
    assert [await world.register("a"), await world.register("b")] == [FIRST, THIRD]


@pytest.mark.parametrize("change", [renamed, unmarked, made_a_container])
async def test_a_prefix_that_somebody_made_his_own_is_left_alone(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    await warmed(world)
    [prefix] = [one for one in world.prefixes if one.prefix == SECOND]
    await change(world)
    shown = world.server.shown(prefix.id)
    for _ in range(5):
        await one_round(world)
        await asyncio.sleep(MINUTE)
    await world.registry.maintain_pool()
    assert world.server.shown(prefix.id) == shown


async def test_one_that_is_back_in_time_stays(world: World) -> None:
    await warmed(world)
    identity = await entry_of(world, SECOND)
    await unmarked(world)
    for _ in range(2):
        await one_round(world)
        await asyncio.sleep(MINUTE)

    async def back() -> None:
        await edit(world, SECOND, custom_fields={"k8s_uuid": identity})

    world.store.next("pool_get_many", None, before(back))  # after it was seen, before it is ended
    [third] = await one_round(world)
    assert (third.repaired, third.note) == (False, "the prefix is back")
    assert SECOND in await world.ready()
    await world.settled()


async def test_one_that_was_claimed_in_time_stays(world: World) -> None:
    await warmed(world)
    world.steal(FIRST)
    for _ in range(2):
        await one_round(world)
        await asyncio.sleep(MINUTE)

    async def claim() -> None:
        assert await world.register("a") == FIRST

    world.store.next("pool_get_many", None, before(claim))
    found = await one_round(world)
    assert not any(one.repaired for one in found)
    assert await world.names() == {FIRST: ["a"]}
    await world.registry.maintain_pool()
    for _ in range(3):
        await asyncio.sleep(MINUTE)
        await one_round(world)
    await world.settled_after_keeping()


async def test_a_cooldown_whose_prefix_somebody_deleted_is_ended(world: World) -> None:
    await cooling_down(world)
    world.steal(FIRST)
    assert await kinds(world) == [DriftKind.POOL_ENTRY_WITHOUT_PREFIX]
    assert [one.repaired for one in await rounds(world)] == [True]
    await world.nothing()


async def test_a_changed_status_is_named_and_left_to_people(world: World) -> None:
    await warmed(world)
    await edit(world, SECOND, status="active")
    for _ in range(4):
        [found] = await one_round(world)
        assert (found.drift.kind, found.repaired) == (DriftKind.POOL_STATUS_DIFFERS, False)
        assert found.drift.detail == "the pool holds it, ready; NetBox says active"
        await asyncio.sleep(MINUTE)
    assert SECOND in await world.ready()


# -- what stands still -----------------------------------------------------------------------------------------------


async def test_what_nobody_makes_any_more_is_ended_without_the_worker(world: World) -> None:
    world.configure(warm={"office": 3})
    world.netbox.next("create_next_many", done_but(Died()))
    with contextlib.suppress(Died):
        await world.registry.maintain_pool()
    await asyncio.sleep(51)
    assert await kinds(world) == [DriftKind.POOL_ENTRY_STUCK] * 3
    assert [one.repaired for one in await rounds(world)] == [True] * 3
    await world.nothing()


async def test_what_nobody_drops_any_more_is_ended_without_the_worker(world: World) -> None:
    await warmed(world, 2, "office")
    world.configure(warm=0)
    world.netbox.next("delete_many", fails(Died()))
    with contextlib.suppress(Died):
        await world.registry.maintain_pool()
    assert await kinds(world) == [DriftKind.POOL_ENTRY_STUCK] * 2
    assert [one.repaired for one in await rounds(world)] == [True] * 2
    await world.nothing()


async def test_what_cannot_be_handed_over_is_named_and_left_to_the_worker(world: World) -> None:
    await given(world, "a")
    world.netbox.next("update_many", fails(Died()))
    with contextlib.suppress(Died):
        await world.registry.maintain_pool()
    assert await kinds(world) == [], "its lease is not over"
    await asyncio.sleep(25)
    assert await kinds(world) == [DriftKind.POOL_ENTRY_STUCK]
    assert not any(one.repaired for one in await rounds(world))
    await world.settled_after_keeping()


async def test_a_dry_run_writes_nothing(world: World) -> None:
    await warmed(world)
    await cooling_down(world, "a")
    world.steal(SECOND)
    await edit(world, THIRD, status="active")
    before_it, prefixes = await world.pool(), world.prefixes
    for _ in range(4):
        assert len(await kinds(world, fix=False)) == 2
        await asyncio.sleep(MINUTE)
    assert (await world.pool(), world.prefixes) == (before_it, prefixes)
    assert await world.store.unseen("load_document", "reconcile") is None
