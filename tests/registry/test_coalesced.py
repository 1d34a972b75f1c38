"""Creations that went to NetBox together: what each registration comes to, however the list ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ipam_lib.errors import Unavailable, ZoneFull
from ipam_lib.models import Registered
from ipam_lib.netbox.base import Container, Prefix
from tests.registry.watched import netbox_lost
from tests.registry.world import LONGEST_REQUEST, World, request

LIST = 5
ALLOCATION = "*/available-prefixes/"


async def together(world: World, **fields: Any) -> list[asyncio.Task[Any]]:
    """One registration, and while it is under way five more: these go to NetBox as one list."""
    await world.register("tag", ip_family="ipv6")  # which also looks up the tag, once and for all
    world.server.simulator.latency_ms = 45
    tasks = [world.begin(world.registry.register(request("first", **fields)))]
    await asyncio.sleep(0.02)
    tasks += [world.begin(world.registry.register(request(f"service-{n}", **fields))) for n in range(LIST)]
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """What each was answered."""
    return await asyncio.gather(*tasks, return_exceptions=True)


async def until_all_are_served(world: World) -> None:
    """Each client repeats its request until it has an address, and then once more."""
    for name in ["first", *(f"service-{n}" for n in range(LIST))]:
        for _ in range(20):
            try:
                address = await world.register(name)
                break
            except Unavailable:
                await asyncio.sleep(5)
        assert await world.register(name) == address
    assert len(await world.names()) == 1 + LIST + 1
    await world.settled()


@pytest.mark.parametrize("made", ["never", "before"], ids=["none was made", "all were made"])
async def test_a_list_whose_reply_is_lost_is_looked_for_by_each(world: World, made: str) -> None:
    """No request sends a creation again that NetBox has carried out, and every request gets an answer."""
    tasks = await together(world)
    world.server.fault("disconnect", method="POST", path=ALLOCATION, contains="[{", applied=made)
    answers = await outcomes(tasks)
    assert all(isinstance(one, Registered) for one in answers), answers
    assert len({one.address for one in answers}) == 1 + LIST
    assert len(world.prefixes) == 1 + LIST + 1
    await world.settled()


async def test_a_list_of_which_some_were_made_before_the_reply_was_lost(world: World) -> None:
    """NetBox creates all of a list or nothing, but something between may create a part."""
    client = world.netbox.inner
    many = client._coalescer._many
    lists: list[int] = []

    async def some(container: Container, uuids: Sequence[str], *, limit: float, **options: Any) -> list[Prefix]:
        lists.append(len(uuids))
        if len(lists) == 1:
            for uuid in uuids[:2]:
                await client.create_next_one(container, uuid=uuid, limit=limit)
            raise netbox_lost()
        made: list[Prefix] = await many(container, uuids, limit=limit, **options)
        return made

    client._coalescer._many = some
    answers = await outcomes(await together(world))
    assert lists == [LIST, LIST - 3], "two found theirs; of the others one went at once, and the rest together"
    assert len({one.address for one in answers}) == 1 + LIST
    await world.settled()


async def test_a_list_that_netbox_is_too_slow_with(world: World) -> None:
    """No request waits beyond its deadline, and a repeated request gets the prefix that NetBox created late."""
    tasks = await together(world)
    began = world.loop.time()
    world.server.fault("delay", method="POST", path=ALLOCATION, contains="[{", seconds=30)
    answers = await outcomes(tasks)
    assert isinstance(answers[0], Registered)
    assert all(isinstance(one, Unavailable) for one in answers[1:])
    assert world.loop.time() - began <= LONGEST_REQUEST
    await asyncio.sleep(60)
    await until_all_are_served(world)


async def test_a_list_that_fits_only_in_part(world: World) -> None:
    answers = await outcomes(await together(world, zone="tiny"))
    assert [type(one) for one in answers].count(Registered) == 2
    assert [type(one) for one in answers].count(ZoneFull) == LIST - 1
    await world.settled()


async def test_a_list_goes_on_to_the_next_container(world: World) -> None:
    world.foreign_prefix("192.0.2.0/30")
    world.foreign_prefix("192.0.2.4/31")
    answers = await outcomes(await together(world))
    given = {one.address for one in answers}
    assert given == {"192.0.2.6/32", "192.0.2.7/32", *(f"198.51.100.{n}/32" for n in range(4))}
    await world.settled()


@pytest.mark.parametrize("seconds", [0.03, 0.06], ids=["before it is sent", "when it was sent"])
async def test_who_is_cancelled_leaves_the_list_to_the_others(world: World, seconds: float) -> None:
    tasks = await together(world)
    await asyncio.sleep(seconds - 0.02)
    tasks[2].cancel()
    answers = await outcomes(tasks)
    assert isinstance(answers[2], asyncio.CancelledError)
    others = [one for number, one in enumerate(answers) if number != 2]
    assert len({one.address for one in others}) == LIST
    assert len(world.prefixes) == LIST + 1 + (seconds > 0.05)
    await asyncio.sleep(60)
    await world.registry.recover()
    assert len(world.prefixes) == LIST + 1
    await world.settled()


async def test_each_waits_no_longer_than_his_own_time(world: World) -> None:
    """One whose request has little time left is refused in time; the others are served."""
    tasks = await together(world)
    hurried = world.begin(world.registry.register(request("hurried"), deadline=world.clock.monotonic() + 1))
    answers = await outcomes([*tasks, hurried])
    assert isinstance(answers.pop(), Unavailable)
    assert all(isinstance(one, Registered) for one in answers)
    await world.settled()
