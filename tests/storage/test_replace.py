"""Compare-and-set: `replace` and `delete` of every store."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from ipam_lib.errors import StoreConflict
from ipam_lib.models import Registration, State
from ipam_lib.storage.base import Store
from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore
from tests.storage.samples import NOW, registration, service


async def test_what_is_still_as_it_was_read_is_replaced(store: Store) -> None:
    one = registration(state=State.CREATING, lease_until=NOW, netbox_id=None, services=())
    await store.insert(one)
    changed = one.changed(
        state=State.LIVE,
        lease_until=None,
        netbox_id=4711,
        address="10.1.1.1/32",
        secret="another",
        services=(service(), service("b", expires_at=NOW)),
    )
    assert await store.replace(one, changed)
    read = await store.get(one.id)
    assert read == changed
    assert read.revision == 2
    back = read.changed(state=State.ABORTING, lease_until=NOW, netbox_id=None, services=())
    assert await store.replace(read, back)
    assert await store.get(one.id) == back


async def test_a_revision_is_replaced_once(store: Store) -> None:
    one = registration()
    await store.insert(one)
    first, second = one.changed(netbox_id=1), one.changed(netbox_id=2)
    assert await store.replace(one, first)
    assert not await store.replace(one, second)
    assert not await store.delete(one)
    assert await store.get(one.id) == first


@pytest.mark.parametrize("revision", [None, 0, 2, 2**40])
async def test_another_revision_is_refused(store: Store, revision: int | None) -> None:
    stored = registration(revision=1)
    await store.insert(stored)
    other = registration(id=stored.id, revision=revision)
    assert not await store.replace(other, other.changed(netbox_id=1))
    assert not await store.delete(other)
    assert await store.get(stored.id) == stored


async def test_what_has_no_revision_is_not_found_under_one_and_gets_the_first(store: Store) -> None:
    stored = registration(revision=None)
    await store.insert(stored)
    claimed = registration(id=stored.id, revision=1)
    assert not await store.replace(claimed, claimed.changed(netbox_id=1))
    assert not await store.delete(claimed)
    changed = stored.changed(netbox_id=2)
    assert changed.revision == 1
    assert await store.replace(stored, changed)
    assert not await store.replace(stored, changed)
    assert await store.get(stored.id) == changed


async def test_what_is_gone_is_not_replaced(store: Store) -> None:
    one = registration()
    assert not await store.replace(one, one.changed(netbox_id=1))
    assert not await store.delete(one)
    assert await store.get(one.id) is None


async def test_a_taken_address_is_refused_and_nothing_is_written(store: Store) -> None:
    holder, one = registration(), registration(state=State.CREATING)
    await store.insert(holder)
    await store.insert(one)
    with pytest.raises(StoreConflict):
        await store.replace(one, one.changed(state=State.LIVE, address=holder.address))
    assert await store.get(one.id) == one
    assert await store.find_address(zone=holder.zone, addresses=[holder.address]) == [holder]
    assert await store.replace(one, one.changed(state=State.LIVE, address=holder.address, zone="another"))


async def test_a_stale_revision_is_told_before_a_taken_address(store: Store) -> None:
    holder, one = registration(), registration()
    await store.insert(holder)
    await store.insert(one)
    assert await store.replace(one, one.changed(netbox_id=1))
    assert not await store.replace(one, one.changed(address=holder.address))


async def test_the_address_that_was_left_is_free(store: Store) -> None:
    one = registration()
    await store.insert(one)
    assert await store.replace(one, one.changed(address="10.99.0.1/32"))
    await store.insert(registration(address=one.address))
    with pytest.raises(StoreConflict):
        await store.insert(registration(address="10.99.0.1/32"))


@pytest.mark.parametrize("start", [None, 1])
async def test_a_storm_has_one_winner_a_revision(open_store: OpenStore, store: Store, start: int | None) -> None:
    """50 clients over three stores each add one service, reading again when they were refused."""
    stores = [store, await open_store(), await open_store()]
    one = registration(revision=start, services=())
    await store.insert(one)
    winners: Counter[int | None] = Counter()

    async def client(number: int) -> None:
        mine = stores[number % 3]
        while True:
            current = await mine.get(one.id)
            assert current is not None
            changed = current.changed(services=(*current.services, service(f"web-{number}")))
            if await mine.replace(current, changed):
                winners[changed.revision] += 1
                return

    await asyncio.gather(*(client(number) for number in range(50)))
    final = await store.get(one.id)
    assert final is not None
    assert final.revision == (start or 0) + 50
    assert sorted(found.key.service_name for found in final.services) == sorted(f"web-{n}" for n in range(50))
    assert winners == dict.fromkeys(range((start or 0) + 1, (start or 0) + 51), 1)


async def test_a_storm_on_one_revision_has_one_winner(open_store: OpenStore, store: Store) -> None:
    stores = [store, await open_store()]
    one = registration()
    await store.insert(one)
    outcomes = await asyncio.gather(
        *(stores[number % 2].replace(one, one.changed(netbox_id=number)) for number in range(50))
    )
    assert sum(outcomes) == 1
    final = await store.get(one.id)
    assert final is not None
    assert (final.revision, final.netbox_id) == (2, outcomes.index(True))


async def test_replace_and_delete_exclude_each_other(open_store: OpenStore, store: Store) -> None:
    stores = [store, await open_store()]
    for _ in range(20):
        one = registration()
        await store.insert(one)
        replaced, deleted = await asyncio.gather(
            stores[0].replace(one, one.changed(netbox_id=1)), stores[1].delete(one)
        )
        assert replaced != deleted
        assert (await store.get(one.id) is None) == deleted


async def test_a_storm_on_one_address_has_one_winner(open_store: OpenStore, store: Store) -> None:
    stores = [store, await open_store()]
    some = [registration(state=State.CREATING) for _ in range(30)]
    for one in some:
        await store.insert(one)

    async def claim(number: int, one: Registration) -> bool:
        try:
            return await stores[number % 2].replace(one, one.changed(state=State.LIVE, address="10.99.0.9/32"))
        except StoreConflict:
            return False

    assert sum(await asyncio.gather(*(claim(number, one) for number, one in enumerate(some)))) == 1
    assert len(await store.find_address(zone="inet", addresses=["10.99.0.9/32"])) == 1


async def test_a_chain_of_changes_needs_no_reading_in_between(store: Store) -> None:
    current = registration(services=())
    await store.insert(current)
    for number in range(10):
        changed = current.changed(services=(*current.services, service(f"web-{number}")))
        assert await store.replace(current, changed)
        current = changed
    assert await store.get(current.id) == current


async def test_unknown_fields_are_kept(backend: Backend, store: Store) -> None:
    one = registration(services=(service("a"), service("b")))
    await store.insert(one)
    raw = backend.raw(one.id)
    assert raw is not None
    raw |= {"note": {"by": ["somebody", 1, None, NOW]}, "priority": 2.5}
    raw["services"][0]["label"] = "first"
    raw["services"][1]["label"] = "second"
    backend.overwrite(raw)

    read = await store.get(one.id)
    assert read == one
    added = read.changed(
        services=(service("c"), service("b", expires_at=NOW), service("a", retention_period_days=7)), netbox_id=99
    )
    assert await store.replace(read, added)
    changed = backend.raw(one.id)
    assert changed is not None
    assert (changed["note"], changed["priority"]) == (raw["note"], 2.5)
    assert [(found["service_name"], found.get("label")) for found in changed["services"]] == [
        ("c", None),
        ("b", "second"),
        ("a", "first"),
    ]
    # Once more without a read in between, and through a state without services.
    emptied = added.changed(services=(), state=State.RELEASING)
    assert await store.replace(added, emptied)
    again = backend.raw(one.id)
    assert again is not None
    assert (again["note"], again["priority"], again["services"]) == (raw["note"], 2.5, [])
    assert await store.get(one.id) == emptied
