"""The client against the simulator, which answers as NetBox 4.6.8 was observed to: set-up and creation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ipam_lib.errors import ContainerFull, ContainerGone, DuplicatePrefix, NetBoxRejected, NetBoxUnavailable
from tests.netbox.clients import LIMIT, UUID, client_for
from tests.netbox.world import World, numbered


async def test_choices(world: World) -> None:
    assert await world.client.zone_reader.choices(limit=LIMIT) == ["inet", "tiny", "global"]


async def test_containers_carry_what_is_needed_to_create_in_them(world: World) -> None:
    inet, inet6, tiny, outside = await world.client.zone_reader.containers(limit=LIMIT)
    stored = world.stored(inet.id)
    assert inet.prefix == "83.118.168.0/24"
    assert (inet.zone, inet.ip_family) == ("inet", "ipv4")
    assert (inet.vrf_id, inet.tenant_id, inet.role_id) == (
        stored["vrf"]["id"],
        stored["tenant"]["id"],
        stored["role"]["id"],
    )
    assert inet.custom_fields["infra"] == "prod"
    assert (inet6.prefix, inet6.ip_family) == ("2a0d:a00::/64", "ipv6")
    assert (tiny.tenant_id, tiny.role_id) == (None, None)
    assert outside.vrf_id is None


@pytest.mark.parametrize("count", [51, 1001, 2050])
async def test_containers_are_paged(world: World, count: int) -> None:
    bodies = [
        {"prefix": f"172.{16 + number // 256}.{number % 256}.0/24", "vrf": 1, "status": "container"}
        | {"custom_fields": {"k8s_zone": "tiny" if number % 2 else "inet"}}
        for number in range(count)
    ]
    made = world.admin("POST", "/api/ipam/prefixes/", bodies)
    # What was deleted meanwhile leaves holes in the ids.
    world.admin("DELETE", "/api/ipam/prefixes/", [{"id": item["id"]} for item in made[10:20]])
    world.simulator.model.calls.clear()
    found = await world.client.zone_reader.containers(limit=LIMIT)
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert len({one.prefix for one in found}) == len(found) == count - 10 + 4
    assert world.model.calls["prefixes.list"] == (count - 10 + 4) // 1000 + 1


@pytest.mark.parametrize("zone", ["inet", "global"])
async def test_creates_the_next_free_prefix_complete(world: World, zone: str) -> None:
    container = await world.container(zone)
    made = await world.client.create_next(container, uuid=UUID, limit=LIMIT)
    stored = world.stored(made.id)
    parent = world.stored(container.id)
    assert made.prefix == stored["prefix"] == container.prefix.replace("/24", "/32")
    for name in ("vrf", "tenant", "role"):
        assert stored[name] == parent[name]
    assert [tag["name"] for tag in stored["tags"]] == ["vitistack"]
    assert stored["status"]["value"] == "active"
    assert (stored["custom_fields"]["k8s_zone"], stored["custom_fields"]["k8s_uuid"]) == (zone, UUID)
    assert [stored["custom_fields"][name] for name in ("domain", "env", "purpose")] == ["na"] * 3
    assert stored["custom_fields"]["infra"] == parent["custom_fields"]["infra"] == "prod"
    if world.model.state.version.since("4.4"):
        [change] = world.admin("GET", f"/api/core/object-changes/?changed_object_id={made.id}")["results"]
        assert UUID in change["message"]


async def test_creates_for_ipv6(world: World) -> None:
    container = await world.container("inet", "ipv6")
    assert (await world.client.create_next(container, uuid=UUID, limit=LIMIT)).prefix == "2a0d:a00::/128"
    exact = await world.client.create_exact(container, "2A0D:0A00::00ff/128", uuid=numbered(2), limit=LIMIT)
    assert exact.prefix == "2a0d:a00::ff/128"


async def test_constants_and_inherited_fields_are_stamped(world: World) -> None:
    container = await world.container("inet")
    fields = {"domain": "na", "purpose": "test"}
    async with client_for(world.url, custom_fields=fields, inherit_custom_fields=["infra", "domain"]) as client:
        made = await client.create_next(container, uuid=UUID, limit=LIMIT)
    stored = world.stored(made.id)
    assert stored["custom_fields"] == {
        "domain": "example.com",
        "purpose": "test",
        "infra": "prod",
        "env": None,
        "k8s_zone": "inet",
        "k8s_uuid": UUID,
    }
    assert stored["tags"] == []


async def test_an_exhausted_container(world: World) -> None:
    tiny = await world.container("tiny")
    made = await world.client.create_next_many(tiny, [numbered(n) for n in range(3)], limit=LIMIT)
    assert [one.prefix for one in made] == [f"10.99.0.{n}/32" for n in range(3)]
    before = world.count()
    with pytest.raises(ContainerFull):
        await world.client.create_next_many(tiny, [numbered(4), numbered(5)], limit=LIMIT)
    assert world.count() == before, "all or none"
    await world.client.create_next(tiny, uuid=numbered(6), limit=LIMIT)
    with pytest.raises(ContainerFull):
        await world.client.create_next(tiny, uuid=numbered(7), limit=LIMIT)
    await world.client.delete_many([made[1]], limit=LIMIT)
    again = await world.client.create_next(tiny, uuid=numbered(8), limit=LIMIT)
    assert again.prefix == made[1].prefix


async def test_a_container_that_is_gone(world: World) -> None:
    tiny = await world.container("tiny")
    world.admin("DELETE", f"/api/ipam/prefixes/{tiny.id}/")
    with pytest.raises(ContainerGone):
        await world.client.create_next(tiny, uuid=UUID, limit=LIMIT)
    with pytest.raises(ContainerGone):
        await world.client.create_next_many(tiny, [UUID, numbered(2)], limit=LIMIT)


async def test_a_container_that_has_moved_to_another_vrf_is_noticed(world: World) -> None:
    """NetBox creates in the VRF where the container now is; it must not be taken for the one that the cache says."""
    tiny = await world.container("tiny")
    world.admin("PATCH", f"/api/ipam/prefixes/{tiny.id}/", {"vrf": 1})
    with pytest.raises(NetBoxUnavailable) as caught:
        await world.client.create_next(tiny, uuid=UUID, limit=LIMIT)
    assert caught.value.applied
    assert len(await world.client.find_by_uuid([UUID], limit=LIMIT)) == 1


async def test_a_given_address_and_its_duplicate(world: World) -> None:
    for zone, address in (("inet", "83.118.168.77/32"), ("global", "198.51.100.77/32")):
        container = await world.container(zone)
        await world.client.create_exact(container, address, uuid=UUID, limit=LIMIT)
        before = world.count()
        with pytest.raises(DuplicatePrefix):
            await world.client.create_exact(container, address, uuid=numbered(2), limit=LIMIT)
        assert world.count() == before


async def test_a_duplicate_in_a_vrf_that_allows_them_is_created(world: World) -> None:
    world.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    inet = await world.container("inet")
    first = await world.client.create_exact(inet, "83.118.168.77/32", uuid=UUID, limit=LIMIT)
    second = await world.client.create_exact(inet, "83.118.168.77/32", uuid=numbered(2), limit=LIMIT)
    covering = await world.client.covering(inet, "83.118.168.77/32", limit=LIMIT)
    assert {one.id for one in covering} == {inet.id, first.id, second.id}


@pytest.mark.parametrize(
    "set_up",
    [
        {"custom_fields": {"nosuch": "x"}},
        {"constraint_tag": "nosuch"},
    ],
)
async def test_a_netbox_that_lacks_something(world: World, set_up: Any) -> None:
    inet = await world.container("inet")
    before = world.count()
    async with client_for(world.url, **set_up) as client:
        for call in (
            client.create_next(inet, uuid=UUID, limit=LIMIT),
            client.create_exact(inet, "83.118.168.9", uuid=UUID, limit=LIMIT),
        ):
            with pytest.raises(NetBoxRejected) as caught:
                await call
            assert "nosuch" in caught.value.detail
    assert world.count() == before


async def test_a_tenant_that_is_gone_is_a_refusal(world: World) -> None:
    inet = replace(await world.container("inet"), tenant_id=999)
    with pytest.raises(NetBoxRejected, match="log says why") as caught:
        await world.client.create_next(inet, uuid=UUID, limit=LIMIT)
    assert "999" in caught.value.detail


async def test_a_tag_that_was_deleted_and_made_anew(world: World) -> None:
    inet = await world.container("inet")
    await world.client.create_next(inet, uuid=UUID, limit=LIMIT)
    [tag] = world.admin("GET", "/api/extras/tags/?name=vitistack")["results"]
    world.admin("DELETE", f"/api/extras/tags/{tag['id']}/")
    with pytest.raises(NetBoxRejected) as caught:
        await world.client.create_next(inet, uuid=numbered(2), limit=LIMIT)
    assert "netbox-setup" in caught.value.detail
    tag = world.admin("POST", "/api/extras/tags/", {"name": "vitistack", "slug": "vitistack"})
    made = await world.client.create_next(inet, uuid=numbered(3), limit=LIMIT)
    assert [one["id"] for one in world.stored(made.id)["tags"]] == [tag["id"]]


async def test_parallel_creations_are_all_different(world: World) -> None:
    inet = await world.container("inet")
    made = await asyncio.gather(
        *(world.client.create_next(inet, uuid=numbered(n), limit=LIMIT) for n in range(40)),
        world.client.create_next_many(inet, [numbered(n) for n in range(40, 60)], limit=LIMIT),
    )
    single, listed = made[:-1], made[-1]
    assert isinstance(listed, list)
    everything = [*single, *listed]
    assert len({one.prefix for one in everything}) == 60
    assert [one.uuid for one in everything] == [numbered(n) for n in range(60)]
