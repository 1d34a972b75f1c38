"""The next free address when the lowest addresses are about to be registered: the first available one is used."""

from __future__ import annotations

import asyncio

import pytest

from ipam_lib.models import Registered
from tests.registry.watched import Died, done_but, fails
from tests.registry.world import FIRST, LONGEST_REQUEST, SECOND, THIRD, World, request

FOURTH = "192.0.2.3/32"


async def left_behind(world: World, *addresses: str) -> None:
    """Processes died before they had their given addresses from NetBox."""
    for address in addresses:
        world.netbox.next("create_exact", fails(Died()))
        with pytest.raises(Died):
            await world.register(address, address=address)


@pytest.mark.parametrize("addresses", [(FIRST,), (FIRST, SECOND), (FIRST, SECOND, THIRD)], ids=len)
async def test_unfinished_creations_do_not_hold_up_the_next_free_address(
    world: World, addresses: tuple[str, ...]
) -> None:
    """NetBox gives out one address after the other that another request is about to register, each of them once."""
    await left_behind(world, *addresses)
    world.forget()
    assert await world.register("next") == (FIRST, SECOND, THIRD, FOURTH)[len(addresses)]
    assert world.netbox.counted["create_next"] == len(addresses) + 1
    await asyncio.sleep(LONGEST_REQUEST)
    assert [await world.register(address, address=address) for address in addresses] == list(addresses)
    await world.settled()


async def test_who_takes_over_goes_on_past_them_too(world: World) -> None:
    await left_behind(world, FIRST, SECOND)
    world.netbox.next("create_next", None, done_but(Died()))
    with pytest.raises(Died):
        await world.register("next")
    assert [one.prefix for one in world.prefixes] == [FIRST, SECOND], "both are kept"
    await asyncio.sleep(LONGEST_REQUEST)
    assert await world.register("next") == THIRD
    assert [one.prefix for one in world.prefixes] == [THIRD]
    assert [await world.register(one, address=one) for one in (FIRST, SECOND)] == [FIRST, SECOND]
    await world.settled()


async def test_who_takes_over_goes_on_with_the_one_that_is_to_be_had(world: World) -> None:
    await left_behind(world, FIRST)
    world.netbox.next("create_next", None, done_but(Died()))
    with pytest.raises(Died):
        await world.register("next")
    await asyncio.sleep(LONGEST_REQUEST)
    world.forget()
    assert await world.registry.register(request("next")) == Registered(SECOND, created=True)
    assert world.netbox.counted["create_next"] == 0
    assert [one.prefix for one in world.prefixes] == [SECOND]
    assert await world.register(FIRST, address=FIRST) == FIRST
    await world.settled()
