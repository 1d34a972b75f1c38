"""The custom fields of new prefixes: of the configuration, of the earlier service, and those that NetBox requires."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ipam_lib.errors import NetBoxRejected
from ipam_lib.netbox import definitions, payloads
from tests.netbox.clients import INET, LIMIT, TOKEN, UUID, client_for
from tests.netbox.world import World

EARLIER = {"domain": "na", "env": "na", "purpose": "na"}


def container(**fields: Any) -> Any:
    return payloads.Container(1, "10.0.0.0/24", "ipv4", "inet", custom_fields=fields)


@pytest.mark.parametrize(
    ("fields", "constants", "inherited", "stamped"),
    [
        ({"domain": None, "env": "x", "purpose": None, "infra": "prod"}, None, None, EARLIER | {"infra": "prod"}),
        ({"env": None, "infra": None, "other": 1}, None, None, {"env": "na"}),
        ({"k8s_uuid": None}, None, None, {}),
        ({"env": None, "infra": "prod"}, {}, [], {}),
        ({"env": None, "infra": "prod"}, {}, None, {}),
        ({"env": None, "infra": "prod"}, None, [], {}),
        ({"env": None, "infra": "prod"}, {"env": "test"}, None, {"env": "test"}),
        ({"env": None, "infra": "prod"}, None, ["infra"], {"infra": "prod"}),
    ],
)
def test_the_fields_of_the_earlier_service(
    fields: dict[str, Any], constants: Any, inherited: Any, stamped: dict[str, Any]
) -> None:
    assert payloads.stamped_fields(container(**fields), constants, inherited) == stamped
    told = payloads.earlier_fields([container(**fields)], constants, inherited)
    assert set(stamped) <= set(told) if constants is None and inherited is None else not told


async def test_the_fields_of_the_earlier_service_are_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        await world.client.zone_reader.containers(limit=LIMIT)
    told = [one.getMessage() for one in caplog.records if "earlier service" in one.getMessage()]
    assert told == ["new prefixes get the custom fields that the earlier service wrote: domain, env, purpose, infra"]


def require(world: World, name: str = "owner_team") -> None:
    body = {"name": name, "type": "text", "required": True, "object_types": ["ipam.prefix"]}
    world.admin("POST", "/api/extras/custom-fields/", body | {"content_types": ["ipam.prefix"]})


async def test_a_required_custom_field_is_named_by_the_error_until_it_is_filled(world: World) -> None:
    inet = await world.container("inet")
    require(world)
    for create in (
        world.client.create_next_one(inet, uuid=UUID, limit=LIMIT),
        world.client.create_exact(inet, "83.118.168.9", uuid=UUID, limit=LIMIT),
    ):
        with pytest.raises(NetBoxRejected) as caught:
            await create
        assert "requires the custom field owner_team" in caught.value.message
        assert "netbox.custom_fields" in caught.value.message
        assert "owner_team" in str(world.client.refused_field)
    async with client_for(world.url, token=TOKEN, custom_fields={"owner_team": "platform"}) as client:
        made = await client.create_next_one(inet, uuid=UUID, limit=LIMIT)
        assert client.refused_field is None
    assert world.stored(made.id)["custom_fields"]["owner_team"] == "platform"


async def test_problems_with_custom_fields_are_found_before_the_first_registration(world: World) -> None:
    containers = await world.client.zone_reader.containers(limit=LIMIT)
    assert await world.client.zone_reader.field_problems(containers, limit=LIMIT) == []
    require(world)
    [problem] = await world.client.zone_reader.field_problems(containers, limit=LIMIT)
    assert "owner_team" in problem
    async with client_for(world.url, custom_fields={"nosuch": "x"}, inherit_custom_fields=["owner_team"]) as client:
        containers = await client.zone_reader.containers(limit=LIMIT)
        found = await client.zone_reader.field_problems(containers, limit=LIMIT)
    assert len(found) == 2
    assert "no custom field nosuch" in found[0]
    assert "owner_team" in found[1], "the containers have no value to copy"


async def test_prefixes_without_k8s_uuid_are_found_before_the_first_registration(world: World) -> None:
    [field] = world.admin("GET", "/api/extras/custom-fields/?name=k8s_uuid")["results"]
    world.admin("DELETE", f"/api/extras/custom-fields/{field['id']}/")
    with pytest.raises(NetBoxRejected) as caught:
        await world.client.zone_reader.containers(limit=LIMIT)
    assert "k8s_uuid" in caught.value.detail


async def test_more_custom_fields_than_fit_on_a_page(world: World) -> None:
    world.simulator.model.state.max_page_size = 20
    for number in range(30):
        require(world, f"field_{number}")
    found = await world.client.zone_reader.field_definitions(limit=LIMIT)
    assert found is not None
    assert len([name for name in found if name.startswith("field_")]) == 30


def test_a_container_kept_in_storage_keeps_the_fields_without_a_value() -> None:
    kept = payloads.from_document(payloads.as_document(container(env=None)))
    assert payloads.stamped_fields(kept, None, None) == {"env": "na"}
    assert "k8s_zone" not in INET.custom_fields


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"__all__": ["Missing required custom field 'env'."]}, "requires the custom field env"),
        (
            [{}, {"__all__": ["Invalid value for custom field 'env': Required field cannot be empty."]}],
            "requires the custom field env",
        ),
        ({"__all__": ["Unknown field name 'env' in custom field data."]}, "no custom field env"),
        (
            {"custom_fields": {"env": "Custom field 'env' does not exist for this object type."}},
            "no custom field env",
        ),
        (
            {"__all__": ["Invalid value for custom field 'env': Value must be a string."]},
            "value of the custom field env",
        ),
        ({"tags": ["Related object not found using the provided numeric ID: 7"]}, None),
    ],
)
def test_the_field_of_a_refusal_is_named_in_every_shape(body: Any, told: str | None) -> None:
    found = definitions.refused_field(body)
    assert found is None if told is None else told in str(found)
