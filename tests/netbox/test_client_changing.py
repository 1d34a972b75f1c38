"""Status, `k8s_uuid` and description of several prefixes, changed at once."""

from __future__ import annotations

from typing import Any

import pytest

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox.base import PrefixChange
from tests.netbox.clients import GONE, LIMIT, NONE, OTHER, UUID, client_for, page_json, prefix_json
from tests.netbox.world import World, numbered
from tests.support.wire import WireServer, answer

INVALID = answer(400, {"status": ["bogus is not a valid choice."]})


def shown(prefix_id: int, uuid: str, status: str = "active") -> dict[str, Any]:
    return prefix_json(prefix_id, f"83.118.168.{prefix_id}/32", uuid=uuid, status=status)


async def test_changes_in_bulks_of_fifty_and_tells_which_exist(wire: WireServer) -> None:
    first = [shown(number, UUID) for number in range(1, 51)]
    # Netbox orders its answer by itself, and passes over what is gone.
    wire.then(answer(200, first[::-1]), answer(200, [shown(51, OTHER, "reserved")]), NONE)
    changes = [PrefixChange(number, UUID, reserved=False) for number in range(1, 51)]
    changes += [PrefixChange(number, OTHER, reserved=True) for number in (51, 52)]
    async with client_for(wire.url) as client:
        assert await client.update_many(changes[::-1], limit=LIMIT) == set(range(1, 52))
    bulk, rest, look = wire.received
    assert (bulk.method, bulk.path) == ("PATCH", "/api/ipam/prefixes/")
    assert [item["id"] for item in bulk.json] == list(range(1, 51)), "ascending: no two instances lock in turns"
    assert rest.json[1] == {
        "id": 52,
        "status": "reserved",
        "custom_fields": {"k8s_uuid": OTHER},
        "changelog_message": f"reserved as {OTHER}",
    }
    assert [value for name, value in look.query if name == "id"] == ["52"]


async def test_only_what_is_to_be_changed_is_sent(wire: WireServer) -> None:
    wire.then(answer(200, [shown(1, UUID), shown(2, OTHER, "reserved"), shown(3, UUID)]))
    changes = [
        PrefixChange(1, description="a (cluster b)"),
        PrefixChange(2, OTHER, reserved=True, description=""),
        PrefixChange(3, UUID, reserved=False),
    ]
    async with client_for(wire.url) as client:
        assert await client.update_many(changes, limit=LIMIT) == {1, 2, 3}
    [bulk] = wire.received
    described, held, handed_over = bulk.json
    assert described == {"id": 1, "description": "a (cluster b)", "changelog_message": "services changed"}
    assert (held["description"], held["status"], held["custom_fields"]) == ("", "reserved", {"k8s_uuid": OTHER})
    assert "description" not in handed_over


async def test_one_prefix_that_cannot_be_changed_does_not_keep_the_others(wire: WireServer) -> None:
    wire.then(INVALID, answer(200, [shown(1, UUID)]), INVALID, answer(200, [shown(3, UUID)]))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected) as caught:
            await client.update_many([PrefixChange(number, UUID, reserved=False) for number in (1, 2, 3)], limit=LIMIT)
    assert "bogus" in caught.value.detail
    assert [[item["id"] for item in one.json] for one in wire.received] == [[1, 2, 3], [1], [2], [3]]


async def test_what_netbox_passes_over_is_not_taken_for_gone(wire: WireServer) -> None:
    """It passes over prefixes outside of the constraints of the right to change, as if they were not there."""
    standing = answer(200, page_json(shown(2, OTHER)))
    wire.then(answer(200, []), standing, GONE, standing, GONE, NONE)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected) as caught:
            await client.update_many([PrefixChange(2, UUID, reserved=False)], limit=LIMIT)
        assert "may view prefix 2, but not change it" in caught.value.detail
        with pytest.raises(NetBoxRejected):
            await client.assign(2, UUID, limit=LIMIT)
        assert await client.assign(2, UUID, limit=LIMIT) is False


@pytest.mark.parametrize(
    "body",
    [{}, [shown(2, UUID)], [shown(1, OTHER)], [shown(1, UUID, "reserved")], [{"id": 1}]],
    ids=["no list", "another", "another uuid", "another status", "no prefix"],
)
async def test_an_answer_that_is_not_what_was_asked_for(wire: WireServer, body: Any) -> None:
    wire.then(answer(200, body))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.update_many([PrefixChange(1, UUID, reserved=False)], limit=LIMIT)


async def test_against_the_simulator(world: World) -> None:
    inet = await world.container("inet")
    made = await world.client.create_next_many(inet, [numbered(1), numbered(2)], limit=LIMIT, reserved=True)
    await world.client.delete_many([made[1]], limit=LIMIT)
    changes = [PrefixChange(one.id, numbered(7), reserved=False) for one in made]
    assert await world.client.update_many(changes, limit=LIMIT) == {made[0].id}
    [changed] = await world.client.find_by_uuid([numbered(7)], limit=LIMIT)
    assert (changed.id, changed.status, changed.zone) == (made[0].id, "active", "inet")
