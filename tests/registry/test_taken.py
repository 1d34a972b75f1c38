"""A given address that stands in NetBox already: what counts as taken, and what does not."""

from __future__ import annotations

import pytest

from ipam_lib.errors import AddressTaken
from ipam_lib.models import Registered
from tests.registry.watched import before
from tests.registry.world import World, request

FIFTH = "192.0.2.4/32"


async def assert_refused(world: World, registration_id: str) -> None:
    others = world.prefixes
    with pytest.raises(
        AddressTaken, match=f"address {FIFTH} is already taken in NetBox by {registration_id}, which is not"
    ) as no:
        await world.register(address=FIFTH)
    assert no.value.status == 409
    assert await world.registrations() == []
    assert world.prefixes == others, "what others have is left alone"
    assert world.netbox.counted["create_exact"] == 0


@pytest.mark.parametrize("status", ["active", "reserved", "deprecated"])
async def test_the_very_address_is_taken_whatever_its_status(world: World, status: str) -> None:
    world.foreign_prefix(FIFTH, status=status)
    await assert_refused(world, FIFTH)


@pytest.mark.parametrize("network", ["192.0.2.4/31", "192.0.2.4/30"])
async def test_a_network_inside_the_container_takes_its_addresses(world: World, network: str) -> None:
    world.foreign_prefix(network)
    await assert_refused(world, network)


@pytest.mark.parametrize("uuid", ["somebody", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", "6b0000000000000000000777"])
async def test_a_prefix_with_an_id_that_is_not_registered_is_somebodys(world: World, uuid: str) -> None:
    world.foreign_prefix(FIFTH, uuid=uuid)
    await assert_refused(world, FIFTH)


async def test_both_another_address_and_the_network_around_it_are_named_by_the_first(world: World) -> None:
    world.foreign_prefix("192.0.2.4/30")
    world.foreign_prefix(FIFTH)
    await assert_refused(world, "192.0.2.4/3[02]")


async def test_a_container_inside_the_container_does_not_take_it(world: World) -> None:
    world.foreign_prefix("192.0.2.4/30", status="container")
    assert await world.register(address=FIFTH) == FIFTH


async def test_a_parent_around_the_container_does_not_take_it(world: World) -> None:
    world.foreign_prefix("192.0.2.0/24")
    assert await world.registry.register(request(address=FIFTH)) == Registered(FIFTH, created=True)


async def test_a_neighbour_does_not_take_it(world: World) -> None:
    world.foreign_prefix("192.0.2.5/32")
    world.foreign_prefix("192.0.2.2/31")
    assert await world.register(address=FIFTH) == FIFTH


async def test_the_same_address_of_another_vrf_does_not_take_it(world: World) -> None:
    office = world.zones.containers("office", "ipv4")
    for box in office:
        world.server.add(box, FIFTH)
    assert await world.register(address=FIFTH) == FIFTH


async def test_what_is_gone_from_netbox_takes_nothing(world: World) -> None:
    prefix = world.foreign_prefix(FIFTH)
    await assert_refused(world, FIFTH)
    world.server.remove(prefix.id)
    assert await world.register(address=FIFTH) == FIFTH
    await world.settled()


async def test_who_takes_it_between_the_look_and_the_creation_wins(world: World) -> None:
    async def somebody_is_faster() -> None:
        world.foreign_prefix(FIFTH)

    world.netbox.next("create_exact", before(somebody_is_faster))
    with pytest.raises(AddressTaken):
        await world.register(address=FIFTH)
    assert await world.registrations() == []
    assert [one.uuid for one in world.prefixes] == [None]


async def test_an_address_of_ours_that_lost_its_registration_is_taken(world: World) -> None:
    """Such a prefix is for reconcile to look into, not for a request to walk over."""
    await world.register(address=FIFTH)
    one = await world.only()
    await world.store.unseen("delete", one)
    with pytest.raises(AddressTaken):
        await world.register("b", address=FIFTH)
    assert [prefix.id for prefix in world.prefixes] == [one.netbox_id]
