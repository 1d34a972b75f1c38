"""`DELETE /`: which registration is meant, when it expires, and that NetBox has no part in it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ipam_lib.errors import NotFound, StorageUnavailable, Unavailable
from ipam_lib.models import Service
from tests.registry.watched import Work, after, before, done_but, fails, landed_late, storage_lost
from tests.registry.world import DAY, FIRST, MILLISECOND, OTHER_CLUSTER, SECOND, World, key, request

BY = pytest.mark.parametrize("address", [None, FIRST], ids=["by service", "by address"])


@BY
@pytest.mark.parametrize(("stored", "asked", "days"), [(7, None, 7), (7, 3, 3), (7, 0, 0), (0, None, 0), (0, 30, 30)])
async def test_the_requests_retention_counts_else_the_stored_one(
    world: World, address: str | None, stored: int, asked: int | None, days: int
) -> None:
    await world.register(retention_period_days=stored)
    await asyncio.sleep(1234.5678)
    assert await world.registry.expire(request(address=address, retention_period_days=asked)) == FIRST
    expires_at = world.now(days=days)
    assert expires_at.microsecond % 1000 == 0
    assert (await world.only()).services == (Service(key(), stored, expires_at=expires_at),)


@BY
async def test_again_sets_it_anew(world: World, address: str | None) -> None:
    await world.register(retention_period_days=1)
    asked = request(address=address, retention_period_days=None)
    for _ in range(3):
        await world.registry.expire(asked)
        assert (await world.only()).services[0].expires_at == world.now(days=1)
        await asyncio.sleep(DAY / 2)
    await world.registry.expire(request(retention_period_days=0))
    assert (await world.only()).services[0].expires_at == world.now()


@BY
async def test_only_that_service_expires(world: World, address: str | None) -> None:
    await world.register("a", retention_period_days=1)
    await world.register("b", address=FIRST, retention_period_days=2, deny_external_cleanup=True)
    await world.register("c", address=FIRST, retention_period_days=3)
    await world.registry.expire(request("b", address=address, retention_period_days=None))
    assert (await world.only()).services == (
        Service(key("a"), 1),
        Service(key("b"), 2, True, world.now(days=2)),
        Service(key("c"), 3),
    )


async def test_a_denial_of_external_cleanup_does_not_bind_the_service_itself(world: World) -> None:
    await world.register(deny_external_cleanup=True)
    await world.registry.expire(request())
    assert (await world.only()).services[0].expires_at == world.now()


@BY
async def test_it_asks_netbox_nothing_and_works_while_that_is_down(world: World, address: str | None) -> None:
    await world.register()
    world.forget()
    world.server.reachable = False
    assert await world.registry.expire(request(address=address)) == FIRST
    assert world.netbox.calls == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "WrongSecret"},
        {"secret": "WrongSecret", "address": FIRST},
        {"key": key("other")},
        {"key": key("other"), "address": FIRST},
        {"key": key(cluster=OTHER_CLUSTER)},
        {"zone": "office"},
        {"zone": "moon"},
        {"zone": "office", "address": FIRST},
        {"ip_family": "ipv6"},
        {"address": SECOND},
    ],
    ids=str,
)
async def test_no_such_registration_or_service_is_not_found(world: World, wrong: dict[str, object]) -> None:
    await world.register()
    before_it = await world.only()
    with pytest.raises(NotFound) as refused:
        await world.registry.expire(request(**wrong))
    assert refused.value.status == 404
    assert await world.only() == before_it
    assert world.netbox.counted["find_by_uuid"] == 0


async def test_a_new_secret_is_ignored(world: World) -> None:
    await world.register()
    await world.registry.expire(request(new_secret="NewSecret", retention_period_days=1))
    assert await world.register() == FIRST


async def test_what_is_being_made_or_released_is_not_found(world: World) -> None:
    async def expire(work: Work) -> object:
        with pytest.raises(NotFound):
            await world.registry.expire(request())
        with pytest.raises(NotFound):
            await world.registry.expire(request(address=FIRST))
        return await work()

    world.netbox.next("create_next", expire)
    await world.register()
    await world.registry.expire(request())
    world.netbox.next("delete_many", expire)
    assert (await world.registry.release_expired()).released == 1


@BY
async def test_somebody_elses_change_meanwhile_is_kept(world: World, address: str | None) -> None:
    await world.register("a")
    world.store.next("replace", before(lambda: world.register("b", address=FIRST)))
    await world.registry.expire(request("a", address=address))
    services = (await world.only()).services
    assert [one.key.service_name for one in services] == ["a", "b"]
    assert [one.expires_at is not None for one in services] == [True, False]


async def test_a_lost_reply_is_read_back(world: World) -> None:
    await world.register(retention_period_days=1)
    world.store.next("replace", done_but(storage_lost()))
    await world.registry.expire(request(retention_period_days=None))
    assert (await world.only()).revision == 3, "it was written once"


async def test_a_write_that_lands_between_two_attempts_is_recognized(world: World) -> None:
    await world.register()
    world.store.next("replace", fails(storage_lost()), landed_late)
    await world.registry.expire(request(retention_period_days=1))
    assert (await world.only()).revision == 3, "it was written once"


async def test_a_write_that_did_not_happen_is_sent_again(world: World) -> None:
    await world.register()
    world.store.next("replace", fails(storage_lost()), fails(storage_lost(applied=False)))
    await world.registry.expire(request())
    assert (await world.only()).services[0].expires_at is not None


async def test_storage_that_stays_away_is_told_and_nothing_is_changed(world: World) -> None:
    await world.register()
    one = await world.only()
    world.store.next("replace", *[fails(storage_lost(applied=False))] * 3)
    with pytest.raises(StorageUnavailable) as refused:
        await world.registry.expire(request())
    assert refused.value.status == 503
    assert await world.only() == one


@pytest.mark.parametrize(("late", "written"), [(25.0 - MILLISECOND, True), (25.0, False), (25.0 + MILLISECOND, False)])
async def test_who_was_suspended_to_his_deadline_writes_nothing(world: World, late: float, written: bool) -> None:
    await world.register()
    began = world.now()
    world.store.next("find_service", after(lambda: asyncio.sleep(late)))
    if written:
        await world.registry.expire(request())
    else:
        with pytest.raises(Unavailable):
            await world.registry.expire(request())
    expires_at = (await world.only()).services[0].expires_at
    assert expires_at == (began + timedelta(seconds=late) if written else None)
