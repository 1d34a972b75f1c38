"""The use cases of the pool and of the cooldown, broken off at each of their outside calls (see test_every_step.py)."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from ipam_lib.models import PoolState
from tests.registry.test_every_step import FATES, Case, broken_off, holds
from tests.registry.test_pool import warmed
from tests.registry.watched import Died, done_but, fails
from tests.registry.world import FIRST, SECOND, THIRD, World, request
from tests.support.virtual_loop import VirtualLoop, run_virtually

WARM = {"warm": {"inet": 4}}
COOLDOWN = {"cooldown": timedelta(days=1)}


async def ready(world: World) -> None:
    await warmed(world, 4)


async def claimed(world: World) -> None:
    await warmed(world, 4)
    for name in "ab":
        await world.register(name)


async def claimed_and_expired(world: World) -> None:
    await claimed(world)
    for name in "ab":
        await world.registry.expire(request(name))


async def robbed(world: World) -> None:
    """The pool has an address that is registered, because its prefix was deleted in NetBox."""
    await world.register("a")
    world.steal(FIRST)
    await world.instance(**WARM).maintain_pool()
    assert [one.state for one in await world.pool() if one.address == FIRST] == [PoolState.CLAIMED]


async def stray(world: World) -> None:
    """A registration died when it had claimed an address, and has been undone."""
    await warmed(world, 4)
    world.store.next("replace", fails(Died()))
    with contextlib.suppress(Died):
        await world.register("a")
    await asyncio.sleep(60)
    await world.registry.recover()


async def left_behind(world: World) -> None:
    """A keeper died when it had made its list in NetBox."""
    world.configure(**WARM)
    world.netbox.next("create_next_many", done_but(Died()))
    with contextlib.suppress(Died):
        await world.registry.maintain_pool()
    await asyncio.sleep(60)


async def cooling(world: World) -> None:
    """Two addresses have cooled down by now."""
    world.configure(cooldown=timedelta(minutes=1))
    for name in "ab":
        await world.register(name)
        await world.registry.expire(request(name))
    await world.registry.release_expired()
    await asyncio.sleep(60)


async def filled(world: World) -> None:
    """Four of each family; one too many may have come back."""
    assert len(await world.pool(PoolState.READY)) in (8, 9)
    await holds(world)


async def both_cool_down(world: World) -> None:
    await holds(world)
    held = await world.pool(PoolState.COOLING)
    assert sorted(one.address for one in held) == [FIRST, SECOND]


async def released(world: World) -> None:
    await holds(world)
    assert {one.state for one in await world.pool()} == {PoolState.READY}


async def robbed_no_more(world: World) -> None:
    await holds(world, a=FIRST)
    assert FIRST not in await world.ready()


CASES = {
    "fill": Case(
        settings=WARM,
        act=lambda registry: registry.maintain_pool(),
        done=filled,
        undone=filled,
    ),
    "fill what was begun before": Case(
        before=left_behind,
        settings=WARM,
        act=lambda registry: registry.maintain_pool(),
        done=filled,
        undone=filled,
    ),
    "next free, from the pool": Case(
        before=ready,
        settings=WARM,
        act=lambda registry: registry.register(request("a")),
        done=lambda world: _one_of_the_pool(world),
    ),
    "given, from the pool": Case(
        before=ready,
        settings=WARM,
        act=lambda registry: registry.register(request("a", address=THIRD)),
        done=lambda world: holds(world, a=THIRD),
    ),
    "given, from a pool that others keep": Case(
        before=ready,
        settings={"warm": 0},
        act=lambda registry: registry.register(request("a", address=THIRD)),
        done=lambda world: holds(world, a=THIRD),
    ),
    "hand over": Case(
        before=claimed,
        settings=WARM,
        act=lambda registry: registry.maintain_pool(),
        done=lambda world: holds(world, a=FIRST, b=SECOND),
        undone=lambda world: holds(world, a=FIRST, b=SECOND),
    ),
    "hand over to one that was robbed": Case(
        before=robbed,
        settings=WARM,
        act=lambda registry: registry.maintain_pool(),
        done=robbed_no_more,
        undone=robbed_no_more,
    ),
    "put back": Case(
        before=stray,
        settings=WARM,
        act=lambda registry: registry.maintain_pool(),
        done=filled,
        undone=filled,
    ),
    "drain": Case(
        before=ready,
        settings={"warm": 0},
        act=lambda registry: registry.maintain_pool(),
        done=lambda world: world.nothing(),
        undone=lambda world: world.nothing(),
    ),
    "release before it is handed over": Case(
        before=claimed_and_expired,
        settings=WARM,
        act=lambda registry: registry.release_expired(),
        done=released,
        undone=released,
    ),
    "release before it is handed over, into a cooldown": Case(
        before=claimed_and_expired,
        settings=WARM | COOLDOWN,
        act=lambda registry: registry.release_expired(),
        done=both_cool_down,
        undone=both_cool_down,
    ),
    "release into a cooldown": Case(
        before=lambda world: _expired(world),
        settings=COOLDOWN,
        act=lambda registry: registry.release_expired(),
        done=both_cool_down,
        undone=both_cool_down,
    ),
    "end a cooldown": Case(
        before=cooling,
        settings={"cooldown": timedelta(minutes=1)},
        act=lambda registry: registry.maintain_pool(),
        done=lambda world: world.nothing(),
        undone=lambda world: world.nothing(),
    ),
}


async def _expired(world: World) -> None:
    for name in "ab":
        await world.register(name)
        await world.registry.expire(request(name))


async def _one_of_the_pool(world: World) -> None:
    """Repeated after a crash, it may have claimed a second one; the first is back."""
    [address] = await world.names()
    assert address in (FIRST, SECOND)
    assert len(await world.ready()) in (8, 9)


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "not repeated"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("name", CASES)
def test_broken_off_at_every_outside_call(name: str, fate: str, repeated: bool) -> None:
    seen = []
    while True:
        loop = VirtualLoop()
        broken = run_virtually(broken_off(loop, CASES[name], fate, len(seen), repeated=repeated), loop)
        if not broken:
            break
        seen.append(broken)
    assert len(seen) >= 4, seen
