"""The client against the simulator: what its user may do, and what becomes of lost requests and replies."""

from __future__ import annotations

from typing import Any

import pytest

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable
from tests.netbox.clients import LIMIT, TOKEN, UUID, bare, client_for, read
from tests.netbox.world import World, numbered
from tests.support.netbox_faults import Fault

# Rights.

SERVICE = "b" * 40


def grant(world: World, **rights: Any) -> None:
    """A user of NetBox with just these rights, and its token."""
    user = world.admin("POST", "/api/users/users/", {"username": "ipam-svc", "password": "Svc-Passw0rd-123"})
    for number, (object_type, right) in enumerate(rights.items()):
        actions, constraints = right if isinstance(right, tuple) else (right, None)
        body = {"name": f"right {number}", "object_types": [object_type.replace("__", ".")], "actions": actions}
        world.admin("POST", "/api/users/permissions/", body | {"users": [user["id"]], "constraints": constraints})
    world.admin("POST", "/api/users/tokens/", {"user": user["id"], "version": 1, "token": SERVICE})


async def test_a_user_with_the_documented_rights_can_do_everything(world: World) -> None:
    inet = await world.container("inet")
    grant(
        world,
        ipam__prefix=["view", "add", "change", "delete"],
        extras__tag=["view"],
        extras__customfieldchoiceset=["view"],
    )
    async with client_for(world.url, token=SERVICE, constraint_tag="vitistack") as client:
        assert await client.zone_reader.choices(limit=LIMIT)
        made = await client.create_next(inet, uuid=UUID, limit=LIMIT)
        assert await client.assign(made.id, numbered(2), limit=LIMIT)
        await client.delete_many([made], limit=LIMIT)


async def test_without_the_right_to_view_tags_nothing_is_created(world: World) -> None:
    inet = await world.container("inet")
    grant(world, ipam__prefix=["view", "add"])
    async with client_for(world.url, token=SERVICE, constraint_tag="vitistack") as client:
        with pytest.raises(NetBoxRejected) as caught:
            await client.create_next(inet, uuid=UUID, limit=LIMIT)
        assert "permission" in caught.value.detail
        with pytest.raises(NetBoxRejected):
            await client.zone_reader.choices(limit=LIMIT)


async def test_a_user_limited_to_the_tag(world: World) -> None:
    """The constraint tag lets NetBox's administrator limit the service to its own prefixes."""
    inet = await world.container("inet")
    theirs = world.admin("POST", "/api/ipam/prefixes/", {"prefix": "83.118.168.200/32", "vrf": 1})["id"]
    tag = {"tags__name": "vitistack"}
    grant(
        world, ipam__prefix=(["view", "add", "change", "delete"], [tag, {"status": "container"}]), extras__tag=["view"]
    )
    async with client_for(world.url, token=SERVICE, constraint_tag="vitistack") as client:
        made = await client.create_next_many(inet, [numbered(n) for n in range(3)], limit=LIMIT)
        assert await client.get_many([theirs], limit=LIMIT) == []
        await client.delete_many([*bare(theirs), *made], limit=LIMIT)
        assert await client.assign(theirs, UUID, limit=LIMIT) is False
    assert world.stored(theirs)["id"] == theirs, "what cannot be seen cannot be deleted"
    async with client_for(world.url, token=SERVICE) as client:
        before = world.count()
        with pytest.raises(NetBoxRejected):
            await client.create_next(inet, uuid=UUID, limit=LIMIT)
        assert world.count() == before


async def test_prefixes_that_may_be_viewed_but_not_deleted(world: World) -> None:
    """To NetBox they are absent (404) or make a whole bulk fail, and must not be taken for deleted."""
    inet = await world.container("inet")
    theirs = world.admin("POST", "/api/ipam/prefixes/", {"prefix": "83.118.168.200/32", "vrf": 1})["id"]
    tag = {"tags__name": "vitistack"}
    grant(world, ipam__prefix=["view"], extras__tag=["view"])
    [user] = world.admin("GET", "/api/users/users/?username=ipam-svc")["results"]
    body = {"name": "own", "object_types": ["ipam.prefix"], "actions": ["add", "change", "delete"], "constraints": tag}
    world.admin("POST", "/api/users/permissions/", body | {"users": [user["id"]]})
    async with client_for(world.url, token=SERVICE, constraint_tag="vitistack") as client:
        made = await client.create_next_many(inet, [numbered(n) for n in range(3)], limit=LIMIT)
        for doomed in ([theirs], [theirs, *(one.id for one in made)]):
            with pytest.raises(NetBoxRejected) as caught:
                await client.delete_many(bare(*doomed), limit=LIMIT)
            assert f"may view prefix {theirs}, but not delete it" in caught.value.detail
        assert [one.id for one in await client.get_many([theirs, *(one.id for one in made)], limit=LIMIT)] == [theirs]
        with pytest.raises(NetBoxRejected):
            await client.assign(theirs, UUID, limit=LIMIT)


async def test_a_revoked_token(world: World) -> None:
    inet = await world.container("inet")
    world.client.set_token("c" * 40)
    for call in (
        world.client.create_next(inet, uuid=UUID, limit=LIMIT),
        world.client.find_by_uuid([UUID], limit=LIMIT),
        world.client.delete_many(bare(1, 2, 3), limit=LIMIT),
        world.client.assign(1, UUID, limit=LIMIT),
        read(world.client),
    ):
        with pytest.raises(NetBoxRejected) as caught:
            await call
        assert "Invalid" in caught.value.detail
    assert world.client.available
    world.client.set_token(TOKEN)
    await world.client.create_next(inet, uuid=UUID, limit=LIMIT)


# Lost requests and replies.


@pytest.mark.parametrize("action", ["disconnect", "status", "html", "garbage"])
@pytest.mark.parametrize("applied", ["never", "before"])
async def test_after_a_lost_reply_the_uuid_tells_what_happened(world: World, action: str, applied: str) -> None:
    inet = await world.container("inet")
    for number, create in enumerate(
        (
            lambda uuid: world.client.create_next(inet, uuid=uuid, limit=LIMIT),
            lambda uuid: world.client.create_exact(inet, "83.118.168.99", uuid=uuid, limit=LIMIT),
        )
    ):
        world.faults.add(Fault(action, method="POST", applied=applied))
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(numbered(number))
        assert caught.value.applied
        found = await world.client.find_by_uuid([numbered(number)], limit=LIMIT)
        assert len(found) == (1 if applied == "before" else 0)


async def test_reads_and_deletions_outlive_two_faults_each(world: World) -> None:
    inet = await world.container("inet")
    made = await world.client.create_next_many(inet, [numbered(n) for n in range(3)], limit=LIMIT)
    for action in ("html", "garbage", "disconnect"):
        world.faults.add(Fault(action, method="GET", times=2))
        assert len(await world.client.get_many([one.id for one in made], limit=LIMIT)) == 3
    world.faults.add(Fault("html", method="PATCH", times=2, applied="before"))
    assert await world.client.assign(made[0].id, UUID, limit=LIMIT)
    world.faults.add(Fault("disconnect", method="DELETE", times=2, applied="before"))
    before = world.count()
    await world.client.delete_many(made, limit=LIMIT)
    assert world.count() == before - 3
