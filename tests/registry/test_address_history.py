"""Which service had an address, from when to when: what is written, in which order, and what is read."""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.addresses import spellings
from ipam_lib.errors import BadRequest, StorageUnavailable, Unavailable
from ipam_lib.models import Departure, State, Tenure
from ipam_lib.registry import Context, Registry
from ipam_lib.registry.address_history import READINGS, held_between
from tests.registry.watched import Died
from tests.registry.world import CIPHER, CLUSTER, DAY, FIRST, OTHER_CLUSTER, SECOND, World, key, request
from tests.storage.samples import NOW, legacy_documents, object_id, registration, service
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.support.virtual_loop import EPOCH

ONE_DAY = timedelta(days=1)


async def told(world: World, address: str = FIRST, **options: Any) -> list[tuple[str, int | None, int | None]]:
    """Name, beginning and end (in seconds of the loop) of the tenures of an address, on one page."""
    page = await world.registry.history(spellings(address), **{"limit": 1000} | options)
    assert page.cursor is None

    def seconds(moment: datetime | None) -> int | None:
        return None if moment is None else round((moment - EPOCH).total_seconds())

    return [(one.key.service_name, seconds(one.since), seconds(one.until)) for one in page.tenures]


async def expire(world: World, name: str, **fields: Any) -> None:
    await world.registry.expire(request(name, **fields))


async def test_who_holds_an_address_stands_in_its_registration_alone(world: World) -> None:
    await asyncio.sleep(100)
    await world.register("a")
    await asyncio.sleep(50)
    await world.register("b", address=FIRST)
    assert await told(world) == [("b", 150, None), ("a", 100, None)]
    assert await told(world, SECOND) == []
    assert "history_insert" not in world.store.calls


async def test_a_tenure_ends_when_the_service_leaves_and_not_when_it_expires(world: World) -> None:
    await world.register("a")
    await asyncio.sleep(100)
    await world.register("b", address=FIRST)
    await expire(world, "a")
    await asyncio.sleep(20)
    assert await told(world) == [("b", 100, None), ("a", 0, None)]
    await world.registry.release_expired()
    assert await told(world) == [("b", 100, None), ("a", 0, 120)]
    one = await world.only()
    assert (one.departed, [each.key.service_name for each in one.services]) == ((), ["b"])


async def test_a_service_that_comes_back_in_time_goes_on(world: World) -> None:
    await world.register("a")
    await asyncio.sleep(100)
    await expire(world, "a")
    await asyncio.sleep(5)
    await world.register("a")
    await world.registry.release_expired()
    assert await told(world) == [("a", 0, None)]
    await world.register("a", retention_period_days=3)
    await world.registry.expire_cluster(CLUSTER)
    assert await told(world) == [("a", 0, None)]


async def test_one_that_leaves_and_comes_back_has_two_tenures(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    for _ in range(2):
        await asyncio.sleep(100)
        await expire(world, "a")
        await world.registry.release_expired()
        await asyncio.sleep(10)
        await world.register("a", address=FIRST)
    assert await told(world) == [("a", 220, None), ("b", 0, None), ("a", 110, 210), ("a", 0, 100)]


async def test_a_released_address_and_its_next_holder(world: World) -> None:
    await world.register("a")
    await asyncio.sleep(100)
    await expire(world, "a")
    await world.registry.release_expired()
    await world.nothing()
    assert await told(world) == [("a", 0, 100)]
    await asyncio.sleep(100)
    assert await world.register("b") == FIRST
    assert await told(world) == [("b", 200, None), ("a", 0, 100)]
    page = await world.registry.history(spellings(FIRST), limit=9)
    assert len({one.registration_id for one in page.tenures}) == 2
    assert page.tenures[1] == Tenure(
        id=page.tenures[1].id,
        registration_id=page.tenures[1].registration_id,
        zone="inet",
        ip_family="ipv4",
        address=FIRST,
        key=key("a"),
        since=world.now(seconds=-200),
        until=world.now(seconds=-100),
    )


async def test_a_tenure_begins_when_the_address_is_there_and_not_when_it_was_asked_for(world: World) -> None:
    async def slowly(work: Any) -> Any:
        made = await work()
        await asyncio.sleep(7)
        return made

    world.netbox.next("create_next", slowly)
    await world.register("a")
    assert await told(world) == [("a", 7, None)]


async def test_an_address_from_the_pool_begins_when_it_is_given(world: World) -> None:
    instance = world.instance(warm=2)
    await instance.maintain_pool()
    await asyncio.sleep(100)
    assert (await instance.register(request("a"))).address == FIRST
    assert await told(world) == [("a", 100, None)]


async def test_several_that_leave_at_once(world: World) -> None:
    for name in "abc":
        await world.register(name, address=FIRST)
    await world.register("d", cluster=OTHER_CLUSTER, address=FIRST)
    await asyncio.sleep(100)
    await world.registry.expire_cluster(CLUSTER)
    await world.registry.release_expired()
    found = await told(world)
    assert found[0] == ("d", 0, None)
    assert sorted(found[1:]) == [("a", 0, 100), ("b", 0, 100), ("c", 0, 100)]


async def test_a_clock_that_was_set_back_ends_no_tenure_before_it_began(world: World) -> None:
    ahead = world.instance(skew=60)
    await ahead.register(request("a"))
    await world.registry.expire(request("a"))
    await asyncio.sleep(1)
    await world.registry.release_expired()
    assert await told(world) == [("a", 60, 60)]


# -- crashes ---------------------------------------------------------------------------------------------------------


async def _dies(_work: Any) -> Any:
    raise Died


async def _done_then_dies(work: Any) -> Any:
    await work()
    raise Died


@pytest.mark.parametrize("how", [_dies, _done_then_dies])
@pytest.mark.parametrize("alone", [True, False], ids=["the last one leaves", "another one stays"])
async def test_every_step_of_a_departure_may_be_the_last_of_its_process(world: World, how: Any, alone: bool) -> None:
    """Whatever step it is: a departed service is told of as such from then on, and the next round finishes."""
    for number in range(20):
        name = f"a{number}"
        await world.register(name, address=FIRST)
        if not alone:
            await world.register("b", address=FIRST)
        await asyncio.sleep(100)
        began = round(world.loop.time())
        await expire(world, name)
        calls = itertools.count()
        world.store.always = lambda _name, calls=calls, last=number: how if next(calls) == last else None
        died = False
        try:
            await world.instance().release_expired()
        except Died:
            died = True
        world.store.calm()
        standing = await world.registrations()
        left = not any(one.service(key(name)) for one in standing if one.state is State.LIVE)
        mine = [one for one in await told(world) if one[0] == name]
        assert mine == [(name, began - 100, began if left else None)]
        await world.registry.release_expired()
        assert [one for one in await told(world) if one[0] == name] == [(name, began - 100, began)]
        assert all(not one.departed for one in await world.registrations())
        if not died:
            break
    else:
        pytest.fail("more steps than were tried")
    assert number >= 4


async def test_a_history_that_cannot_be_written_waits_in_the_registration(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    await world.register("c")
    for name in ("a", "c"):
        await expire(world, name)

    async def away(_work: Any) -> Any:
        raise StorageUnavailable(applied=False)

    world.store.always = lambda name: away if name == "history_insert" else None
    for _ in range(3):
        report = await world.registry.release_expired()
        assert (report.released, report.failed) == (0, 2)
        # Told all the same.
        assert [one[0] for one in await told(world) if one[2] is not None] == ["a"]
        assert [one[0] for one in await told(world, SECOND) if one[2] is not None] == ["c"]
    world.store.calm()
    report = await world.registry.release_expired()
    assert (report.released, report.failed) == (1, 0)
    assert [one[0] for one in await told(world) if one[2] is not None] == ["a"]
    assert [one[0] for one in await told(world, SECOND)] == ["c"]
    await world.settled()


async def test_writing_it_twice_leaves_one(world: World) -> None:
    """Two instances are at the same registration, and one of them sleeps for an hour before it writes."""
    await world.register("a")
    await expire(world, "a")
    asleep = asyncio.Event()

    async def sleeps(work: Any) -> Any:
        asleep.set()
        await asyncio.sleep(20)
        return await work()

    world.store.next("history_insert", sleeps)
    first = world.begin(world.instance().release_expired())
    await asleep.wait()
    await world.registry.release_expired()
    await world.nothing()
    assert await world.register("b") == FIRST
    await first
    assert [(name, until) for name, _, until in await told(world)] == [("b", None), ("a", 0)]


async def test_one_that_registers_again_at_that_moment_is_not_told_to_have_left(world: World) -> None:
    await world.register("a")
    await expire(world, "a")

    async def comes_back(work: Any) -> Any:
        await world.registry.register(request("a"))
        return await work()

    world.store.next("replace", comes_back)
    await world.instance().release_expired()
    assert await told(world) == [("a", 0, None)]
    assert await world.store.unseen("history_page", address=FIRST, zone=None, before=None, limit=9) == []


# -- documents of the earlier service --------------------------------------------------------------------------------


async def test_a_beginning_that_was_not_written_down_is_unknown(world: World) -> None:
    document = legacy_documents()[0] | {"zone": "inet"}
    await world.seed(document)
    found = await told(world, document["address"])
    assert [(since, until) for _, since, until in found] == [(None, None)] * len(document["services"])
    [old] = [one for one in await world.registrations() if one.id == document["_id"]]
    expired = old.changed(services=tuple(replace(one, expires_at=world.now()) for one in old.services))
    assert await world.store.unseen("replace", old, expired)
    await world.registry.release_expired()
    found = await told(world, document["address"])
    assert [(since, until) for _, since, until in found] == [(None, 0)] * len(document["services"])


async def test_the_earlier_service_may_drop_what_it_does_not_know(world: World) -> None:
    """It writes the services anew as it knows them: then a beginning is unknown, and nothing else is lost."""
    await world.register("a")
    await world.register("b", address=FIRST)
    one = await world.only()
    raw = await asyncio.to_thread(world.backend.raw, one.id)
    assert raw is not None
    for each in raw["services"]:
        assert each.pop("since")
    await asyncio.to_thread(world.backend.overwrite, raw)
    assert sorted(await told(world)) == [("a", None, None), ("b", None, None)]
    await asyncio.sleep(100)
    await world.register("c", address=FIRST)
    await expire(world, "a")
    await world.registry.release_expired()
    assert await told(world) == [("c", 100, None), ("b", None, None), ("a", None, 100)]


@pytest.mark.parametrize("stored", ["2001:DB8::0003", "2001:db8::3/128", "2001:0DB8:0000:0000:0000:0000:0000:0003/128"])
async def test_an_address_is_found_however_it_was_written(world: World, stored: str) -> None:
    document = legacy_documents()[0] | {"address": stored, "ip_family": "ipv6", "zone": "inet"}
    document["services"] = [document["services"][0] | {"expires_at": world.now(seconds=-1)}]
    await world.seed(document)
    asked = stored if "0003" in stored and "/" not in stored else "2001:db8::3"
    assert [until for _, _, until in await told(world, asked)] == [None]
    await world.registry.release_expired()
    # From then on under its canonical text.
    assert [until for _, _, until in await told(world, "2001:db8::3")] == [0]


# -- how long it is kept ---------------------------------------------------------------------------------------------


async def test_what_ended_long_ago_is_forgotten_and_who_still_holds_never(world: World) -> None:
    for name in ("a", "b"):
        await world.register(name)
    await expire(world, "a")
    await world.registry.release_expired()
    keeping = world.instance(history=timedelta(days=30))
    for day in range(31):
        assert await keeping.prune_history() == 0, day
        await asyncio.sleep(DAY)
    assert await keeping.prune_history() == 1
    assert await told(world) == []
    assert [name for name, _, _ in await told(world, SECOND)] == ["b"]


async def test_pruning_is_bounded_in_each_round(world: World) -> None:
    ended = [
        Tenure(object_id(number), object_id(9), "inet", "ipv4", FIRST, key(), None, world.now())
        for number in range(1203)
    ]
    await world.store.unseen("history_insert", ended)
    await asyncio.sleep(1)
    nothing_kept = world.instance(history=timedelta(0))
    world.forget()
    assert await nothing_kept.prune_history() == 1203
    assert world.store.calls == ["history_prune"] * 3
    assert await nothing_kept.prune_history() == 0


async def test_a_clock_that_leaps_ahead_prunes_nothing_at_once(world: World) -> None:
    await world.register("a")
    await expire(world, "a")
    await world.registry.release_expired()
    keeping = world.instance(history=timedelta(days=30))
    assert await keeping.prune_history() == 0
    keeping.context.clock.skew = 40 * DAY  # type: ignore[attr-defined]
    assert await keeping.prune_history() == 0
    keeping.context.clock.skew = 0  # type: ignore[attr-defined]


async def test_where_no_history_is_kept_none_is_written(world: World) -> None:
    off = world.instance(history=timedelta(0))
    await off.register(request("a"))
    await off.register(request("b", address=FIRST))
    await off.expire(request("a"))
    world.forget()
    await off.release_expired()
    assert "history_insert" not in world.store.calls
    assert [name for name, _, _ in await told(world)] == ["b"]
    await off.expire(request("b"))
    await off.release_expired()
    await world.nothing()
    assert await told(world) == []


async def test_what_waits_is_written_even_when_no_more_is_kept(world: World) -> None:
    waiting = registration(departed=(Departure(object_id(5), key("gone"), None, world.now()),))
    await world.store.unseen("insert", waiting)
    await world.instance(history=timedelta(0)).release_expired()
    current = await world.store.unseen("get", waiting.id)
    assert current.departed == ()
    assert [name for name, _, until in await told(world, waiting.address) if until is not None] == ["gone"]


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_reading_is_three_calls_of_the_storage_and_none_of_netbox(world: World) -> None:
    await world.register("a")
    world.forget()
    await world.registry.history(spellings(FIRST), limit=50)
    assert world.store.calls == ["find_address", "history_page", "find_address"]
    assert world.netbox.calls == []


async def test_in_a_zone_or_in_any(world: World) -> None:
    here = registration(address=FIRST, services=(service("here", since=world.now()),))
    there = registration(address=FIRST, zone="office", services=(service("there"),))
    for one in (here, there):
        await world.store.unseen("insert", one)
    ended = Tenure(object_id(1), object_id(2), "office", "ipv4", FIRST, key("gone"), None, world.now())
    await world.store.unseen("history_insert", [ended])
    assert [name for name, _, _ in await told(world)] == ["here", "there", "gone"]
    assert [name for name, _, _ in await told(world, zone="office")] == ["there", "gone"]
    assert await told(world, zone="nowhere") == []


async def test_what_is_being_made_or_given_up_is_nobodys(world: World) -> None:
    for state in (State.CREATING, State.ABORTING):
        one = registration(state=state)
        await world.store.unseen("insert", one)
        assert await told(world, one.address) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_hold_each_once(world: World, limit: int) -> None:
    holding = registration(
        address=FIRST,
        services=tuple(service(f"s{number}", since=NOW + timedelta(days=number % 3)) for number in range(5)),
        departed=(Departure(object_id(50), key("waiting"), None, NOW + timedelta(hours=1)),),
    )
    old = registration(address=FIRST, zone="office", services=(service("legacy"),))
    for one in (holding, old):
        await world.store.unseen("insert", one)
    ended = [
        Tenure(
            object_id(number), holding.id, "inet", "ipv4", FIRST, key(f"e{number}"), None, NOW + number % 3 * ONE_DAY
        )
        for number in range(7)
    ]
    # What waits in the registration may be in the history already.
    waits = Tenure(object_id(50), holding.id, "inet", "ipv4", FIRST, key("waiting"), None, NOW + timedelta(hours=1))
    await world.store.unseen("history_insert", [*ended, waits])
    seen: list[Tenure] = []
    cursor = None
    while True:
        page = await world.registry.history(spellings(FIRST), limit=limit, cursor=cursor)
        assert len(page.tenures) <= limit
        seen += page.tenures
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.tenures) == limit
    assert len(seen) == len({one.id for one in seen}) == 5 + 1 + 7 + 1
    assert [one.until is None for one in seen] == [True] * 6 + [False] * 8
    began = [one.since for one in seen[:6]]
    assert began == sorted(began, key=lambda one: one or NOW - ONE_DAY, reverse=True)
    ends = [one.until for one in seen[6:] if one.until]
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "A" * 37 + "=", "_" * 37 + "=", "A" * 38, "é" * 38, "f_____________________________________", "A" * 16],
)
async def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await world.registry.history(spellings(FIRST), limit=1, cursor=cursor)
    assert caught.value.errors == {"cursor": ["is not a cursor of an earlier page"]}


@given(st.binary(min_size=28, max_size=28))
@settings(deadline=None)
def test_any_bytes_make_a_cursor_that_is_read_or_refused(place: bytes) -> None:
    async def read() -> None:
        store = MemoryStore()
        await store.open()
        context = Context(store, PlainNetBox(), PlainZones(()), CIPHER, FakeClock(), lambda: object_id(1))
        try:
            page = await Registry(context).history(
                spellings(FIRST), limit=1, cursor=base64.urlsafe_b64encode(place).decode()
            )
        except BadRequest:
            return
        assert page.tenures == []

    asyncio.run(read())


async def test_a_tenure_that_goes_to_the_history_between_two_looks_is_told_once(world: World) -> None:
    await world.register("a")
    await expire(world, "a")

    async def then_it_leaves(work: Any) -> Any:
        found = await work()
        await world.instance().release_expired()
        return found

    async def it_leaves_first(work: Any) -> Any:
        await world.instance().release_expired()
        return await work()

    for name, plan in (
        ("history_page", then_it_leaves),
        ("find_address", then_it_leaves),
        ("history_page", it_leaves_first),
    ):
        world.store.next(name, plan)
        assert [(one[0], one[2] is not None) for one in (await told(world))[:1]] == [("a", True)]
        assert len([one for one in await told(world) if one[2] is None]) == 0
        assert await world.register("a") == FIRST
        await expire(world, "a")


async def test_registrations_that_keep_changing_are_told_to_be_unreadable_now(world: World) -> None:
    await world.register("a")
    days = itertools.cycle((1, 2))

    async def changing(work: Any) -> Any:
        await world.instance().register(request("a", retention_period_days=next(days)))
        return await work()

    world.store.next("history_page", *[changing] * READINGS)
    with pytest.raises(Unavailable, match="keep changing"):
        await told(world)
    assert await told(world) == [("a", 0, None)]


@pytest.mark.parametrize(
    ("since", "until", "held"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + timedelta(milliseconds=1), None, False),
        (None, NOW, False),
        (None, NOW + timedelta(milliseconds=1), True),
        (NOW - ONE_DAY, NOW + ONE_DAY, True),
        (NOW, NOW, False),
    ],
)
def test_who_held_it_at_a_moment(since: Any, until: Any, held: bool) -> None:
    one = Tenure(object_id(1), object_id(2), "inet", "ipv4", FIRST, key(), since, until)
    assert held_between(one, NOW, NOW) is held


def test_who_held_it_at_any_moment_of_a_day() -> None:
    one = Tenure(object_id(1), object_id(2), "inet", "ipv4", FIRST, key(), NOW, NOW + timedelta(hours=1))
    assert held_between(one, NOW - ONE_DAY, NOW + ONE_DAY)
    assert held_between(one, NOW - ONE_DAY, NOW)
    assert not held_between(one, NOW + timedelta(hours=1), NOW + ONE_DAY)
    assert not held_between(one, NOW - ONE_DAY, NOW - timedelta(milliseconds=1))
