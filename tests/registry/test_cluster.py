"""`DELETE /v2/cluster`: every service of a cluster expires at once, except those that deny it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.errors import NotFound, StorageUnavailable, Unavailable
from ipam_lib.models import ClusterExpired
from ipam_lib.registry import writes
from ipam_lib.registry.services import CLUSTER_WRITERS
from tests.registry.watched import Work, before, done_but, fails, storage_lost
from tests.registry.world import (
    CIPHER,
    CLUSTER,
    DAY,
    FIRST,
    LONGEST_REQUEST,
    OTHER_CLUSTER,
    SECOND,
    SECRET,
    World,
    key,
    request,
)


async def expiring(world: World) -> dict[str, list[str]]:
    """The names of the services on each address that have expired by now."""
    return {
        one.address: [each.key.service_name for each in one.services if each.expired(world.now())]
        for one in await world.registrations()
    }


def document(world: World, number: int, *, deny_external_cleanup: bool = False) -> dict[str, object]:
    """A registration of one service of the cluster: `service-` with its number."""
    names = {"service_name": f"service-{number}", "namespace_id": key().namespace_id, "cluster_id": CLUSTER}
    return {
        "_id": world.new_id(),
        "zone": "office",
        "address": f"10.1.{number // 256}.{number % 256}/32",
        "ip_family": "ipv4",
        "secret": CIPHER.seal(SECRET),
        "services": [names | {"retention_period_days": 0, "deny_external_cleanup": deny_external_cleanup}],
    }


async def test_all_services_of_the_cluster_expire_now(world: World) -> None:
    await world.register("a", retention_period_days=30)
    await world.register("b", ip_family="ipv6")
    await world.register("c", zone="office", secret="AnotherSecret")
    await world.register("d", cluster=OTHER_CLUSTER)
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=3, denied=0)
    one = await world.on(FIRST)
    assert (one.services[0].expires_at, one.services[0].retention_period_days) == (world.now(), 30)
    assert await expiring(world) == {FIRST: ["a"], "2001:db8::/128": ["b"], "10.0.0.0/32": ["c"], SECOND: []}


async def test_only_its_services_on_a_shared_address_expire(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST, cluster=OTHER_CLUSTER)
    await world.register("c", address=FIRST)
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=2, denied=0)
    assert await expiring(world) == {FIRST: ["a", "c"]}
    await world.registry.release_expired()
    assert await world.names() == {FIRST: ["b"]}
    await world.settled()


async def test_those_that_deny_stay_and_are_counted(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST, deny_external_cleanup=True)
    await world.register("c", deny_external_cleanup=True)
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=1, denied=2)
    assert await expiring(world) == {FIRST: ["a"], SECOND: []}


async def test_when_all_deny_nothing_is_written(world: World) -> None:
    await world.register(deny_external_cleanup=True)
    one = await world.only()
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=0, denied=1)
    assert await world.only() == one


async def test_the_id_is_found_in_upper_and_lower_case(world: World) -> None:
    await world.register("a", cluster=CLUSTER.upper())
    await world.register("b", cluster=CLUSTER)
    assert await world.registry.expire_cluster(CLUSTER.upper()) == ClusterExpired(expired=2, denied=0)
    assert await expiring(world) == {FIRST: ["a"], SECOND: ["b"]}


async def test_it_may_be_repeated(world: World) -> None:
    await world.register("a")
    await world.register("b")
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=2, denied=0)
    registrations = await world.registrations()
    await asyncio.sleep(1)
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=2, denied=0)
    assert await world.registrations() == registrations, "what has expired already keeps its moment"


async def test_a_later_expiration_is_brought_forward(world: World) -> None:
    await world.register(retention_period_days=30)
    await world.registry.expire(request(retention_period_days=None))
    await world.registry.expire_cluster(CLUSTER)
    assert (await world.only()).services[0].expires_at == world.now()


@pytest.mark.parametrize("cluster", [OTHER_CLUSTER, CLUSTER[:-1], CLUSTER + "0", ""])
async def test_a_cluster_without_services_is_not_found(world: World, cluster: str) -> None:
    await world.register()
    with pytest.raises(NotFound, match=f"no service of cluster {cluster} is registered") as refused:
        await world.registry.expire_cluster(cluster)
    assert refused.value.status == 404


async def test_once_released_it_is_not_found(world: World) -> None:
    await world.register()
    await world.registry.expire_cluster(CLUSTER)
    await world.registry.release_expired()
    with pytest.raises(NotFound):
        await world.registry.expire_cluster(CLUSTER)
    await world.nothing()


async def test_it_needs_no_netbox(world: World) -> None:
    await world.register()
    world.forget()
    world.server.reachable = False
    assert (await world.registry.expire_cluster(CLUSTER)).expired == 1
    assert world.netbox.calls == []


async def test_a_service_that_comes_back_meanwhile_is_expired_with_the_rest(world: World) -> None:
    await world.register("a", retention_period_days=1)
    world.store.next("replace", before(lambda: world.register("a", retention_period_days=2)))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=1, denied=0)
    service = (await world.only()).services[0]
    assert (service.expires_at, service.retention_period_days) == (world.now(), 2)


async def test_a_service_that_denies_meanwhile_stays(world: World) -> None:
    await world.register("a")
    world.store.next("replace", before(lambda: world.register("a", deny_external_cleanup=True)))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=0, denied=1)
    assert (await world.only()).services[0].expires_at is None


async def test_what_is_released_meanwhile_counts_for_nothing(world: World) -> None:
    await world.register("a")
    await world.register("b")

    async def release_a() -> None:
        await world.registry.expire(request("a"))
        await asyncio.sleep(1)
        await world.registry.release_expired()

    world.store.next("replace", before(release_a))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=1, denied=0)


async def test_a_lost_reply_is_read_back(world: World) -> None:
    await world.register()
    world.store.next("replace", done_but(storage_lost()))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=1, denied=0)
    assert (await world.only()).revision == 3


async def test_cut_short_it_can_be_finished_by_a_repetition(world: World) -> None:
    for name in "abc":
        await world.register(name)
    world.store.next("replace", None, *[fails(storage_lost(applied=False))] * 6)
    with pytest.raises(Unavailable):
        await world.registry.expire_cluster(CLUSTER)
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=3, denied=0)
    await asyncio.sleep(DAY)
    assert (await world.registry.release_expired()).released == 3
    await world.nothing()


@pytest.mark.parametrize("error", [storage_lost(applied=False), asyncio.CancelledError()])
async def test_cut_short_it_writes_nothing_after_its_answer(world: World, error: BaseException) -> None:
    """One write fails while the storage holds up others: the answer waits for those. A service that is registered again
    after the answer keeps its address."""
    number = 2 * CLUSTER_WRITERS
    await world.seed(*(document(world, one) for one in range(number)))
    attempts = writes.ATTEMPTS if isinstance(error, StorageUnavailable) else 1

    async def slow(work: Work) -> Any:
        await asyncio.sleep(20)
        return await work()

    plans = [*[slow] * (CLUSTER_WRITERS - 1), *[fails(error)] * attempts]
    world.store.next("replace", *plans)
    began = world.loop.time()
    with pytest.raises(type(error)):
        await world.registry.expire_cluster(CLUSTER)
    assert world.loop.time() - began == pytest.approx(20)
    assert world.store.counted["replace"] == len(plans)
    assert sum(map(len, (await expiring(world)).values())) == CLUSTER_WRITERS - 1
    for one in range(number):
        await world.register(f"service-{one}", zone="office")
    world.forget()
    await asyncio.sleep(2 * LONGEST_REQUEST)
    assert world.store.calls == []
    assert not any((await expiring(world)).values())


async def test_more_services_than_a_page_expire_in_one_call(world: World) -> None:
    await world.seed(*(document(world, number, deny_external_cleanup=number % 100 == 0) for number in range(501)))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=495, denied=6)
