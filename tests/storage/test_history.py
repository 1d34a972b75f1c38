"""The history's part of the storage contract, over every store; and what registrations carry until it is in there."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ipam_lib.models import Departure, State, Tenure
from ipam_lib.storage.base import Store
from ipam_lib.storage.history_store import HistoryPosition
from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore
from tests.storage.samples import DAY, MILLISECOND, NOW, key, legacy_documents, object_id, registration, service

ADDRESS = "10.0.0.1/32"


def tenure(number: int, **fields: Any) -> Tenure:
    """One that ended `number` days after NOW."""
    values: dict[str, Any] = {
        "id": object_id(number),
        "registration_id": object_id(1000 + number),
        "zone": "inet",
        "ip_family": "ipv4",
        "address": ADDRESS,
        "key": key(f"web-{number}"),
        "since": NOW,
        "until": NOW + number * DAY,
    }
    return Tenure(**values | fields)


async def fill(store: Store, *tenures: Tenure) -> None:
    await store.history_insert(random.Random(1).sample(tenures, len(tenures)))


async def pages(store: Store, limit: int, zone: str | None = None, address: str = ADDRESS) -> list[Tenure]:
    """Everything of an address, page by page."""
    found: list[Tenure] = []
    before = None
    while page := await store.history_page(address=address, zone=zone, before=before, limit=limit):
        assert len(page) <= limit
        found += page
        assert page[-1].until is not None
        before = HistoryPosition(page[-1].until, page[-1].id)
    return found


async def test_a_tenure_comes_back_as_it_was_kept(store: Store) -> None:
    whole = tenure(1, zone="æ", address="2001:db8::1/128", ip_family="ipv6", key=key("'; --", cluster="{$ne}"))
    unknown = tenure(2, since=None, address="2001:db8::1/128", ip_family="ipv6")
    await fill(store, whole, unknown)
    found = await store.history_page(address="2001:db8::1/128", zone=None, before=None, limit=9)
    assert found == [unknown, whole]
    assert found[0].until is not None
    assert found[0].until.utcoffset() == UTC.utcoffset(None)


async def test_there_is_none_at_first(store: Store) -> None:
    assert await store.history_page(address=ADDRESS, zone=None, before=None, limit=9) == []
    assert await store.history_prune(before=NOW, limit=9) == 0
    await store.history_insert([])


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
async def test_pages_begin_with_what_ended_last(store: Store, limit: int) -> None:
    some = [tenure(number) for number in range(9)]
    # At the same moment: by id.
    some += [replace(tenure(number), until=NOW + 3 * DAY) for number in (20, 21, 22)]
    some += [replace(tenure(30), until=NOW + 3 * DAY - MILLISECOND), replace(tenure(31), until=NOW - 400 * DAY)]
    others = [replace(tenure(40), zone="lab"), replace(tenure(41), address="10.0.0.10/32")]
    await fill(store, *some, *others)
    expected = sorted(some, key=lambda one: (one.until, one.id), reverse=True)
    assert await pages(store, limit, "inet") == expected
    assert await pages(store, limit, "lab") == [others[0]]
    assert await pages(store, limit, "nowhere") == []
    assert await pages(store, limit) == [others[0], *expected]
    assert await pages(store, limit, address="10.0.0.10/32") == [others[1]]


async def test_pages_are_stable_while_others_end(store: Store) -> None:
    some = [tenure(number) for number in range(6)]
    await fill(store, *some)
    first = await store.history_page(address=ADDRESS, zone=None, before=None, limit=3)
    await store.history_insert([tenure(9)])
    assert first[-1].until is not None
    rest = await store.history_page(
        address=ADDRESS, zone=None, before=HistoryPosition(first[-1].until, first[-1].id), limit=1000
    )
    assert first + rest == some[::-1]


async def test_what_is_kept_already_stays_as_it_is(open_store: OpenStore, store: Store) -> None:
    """Also in the midst of others that are new, and from several processes at once."""
    first = tenure(1)
    await store.history_insert([first])
    again = [tenure(0), replace(first, key=key("another"), until=NOW), tenure(2)]
    stores = [store, await open_store()]
    await asyncio.gather(*(stores[number % 2].history_insert(again) for number in range(10)))
    assert await pages(store, 10) == [tenure(2), first, tenure(0)]


async def test_the_oldest_are_pruned_a_batch_at_a_time(store: Store) -> None:
    some = [tenure(number) for number in range(10)]
    await fill(store, *some, replace(tenure(50), address="10.0.0.9/32", until=NOW))
    before = NOW + 6 * DAY
    assert await store.history_prune(before=before, limit=3) == 3
    assert await pages(store, 100) == some[:1:-1]
    assert await store.history_prune(before=before, limit=4) == 4
    assert await store.history_prune(before=before, limit=4) == 0
    # What ended at that very moment is not before it.
    assert await pages(store, 100) == some[:5:-1]


async def test_many_are_kept_at_once(store: Store) -> None:
    some = [tenure(number) for number in range(500)]
    await fill(store, *some)
    assert len(await pages(store, 1000)) == 500
    assert await store.history_prune(before=NOW + 1000 * DAY, limit=1000) == 500


@pytest.mark.parametrize("state", [State.LIVE, State.RELEASING])
async def test_a_registration_carries_who_came_and_who_left(backend: Backend, store: Store, state: State) -> None:
    departed = (
        Departure(object_id(1), key("a", cluster="c1"), NOW - DAY, NOW),
        Departure(object_id(2), key("b"), None, NOW + MILLISECOND),
    )
    one = registration(state=state, services=(service("web", since=NOW), service("old")), departed=departed)
    await store.insert(one)
    read = await store.get(one.id)
    assert read == one
    assert [each.since for each in read.services] == [NOW, None]
    assert read.departed == departed
    raw = backend.raw(one.id)
    assert raw is not None
    assert raw["departed"][0] == {
        "id": object_id(1),
        "service_name": "a",
        "namespace_id": "namespace",
        "cluster_id": "c1",
        "since": NOW - DAY,
        "until": NOW,
    }
    assert "since" not in raw["departed"][1]
    assert [each.get("since") for each in raw["services"]] == [NOW, None]
    cleared = read.changed(departed=departed[1:])
    assert await store.replace(read, cleared)
    assert await store.get(one.id) == cleared
    assert await store.replace(cleared, cleared.changed(departed=()))
    raw = backend.raw(one.id)
    assert raw is not None
    assert "departed" not in raw
    assert [each.get("since") for each in raw["services"]] == [NOW, None]


async def test_when_a_service_came_is_written_where_nothing_else_changes(store: Store) -> None:
    one = registration(services=(service("web"), service("other", expires_at=NOW)))
    await store.insert(one)
    read = await store.get(one.id)
    assert read is not None
    dated = read.changed(services=tuple(replace(each, since=NOW) for each in read.services))
    assert await store.replace(read, dated)
    found = await store.get(one.id)
    assert found is not None
    assert [each.since for each in found.services] == [NOW, NOW]


async def test_one_that_has_departed_is_due_until_it_is_in_the_history(store: Store) -> None:
    departed = (Departure(object_id(1), key(), None, NOW),)
    live = registration(departed=departed)
    await store.insert(live)
    for state in State:
        if state is not State.LIVE:
            await store.insert(registration(state=state, departed=departed))
    await store.insert(registration())
    assert await store.find_due(now=NOW - 9 * DAY, after=None, limit=9) == [live]
    assert await store.find_due(now=NOW - 9 * DAY, after=live.id, limit=9) == []
    cleared = live.changed(departed=())
    assert await store.replace(live, cleared)
    assert await store.find_due(now=NOW - 9 * DAY, after=None, limit=9) == []


@pytest.mark.parametrize("junk", [None, 7, "x", {}, [], [None, 1, {}], [{"id": "x", "until": NOW}], [{"until": NOW}]])
async def test_what_is_no_departure_of_ours_is_passed_over(backend: Backend, store: Store, junk: Any) -> None:
    document = legacy_documents()[0] | {"departed": junk}
    backend.seed([document])
    read = await store.get(document["_id"])
    assert read is not None
    assert read.departed == ()
    assert await store.replace(read, read.changed(netbox_id=1))
    raw = backend.raw(document["_id"])
    assert raw is not None
    assert raw["departed"] == junk


async def test_an_address_is_found_in_any_zone(store: Store) -> None:
    some = [registration(zone=zone, address=ADDRESS) for zone in ("lab", "inet", "office")]
    for one in (*some, registration(address="10.0.0.2/32")):
        await store.insert(one)
    assert await store.find_address(zone=None, addresses=[ADDRESS, "10.0.0.1"]) == some
    assert await store.find_address(zone=None, addresses=["10.0.0.9"]) == []


async def test_moments_keep_their_milliseconds(store: Store) -> None:
    moment = datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC)
    await store.history_insert([tenure(1, since=moment, until=moment)])
    [found] = await store.history_page(address=ADDRESS, zone=None, before=None, limit=9)
    assert (found.since, found.until) == (moment, moment)
