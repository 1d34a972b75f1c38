"""Addresses that NetBox knows are in use are not handed out: with a picture of the containers, and without one."""

from __future__ import annotations

import asyncio

import pytest

from ipam_lib.errors import AddressTaken, ZoneFull
from ipam_lib.models import PoolState, State
from tests.registry.watched import Work, before, done_but, netbox_lost
from tests.registry.world import FIRST, SECOND, THIRD, World, request
from tests.storage.samples import registration

seen = pytest.mark.parametrize("picture", [True, False], ids=["with a picture", "before there is one"])


def enter(world: World, address: str, kind: str = "ip-addresses", **fields: object) -> None:
    """Somebody enters an IP address, or a range of which `address` is the first."""
    names = {"address": address} if kind == "ip-addresses" else {"start_address": address}
    world.server.admin("POST", f"/api/ipam/{kind}/", {"vrf": world.vrf("inet"), **names, **fields})


async def begin(world: World, *, picture: bool) -> None:
    """The zones are known, and the picture is loaded where there is one."""
    await world.zones.check("inet")
    if picture:
        await world.see_space()


@seen
async def test_the_gateway_and_a_range_are_passed_over(world: World, picture: bool) -> None:
    enter(world, "192.0.2.0/24")
    enter(world, "192.0.2.1/29", "ip-ranges", end_address="192.0.2.2/29")
    enter(world, "192.0.2.3/24", status="deprecated")
    await begin(world, picture=picture)
    assert await world.register() == "192.0.2.3/32", "a deprecated IP address is in use no more"
    await world.settled()


@seen
async def test_a_range_that_is_partly_outside_the_container_is_passed_over(world: World, picture: bool) -> None:
    enter(world, "192.0.1.250/24", "ip-ranges", end_address="192.0.2.1/24")
    # In the other family: its first address is the same number as the one that is to be registered.
    enter(world, "::c000:202/128", "ip-ranges", end_address="::c000:203/128")
    await begin(world, picture=picture)
    assert await world.register() == "192.0.2.2/32"
    await world.settled()


async def test_the_earlier_services_way_is_there_to_be_had(world: World) -> None:
    enter(world, "192.0.2.0/24")
    world.configure(ip_addresses="ignore")
    world.netbox.inner.space._reads.policy = "ignore"
    await begin(world, picture=True)
    assert await world.register() == FIRST


@seen
async def test_an_ip_address_entered_at_the_last_moment_is_not_handed_out(world: World, picture: bool) -> None:
    await begin(world, picture=picture)

    async def entered() -> None:
        enter(world, "192.0.2.0/24")

    world.netbox.next("create_next", before(entered))
    assert await world.register() == SECOND
    assert [one.prefix for one in world.prefixes] == [SECOND], "the first one is given back"
    await world.settled()


@seen
async def test_what_a_lost_reply_left_is_looked_at_before_it_is_adopted(world: World, picture: bool) -> None:
    await begin(world, picture=picture)

    async def entered() -> None:
        enter(world, "192.0.2.0/24")

    world.server.fault("disconnect", method="POST", path="*prefixes*", applied="before")
    world.netbox.next("find_by_uuid", before(entered))
    assert await world.register() == SECOND
    await world.settled()


async def test_a_container_marked_as_utilized_counts_as_full(world: World) -> None:
    await begin(world, picture=False)
    for container in world.zones.containers("tiny", "ipv4"):
        world.server.admin("PATCH", f"/api/ipam/prefixes/{container.id}/", {"mark_utilized": True})
    await begin(world, picture=True)
    with pytest.raises(ZoneFull):
        await world.register(zone="tiny")
    assert await world.registrations() == []


@seen
async def test_an_ip_address_that_a_request_names_is_registered_with_a_warning(
    world: World, picture: bool, caplog: pytest.LogCaptureFixture
) -> None:
    enter(world, "192.0.2.1/24")
    await begin(world, picture=picture)
    assert await world.register(address=SECOND) == SECOND
    assert "192.0.2.1/32 of zone inet is registered, although it is IP address 192.0.2.1/24" in caplog.text
    await world.settled()


@seen
async def test_an_ip_address_that_a_request_names_may_be_refused(world: World, picture: bool) -> None:
    world.configure(ip_addresses="refuse")
    enter(world, "192.0.2.1/24")
    await begin(world, picture=picture)
    with pytest.raises(AddressTaken, match=r"is already taken in NetBox by IP address 192\.0\.2\.1/24"):
        await world.register(address=SECOND)
    assert await world.registrations() == []
    assert world.prefixes == [], "nothing is left behind"


async def test_the_pool_keeps_no_address_that_is_in_use(world: World) -> None:
    enter(world, "192.0.2.1/24")
    world.configure(warm={"inet": 3}, batch=50)
    await begin(world, picture=False)
    await world.registry.maintain_pool()
    ready = [one.address for one in await world.pool(PoolState.READY) if one.ip_family == "ipv4"]
    assert SECOND not in ready
    await begin(world, picture=True)
    for _ in range(3):
        await world.registry.maintain_pool()
    ready = [one.address for one in await world.pool(PoolState.READY) if one.ip_family == "ipv4"]
    assert ready == [FIRST, THIRD, "192.0.2.3/32"]
    await world.settled()


async def test_many_at_once_get_different_addresses_between_those_in_use(world: World) -> None:
    for number in (1, 3, 5):
        enter(world, f"192.0.2.{number}/24")
    world.server.simulator.latency_ms = 20
    await begin(world, picture=True)
    answers = await asyncio.gather(*(world.registry.register(request(f"service-{number}")) for number in range(4)))
    assert sorted(one.address for one in answers) == [f"192.0.2.{number}/32" for number in (0, 2, 4, 6)]
    await world.settled()


async def test_a_released_address_is_free_at_once(world: World) -> None:
    await begin(world, picture=True)
    world.foreign_prefix("192.0.2.4/32")
    enter(world, "192.0.2.1/24")
    await world.see_space()
    assert await world.register("a") == FIRST
    await world.registry.expire(request("a"))
    assert (await world.registry.release_expired()).released == 1
    assert await world.register("b") == FIRST


async def test_an_address_whose_deletion_fails_stays_taken(world: World) -> None:
    await begin(world, picture=True)
    assert await world.register("a") == FIRST
    await world.registry.expire(request("a"))
    world.server.fault("status", status=500, method="DELETE", times=1000)
    assert (await world.registry.release_expired()).released == 0
    [container, *_] = world.zones.containers("inet", "ipv4")
    choice = world.netbox.space.choose(container, 1)
    assert choice.addresses == [SECOND]


async def test_a_prefix_that_its_holder_asked_to_delete_is_not_adopted(world: World) -> None:
    """NetBox may carry the deletion out later than it answers."""
    await begin(world, picture=True)
    deletions: list[Work] = []

    async def entered() -> None:
        enter(world, "192.0.2.0/24")

    async def answered(work: Work) -> None:
        deletions.append(work)
        [in_the_way] = world.server.admin("GET", "/api/ipam/ip-addresses/")["results"]
        world.server.admin("DELETE", f"/api/ipam/ip-addresses/{in_the_way['id']}/")

    other = registration(10**6, address=SECOND, state=State.CREATING, lease_until=world.now(hours=1))

    async def registered_elsewhere() -> None:
        await world.store.unseen("insert", other)

    # The first address is in use. The second one is registered elsewhere at the last moment. The reply to the creation
    # of the third one is lost.
    world.netbox.next("create_next", before(entered), None, done_but(netbox_lost()))
    world.netbox.next("delete_many", answered)
    world.store.next("replace", before(registered_elsewhere))
    assert await world.register() == THIRD
    for deletion in deletions:
        await deletion()
    await world.store.unseen("delete", other)
    assert len(deletions) == 1
    await world.settled()
