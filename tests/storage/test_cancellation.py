"""Whoever waits for a store may be cancelled at any moment: the store stays whole and usable."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from ipam_lib.models import Filter, Registration
from ipam_lib.storage.base import Store
from tests.storage.backends import Backend
from tests.storage.samples import registration, service


async def cancel_after(steps: int, task: asyncio.Task[object]) -> bool:
    """Cancel the task after so many turns of the event loop; whether it was still under way."""
    for _ in range(steps):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return cancelled and task.cancelled()


async def settled(store: Store, one: Registration) -> Registration | None:
    """What is stored once everything that was under way has ended: a further compare-and-set of our own succeeds."""
    while True:
        current = await store.get(one.id)
        if current is None:
            return None
        if await store.replace(current, current.changed(netbox_id=current.netbox_id)):
            return current


async def test_a_cancelled_write_is_whole_or_not_at_all(store: Store) -> None:
    chance = random.Random(7)
    cut = 0
    for _ in range(60):
        one = registration()
        await store.insert(one)
        changed = one.changed(
            address=f"10.200.{chance.randrange(256)}.{chance.randrange(256)}/32", services=(service("a"), service("b"))
        )
        task: asyncio.Task[object] = asyncio.create_task(store.replace(one, changed))
        cut += await cancel_after(chance.randrange(6), task)
        assert await settled(store, one) in (one, changed)
        last = await store.get(one.id)
        assert last is not None
        assert await store.delete(last)
    # A store that is one step inside is either not begun or done.
    assert cut or type(store).__name__ == "MemoryStore"


async def test_a_cancelled_insert_or_delete_is_whole_or_not_at_all(store: Store) -> None:
    chance = random.Random(8)
    for _ in range(40):
        one = registration(services=(service("a"), service("b")))
        await cancel_after(chance.randrange(5), asyncio.create_task(store.insert(one)))
        found = await settled(store, one)
        assert found in (None, one)
        if found is not None:
            last = await store.get(one.id)
            assert last is not None
            await cancel_after(chance.randrange(5), asyncio.create_task(store.delete(last)))
            await settled(store, one)
    # What was cancelled may still be under way; in the end both ways to a registration agree.
    async with asyncio.timeout(30):
        while await store.page(Filter(), after=None, limit=99) != await store.find_cluster(
            ["cluster"], after=None, limit=99
        ):
            await store.ping()


async def test_many_cancelled_reads_leave_the_store_usable(store: Store) -> None:
    some = [registration() for _ in range(20)]
    for one in some:
        await store.insert(one)
    chance = random.Random(9)
    for _ in range(60):
        task: asyncio.Task[object] = asyncio.create_task(store.page(Filter(), after=None, limit=20))
        await cancel_after(chance.randrange(5), task)
    assert await store.page(Filter(), after=None, limit=20) == some
    await store.insert(registration())


async def test_a_cancelled_open_is_made_up_for(backend: Backend) -> None:
    for steps in range(6):
        store = backend.store()
        await cancel_after(steps, asyncio.create_task(store.open()))
        await store.open()
        await store.prepare()
        await store.ping()
        await cancel_after(steps, asyncio.create_task(store.close()))
        await store.close()


async def test_a_store_is_closed_while_others_still_wait_for_it(store: Store) -> None:
    """They get an answer, or an error of ours; no call waits for ever."""
    waiting = [asyncio.create_task(store.insert(registration())) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            assert type(outcome).__name__ == "StorageUnavailable", outcome


@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_a_timeout_of_the_caller_is_the_callers(store: Store, seconds: float) -> None:
    """`asyncio.timeout` around an operation raises TimeoutError, not an error of the storage."""
    one = registration()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await store.insert(one)
    assert await settled(store, one) in (None, one)
