"""Creation: NetBox hands out what is registered already, replies get lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.errors import AddressTaken, NetBoxRejected, NetBoxUnavailable, StorageUnavailable, ZoneFull
from ipam_lib.models import Registered, State
from ipam_lib.netbox.base import Prefix
from tests.registry.watched import Died, Work, after, before, done_but, fails, landed_late, netbox_lost, storage_lost
from tests.registry.world import FIRST, SECOND, THIRD, World, request

FORM = pytest.mark.parametrize("address", [None, FIRST], ids=["next free", "given"])


def creation(address: str | None) -> str:
    """The call of NetBox that creates."""
    return "create_exact" if address else "create_next"


async def left_over(world: World, state: State, address: str) -> None:
    """A registration of another client on this address, in some state, without a prefix."""
    await world.register("other", address=address, secret="OtherSecret")
    one = await world.on(address)
    await world.store.unseen("replace", one, one.changed(state=state, services=()))
    world.steal(address)


# -- an address that is registered comes out of NetBox again -----------------------------------------------------------


async def test_a_registration_whose_prefix_was_deleted_gets_it_back(world: World) -> None:
    """NetBox hands its address out again: the prefix is given to it, and the new service gets the next."""
    await world.register("a")
    a = await world.on(FIRST)
    world.steal(FIRST)
    assert await world.registry.register(request("b")) == Registered(SECOND, created=True)
    given = await world.on(FIRST)
    assert (given.id, given.services) == (a.id, a.services)
    assert given.netbox_id != a.netbox_id
    await world.settled()


async def test_all_whose_prefixes_were_deleted_get_them_back(world: World) -> None:
    for name in "abc":
        await world.register(name)
    for address in (FIRST, SECOND, THIRD):
        world.steal(address)
    assert await world.register("d") == "192.0.2.3/32"
    await world.settled()
    assert [await world.register(name) for name in "abc"] == [FIRST, SECOND, THIRD]


async def test_a_full_zone_gives_back_before_it_refuses(world: World) -> None:
    for name in "ab":
        await world.register(name, zone="tiny")
    for prefix in world.prefixes:
        world.server.remove(prefix.id)
    with pytest.raises(ZoneFull):
        await world.register("c", zone="tiny")
    assert len(world.prefixes) == 2
    await world.settled()


async def test_a_given_address_whose_prefix_was_deleted_is_still_registered(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)
    assert await world.registry.register(request("b", address=FIRST)) == Registered(FIRST, created=False)
    assert await world.names() == {FIRST: ["a", "b"]}


async def test_what_netbox_gave_twice_is_given_back(world: World) -> None:
    """The registration's prefix is there: NetBox let two in. Ours goes, and stays until the next one is in hand."""
    await world.register("a")
    a = await world.on(FIRST)
    world.server.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    seen: list[int] = []

    async def twice(work: Work) -> Any:
        world.server.remove(a.netbox_id or 0)
        made = await work()
        world.foreign_prefix(FIRST, uuid=a.id)
        return made

    async def look(work: Work) -> Any:
        made = await work()
        seen.append(sum(one.prefix == FIRST for one in world.prefixes))
        return made

    world.netbox.next("create_next", twice, look)
    assert await world.register("b") == SECOND
    assert seen == [2], "kept, so that NetBox does not hand it out once more"
    assert [(one.prefix, one.uuid) for one in world.prefixes] == [(FIRST, a.id), (SECOND, (await world.on(SECOND)).id)]


@pytest.mark.parametrize("state", [State.RELEASING, State.ABORTING])
async def test_a_registration_that_is_ending_makes_way(world: World, state: State) -> None:
    await left_over(world, state, FIRST)
    assert await world.registry.register(request("b")) == Registered(FIRST, created=True)
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


@pytest.mark.parametrize("state", [State.RELEASING, State.ABORTING])
async def test_a_registration_that_is_ending_makes_way_for_a_given_address(world: World, state: State) -> None:
    await left_over(world, state, FIRST)
    assert await world.registry.register(request("b", address=FIRST)) == Registered(FIRST, created=True)
    await world.settled()


async def test_who_is_creating_that_very_address_keeps_it(world: World) -> None:
    """The unique index has given the address to the creation that names it, although NetBox was faster elsewhere."""
    world.store.next("insert", after(lambda: world.register("b")))
    assert await world.register("a", address=FIRST) == FIRST
    assert await world.names() == {FIRST: ["a"], SECOND: ["b"]}
    await world.settled()


async def test_a_given_address_waits_for_a_creation_that_will_leave_it(world: World) -> None:
    """NetBox gave the next free address to another request, which finds it registered and has not returned it yet."""
    a: list[asyncio.Task[Any]] = []

    async def named_meanwhile(work: Work) -> Any:
        made = await work()  # FIRST, in NetBox
        a.append(world.begin(world.registry.register(request("a", address=FIRST))))
        await asyncio.sleep(0.2)
        return made

    world.netbox.next("create_next", named_meanwhile)
    assert await world.register("b") == SECOND
    assert (await a[0]).address == FIRST
    await world.settled()


async def test_a_prefix_is_not_given_to_a_registration_that_is_released_meanwhile(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)

    async def released() -> None:
        await world.registry.expire(request("a"))
        await world.registry.release_expired()

    world.netbox.next("assign", before(released))
    assert await world.register("b") == FIRST
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


async def test_a_prefix_that_is_deleted_while_it_is_given_is_simply_gone(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)

    async def steal_again() -> None:
        world.steal(FIRST)

    world.netbox.next("assign", before(steal_again))
    assert await world.register("b") == SECOND
    await world.settled()


@FORM
async def test_who_finds_his_document_gone_starts_over(world: World, address: str | None) -> None:
    """The clock of another instance is far ahead: it takes the creation for an old one and undoes it."""
    ahead = world.instance(skew=3600)
    world.netbox.next(creation(address), before(ahead.recover))
    assert await world.register(address=address) == FIRST
    assert len(world.netbox.calls) > 2, "the first attempt was in vain"
    await world.settled()


@FORM
async def test_who_finds_his_document_gone_takes_his_prefix_with_him(world: World, address: str | None) -> None:
    ahead = world.instance(skew=3600)
    world.store.next("replace", before(ahead.recover))
    assert await world.register(address=address) == FIRST
    await world.settled()


# -- lost replies of NetBox --------------------------------------------------------------------------------------------


@FORM
@pytest.mark.parametrize("action", ["disconnect", "html", "garbage", "status"])
async def test_a_creation_whose_reply_is_lost_is_looked_for(world: World, address: str | None, action: str) -> None:
    world.server.fault(action, method="POST", applied="before")
    assert await world.register(address=address) == FIRST
    assert world.netbox.counted[creation(address)] == 1
    assert world.netbox.counted["find_by_uuid"] == 1
    await world.settled()


@FORM
@pytest.mark.parametrize("action", ["disconnect", "html", "garbage", "status"])
async def test_a_creation_that_did_not_happen_is_sent_again(world: World, address: str | None, action: str) -> None:
    world.server.fault(action, method="POST", times=2)
    assert await world.register(address=address) == FIRST
    assert world.netbox.counted[creation(address)] == 3
    assert world.netbox.counted["find_by_uuid"] == 2
    await world.settled()


@FORM
async def test_a_creation_that_was_surely_not_sent_is_not_looked_for(world: World, address: str | None) -> None:
    world.netbox.next(creation(address), fails(netbox_lost(applied=False)))
    assert await world.register(address=address) == FIRST
    assert world.netbox.counted["find_by_uuid"] == 0
    await world.settled()


@FORM
async def test_netbox_that_refuses_every_connection_leaves_nothing_behind(world: World, address: str | None) -> None:
    world.netbox.next(creation(address), *[fails(netbox_lost(applied=False))] * 3)
    with pytest.raises(NetBoxUnavailable) as refused:
        await world.register(address=address)
    assert (refused.value.status, refused.value.retry_after > 0) == (503, True)
    await world.nothing()


@FORM
@pytest.mark.parametrize("status", [400, 403])
async def test_what_netbox_refuses_leaves_nothing_behind(world: World, address: str | None, status: int) -> None:
    world.server.fault("status", method="POST", status=status)
    with pytest.raises(NetBoxRejected) as refused:
        await world.register(address=address)
    assert refused.value.status == 503
    assert "simulated fault" not in refused.value.message
    await world.nothing()


@FORM
async def test_after_a_timeout_nothing_is_sent_again_by_the_same_request(world: World, address: str | None) -> None:
    """NetBox may still be at it, and carries it out later: the next request finds what it made."""
    world.server.fault("delay", method="POST", seconds=15)
    with pytest.raises(NetBoxUnavailable):
        await world.register(address=address)
    assert world.netbox.counted[creation(address)] == 1
    one = await world.only()
    assert one.state is State.CREATING
    assert await world.instance().register(request(address=address)) == Registered(FIRST, created=True)
    assert (await world.only()).id == one.id
    assert world.netbox.counted[creation(address)] == 1
    await world.settled()


@FORM
async def test_a_creation_that_was_only_slow_to_answer_is_found(world: World, address: str | None) -> None:
    world.server.fault("delay", method="POST", seconds=15, applied="before")
    assert await world.register(address=address) == FIRST
    assert world.netbox.counted[creation(address)] == 1
    await world.settled()


@FORM
async def test_a_lost_reply_that_cannot_be_looked_for_is_left_to_the_next_request(
    world: World, address: str | None
) -> None:
    world.netbox.next(creation(address), done_but(netbox_lost()))
    world.netbox.next("find_by_uuid", fails(netbox_lost()))
    with pytest.raises(NetBoxUnavailable):
        await world.register(address=address)
    one = await world.only()
    assert (one.state, [prefix.uuid for prefix in world.prefixes]) == (State.CREATING, [one.id])
    began = world.loop.time()
    assert await world.registry.register(request(address=address)) == Registered(FIRST, created=True)
    assert world.loop.time() - began < 1, "its lease was cut short"
    assert (await world.only()).id == one.id
    assert world.netbox.counted[creation(address)] == 1
    await world.settled()


@FORM
async def test_a_lost_reply_that_cannot_be_looked_for_is_else_left_to_recovery(
    world: World, address: str | None
) -> None:
    world.netbox.next(creation(address), done_but(netbox_lost()))
    world.netbox.next("find_by_uuid", fails(netbox_lost()))
    with pytest.raises(NetBoxUnavailable):
        await world.register(address=address)
    await asyncio.sleep(60)
    assert (await world.registry.recover()).aborted == 1
    await world.nothing()


@FORM
async def test_of_two_prefixes_of_one_creation_one_is_kept(world: World, address: str | None) -> None:
    """A first sending that NetBox was slow with lands after the second: both bear the document's id."""
    world.server.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})

    async def lands_late() -> None:
        world.foreign_prefix(FIRST, uuid=(await world.only()).id)

    world.netbox.next(creation(address), fails(netbox_lost()))
    world.netbox.next("find_by_uuid", after(lands_late))
    answer = await world.register(address=address)
    assert answer == (address or SECOND)
    one = await world.only()
    late = [prefix for prefix in world.prefixes if prefix.id != one.netbox_id]
    assert len(late) <= 1, "reconcile finds what no request searched for"
    for _ in range(3):
        await asyncio.sleep(60)
        async for _found in world.registry.reconcile(fix=True):
            pass
    await world.settled()


# -- lost replies of the storage ---------------------------------------------------------------------------------------


@FORM
@pytest.mark.parametrize("how", [fails, done_but])
@pytest.mark.parametrize("name", ["insert", "replace"])
async def test_a_lost_write_is_read_back(world: World, address: str | None, how: Any, name: str) -> None:
    world.store.next(name, how(storage_lost()))
    assert await world.registry.register(request(address=address)) == Registered(FIRST, created=True)
    assert world.netbox.counted[creation(address)] == 1
    assert world.store.counted[name] == (1 if how is done_but else 2), "what is there is not sent again"
    await world.settled()


@FORM
@pytest.mark.parametrize("name", ["insert", "replace"])
async def test_a_write_that_lands_between_two_attempts_is_recognized(
    world: World, address: str | None, name: str
) -> None:
    world.store.next(name, fails(storage_lost()), landed_late)
    assert await world.registry.register(request(address=address)) == Registered(FIRST, created=True)
    assert world.netbox.counted[creation(address)] == 1
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


@FORM
async def test_a_write_that_was_surely_not_made_is_made_again(world: World, address: str | None) -> None:
    for name in ("insert", "replace"):
        world.store.next(name, *[fails(storage_lost(applied=False))] * 2)
    assert await world.register(address=address) == FIRST
    assert world.netbox.counted[creation(address)] == 1
    await world.settled()


@FORM
async def test_storage_away_before_the_insert_asks_netbox_nothing(world: World, address: str | None) -> None:
    world.store.next("insert", *[fails(storage_lost(applied=False))] * 3)
    with pytest.raises(StorageUnavailable) as refused:
        await world.register(address=address)
    assert (refused.value.status, refused.value.retry_after > 0) == (503, True)
    assert world.netbox.calls == []
    await world.nothing()


async def test_storage_away_at_the_second_read_leaves_nothing_behind(world: World) -> None:
    world.store.next("find_service", None, fails(storage_lost(applied=False)))
    with pytest.raises(StorageUnavailable):
        await world.register()
    assert world.netbox.calls == []
    await world.nothing()


@FORM
async def test_storage_away_at_the_end_leaves_what_the_next_request_finishes(world: World, address: str | None) -> None:
    world.store.next("replace", *[fails(storage_lost(applied=False))] * 3)
    with pytest.raises(StorageUnavailable):
        await world.register(address=address)
    one = await world.only()
    assert one.state is State.CREATING
    assert await world.registry.register(request(address=address)) == Registered(FIRST, created=True)
    assert (await world.only()).id == one.id
    assert world.netbox.counted[creation(address)] == 1
    await world.settled()


@FORM
async def test_storage_away_altogether_leaves_it_to_recovery(world: World, address: str | None) -> None:
    world.store.next("replace", *[fails(storage_lost(applied=False))] * 4)
    with pytest.raises(StorageUnavailable):
        await world.register(address=address)
    await asyncio.sleep(60)
    assert (await world.registry.recover()).aborted == 1
    await world.nothing()


# -- giving up ---------------------------------------------------------------------------------------------------------


async def test_what_was_refused_as_taken_leaves_nothing_behind(world: World) -> None:
    theirs = world.foreign_prefix(FIRST)
    with pytest.raises(AddressTaken):
        await world.register(address=FIRST)
    assert await world.registrations() == []
    assert world.prefixes == [theirs]


async def test_a_zone_that_proves_full_gets_back_what_was_kept(world: World) -> None:
    """Another request creates the last address, which it named; NetBox gave it out, and there is no other."""
    await world.register("a", zone="tiny")
    world.netbox.next("create_exact", fails(Died()))
    with pytest.raises(Died):
        await world.register("b", zone="tiny", address="203.0.113.1/32")
    with pytest.raises(ZoneFull):
        await world.register("c", zone="tiny")
    assert [one.state for one in await world.registrations()] == [State.LIVE, State.CREATING]
    assert [one.prefix for one in world.prefixes] == ["203.0.113.0/32"]
    await asyncio.sleep(25)
    assert await world.register("b", zone="tiny", address="203.0.113.1/32") == "203.0.113.1/32"
    await world.settled()


async def test_what_was_made_on_a_taken_address_after_all_is_taken_back(world: World) -> None:
    """A creation of the process that died arrives late, beside a network of another user."""
    world.netbox.next("create_exact", fails(Died()))
    with pytest.raises(Died):
        await world.register(address=FIRST)
    left = await world.only()
    await asyncio.sleep(25)

    async def meanwhile() -> None:
        world.foreign_prefix("192.0.2.0/31")
        world.foreign_prefix(FIRST, uuid=left.id)

    world.netbox.next("covering", before(meanwhile))
    with pytest.raises(AddressTaken):
        await world.register(address=FIRST)
    assert await world.registrations() == []
    assert [one.prefix for one in world.prefixes] == ["192.0.2.0/31"]


async def test_a_lost_reply_after_which_the_zone_proves_full_is_looked_for(world: World) -> None:
    await world.register("a", zone="tiny")
    world.server.fault("disconnect", method="POST", applied="before")
    assert await world.register("b", zone="tiny") == "203.0.113.1/32"
    await world.settled()


async def test_a_caller_that_hangs_up_leaves_it_to_recovery(world: World) -> None:
    """A cancelled request writes nothing more: its prefix is found by the ID."""
    asked = asyncio.Event()

    async def hang(work: Work) -> Prefix:
        made = await work()
        asked.set()
        await asyncio.sleep(3600)
        return made  # type: ignore[no-any-return]

    world.netbox.next("create_next", hang)
    task = world.begin(world.registry.register(request()))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await world.only()).state is State.CREATING
    await asyncio.sleep(60)
    assert (await world.registry.recover()).aborted == 1
    await world.nothing()


async def test_a_container_added_to_a_full_zone_is_used_at_once(world: World) -> None:
    for name in "ab":
        await world.register(name, zone="tiny")
    await asyncio.sleep(60)  # a refresh is not asked for twice in a row
    fields = {"k8s_zone": "tiny"}
    body = {"prefix": "203.0.113.8/31", "vrf": 1, "status": "container", "custom_fields": fields}
    world.server.admin("POST", "/api/ipam/prefixes/", body)
    answers = await asyncio.gather(*(world.register(name, zone="tiny") for name in "cdef"), return_exceptions=True)
    assert sorted(str(one) for one in answers if isinstance(one, str)) == ["203.0.113.8/32", "203.0.113.9/32"]
    assert [type(one) for one in answers if not isinstance(one, str)] == [ZoneFull] * 2
    await world.settled()


async def test_a_full_zone_asks_netbox_for_new_containers_rarely(world: World) -> None:
    for name in "ab":
        await world.register(name, zone="tiny")
    await asyncio.sleep(60)
    before = world.server.calls["custom-field-choice-sets.list"]
    for name in "cde":
        with pytest.raises(ZoneFull):
            await world.register(name, zone="tiny")
    assert world.server.calls["custom-field-choice-sets.list"] == before + 1
