"""NetBox or the storage away, slow, or half up: what goes on, what is refused in time, and nothing is half done."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable, StorageUnavailable, Unavailable
from ipam_lib.models import Registered
from tests.registry.watched import Plan, after, fails, storage_lost
from tests.registry.world import CLUSTER, FIRST, LONGEST_REQUEST, SECOND, World, request, world_on
from tests.storage.backends import MemoryBackend
from tests.support.virtual_loop import VirtualLoop

STARVED: list[Plan | None] = [fails(storage_lost(applied=False))] * 3


async def test_what_is_registered_goes_on_without_netbox(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    world.forget()
    world.server.reachable = False
    assert await world.register("a", retention_period_days=3) == FIRST
    assert await world.register("c", address=FIRST) == FIRST
    assert await world.register("b", address=FIRST) == FIRST
    assert await world.registry.expire(request("b", address=FIRST)) == FIRST
    assert (await world.registry.expire_cluster(CLUSTER)).expired == 3
    assert world.netbox.calls == []


@pytest.mark.parametrize("address", [None, SECOND], ids=["next free", "given"])
async def test_what_is_new_is_refused_without_netbox(world: World, address: str | None) -> None:
    await world.register("a")
    world.server.reachable = False
    with pytest.raises(NetBoxUnavailable) as refused:
        await world.register("b", address=address)
    assert (refused.value.status, refused.value.retry_after > 0) == (503, True)
    assert await world.names() == {FIRST: ["a"]}
    world.server.reachable = True
    assert await world.register("b", address=address) == SECOND
    await world.settled()


async def test_a_dead_netbox_is_not_asked_again_and_again(world: World) -> None:
    """Once the circuit breaker has opened, a request is refused before anything is begun."""
    world.server.reachable = False
    for number in range(5):
        with pytest.raises(Unavailable):
            await world.register(f"service-{number}")
    assert not world.netbox.available
    world.forget()
    began = world.loop.time()
    with pytest.raises(NetBoxUnavailable):
        await world.register("late")
    assert world.loop.time() == began
    assert world.netbox.calls == []
    assert "insert" not in world.store.calls
    await world.nothing()
    world.server.reachable = True
    await asyncio.sleep(60)
    assert await world.register("late") == FIRST, "it recovers without a restart"
    await world.settled()


async def test_a_netbox_that_hangs_holds_nobody_beyond_his_time(world: World) -> None:
    world.server.simulator.latency_ms = 3_600_000
    began = world.loop.time()
    work = [world.registry.register(request(f"service-{number}")) for number in range(200)]
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in answers)
    assert world.loop.time() - began <= LONGEST_REQUEST


async def test_a_netbox_that_hangs_opens_the_circuit_breaker_within_one_request(world: World) -> None:
    """However many creations went together: they all have failed."""
    world.server.simulator.latency_ms = 3_600_000
    work = [world.registry.register(request(f"service-{number}")) for number in range(200)]
    await asyncio.gather(*work, return_exceptions=True)
    assert not world.netbox.available


async def test_a_creation_is_not_sent_with_hardly_any_time_left(world: World) -> None:
    """It would be in doubt afterwards, for nothing."""
    await world.register("tag")
    for seconds in (9.9, 1.0):
        world.server.fault("delay", method="POST", seconds=seconds)
    first = world.begin(world.registry.register(request("first")))
    await asyncio.sleep(0.01)
    others = (world.registry.register(request(f"service-{number}")) for number in range(4))
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(one, Registered) for one in answers), answers
    assert world.netbox.counted["find_by_uuid"] == 0
    await world.settled()


async def test_while_netbox_hangs_one_probes_and_the_others_are_refused_at_once(world: World) -> None:
    world.server.simulator.latency_ms = 3_600_000
    while world.netbox.available:
        work = [world.registry.register(request(f"service-{number}")) for number in range(20)]
        await asyncio.gather(*work, return_exceptions=True)
    took: list[float] = []

    async def late(number: int) -> None:
        began = world.loop.time()
        with pytest.raises(Unavailable):
            await world.register(f"late-{number}")
        took.append(world.loop.time() - began)

    await asyncio.gather(*(late(number) for number in range(50)))
    assert sum(seconds > 1 for seconds in took) <= 1
    assert max(took) <= LONGEST_REQUEST


async def test_after_a_netbox_that_hung_everything_is_settled(world: World) -> None:
    world.server.simulator.latency_ms = 12_000
    work = [world.registry.register(request(f"service-{number}")) for number in range(4)]
    await asyncio.gather(*work, return_exceptions=True)
    world.server.simulator.latency_ms = 0
    await asyncio.sleep(120)
    addresses = {await world.register(f"service-{number}") for number in range(4)}
    assert len(addresses) == 4
    await world.registry.recover()
    assert len(world.prefixes) == 4
    await world.settled()


@pytest.mark.parametrize(("action", "status"), [("status", 403), ("html", 500), ("html", 502), ("status", 503)])
async def test_a_netbox_that_is_half_up_is_no_reason_to_lose_anything(world: World, action: str, status: int) -> None:
    await world.register("a")
    world.server.fault(action, status=status, times=1000)
    with pytest.raises((NetBoxRejected, NetBoxUnavailable)) as refused:
        await world.register("b")
    assert refused.value.status == 503
    assert await world.register("a") == FIRST
    world.server.faults.clear()
    await asyncio.sleep(60)
    assert await world.registry.register(request("b")) == Registered(SECOND, created=True)
    await world.settled()


async def test_a_refusal_does_not_open_the_circuit_breaker(world: World) -> None:
    world.server.fault("status", status=403, times=1000)
    for number in range(10):
        with pytest.raises(NetBoxRejected):
            await world.register(f"service-{number}")
    assert world.netbox.available
    await world.nothing()


async def test_without_any_zones_what_is_registered_goes_on(virtual_loop: VirtualLoop) -> None:
    """A first start while NetBox is away, over a database that is in use."""
    backend = MemoryBackend()
    async with world_on(backend, virtual_loop) as before:
        await before.register("a")
    async with world_on(backend, virtual_loop, reachable=False) as world:
        assert not world.zones.loaded
        assert await world.register("a") == FIRST
        assert await world.registry.expire(request("a")) == FIRST
        with pytest.raises(NetBoxUnavailable, match="the zones have not been loaded"):
            await world.register("b")
        assert len(await world.registrations()) == 1


# -- the storage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [None, FIRST])
async def test_without_storage_everything_is_refused_and_netbox_is_not_asked(world: World, address: str | None) -> None:
    await world.register("a")
    world.forget()
    for name in ("find_service", "find_address", "find_cluster", "find_due", "find_states"):
        world.store.next(name, *STARVED)
    work = (
        world.registry.register(request("a", address=address)),
        world.registry.expire(request("a", address=address)),
        world.registry.expire_cluster(CLUSTER),
        world.registry.release_expired(),
        world.registry.recover(),
    )
    for one in work:
        with pytest.raises(StorageUnavailable) as refused:
            await one
        assert (refused.value.status, refused.value.retry_after > 0) == (503, True)
    assert world.netbox.calls == []


async def test_a_storage_that_comes_back_in_time_is_waited_for(world: World) -> None:
    world.store.next("insert", *STARVED[:2])
    world.store.next("replace", *STARVED[:2])
    assert await world.register() == FIRST
    world.store.next("replace", *STARVED[:2])
    assert await world.registry.expire(request()) == FIRST


async def test_a_slow_storage_is_not_waited_for_beyond_the_time(world: World) -> None:
    await world.register("a")
    for name in ("find_service", "insert", "replace", "get"):
        world.store.next(name, *[after(lambda: asyncio.sleep(4.9))] * 50)
    began = world.loop.time()
    with suppress(Unavailable):
        await world.register("b")
    assert world.loop.time() - began <= LONGEST_REQUEST + 5, "the last call of the storage may end after it"
