"""Many requests at once on several instances over one store, in random order and at random speed, with no trouble: the
answers are exactly those of one request after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipam_lib.errors import AddressTaken, WrongSecret, ZoneFull
from ipam_lib.models import Registered, Request
from tests.registry.watched import Plan, Work
from tests.registry.world import CIPHER, FIRST, THIRD, World, request, world_on
from tests.storage.backends import MemoryBackend
from tests.support.soak import amount
from tests.support.virtual_loop import VirtualLoop, run_virtually

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.soak]

SEEDS = st.integers(0, 2**32 - 1)
INSTANCES = st.integers(1, 4)
ALL_IN_ORDER = [f"192.0.2.{n}/32" for n in range(8)] + [f"198.51.100.{n}/32" for n in range(4)]

storm = settings(
    max_examples=amount(15, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def at_random_speed(random: Random) -> Callable[[str], Plan]:
    """Every outside call takes a while, before it is done and after."""

    async def plan(work: Work) -> Any:
        await asyncio.sleep(random.choice((0, 0, 0.001, 0.01, 0.1)) * random.random())
        result = await work()
        await asyncio.sleep(random.choice((0, 0, 0.001, 0.01, 0.1)) * random.random())
        return result

    return lambda _name: plan


def in_a_storm(seed: int, work: Callable[[World, Random], Awaitable[None]]) -> None:
    """Run `work` in a world where every outside call takes a random time; afterwards both sides must be equal."""
    loop = VirtualLoop()

    async def run() -> None:
        random = Random(seed)
        async with world_on(MemoryBackend(), loop) as world:
            world.server.simulator.latency_ms = random.choice((0, 5, 50))
            world.store.always = world.netbox.always = at_random_speed(random)
            await work(world, random)
            world.store.always = world.netbox.always = lambda _name: None
            await world.registry.release_expired()
            await world.settled()

    run_virtually(run(), loop)


async def answers(world: World, random: Random, instances: int, *requests: Request) -> list[Any]:
    """What each is answered; some come a little later than others."""
    registries = [world.instance(seed=random.randrange(1000)) for _ in range(instances)]

    async def ask(one: Request) -> Registered:
        await asyncio.sleep(random.choice((0, 0.02, 0.3)) * random.random())
        return await random.choice(registries).register(one)

    return await asyncio.gather(*(ask(one) for one in requests), return_exceptions=True)


@storm
@given(seed=SEEDS, instances=INSTANCES, count=st.integers(1, 30), address=st.sampled_from([None, THIRD]))
def test_identical_requests_get_one_address(seed: int, instances: int, count: int, address: str | None) -> None:
    async def work(world: World, random: Random) -> None:
        given_back = await answers(world, random, instances, *[request(address=address)] * count)
        expected = address or FIRST
        assert given_back.count(Registered(expected, created=True)) == 1
        assert given_back.count(Registered(expected, created=False)) == count - 1

    in_a_storm(seed, work)


@storm
@given(seed=SEEDS, instances=INSTANCES, count=st.integers(1, 16))
def test_different_services_get_the_lowest_addresses_and_no_more_than_there_are(
    seed: int, instances: int, count: int
) -> None:
    async def work(world: World, random: Random) -> None:
        got = await answers(world, random, instances, *(request(f"s{n}") for n in range(count)))
        fitting = min(count, len(ALL_IN_ORDER))
        assert sorted(one.address for one in got if isinstance(one, Registered)) == sorted(ALL_IN_ORDER[:fitting])
        assert sum(isinstance(one, ZoneFull) for one in got) == count - fitting

    in_a_storm(seed, work)


@storm
@given(seed=SEEDS, instances=INSTANCES, secrets=st.lists(st.sampled_from(["SecretA!", "SecretB!"]), min_size=1))
def test_of_secrets_that_contend_for_an_address_one_prevails(seed: int, instances: int, secrets: list[str]) -> None:
    async def work(world: World, random: Random) -> None:
        wanted = [request(f"s{n}", address=THIRD, secret=secret) for n, secret in enumerate(secrets)]
        got = await answers(world, random, instances, *wanted)
        one = await world.only()
        won = CIPHER.unseal(one.secret)
        assert [isinstance(each, Registered) for each in got] == [secret == won for secret in secrets]
        assert all(isinstance(each, Registered | WrongSecret) for each in got)
        assert sum(each.created for each in got if isinstance(each, Registered)) == 1
        names = {f"s{n}" for n, secret in enumerate(secrets) if secret == won}
        assert {service.key.service_name for service in one.services} == names

    in_a_storm(seed, work)


@storm
@given(
    seed=SEEDS,
    instances=INSTANCES,
    addresses=st.lists(st.sampled_from([None, None, *ALL_IN_ORDER[:4]]), min_size=1, max_size=10),
)
def test_given_and_next_free_addresses_never_collide(seed: int, instances: int, addresses: list[str | None]) -> None:
    """Each service with a secret of its own: every service gets its own address, or WrongSecret."""

    async def work(world: World, random: Random) -> None:
        wanted = [request(f"s{n}", address=address, secret=f"SecretOf-{n}") for n, address in enumerate(addresses)]
        got = await answers(world, random, instances, *wanted)
        held = [one.address for one in got if isinstance(one, Registered)]
        assert len(held) == len(set(held))
        assert all(isinstance(one, Registered | WrongSecret) for one in got), got
        for address, one in zip(addresses, got, strict=True):
            if isinstance(one, Registered):
                assert address in (None, one.address)
            else:
                assert address in held
        assert {address for address in addresses if address} <= set(held)

    in_a_storm(seed, work)


@storm
@given(seed=SEEDS, instances=INSTANCES, count=st.integers(2, 12))
def test_the_same_new_secret_asked_for_many_times_is_in_force_once(seed: int, instances: int, count: int) -> None:
    async def work(world: World, random: Random) -> None:
        await world.register()
        got = await answers(world, random, instances, *[request(new_secret="NewSecret")] * count)
        assert got == [Registered(FIRST, created=False)] * count
        assert CIPHER.unseal((await world.only()).secret) == "NewSecret"

    in_a_storm(seed, work)


@storm
@given(seed=SEEDS, instances=INSTANCES, rounds=st.integers(1, 5))
def test_an_address_with_a_live_service_is_never_released(seed: int, instances: int, rounds: int) -> None:
    """Services come and go on addresses of their own and on a shared one, while several workers clean up."""

    async def work(world: World, random: Random) -> None:
        registries = [world.instance(seed=random.randrange(1000)) for _ in range(instances)]
        going = True
        held: dict[str, str | None] = {}

        async def worker() -> None:
            while going:
                await random.choice(registries).release_expired()
                await asyncio.sleep(0.2 * random.random())

        async def service(name: str, address: str | None) -> None:
            asked = request(name, address=address)
            for _ in range(rounds):
                answered = await random.choice(registries).register(asked)
                held[name] = answered.address
                await asyncio.sleep(random.choice((0, 0.1, 1)) * random.random())
                assert (await random.choice(registries).register(asked)).address == answered.address
                if random.random() < 0.7:
                    held[name] = None
                    await random.choice(registries).expire(asked)
                    await asyncio.sleep(random.choice((0, 0.1, 1)) * random.random())

        workers = [asyncio.ensure_future(worker()) for _ in range(2)]
        await asyncio.gather(*(service(f"s{n}", THIRD if n < 3 else None) for n in range(6)))
        going = False
        await asyncio.gather(*workers)
        world.store.always = world.netbox.always = lambda _name: None
        await asyncio.sleep(1)
        await world.registry.release_expired()
        names = await world.names()
        found = {name: address for address, on_it in names.items() for name in on_it}
        assert found == {name: address for name, address in held.items() if address is not None}

    in_a_storm(seed, work)


@storm
@given(seed=SEEDS, instances=INSTANCES, robbed=st.sets(st.integers(0, 5)))
def test_robbed_registrations_and_new_ones_end_up_with_a_prefix_each(
    seed: int, instances: int, robbed: set[int]
) -> None:
    async def work(world: World, random: Random) -> None:
        for number in range(6):
            await world.register(f"old-{number}")
        for number in robbed:
            world.steal(ALL_IN_ORDER[number])
        got = await answers(world, random, instances, *(request(f"new-{n}") for n in range(6)))
        assert sorted(one.address for one in got if isinstance(one, Registered)) == sorted(ALL_IN_ORDER[6:])
        assert not any(isinstance(one, AddressTaken) for one in got)

    in_a_storm(seed, work)
