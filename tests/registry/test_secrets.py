"""`new_secret`: which request may replace the secret of an address, and what a repeated request finds afterwards."""

from __future__ import annotations

import pytest

from ipam_lib.errors import SecretShared, StorageUnavailable, WrongSecret
from ipam_lib.models import Registered
from tests.registry.watched import done_but, fails, storage_lost
from tests.registry.world import CIPHER, FIRST, SECOND, SECRET, World, request

NEW = "NewSecret"
BY = pytest.mark.parametrize("address", [None, FIRST], ids=["by service", "by address"])


async def secret_of(world: World, address: str) -> str:
    return CIPHER.unseal((await world.on(address)).secret)


@BY
async def test_the_only_service_replaces_the_secret(world: World, address: str | None) -> None:
    await world.register()
    assert await world.registry.register(request(address=address, new_secret=NEW)) == Registered(FIRST, created=False)
    assert await secret_of(world, FIRST) == NEW
    assert await world.register(secret=NEW, address=address) == FIRST
    with pytest.raises(WrongSecret):
        await world.register(address=FIRST)
    await world.settled()


@BY
async def test_the_secret_and_the_service_change_in_one_write(world: World, address: str | None) -> None:
    await world.register()
    revision = (await world.only()).revision
    await world.register(address=address, new_secret=NEW, retention_period_days=5)
    one = await world.only()
    assert (one.revision, one.services[0].retention_period_days) == ((revision or 0) + 1, 5)
    assert await secret_of(world, FIRST) == NEW


@BY
async def test_the_same_request_again_finds_it_under_the_new_secret(world: World, address: str | None) -> None:
    """The first answer may have been lost: the client does not know that the secret is replaced."""
    await world.register()
    asked = request(address=address, new_secret=NEW)
    for _ in range(3):
        assert await world.registry.register(asked) == Registered(FIRST, created=False)
    assert await world.names() == {FIRST: ["web"]}
    assert await secret_of(world, FIRST) == NEW
    await world.settled()


@BY
async def test_the_same_request_again_still_updates(world: World, address: str | None) -> None:
    await world.register()
    await world.register(address=address, new_secret=NEW)
    await world.registry.expire(request(secret=NEW, retention_period_days=9))
    await world.register(address=address, new_secret=NEW, retention_period_days=2)
    [service] = (await world.only()).services
    assert (service.expires_at, service.retention_period_days) == (None, 2)


@BY
@pytest.mark.parametrize("plan", [done_but, fails])
async def test_a_lost_write_of_the_new_secret_is_read_back(world: World, address: str | None, plan: object) -> None:
    await world.register()
    world.store.next("replace", plan(storage_lost()))  # type: ignore[operator]
    assert await world.register(address=address, new_secret=NEW) == FIRST
    assert await secret_of(world, FIRST) == NEW
    await world.settled()


async def test_a_request_whose_answer_was_lost_altogether_can_be_repeated(world: World) -> None:
    await world.register()
    world.store.next("replace", done_but(storage_lost()))
    world.store.next("get", fails(storage_lost(applied=False)))
    with pytest.raises(StorageUnavailable):
        await world.register(new_secret=NEW)
    assert await world.register(new_secret=NEW) == FIRST
    assert await secret_of(world, FIRST) == NEW


@BY
async def test_with_several_services_the_secret_stays(world: World, address: str | None) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    before = await world.only()
    with pytest.raises(SecretShared, match=f"the secret of {FIRST} can only be replaced while") as refused:
        await world.register("a", address=address, new_secret=NEW)
    assert refused.value.status == 409
    assert await world.only() == before


@BY
async def test_refused_with_several_services_nothing_else_changes_either(world: World, address: str | None) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    before = await world.only()
    with pytest.raises(SecretShared):
        await world.register("a", address=address, new_secret=NEW, retention_period_days=9)
    assert await world.only() == before


async def test_another_service_cannot_replace_the_secret(world: World) -> None:
    await world.register("a")
    before = await world.only()
    with pytest.raises(SecretShared):
        await world.register("b", address=FIRST, new_secret=NEW)
    assert await world.only() == before


async def test_who_does_not_know_the_secret_cannot_replace_it(world: World) -> None:
    await world.register("a")
    with pytest.raises(WrongSecret):
        await world.register("a", address=FIRST, secret="WrongSecret", new_secret=NEW)
    assert await secret_of(world, FIRST) == SECRET


async def test_who_guesses_the_secret_as_the_new_one_gets_in_no_other_service(world: World) -> None:
    """A new secret that happens to be the present one is knowledge of it, but only the service itself is let in."""
    await world.register("a")
    with pytest.raises(WrongSecret):
        await world.register("b", address=FIRST, secret="WrongSecret", new_secret=SECRET)
    assert await world.names() == {FIRST: ["a"]}


@BY
async def test_an_equal_new_secret_changes_nothing(world: World, address: str | None) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    before = await world.only()
    assert await world.register("a", address=address, new_secret=SECRET) == FIRST
    assert await world.only() == before


async def test_another_service_with_an_equal_new_secret_is_simply_added(world: World) -> None:
    await world.register("a")
    assert await world.register("b", address=FIRST, new_secret=SECRET) == FIRST
    assert await world.names() == {FIRST: ["a", "b"]}


async def test_once_alone_again_the_service_may_replace_it(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    await world.registry.expire(request("b", address=FIRST))
    with pytest.raises(SecretShared):
        await world.register("a", new_secret=NEW)
    await world.registry.release_expired()
    assert await world.register("a", new_secret=NEW) == FIRST
    assert await secret_of(world, FIRST) == NEW


async def test_the_old_secret_is_free_for_another_registration(world: World) -> None:
    await world.register("a")
    await world.register("a", new_secret=NEW)
    assert await world.register("a") == SECOND
    assert [await world.register("a", secret=secret) for secret in (NEW, SECRET)] == [FIRST, SECOND]
    await world.settled()


async def test_the_secret_stored_is_the_new_one_when_somebody_changes_the_registration_meanwhile(world: World) -> None:
    await world.register("a")

    async def somebody_joins(work: object) -> bool:
        await world.register("b", address=FIRST)
        return await work()  # type: ignore[operator,no-any-return]

    world.store.next("replace", somebody_joins)
    with pytest.raises(SecretShared):
        await world.register("a", new_secret=NEW)
    assert await secret_of(world, FIRST) == SECRET
    assert await world.names() == {FIRST: ["a", "b"]}
