"""Recover: abandoned creations are undone, at exactly twice the longest request, by any instance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ipam_lib.models import Registered, Registration, State
from ipam_lib.registry import RecoverReport
from tests.registry.watched import Died, Work, before, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import FIRST, LONGEST_REQUEST, MILLISECOND, SECOND, World, request

FORM = pytest.mark.parametrize("address", [None, FIRST], ids=["next free", "given"])
TWICE = 2 * LONGEST_REQUEST


async def left_behind(world: World, name: str = "web", address: str | None = None, *, made: bool = True) -> None:
    """A creation whose process died."""
    how = done_but if made else fails
    world.netbox.next("create_exact" if address else "create_next", how(Died()))
    with pytest.raises(Died):
        await world.register(name, address=address)
    world.forget()


@FORM
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize(("age", "undone"), [(TWICE, 0), (TWICE + MILLISECOND, 1)])
async def test_a_creation_is_undone_when_older_than_twice_the_longest_request(
    world: World, address: str | None, made: bool, age: float, undone: int
) -> None:
    await left_behind(world, address=address, made=made)
    await asyncio.sleep(age)
    assert await world.registry.recover() == RecoverReport(aborted=undone)
    if undone:
        await world.nothing()
    else:
        assert (await world.only()).state is State.CREATING
        assert len(world.prefixes) == int(made)


async def test_what_is_live_is_left_alone(world: World) -> None:
    await world.register("a")
    await world.register("b", retention_period_days=1)
    await world.registry.expire(request("b"))
    registrations = await world.registrations()
    await asyncio.sleep(3600)
    assert await world.registry.recover() == RecoverReport()
    assert await world.registrations() == registrations
    assert len(world.prefixes) == 2


async def test_what_is_being_released_is_left_to_the_release(world: World) -> None:
    await world.register()
    await world.registry.expire(request())
    world.store.next("delete", fails(Died()))
    with pytest.raises(Died):
        await world.registry.release_expired()
    await asyncio.sleep(3600)
    assert await world.registry.recover() == RecoverReport()
    assert (await world.only()).state is State.RELEASING


async def test_every_prefix_that_bears_its_id_goes(world: World) -> None:
    await left_behind(world)
    one = await world.only()
    world.foreign_prefix("192.0.2.5/32", uuid=one.id)
    await asyncio.sleep(60)
    assert await world.registry.recover() == RecoverReport(aborted=1)
    await world.nothing()


@pytest.mark.parametrize("fields", [{"status": "container"}, {"prefix": "192.0.2.0/31"}], ids=str)
async def test_what_a_creation_cannot_have_made_is_left_alone(world: World, fields: dict[str, Any]) -> None:
    await left_behind(world)
    [prefix] = world.prefixes
    world.server.admin("PATCH", f"/api/ipam/prefixes/{prefix.id}/", fields)
    await asyncio.sleep(60)
    assert await world.registry.recover() == RecoverReport(aborted=1)
    assert await world.registrations() == []
    assert world.server.shown(prefix.id)["custom_fields"]["k8s_uuid"] == prefix.uuid


@FORM
async def test_several_instances_undo_it_together(world: World, address: str | None) -> None:
    await left_behind(world, address=address)
    await asyncio.sleep(60)
    world.server.simulator.latency_ms = 45
    reports = await asyncio.gather(*(world.instance(seed=n).recover() for n in range(5)))
    assert sum(report.aborted for report in reports) == 1
    await world.nothing()


async def test_an_instance_that_was_suspended_in_the_middle_deletes_nothing_of_a_successor(world: World) -> None:
    """It continues after another client got the address, and deletes by IDs that are never used again."""
    await left_behind(world)
    await asyncio.sleep(60)

    async def others() -> None:
        await world.instance().recover()
        assert await world.instance().register(request("b")) == Registered(FIRST, created=True)

    world.netbox.next("delete_many", before(others))
    await world.registry.recover()
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


@FORM
async def test_a_creation_that_is_finished_in_the_middle_stays(world: World, address: str | None) -> None:
    """Another request takes it over between the read and the write; the write is refused, and recovery stops."""
    await left_behind(world, address=address)
    await asyncio.sleep(60)
    world.store.next("replace", before(lambda: world.register(address=address)))
    assert await world.registry.recover() == RecoverReport()
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


async def test_more_than_a_page_is_undone(world: World) -> None:
    for number in range(7):
        await left_behind(world, f"service-{number}", made=number % 2 == 0)
    await asyncio.sleep(60)
    assert await world.instance(batch=3).recover() == RecoverReport(aborted=7)
    await world.nothing()


async def test_one_that_fails_does_not_stop_the_others(world: World) -> None:
    for name in "abc":
        await left_behind(world, name)
    await asyncio.sleep(60)
    world.netbox.next("delete_many", fails(netbox_lost()))
    assert await world.registry.recover() == RecoverReport(aborted=2, failed=1)
    assert (await world.only()).state is State.ABORTING
    assert await world.registry.recover() == RecoverReport(aborted=1)
    await world.nothing()


@pytest.mark.parametrize("name", ["replace", "delete", "find_by_uuid", "delete_many"])
@pytest.mark.parametrize("how", [fails, done_but])
async def test_the_next_round_goes_on_where_a_process_ended(world: World, name: str, how: Any) -> None:
    await left_behind(world, "a")
    await left_behind(world, "b", SECOND)
    await asyncio.sleep(60)
    (world.store if name in ("replace", "delete") else world.netbox).next(name, how(Died()))
    with pytest.raises(Died):
        await world.registry.recover()
    await world.instance().recover()
    await world.nothing()


@pytest.mark.parametrize("how", [fails, done_but])
@pytest.mark.parametrize("name", ["replace", "delete"])
async def test_a_lost_reply_of_the_storage_is_read_back(world: World, name: str, how: Any) -> None:
    await left_behind(world)
    await asyncio.sleep(60)
    world.store.next(name, how(storage_lost()))
    await world.registry.recover()
    await world.nothing()


async def test_a_given_address_is_free_again_at_once_while_it_is_undone(world: World) -> None:
    """A request that meets an undoing helps it, instead of waiting."""
    await left_behind(world, address=FIRST)
    await asyncio.sleep(60)
    answers: list[Registered] = []

    async def ask() -> None:
        assert (await world.only()).state is State.ABORTING
        answers.append(await world.registry.register(request("b", address=FIRST, secret="AnotherSecret")))

    world.netbox.next("delete_many", before(ask))
    await world.registry.recover()
    assert answers == [Registered(FIRST, created=True)]
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


# -- a creation that was giving its prefix away ------------------------------------------------------------------------

GIFT = {"before it is assigned": ("assign", fails), "after it is assigned": ("assign", done_but)}


async def giving(world: World, name: str, how: Callable[[BaseException], Any]) -> Registration:
    """A process dies while it transfers its prefix to a registration whose own prefix was deleted in NetBox."""
    await world.register("a")
    a = await world.on(FIRST)
    world.steal(FIRST)
    world.netbox.next(name, how(Died()))
    with pytest.raises(Died):
        await world.register("b")
    return a


async def nothing_more(_world: World) -> None:
    pass


async def released(world: World) -> None:
    await world.registry.expire(request("a"))
    await world.registry.release_expired()


@pytest.mark.parametrize("then", [nothing_more, released])
@pytest.mark.parametrize(("name", "how"), GIFT.values(), ids=GIFT.keys())
async def test_a_gift_that_was_begun_is_finished_or_taken_back(
    world: World, name: str, how: Any, then: Callable[[World], Awaitable[None]]
) -> None:
    a = await giving(world, name, how)
    await then(world)
    await asyncio.sleep(60)
    await world.registry.recover()
    left = await world.registrations()
    if then is released:
        await world.nothing()
    elif how is done_but:
        assert [one.id for one in left] == [a.id]
        await world.settled()
    else:
        assert ([one.id for one in left], world.prefixes) == ([a.id], []), "as it was before"


@pytest.mark.parametrize(("name", "how"), GIFT.values(), ids=GIFT.keys())
async def test_a_gift_that_was_begun_is_finished_by_the_next_request(world: World, name: str, how: Any) -> None:
    await giving(world, name, how)
    await asyncio.sleep(60)
    assert await world.register("b") == SECOND
    assert await world.register("a") == FIRST
    await world.settled()


async def test_a_gift_to_one_that_was_released_just_before_is_taken_back(world: World) -> None:
    """NetBox names an owner that is gone, and the process dies before it sees that."""
    await world.register("a")
    world.steal(FIRST)

    async def plan(work: Work) -> None:
        await released(world)
        await work()
        raise Died

    world.netbox.next("assign", plan)
    with pytest.raises(Died):
        await world.register("b")
    assert len(world.prefixes) == 1
    await asyncio.sleep(60)
    assert await world.registry.recover() == RecoverReport(aborted=1)
    await world.nothing()


async def test_a_gift_after_whose_writing_the_process_died_is_nobodys_loss(world: World) -> None:
    """The new owner names the prefix, the giver still does: undoing the giver leaves it to the owner."""
    await world.register("a")
    world.steal(FIRST)
    # The first finds the address registered, the second notes the gift, the third is the new owner's.
    world.store.next("replace", None, None, done_but(Died()))
    with pytest.raises(Died):
        await world.register("b")
    await asyncio.sleep(60)
    await world.registry.recover()
    assert await world.names() == {FIRST: ["a"]}
    await world.settled()
