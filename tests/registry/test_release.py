"""Cleanup: what has expired goes, what is still in use stays, and what is not ours is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.models import Registered, State
from ipam_lib.registry import ReleaseReport
from tests.registry.watched import Died, after, before, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import CLUSTER, DAY, FIRST, MILLISECOND, SECOND, THIRD, World, request

PREFIXES = "/api/ipam/prefixes/"


async def expired(world: World, *names: str) -> None:
    """Services with an address each, which have expired."""
    for name in names:
        await world.register(name)
        await world.registry.expire(request(name))


async def change(world: World, address: str, **fields: Any) -> None:
    """Another user changes the prefix of a registration in NetBox."""
    one = await world.on(address)
    world.server.admin("PATCH", f"{PREFIXES}{one.netbox_id}/", fields)


# -- expired services ------------------------------------------------------------------------------------------------


async def test_an_address_without_services_left_is_released(world: World) -> None:
    await expired(world, "a")
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1, released=1)
    await world.nothing()
    assert await world.register("b") == FIRST


@pytest.mark.parametrize(("late", "due"), [(-MILLISECOND, False), (0, True), (MILLISECOND, True)])
async def test_a_service_is_due_from_the_very_millisecond_on(world: World, late: float, due: bool) -> None:
    await world.register(retention_period_days=1)
    await world.registry.expire(request(retention_period_days=None))
    await asyncio.sleep(DAY + late)
    assert (await world.registry.release_expired()).released == int(due)
    assert len(world.prefixes) == int(not due)


async def test_only_expired_services_are_removed(world: World) -> None:
    await world.register("a")
    for name in "bcd":
        await world.register(name, address=FIRST)
    await world.registry.expire(request("b", address=FIRST))
    await world.registry.expire(request("c", address=FIRST, retention_period_days=1))
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1)
    assert await world.names() == {FIRST: ["a", "c", "d"]}
    await asyncio.sleep(DAY)
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1)
    assert await world.names() == {FIRST: ["a", "d"]}
    await world.settled()


async def test_the_last_of_several_services_takes_the_address_with_it(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    await world.registry.expire_cluster(CLUSTER)
    assert await world.registry.release_expired() == ReleaseReport(expired_services=2, released=1)
    await world.nothing()


async def test_a_round_with_nothing_due_changes_nothing(world: World) -> None:
    await world.register("a")
    await world.register("b", retention_period_days=1)
    await world.registry.expire(request("b", retention_period_days=None))
    registrations = await world.registrations()
    assert await world.registry.release_expired() == ReleaseReport()
    assert await world.registrations() == registrations


# -- services that come back in time ---------------------------------------------------------------------------------


async def test_a_post_before_the_round_keeps_the_address(world: World) -> None:
    await expired(world, "a")
    assert await world.registry.register(request("a")) == Registered(FIRST, created=False)
    assert await world.registry.release_expired() == ReleaseReport()
    await world.settled()


@pytest.mark.parametrize("address", [None, FIRST], ids=["by service", "by address"])
async def test_a_post_in_the_middle_of_the_round_keeps_the_address(world: World, address: str | None) -> None:
    await expired(world, "a")
    world.store.next("replace", before(lambda: world.register("a", address=address)))
    assert (await world.registry.release_expired()).released == 0
    assert await world.names() == {FIRST: ["a"]}
    await world.settled()


async def test_another_service_that_joins_in_the_middle_keeps_the_address(world: World) -> None:
    await expired(world, "a")
    world.store.next("replace", before(lambda: world.register("b", address=FIRST)))
    assert (await world.registry.release_expired()).released == 0
    assert (await world.registry.release_expired()).expired_services == 1
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


async def test_a_given_address_that_is_being_released_is_registered_anew(world: World) -> None:
    await expired(world, "a")
    old = await world.only()
    answers: list[Registered] = []

    async def come_back() -> None:
        assert (await world.only()).state is State.RELEASING
        answers.append(await world.registry.register(request("a", address=FIRST)))

    world.netbox.next("delete_many", before(come_back))
    await world.registry.release_expired()
    assert answers == [Registered(FIRST, created=True)]
    one = await world.only()
    assert one.id != old.id, "nothing is ever added to what is being released"
    assert one.netbox_id != old.netbox_id
    await world.settled()


async def test_its_services_get_another_address_while_theirs_is_being_released(world: World) -> None:
    await expired(world, "a")
    answers: list[str] = []

    async def come_back() -> None:
        answers.append(await world.register("a"))

    world.netbox.next("delete_many", before(come_back))
    await world.registry.release_expired()
    assert answers == [SECOND]
    assert await world.register("a") == SECOND
    await world.settled()


async def test_the_next_free_address_may_be_one_that_is_being_released(world: World) -> None:
    """Its prefix is deleted, its document not yet: the next request for the address completes the release first."""
    await expired(world, "a")
    answers: list[Registered] = []

    async def take_it() -> None:
        answers.append(await world.registry.register(request("b")))

    world.netbox.next("delete_many", after(take_it))
    await world.registry.release_expired()
    assert answers == [Registered(FIRST, created=True)]
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


# -- what is in NetBox -----------------------------------------------------------------------------------------------


async def test_a_prefix_that_is_gone_already_counts_as_released(world: World) -> None:
    await expired(world, "a")
    world.steal(FIRST)
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_a_prefix_that_goes_between_look_and_deletion_counts_as_released(world: World) -> None:
    await expired(world, "a", "b")

    async def steal() -> None:
        world.steal(FIRST)

    world.netbox.next("delete_many", before(steal))
    assert (await world.registry.release_expired()).released == 2
    await world.nothing()


async def test_the_prefix_goes_before_the_document(world: World) -> None:
    await expired(world, "a")

    async def look() -> None:
        assert world.prefixes == []

    world.store.next("delete", before(look))
    assert (await world.registry.release_expired()).released == 1


async def test_without_its_mark_the_prefix_still_is_the_registrations(world: World) -> None:
    await expired(world, "a")
    await change(world, FIRST, custom_fields={"k8s_uuid": None})
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_fields": {"k8s_uuid": "somebody"}},
        {"prefix": "192.0.2.6/32"},
        {"prefix": "192.0.2.0/31"},
        {"status": "container"},
    ],
    ids=["another's mark", "another address", "a network", "a container"],
)
async def test_a_prefix_that_was_made_somebody_elses_is_left_alone(world: World, fields: dict[str, Any]) -> None:
    await expired(world, "a")
    one = await world.only()
    await change(world, FIRST, **fields)
    shown = world.server.shown(one.netbox_id or 0)
    assert (await world.registry.release_expired()).released == 1
    assert await world.registrations() == []
    assert world.server.shown(one.netbox_id or 0) == shown


async def test_somebodys_prefix_in_place_of_a_deleted_one_is_left_alone(world: World) -> None:
    await expired(world, "a")
    world.steal(FIRST)
    theirs = world.foreign_prefix(FIRST)
    assert (await world.registry.release_expired()).released == 1
    assert world.prefixes == [theirs]
    assert await world.registrations() == []


async def test_every_prefix_with_its_mark_goes(world: World) -> None:
    await expired(world, "a")
    one = await world.only()
    world.server.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    world.foreign_prefix(FIRST, uuid=one.id)
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


# -- many, and trouble -----------------------------------------------------------------------------------------------


async def test_many_are_released_in_bulk_and_in_pages(world: World) -> None:
    await expired(world, *(f"service-{number}" for number in range(12)))
    world.forget()
    report = await world.instance(batch=5).release_expired()
    assert report == ReleaseReport(expired_services=12, released=12)
    assert world.netbox.counted == {"get_many": 3, "find_by_uuid": 3, "delete_many": 3}
    await world.nothing()


async def test_one_that_cannot_be_deleted_does_not_stop_the_others(world: World) -> None:
    await expired(world, *"abc")
    stuck = (await world.on(SECOND)).netbox_id
    for options in ({"contains": f'"id": {stuck},'}, {"path": f"{PREFIXES}{stuck}/"}):
        world.server.fault("status", method="DELETE", status=403, times=1000, **options)
    assert await world.registry.release_expired() == ReleaseReport(expired_services=3, released=2, failed=1)
    assert (await world.only()).address == SECOND
    assert [one.id for one in world.prefixes] == [stuck]
    assert await world.registry.release_expired() == ReleaseReport(failed=1)
    world.server.faults.clear()
    assert await world.registry.release_expired() == ReleaseReport(released=1)
    await world.nothing()


async def test_one_whose_document_cannot_be_written_does_not_stop_the_others(world: World) -> None:
    await expired(world, *"abc")
    world.store.next("replace", *[fails(storage_lost(applied=False))] * 3)
    assert await world.registry.release_expired() == ReleaseReport(expired_services=2, released=2, failed=1)
    assert await world.names() == {FIRST: ["a"]}
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1, released=1)


async def test_while_netbox_is_away_releases_wait_for_it(world: World) -> None:
    await expired(world, *"abc")
    world.server.reachable = False
    report = await world.registry.release_expired()
    assert (report.expired_services, report.released, report.failed) == (3, 0, 3)
    assert {one.state for one in await world.registrations()} == {State.RELEASING}
    world.server.reachable = True
    await asyncio.sleep(60)
    assert await world.registry.release_expired() == ReleaseReport(released=3)
    await world.nothing()


async def test_a_lost_reply_of_netbox_is_no_reason_to_stop(world: World) -> None:
    await expired(world, *"ab")
    world.netbox.next("delete_many", done_but(netbox_lost()))
    await world.registry.release_expired()
    await world.nothing()


@pytest.mark.parametrize("name", ["replace", "delete"])
async def test_a_lost_reply_of_the_storage_is_read_back(world: World, name: str) -> None:
    await expired(world, *"ab")
    world.store.next(name, done_but(storage_lost()))
    await world.registry.release_expired()
    await world.nothing()


@pytest.mark.parametrize("where", ["replace", "get_many", "delete_many", "delete"])
@pytest.mark.parametrize("how", [fails, done_but])
async def test_the_next_round_goes_on_where_a_process_ended(world: World, where: str, how: Any) -> None:
    await expired(world, *"abc")
    (world.netbox if where.endswith("_many") else world.store).next(where, None if where == "replace" else how(Died()))
    if where == "replace":
        world.store.next(where, how(Died()))
    with pytest.raises(Died):
        await world.registry.release_expired()
    await world.instance().release_expired()
    await world.nothing()


async def test_several_instances_share_the_work(world: World) -> None:
    await expired(world, *(f"service-{number}" for number in range(12)))
    world.server.simulator.latency_ms = 30
    reports = await asyncio.gather(*(world.instance(batch=2 + n).release_expired() for n in range(4)))
    assert sum(report.expired_services for report in reports) == 12
    assert sum(report.released for report in reports) == 12, "each is released once"
    await world.nothing()


async def test_what_another_instance_released_meanwhile_has_not_failed(world: World) -> None:
    await expired(world, "a")
    world.netbox.next("delete_many", before(world.instance().release_expired))
    assert await world.registry.release_expired() == ReleaseReport(expired_services=1)
    await world.nothing()


async def test_a_clock_that_jumps_back_between_look_and_write_does_no_harm(world: World) -> None:
    await world.register(retention_period_days=1)
    await world.registry.expire(request(retention_period_days=None))
    await asyncio.sleep(DAY)

    async def jump_back() -> None:
        world.clock.skew -= 3600

    one = await world.only()
    world.store.next("find_due", after(jump_back))
    assert await world.registry.release_expired() == ReleaseReport()
    assert (await world.only(), len(world.prefixes)) == (one, 1)
    await asyncio.sleep(3600)
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_what_is_released_is_given_to_the_next_who_asks(world: World) -> None:
    for name in "abc":
        await world.register(name)
    await world.registry.expire(request("b"))
    await world.registry.release_expired()
    assert await world.register("d") == SECOND
    assert await world.names() == {FIRST: ["a"], SECOND: ["d"], THIRD: ["c"]}
    await world.settled()
