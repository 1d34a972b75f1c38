"""The client against the simulator: finding, listing, deleting, changing."""

from __future__ import annotations

import pytest

from tests.netbox.clients import LIMIT, UUID, bare
from tests.netbox.world import World, numbered

# Looking for prefixes.


@pytest.mark.parametrize("logic", ["loose", "exact", "disabled"])
async def test_finds_by_uuid_whatever_the_filter_logic(world: World, logic: str) -> None:
    world.admin("PATCH", f"/api/extras/custom-fields/{field_id(world, 'k8s_uuid')}/", {"filter_logic": logic})
    inet = await world.container("inet")
    uuids = [numbered(n) for n in range(120)]
    made = await world.client.create_next_many(inet, uuids, limit=LIMIT)
    for number, near in enumerate((numbered(7).upper(), numbered(7) + "0", "0" + numbered(7), numbered(7)[1:])):
        world.admin(
            "POST",
            "/api/ipam/prefixes/",
            {"prefix": f"83.118.168.{200 + number}/32", "vrf": 1, "custom_fields": {"k8s_uuid": near}},
        )
    twin = world.admin(
        "POST", "/api/ipam/prefixes/", {"prefix": "9.9.9.9/32", "custom_fields": {"k8s_uuid": numbered(7)}}
    )
    found = await world.client.find_by_uuid([*uuids, "absent"], limit=LIMIT)
    assert {one.id for one in found} == {one.id for one in made} | {twin["id"]}
    assert {one.id for one in await world.client.find_by_uuid([numbered(7)], limit=LIMIT)} == {made[7].id, twin["id"]}
    assert await world.client.find_by_uuid(["absent", "65f0"], limit=LIMIT) == []


def field_id(world: World, name: str) -> int:
    return int(world.admin("GET", f"/api/extras/custom-fields/?name={name}")["results"][0]["id"])


async def test_covering_names_everything_around_the_address_in_the_vrf(world: World) -> None:
    inet, outside = await world.container("inet"), await world.container("global")
    for body in (
        {"prefix": "83.0.0.0/8", "vrf": 1},
        {"prefix": "83.118.168.64/26", "vrf": 1, "status": "reserved"},
        {"prefix": "83.118.168.77/32", "vrf": 2},
        {"prefix": "83.118.168.77/32"},
        {"prefix": "83.118.168.78/32", "vrf": 1},
        {"prefix": "198.51.100.0/24", "vrf": 1},
    ):
        world.admin("POST", "/api/ipam/prefixes/", body)
    mine = await world.client.create_exact(inet, "83.118.168.77/32", uuid=UUID, limit=LIMIT)
    found = await world.client.covering(inet, "83.118.168.77", limit=LIMIT)
    assert {one.prefix for one in found} == {"83.0.0.0/8", "83.118.168.0/24", "83.118.168.64/26", "83.118.168.77/32"}
    assert mine in found
    assert {one.prefix: one.is_container for one in found}["83.118.168.0/24"]
    assert {one.status for one in found} == {"active", "reserved", "container"}
    found = await world.client.covering(outside, "198.51.100.7/32", limit=LIMIT)
    assert [(one.prefix, one.vrf_id) for one in found] == [("198.51.100.0/24", None)]


async def test_gets_those_that_exist(world: World) -> None:
    inet = await world.container("inet")
    made = await world.client.create_next_many(inet, [numbered(n) for n in range(70)], limit=LIMIT)
    ids = [one.id for one in made]
    found = await world.client.get_many([*ids, 99_999, ids[0]], limit=LIMIT)
    assert sorted(found, key=lambda one: one.id) == made


async def test_lists_a_container_in_pages(world: World) -> None:
    wide = {"prefix": "10.80.0.0/16", "vrf": 1, "status": "container", "custom_fields": {"k8s_zone": "inet"}}
    parent = world.admin("POST", "/api/ipam/prefixes/", wide)
    bodies = [{"prefix": f"10.80.{n // 250}.{n % 250}/32", "vrf": 1} for n in range(1203)]
    made = world.admin("POST", "/api/ipam/prefixes/", bodies)
    world.admin("POST", "/api/ipam/prefixes/", {"prefix": "10.80.9.9/32", "vrf": 2})
    [container] = [one for one in await world.client.zone_reader.containers(limit=LIMIT) if one.id == parent["id"]]
    seen: list[int] = []
    while page := await world.client.list_prefixes(container, after=seen[-1] if seen else 0, limit=LIMIT):
        assert [one.id for one in page] == sorted(one.id for one in page)
        seen += [one.id for one in page]
    assert seen == [item["id"] for item in made]


# Deleting and giving away.


async def test_deletes_what_is_there_and_forgives_what_is_gone(world: World) -> None:
    inet = await world.container("inet")
    made = await world.client.create_next_many(inet, [numbered(n) for n in range(120)], limit=LIMIT)
    before = world.count()
    world.admin("DELETE", f"/api/ipam/prefixes/{made[5].id}/")
    world.model.calls.clear()
    await world.client.delete_many(made + bare(99_999), limit=LIMIT)
    assert world.count() == before - 120
    assert dict(world.model.calls) == {"prefixes.delete_many": 3, "prefixes.list": 3}
    await world.client.delete_many([made[0]], limit=LIMIT)


async def test_assigns_and_keeps_the_rest(world: World) -> None:
    inet = await world.container("inet")
    made = await world.client.create_next(inet, uuid=UUID, limit=LIMIT)
    assert await world.client.assign(made.id, numbered(2), limit=LIMIT) is True
    stored = world.stored(made.id)
    assert stored["custom_fields"]["k8s_uuid"] == numbered(2)
    assert stored["custom_fields"]["k8s_zone"] == "inet"
    assert [tag["name"] for tag in stored["tags"]] == ["vitistack"]
    assert await world.client.assign(99_999, numbered(2), limit=LIMIT) is False
