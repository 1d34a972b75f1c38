"""The pool's part of the storage contract, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ipam_lib.errors import StoreConflict
from ipam_lib.ids import object_ids
from ipam_lib.models import PoolEntry, PoolState, pool_placeholder
from ipam_lib.storage.base import Store
from ipam_lib.storage.pool_store import Cooling, PoolKey

NEW_ID = object_ids()
MOMENT = datetime(2026, 11, 24, 12, 30, 15, 123000, tzinfo=UTC)


def entry(address: str = "", **fields: object) -> PoolEntry:
    """A ready entry, or one that is being made when it has no address."""
    identity = NEW_ID()
    plain = PoolEntry(
        identity,
        "inet",
        "ipv6" if ":" in address else "ipv4",
        address or pool_placeholder(identity),
        PoolState.READY if address else PoolState.MAKING,
    )
    return plain if not fields else _with(plain, **fields)


def _with(plain: PoolEntry, **fields: object) -> PoolEntry:
    return replace(plain, **fields)  # type: ignore[arg-type]


async def all_of(store: Store) -> list[PoolEntry]:
    return await store.pool_page(list(PoolState), after=None, limit=1000)


async def test_an_entry_comes_back_as_it_was_stored(store: Store) -> None:
    whole = entry(
        "192.0.2.1/32", netbox_id=7, registration_id=NEW_ID(), revision=3, lease_until=MOMENT, cooldown_until=MOMENT
    )
    await store.pool_insert([whole])
    assert await store.pool_get_many([whole.id, NEW_ID()]) == [whole]
    assert await store.pool_find_address(zone="inet", address="192.0.2.1/32") == whole
    assert await store.pool_find_address(zone="hnet", address="192.0.2.1/32") is None


async def test_several_may_be_in_the_making(store: Store) -> None:
    made = [entry() for _ in range(3)]
    await store.pool_insert(made)
    assert await all_of(store) == made


async def test_an_address_is_in_the_pool_once(store: Store) -> None:
    first = entry("192.0.2.1/32")
    await store.pool_insert([first])
    with pytest.raises(StoreConflict):
        await store.pool_insert([entry("192.0.2.1/32")])
    with pytest.raises(StoreConflict):
        await store.pool_insert([first])
    making = entry()
    await store.pool_insert([making, entry("192.0.2.1/32", zone="hnet")])
    with pytest.raises(StoreConflict):
        await store.pool_replace(making, _with(making.changed(PoolState.READY), address="192.0.2.1/32"))
    assert await store.pool_get_many([making.id]) == [making]


async def test_the_lowest_ready_address_is_claimed(store: Store) -> None:
    ready = [entry(f"192.0.2.{number}/32") for number in (100, 9, 20)]
    others = [
        entry("192.0.2.1/32", zone="hnet"),
        entry("192.0.2.2/32", state=PoolState.COOLING),
        entry("2001:db8::/128"),
    ]
    await store.pool_insert([*ready, *others, entry()])
    claimed = await store.pool_claim(zone="inet", ip_family="ipv4", registration_id="aaaaaaaaaaaaaaaaaaaaaaaa")
    assert claimed == ready[1].changed(PoolState.CLAIMED, registration_id="aaaaaaaaaaaaaaaaaaaaaaaa")
    assert await store.pool_get_many([ready[1].id]) == [claimed]
    for address in ("192.0.2.20/32", "192.0.2.100/32", None):
        next_one = await store.pool_claim(zone="inet", ip_family="ipv4", registration_id=NEW_ID())
        assert (next_one.address if next_one else None) == address


async def test_ipv6_addresses_are_claimed_in_their_order(store: Store) -> None:
    addresses = ["2001:db8::/128", "2001:db8::9/128", "2001:db8::a/128", "2001:db8::10/128", "2001:db8:0:1::/128"]
    await store.pool_insert([entry(address) for address in reversed(addresses)])
    claimed = [await store.pool_claim(zone="inet", ip_family="ipv6", registration_id=NEW_ID()) for _ in addresses]
    assert [one.address for one in claimed if one] == addresses


async def test_claims_at_once_get_different_entries(store: Store) -> None:
    await store.pool_insert([entry(f"192.0.2.{number}/32") for number in range(20)])
    claims = await asyncio.gather(
        *(store.pool_claim(zone="inet", ip_family="ipv4", registration_id=NEW_ID()) for _ in range(25))
    )
    assert sorted(one.address for one in claims if one) == sorted(f"192.0.2.{number}/32" for number in range(20))


async def test_compare_and_set(store: Store) -> None:
    first = entry("192.0.2.1/32", registration_id=NEW_ID(), cooldown_until=MOMENT)
    await store.pool_insert([first])
    second = first.changed(PoolState.READY, registration_id=None, cooldown_until=None, netbox_id=5)
    assert await store.pool_replace(first, second)
    assert await store.pool_get_many([first.id]) == [second]
    assert not await store.pool_replace(first, first.changed(PoolState.DROPPING))
    assert not await store.pool_delete(first)
    assert await store.pool_delete(second)
    assert not await store.pool_delete(second)
    assert not await store.pool_replace(second, second.changed(PoolState.DROPPING))
    assert await all_of(store) == []


async def test_entries_by_their_registrations(store: Store) -> None:
    one, other = NEW_ID(), NEW_ID()
    mine = [
        entry("192.0.2.1/32", registration_id=one, state=PoolState.CLAIMED),
        entry("192.0.2.2/32", registration_id=one),
    ]
    theirs = entry("192.0.2.3/32", registration_id=other, state=PoolState.COOLING)
    await store.pool_insert([*mine, theirs, entry("192.0.2.4/32")])
    assert await store.pool_find_by([one]) == mine
    assert await store.pool_find_by([other, one]) == [*mine, theirs]
    assert await store.pool_find_by([NEW_ID()]) == []
    assert await store.pool_find_by([]) == []


async def test_pages_by_state(store: Store) -> None:
    entries = [entry(f"192.0.2.{number}/32") for number in range(7)]
    await store.pool_insert([*entries, entry("192.0.2.9/32", state=PoolState.CLAIMED)])
    pages = []
    after: str | None = None
    while page := await store.pool_page([PoolState.READY], after=after, limit=3):
        pages.append(page)
        after = page[-1].id
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one for page in pages for one in page] == entries
    assert len(await store.pool_page([PoolState.READY, PoolState.CLAIMED], after=None, limit=100)) == 8


async def test_those_beyond_the_lowest_and_the_counts(store: Store) -> None:
    await store.pool_insert([entry(f"192.0.2.{number}/32") for number in (9, 100, 20)])
    await store.pool_insert([entry(), entry("2001:db8::1/128"), entry("192.0.2.1/32", zone="hnet")])
    for keep, limit, expected in [(0, 2, [9, 20]), (1, 2, [20, 100]), (2, 2, [100]), (3, 2, []), (7, 2, [])]:
        found = await store.pool_beyond(zone="inet", ip_family="ipv4", keep=keep, limit=limit)
        assert [one.address for one in found] == [f"192.0.2.{number}/32" for number in expected]
    assert dict(await store.pool_counts()) == {
        PoolKey("inet", "ipv4", PoolState.READY): 3,
        PoolKey("inet", "ipv4", PoolState.MAKING): 1,
        PoolKey("inet", "ipv6", PoolState.READY): 1,
        PoolKey("hnet", "ipv4", PoolState.READY): 1,
    }


async def test_what_cools_down(store: Store) -> None:
    cooling = [
        entry(f"192.0.2.{number}/32", state=PoolState.COOLING, cooldown_until=MOMENT + timedelta(minutes=number))
        for number in (7, 3, 5)
    ]
    others = [
        entry("192.0.2.1/32", state=PoolState.DROPPING, cooldown_until=MOMENT),
        entry("192.0.2.2/32"),
        entry("192.0.2.3/32", zone="hnet", state=PoolState.COOLING, cooldown_until=MOMENT),
        entry("2001:db8::/128", state=PoolState.COOLING, cooldown_until=MOMENT),
    ]
    assert await store.pool_cooling(zone="inet", ip_family="ipv4") == Cooling(0, None)
    await store.pool_insert([*cooling, *others])
    assert await store.pool_cooling(zone="inet", ip_family="ipv4") == Cooling(3, MOMENT + timedelta(minutes=3))
