"""Several at once, on one instance or several: the same request gives one address, rivals get one each."""

from __future__ import annotations

import asyncio

import pytest

from ipam_lib.errors import SecretShared, StillInFlight, Unavailable, WrongSecret, ZoneFull
from ipam_lib.models import Registered, Request, State
from tests.registry.watched import Work, after, before
from tests.registry.world import CIPHER, FIRST, SECOND, THIRD, World, request


async def all_at_once(world: World, *requests: Request, instances: int = 1) -> list[Registered | BaseException]:
    """What each is answered; they are spread over several instances."""
    registries = [world.instance(seed=number) for number in range(instances)]
    work = (registries[number % instances].register(one) for number, one in enumerate(requests))
    return await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("latency_ms", [0, 45])
async def test_fifty_identical_requests_get_one_address(world: World, instances: int, latency_ms: int) -> None:
    world.server.simulator.latency_ms = latency_ms
    answers = await all_at_once(world, *[request()] * 50, instances=instances)
    assert answers.count(Registered(FIRST, created=True)) == 1
    assert answers.count(Registered(FIRST, created=False)) == 49
    assert world.netbox.counted["create_next"] == 1
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


@pytest.mark.parametrize("latency_ms", [0, 45])
async def test_twenty_identical_requests_for_a_given_address_get_it(world: World, latency_ms: int) -> None:
    world.server.simulator.latency_ms = latency_ms
    answers = await all_at_once(world, *[request(address=THIRD)] * 20, instances=3)
    assert answers.count(Registered(THIRD, created=True)) == 1
    assert answers.count(Registered(THIRD, created=False)) == 19
    assert world.netbox.counted["create_exact"] == 1
    await world.settled()


async def test_different_services_get_different_addresses(world: World) -> None:
    world.server.simulator.latency_ms = 45
    answers = await all_at_once(world, *(request(f"service-{n}") for n in range(12)), instances=3)
    expected = {f"192.0.2.{n}/32" for n in range(8)} | {f"198.51.100.{n}/32" for n in range(4)}
    assert {one.address for one in answers if isinstance(one, Registered) and one.created} == expected
    await world.settled()


async def test_of_too_many_exactly_as_many_as_fit_are_served(world: World) -> None:
    world.server.simulator.latency_ms = 45
    answers = await all_at_once(world, *(request(f"service-{n}", zone="tiny") for n in range(9)), instances=3)
    assert sum(isinstance(one, Registered) for one in answers) == 2
    assert sum(isinstance(one, ZoneFull) for one in answers) == 7
    await world.settled()


async def test_services_with_one_secret_share_the_given_address(world: World) -> None:
    world.server.simulator.latency_ms = 45
    answers = await all_at_once(world, *(request(f"s{n}", address=THIRD) for n in range(6)), instances=3)
    assert sorted(one.created for one in answers if isinstance(one, Registered)) == [False] * 5 + [True]
    assert {name: sorted(names) for name, names in (await world.names()).items()} == {
        THIRD: [f"s{n}" for n in range(6)]
    }
    await world.settled()


async def test_of_rivals_for_a_given_address_one_gets_it(world: World) -> None:
    world.server.simulator.latency_ms = 45
    rivals = [request(f"s{n}", address=THIRD, secret=f"SecretOf-{n}") for n in range(6)]
    answers = await all_at_once(world, *rivals, instances=3)
    assert sum(isinstance(one, Registered) for one in answers) == 1
    assert sum(isinstance(one, WrongSecret) for one in answers) == 5
    [winner] = [n for n, one in enumerate(answers) if isinstance(one, Registered)]
    one = await world.only()
    assert (CIPHER.unseal(one.secret), one.services[0].key.service_name) == (f"SecretOf-{winner}", f"s{winner}")
    await world.settled()


async def test_a_given_address_and_the_next_free_one_do_not_collide(world: World) -> None:
    """NetBox lets both in, when they come at once; the unique index does not."""
    world.server.simulator.latency_ms = 45
    wanted = [request("given", address=FIRST), *(request(f"s{n}") for n in range(3))]
    answers = await all_at_once(world, *wanted, instances=2)
    assert answers[0] == Registered(FIRST, created=True)
    assert len({one.address for one in answers if isinstance(one, Registered)}) == 4
    await world.settled()


async def test_of_two_new_secrets_one_comes_into_force(world: World) -> None:
    await world.register()
    answers = await all_at_once(
        world, request(new_secret="SecretOne"), request(new_secret="SecretTwo"), request(new_secret="SecretOne")
    )
    assert {one.address for one in answers if isinstance(one, Registered)} == {FIRST, SECOND}
    secrets = {one.address: CIPHER.unseal(one.secret) for one in await world.registrations()}
    assert secrets[FIRST] in ("SecretOne", "SecretTwo")
    await world.settled()


async def test_a_new_secret_and_another_service_at_once_never_lock_anybody_out(world: World) -> None:
    await world.register("a")
    answers = await all_at_once(world, request("a", new_secret="NewSecret"), request("b", address=FIRST))
    one = await world.only()
    if len(one.services) == 2:
        assert isinstance(answers[0], SecretShared)
        assert CIPHER.unseal(one.secret) == "SuperSecret"
    else:
        assert isinstance(answers[1], WrongSecret)
        assert CIPHER.unseal(one.secret) == "NewSecret"


async def test_changes_of_different_services_at_once_are_all_kept(world: World) -> None:
    names = [f"s{n}" for n in range(8)]
    for name in names:
        await world.register(name, address=FIRST)
    changes = [request(name, address=FIRST, retention_period_days=n + 1) for n, name in enumerate(names)]
    assert all(isinstance(one, Registered) for one in await all_at_once(world, *changes, instances=3))
    days = {service.key.service_name: service.retention_period_days for service in (await world.only()).services}
    assert days == {name: n + 1 for n, name in enumerate(names)}


async def test_expirations_and_registrations_at_once_are_all_kept(world: World) -> None:
    for name in "abcd":
        await world.register(name, address=FIRST)
    await asyncio.gather(
        world.instance().expire(request("a", address=FIRST)),
        world.instance().expire(request("b", address=FIRST)),
        world.instance().register(request("e", address=FIRST)),
        world.instance().register(request("f", address=FIRST)),
    )
    services = {one.key.service_name: one.expires_at is not None for one in (await world.only()).services}
    assert services == {"a": True, "b": True, "c": False, "d": False, "e": False, "f": False}


# -- waiting for one another -----------------------------------------------------------------------------------------


async def test_while_it_is_made_it_is_no_registration(world: World) -> None:
    async def look(work: Work) -> object:
        one = await world.only()
        assert (one.state, one.pending) == (State.CREATING, True)
        document = await asyncio.to_thread(world.backend.raw, one.id)
        assert document is not None
        assert "secret" not in document
        return await work()

    world.netbox.next("create_next", look)
    await world.register()
    document = await asyncio.to_thread(world.backend.raw, (await world.only()).id)
    assert document is not None
    assert "held_secret" not in document


async def test_the_second_waits_for_the_first_and_gets_its_answer(world: World) -> None:
    world.netbox.next("create_next", after(lambda: asyncio.sleep(9)))
    first = world.begin(world.registry.register(request()))
    await asyncio.sleep(1)
    assert await world.instance().register(request()) == Registered(FIRST, created=False)
    assert await first == Registered(FIRST, created=True)
    assert 9 <= world.loop.time() < 9.5


async def test_a_request_that_cannot_wait_longer_is_told_so(world: World) -> None:
    world.netbox.next("create_next", after(lambda: asyncio.sleep(9)))
    first = world.begin(world.registry.register(request()))
    await asyncio.sleep(1)
    began = world.loop.time()
    with pytest.raises(StillInFlight, match="an identical request is still in flight") as refused:
        # The deadline must leave room for one call of NetBox, or nothing would be begun.
        await world.instance(netbox_call=2.0).register(request(), deadline=began + 5)
    assert refused.value.status == 409
    assert 3 <= world.loop.time() - began <= 5
    assert (await first).address == FIRST
    await world.settled()


async def test_the_second_starts_over_when_the_first_fails(world: World) -> None:
    world.server.fault("status", method="POST", status=403)
    world.netbox.next("create_next", before(lambda: asyncio.sleep(1)))
    first = world.begin(world.registry.register(request()))
    await asyncio.sleep(0.5)
    assert await world.registry.register(request()) == Registered(FIRST, created=True)
    with pytest.raises(Unavailable):
        await first
    await world.settled()


async def test_who_waits_for_a_given_address_with_another_secret_is_refused_in_the_end(world: World) -> None:
    world.netbox.next("create_exact", before(lambda: asyncio.sleep(3)))
    first = world.begin(world.registry.register(request(address=FIRST)))
    await asyncio.sleep(1)
    with pytest.raises(WrongSecret):
        await world.registry.register(request(address=FIRST, secret="AnotherSecret"))
    assert (await first).created
    assert world.loop.time() >= 3


async def test_a_creation_that_ended_between_read_and_insert_is_found_by_the_second_read(world: World) -> None:
    """The other one was made wholly between the first read and the insert, which freed the placeholder."""
    world.store.next("insert", before(lambda: world.register()))
    assert await world.registry.register(request()) == Registered(FIRST, created=False)
    assert world.netbox.counted["create_next"] == 1
    assert await world.names() == {FIRST: ["web"]}
    await world.settled()


async def test_of_two_secrets_for_one_service_each_gets_its_own_address(world: World) -> None:
    """They are different registrations, but share the placeholder: one waits for the other."""
    world.server.simulator.latency_ms = 45
    answers = await all_at_once(world, request(), request(secret="AnotherSecret"))
    assert {one.address for one in answers if isinstance(one, Registered) and one.created} == {FIRST, SECOND}
    await world.settled()
