"""The lease and the deadline, to the millisecond: when a holder may write, and when a request may take over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from ipam_lib.errors import StillInFlight, Unavailable, WrongSecret
from ipam_lib.models import Registered, Registration, State
from tests.registry.watched import Died, Work, after, before, done_but, fails
from tests.registry.world import (
    CIPHER,
    FIRST,
    LONGEST_REQUEST,
    MILLISECOND,
    NETBOX_CALL,
    OLD_CIPHER,
    SECOND,
    SECRET,
    World,
    request,
)

FORM = pytest.mark.parametrize("address", [None, FIRST], ids=["next free", "given"])
ROOM = LONGEST_REQUEST - NETBOX_CALL
"""Seconds after which a lease no longer has the time of one call left."""


def creation(address: str | None) -> str:
    return "create_exact" if address else "create_next"


async def left_behind(world: World, address: str | None = None, *, made: bool, **fields: Any) -> Registration:
    """A creation whose process died, before or after NetBox made the prefix."""
    world.netbox.next(creation(address), (done_but if made else fails)(Died()))
    with pytest.raises(Died):
        await world.register(address=address, **fields)
    one = await world.only()
    assert (one.state, len(world.prefixes)) == (State.CREATING, int(made))
    world.forget()
    return one


# -- permission to write -----------------------------------------------------------------------------------------------


async def test_a_lease_is_as_long_as_the_longest_request(world: World) -> None:
    began = world.now(seconds=LONGEST_REQUEST)
    one = await left_behind(world, made=False)
    assert one.lease_until == began


@FORM
@pytest.mark.parametrize(("late", "goes_on"), [(ROOM, True), (ROOM + MILLISECOND, False)])
async def test_the_holder_writes_while_his_lease_has_time_for_one_call(
    world: World, address: str | None, late: float, goes_on: bool
) -> None:
    world.store.next("insert", after(lambda: asyncio.sleep(late)))
    asked = world.registry.register(request(address=address), deadline=1000.0)
    if goes_on:
        assert await asked == Registered(FIRST, created=True)
        await world.settled()
    else:
        with pytest.raises(Unavailable, match="took too long"):
            await asked
        assert world.netbox.counted[creation(address)] == 0
        await world.nothing()


@FORM
@pytest.mark.parametrize(("room", "goes_on"), [(NETBOX_CALL, True), (NETBOX_CALL - MILLISECOND, False)])
async def test_nothing_is_begun_that_there_is_no_time_to_finish(
    world: World, address: str | None, room: float, goes_on: bool
) -> None:
    asked = world.registry.register(request(address=address), deadline=world.loop.time() + room)
    if goes_on:
        assert (await asked).address == FIRST
        await world.settled()
    else:
        with pytest.raises(Unavailable, match="took too long"):
            await asked
        assert "insert" not in world.store.calls
        assert world.netbox.calls == []


@FORM
@pytest.mark.parametrize(("jump", "goes_on"), [(ROOM, True), (ROOM + MILLISECOND, False)])
async def test_a_wall_clock_that_jumps_forth_ends_the_lease(
    world: World, address: str | None, jump: float, goes_on: bool
) -> None:
    async def set_clock() -> None:
        world.clock.skew += jump

    world.store.next("insert", after(set_clock))
    if goes_on:
        assert await world.register(address=address) == FIRST
    else:
        with pytest.raises(Unavailable):
            await world.register(address=address)
        assert world.netbox.counted[creation(address)] == 0
        await world.nothing()


@FORM
@pytest.mark.parametrize(("late", "goes_on"), [(ROOM, True), (ROOM + MILLISECOND, False)])
async def test_a_wall_clock_that_jumps_back_does_not_lengthen_the_deadline(
    world: World, address: str | None, late: float, goes_on: bool
) -> None:
    async def set_clock_and_sleep() -> None:
        world.clock.skew -= 3600
        await asyncio.sleep(late)

    world.store.next("insert", after(set_clock_and_sleep))
    if goes_on:
        assert await world.register(address=address) == FIRST
    else:
        with pytest.raises(Unavailable):
            await world.register(address=address)
        assert world.netbox.counted[creation(address)] == 0


@pytest.mark.parametrize(("late", "made"), [(LONGEST_REQUEST - MILLISECOND, True), (LONGEST_REQUEST, False)])
async def test_who_wakes_up_at_his_deadline_does_not_finish(world: World, late: float, made: bool) -> None:
    world.netbox.next("create_next", after(lambda: asyncio.sleep(late)))
    if made:
        assert await world.register() == FIRST
        return
    with pytest.raises(Unavailable):
        await world.register()
    assert (await world.only()).state is State.CREATING
    assert await world.register() == FIRST
    assert len(world.prefixes) == 1
    await world.settled()


@FORM
async def test_no_call_is_allowed_longer_than_the_time_that_is_left(world: World, address: str | None) -> None:
    """Every answer in time: NetBox is slow throughout, and the request gives up before its deadline."""
    world.server.simulator.latency_ms = 9_000
    began = world.loop.time()
    with suppress(Unavailable):
        assert await world.register(address=address) == FIRST
    assert world.loop.time() - began <= LONGEST_REQUEST
    world.server.simulator.latency_ms = 0
    await asyncio.sleep(10)
    assert await world.register(address=address) == FIRST
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


# -- take-over ---------------------------------------------------------------------------------------------------------


@FORM
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize(("age", "waits"), [(LONGEST_REQUEST - MILLISECOND, True), (LONGEST_REQUEST, False)])
async def test_a_creation_is_taken_over_from_the_end_of_its_lease_on(
    world: World, address: str | None, made: bool, age: float, waits: bool
) -> None:
    old = await left_behind(world, address, made=made)
    await asyncio.sleep(age)
    began = world.loop.time()
    assert await world.instance().register(request(address=address)) == Registered(FIRST, created=True)
    assert (world.loop.time() > began) == waits
    one = await world.only()
    assert (one.id, one.state, one.lease_until) == (old.id, State.LIVE, None)
    assert world.netbox.counted[creation(address)] == int(not made)
    await world.settled()


@FORM
async def test_a_request_that_comes_too_early_is_asked_to_come_again(world: World, address: str | None) -> None:
    """The lease ends within its time, but what is left then is not enough to finish."""
    await left_behind(world, address, made=True)
    await asyncio.sleep(5)
    with pytest.raises(Unavailable):
        await world.register(address=address)
    assert world.loop.time() <= 5 + LONGEST_REQUEST
    assert await world.register(address=address) == FIRST
    await world.settled()


@FORM
async def test_the_first_of_many_takes_over(world: World, address: str | None) -> None:
    await left_behind(world, address, made=True)
    await asyncio.sleep(LONGEST_REQUEST)
    world.server.simulator.latency_ms = 45
    answers = await asyncio.gather(*(world.instance(seed=n).register(request(address=address)) for n in range(12)))
    assert sorted(one.created for one in answers) == [False] * 11 + [True]
    assert {one.address for one in answers} == {FIRST}
    await world.settled()


@FORM
async def test_what_the_successor_asks_for_counts(world: World, address: str | None) -> None:
    await left_behind(world, address, made=True, retention_period_days=7, deny_external_cleanup=True)
    await asyncio.sleep(LONGEST_REQUEST)
    await world.register(address=address, retention_period_days=2)
    [service] = (await world.only()).services
    assert (service.retention_period_days, service.deny_external_cleanup) == (2, False)
    await world.settled()


async def test_a_next_free_address_that_another_took_meanwhile_stays_his(world: World) -> None:
    await left_behind(world, made=False)
    assert await world.register("b") == FIRST
    await asyncio.sleep(LONGEST_REQUEST)
    assert await world.register() == SECOND
    await world.settled()


async def test_a_given_address_that_was_made_elsewhere_is_made_anew(world: World) -> None:
    """Another user changed the prefix before it was adopted: it is deleted, and the requested one is created."""
    await left_behind(world, FIRST, made=True)
    [prefix] = world.prefixes
    world.server.admin("PATCH", f"/api/ipam/prefixes/{prefix.id}/", {"prefix": "192.0.2.6/32"})
    await asyncio.sleep(LONGEST_REQUEST)
    assert await world.register(address=FIRST) == FIRST
    assert [one.prefix for one in world.prefixes] == [FIRST]
    await world.settled()


async def test_of_several_prefixes_under_its_id_one_is_adopted(world: World) -> None:
    old = await left_behind(world, made=True)
    world.foreign_prefix("192.0.2.3/32", uuid=old.id)
    await asyncio.sleep(LONGEST_REQUEST)
    assert await world.register() == FIRST
    assert len(world.prefixes) == 1
    await world.settled()


@FORM
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
async def test_another_secret_does_not_take_over(world: World, address: str | None, made: bool) -> None:
    old = await left_behind(world, address, made=made)
    await asyncio.sleep(LONGEST_REQUEST)
    with pytest.raises(StillInFlight):
        await world.register(address=address, secret="AnotherSecret")
    assert (await world.only()).id == old.id
    assert await world.register(address=address) == FIRST
    if address:
        with pytest.raises(WrongSecret):
            await world.register(address=address, secret="AnotherSecret")
    await world.settled()


async def test_another_service_does_not_take_over_a_given_address(world: World) -> None:
    old = await left_behind(world, FIRST, made=True)
    await asyncio.sleep(LONGEST_REQUEST)
    with pytest.raises(StillInFlight):
        await world.register("other", address=FIRST)
    assert (await world.only()).id == old.id
    await asyncio.sleep(LONGEST_REQUEST)
    await world.registry.recover()
    assert await world.register("other", address=FIRST) == FIRST
    await world.settled()


async def test_a_secret_of_the_old_scheme_takes_over_too(world: World) -> None:
    """The one that left it wrote the old scheme; the one that takes it over writes the new."""
    old = await left_behind(world, made=True)
    await world.store.unseen("replace", old, old.changed(secret=OLD_CIPHER.seal(SECRET)))
    await asyncio.sleep(LONGEST_REQUEST)
    assert await world.register() == FIRST
    assert CIPHER.is_current((await world.only()).secret)
    await world.settled()


# -- the previous holder -----------------------------------------------------------------------------------------------


@FORM
@pytest.mark.parametrize("when", ["before NetBox", "after NetBox", "before the last write"])
async def test_who_wakes_up_after_he_was_taken_over_does_no_harm(world: World, address: str | None, when: str) -> None:
    """The clock of the next holder is 26 s ahead, so both holders work on one document."""
    ahead = world.instance(skew=LONGEST_REQUEST + 1)

    async def successor() -> None:
        assert (await ahead.register(request(address=address))).address == FIRST

    if when == "before the last write":
        world.store.next("replace", before(successor))
    else:
        world.netbox.next(creation(address), (before if when == "before NetBox" else after)(successor))
    assert await world.register(address=address) == FIRST
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


@FORM
async def test_two_who_wake_up_after_an_hour_find_it_finished(world: World, address: str | None) -> None:
    async def sleep_an_hour(work: Work) -> Any:
        made = await work()
        await asyncio.sleep(3600)
        return made

    world.netbox.next(creation(address), sleep_an_hour)
    sleeper = world.begin(world.registry.register(request(address=address)))
    await asyncio.sleep(60)
    await world.instance().recover()
    assert await world.instance().register(request(address=address)) == Registered(FIRST, created=True)
    one = await world.only()
    with pytest.raises(Unavailable):
        await sleeper
    assert await world.only() == one
    await world.settled()
