"""What the crash machine holds the answers against."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.crash.world import World
from tests.support.memory_store import MemoryStore
from tests.support.virtual_loop import VirtualLoop, run_virtually


def calm_world(work: Callable[[World], Awaitable[None]]) -> None:
    """Do this in a world in which nothing goes wrong."""

    async def main() -> None:
        await world.store.open()
        await world.store.prepare()
        world.start_instance()
        await work(world)

    loop = VirtualLoop()
    world = World(1, loop, MemoryStore(), calm=True)
    run_virtually(main(), loop)


@pytest.mark.parametrize(("answered", "seconds"), [(True, 0), (False, 31)])
def test_a_cluster_deletion_is_under_way_until_its_answer_or_else_its_deadline(answered: bool, seconds: float) -> None:
    async def work(world: World) -> None:
        end = world.cluster_deletions.send()
        assert not world.cluster_deletions.mark()()
        await asyncio.sleep(1)
        end(answered)
        if not answered:
            await asyncio.sleep(seconds - 1.001)
            assert not world.cluster_deletions.mark()()
            await asyncio.sleep(0.001)
        undisturbed = world.cluster_deletions.mark()
        assert undisturbed()
        world.cluster_deletions.send()(True)
        assert not undisturbed()

    calm_world(work)


def test_a_service_registered_while_a_cluster_deletion_is_under_way_may_expire_all_the_same() -> None:
    async def work(world: World) -> None:
        [lane, *_] = world.lanes
        lane.may_expire = True
        world.cluster_deletions.send()(False)
        await world.register(lane)
        assert lane.granted is not None
        assert lane.may_expire
        await asyncio.sleep(31)
        await world.register(lane)
        assert not lane.may_expire
        assert world.summary.problems == []

    calm_world(work)
