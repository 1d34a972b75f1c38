"""Quotas: how many addresses a cluster and a namespace may have in a zone, on one instance and on several."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.errors import QuotaExceeded
from ipam_lib.models import Registered, ServiceKey, State
from ipam_lib.registry import QuotaUse, Registry
from tests.registry.watched import after, before, done_but, storage_lost
from tests.registry.world import CLUSTER, FIRST, OTHER_CLUSTER, SECOND, World, key, request

OTHER_NAMESPACE = "467579ae-b8d5-4524-9ce8-bcb66ee02ce1"


async def together(registries: list[Registry], number: int, **fields: Any) -> list[Registered | BaseException]:
    """So many services of one cluster want an address at once, spread over these instances."""
    return await asyncio.gather(
        *(registries[at % len(registries)].register(request(f"web-{at}", **fields)) for at in range(number)),
        return_exceptions=True,
    )


def given(outcomes: list[Registered | BaseException]) -> int:
    """How many got an address; all others must have been refused because of a quota."""
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert all(isinstance(one, QuotaExceeded) for one in refused), refused
    return len(outcomes) - len(refused)


async def test_one_more_than_the_quota_is_refused(world: World) -> None:
    world.configure(quotas={"cluster": 2})
    assert [await world.register(name) for name in "ab"] == [FIRST, SECOND]
    with pytest.raises(QuotaExceeded) as caught:
        await world.register("c")
    assert (caught.value.status, caught.value.code) == (409, "quota_exceeded")
    assert caught.value.message == f"cluster {CLUSTER} has as many addresses in zone 'inet' as its quota allows: 2"
    assert world.registry.context.quotas.refused == {"cluster": 1, "namespace": 0}
    with pytest.raises(QuotaExceeded):
        await world.register("c", address="192.0.2.5/32")
    await world.settled()


async def test_what_is_registered_goes_on(world: World) -> None:
    """Also after the quota was lowered."""
    for name in "abc":
        await world.register(name)
    world.configure(quotas={"cluster": 1, "namespace": 1})
    world.forget()
    for name in "abc":
        assert (await world.registry.register(request(name, retention_period_days=5))).created is False
    assert not world.store.counted["count_owned"]
    await world.registry.expire(request("a"))
    await world.registry.register(request("a"))


async def test_a_released_address_may_be_replaced(world: World) -> None:
    world.configure(quotas={"cluster": 1})
    await world.register("a")
    await world.registry.expire(request("a"))
    with pytest.raises(QuotaExceeded):
        await world.register("b")
    assert (await world.registry.release_expired()).released == 1
    assert await world.register("b") == FIRST


async def test_services_that_share_an_address_count_once(world: World) -> None:
    world.configure(quotas={"cluster": 1, "namespace": 1})
    assert await world.register("a") == FIRST
    assert await world.register("b", address=FIRST) == FIRST
    with pytest.raises(QuotaExceeded, match=r"^cluster"):
        await world.register("c")


async def test_a_service_that_joins_the_address_of_another_cluster_counts(world: World) -> None:
    world.configure(quotas={"cluster": 1})
    await world.register("a")
    await world.register("b", cluster=OTHER_CLUSTER)
    with pytest.raises(QuotaExceeded, match=rf"^cluster {OTHER_CLUSTER}"):
        await world.register("c", cluster=OTHER_CLUSTER, address=FIRST)
    assert (await world.names())[FIRST] == ["a"]


async def test_clusters_namespaces_and_zones_count_apart(world: World) -> None:
    world.configure(quotas={"cluster": {"inet": 2, "tiny": 1}, "namespace": 3})
    await world.register("a")
    await world.register("b", key=key("b", namespace=OTHER_NAMESPACE))
    with pytest.raises(QuotaExceeded, match=r"^cluster"):
        await world.register("c")
    await world.register("c", cluster=OTHER_CLUSTER)
    await world.register("d", cluster="1" + OTHER_CLUSTER[1:])
    with pytest.raises(QuotaExceeded, match=r"^namespace"):
        await world.register("e", cluster=OTHER_CLUSTER)
    await world.register("a", zone="tiny")
    with pytest.raises(QuotaExceeded, match="in zone 'tiny'"):
        await world.register("b", zone="tiny")
    await world.register("a", zone="office")


async def test_both_families_count_together(world: World) -> None:
    world.configure(quotas={"cluster": 1})
    await world.register("a")
    with pytest.raises(QuotaExceeded):
        await world.register("a", ip_family="ipv6")


async def test_the_case_of_an_id_makes_no_difference(world: World) -> None:
    world.configure(quotas={"cluster": 1, "namespace": 2})
    lower = key("a")
    await world.register(key=lower)
    for upper in (
        ServiceKey("b", lower.namespace_id, lower.cluster_id.upper()),
        ServiceKey("b", lower.namespace_id.upper(), lower.cluster_id.upper()),
    ):
        with pytest.raises(QuotaExceeded, match=r"^cluster"):
            await world.register(key=upper)


async def test_without_quotas_nothing_is_counted(world: World) -> None:
    world.configure(quotas={"cluster": 0, "namespace": {"tiny": 5}})
    await world.register("a")
    assert not world.store.counted["count_owned"]


@pytest.mark.parametrize("pool", [False, True])
async def test_exact_on_one_instance_under_200_requests_at_once(world: World, pool: bool) -> None:
    world.configure(quotas={"cluster": 10, "namespace": 20}, **({"warm": 4} if pool else {}))
    if pool:
        await world.registry.maintain_pool()
    outcomes = await together([world.registry], 200)
    assert given(outcomes) == 10
    assert len(await world.registrations()) == 10
    assert world.registry.context.quotas.refused["cluster"] == 190
    await world.settled_after_keeping()


async def test_the_same_request_at_once_is_not_refused(world: World) -> None:
    """The first one uses the quota up, and the others get its address."""
    world.configure(quotas={"cluster": 1})
    outcomes = await asyncio.gather(*(world.registry.register(request()) for _ in range(20)))
    assert {one.address for one in outcomes} == {FIRST}


async def test_an_identical_request_that_comes_between_read_and_count_is_not_refused(world: World) -> None:
    world.configure(quotas={"cluster": 1})
    other = world.instance()

    async def by_another_instance() -> None:
        assert (await other.register(request())).address == FIRST

    world.store.next("count_owned", before(by_another_instance))
    assert (await world.registry.register(request())).address == FIRST


@pytest.mark.parametrize("instances", [2, 3])
async def test_instances_exceed_a_quota_by_at_most_one_each(world: World, instances: int) -> None:
    """Every instance counts before any of them writes: the worst that can happen."""
    world.configure(quotas={"cluster": 4})
    registries = [world.instance(seed=number) for number in range(instances)]
    for at in range(3):
        await world.register(f"first-{at}")
    everybody = asyncio.Barrier(instances)

    async def wait() -> None:
        await everybody.wait()

    world.store.next("count_owned", *[after(wait)] * instances)
    outcomes = await together(registries, 200)
    assert 3 + given(outcomes) == 4 + instances - 1
    assert given(await together(registries, 20, zone="inet", ip_family="ipv6")) == 0


async def test_a_creation_that_fails_gives_its_place_back(world: World) -> None:
    world.configure(quotas={"cluster": 1})
    world.store.next("insert", done_but(storage_lost()))
    assert await world.register("a") == FIRST
    await world.registry.expire(request("a"))
    await world.registry.release_expired()
    for taken in ("203.0.113.0/32", "203.0.113.1/32"):
        world.foreign_prefix(taken, zone="tiny")
    with pytest.raises(Exception, match="no free ipv4 address"):
        await world.register("b", zone="tiny")
    assert [one for one in await world.registrations() if one.state is not State.LIVE] == []
    world.steal("203.0.113.0/32")
    assert await world.register("c", zone="tiny") == "203.0.113.0/32"


async def test_locks_are_not_kept(world: World) -> None:
    world.configure(quotas={"cluster": 3, "namespace": 3})
    await together([world.registry], 10)
    assert len(world.registry.context.quotas._locks) == 0


async def test_the_use_is_counted_with_the_statistics(world: World) -> None:
    world.configure(quotas={"cluster": {"inet": 4}, "namespace": 10})
    assert list((await world.registry.zones())[0].quotas) == []
    for name in "abcd":
        await world.register(name)
    await world.register("e", cluster=OTHER_CLUSTER)
    counted = await world.registry.statistics()
    wanted = [
        QuotaUse("cluster", "inet", limit=4, highest=4, nearly_used=1),
        *(QuotaUse("namespace", zone, 10, 5 if zone == "inet" else 0, 0) for zone in world.zones.names),
    ]
    assert list(counted.quotas) == wanted
    [inet] = [one for one in await world.registry.zones() if one.zone == "inet"]
    assert list(inet.quotas) == [wanted[0], wanted[1 + list(world.zones.names).index("inet")]]


async def test_without_quotas_nothing_is_read_for_them(world: World) -> None:
    await world.register("a")
    assert list((await world.registry.statistics()).quotas) == []
    assert not world.store.counted["owned"]
