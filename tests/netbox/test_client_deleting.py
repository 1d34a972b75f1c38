"""Deletions, in bulk and one by one."""

from __future__ import annotations

from typing import Any

import pytest

from ipam_lib.errors import (
    NetBoxRejected,
    NetBoxUnavailable,
)
from tests.netbox.clients import (
    BROKEN,
    GONE,
    LIMIT,
    NONE,
    bare,
    client_for,
    page_json,
    prefix_json,
)
from tests.support.wire import WireServer, answer


async def test_deletes_in_bulks_of_fifty_in_ascending_order(wire: WireServer) -> None:
    wire.then(answer(204), NONE, answer(204), NONE, answer(204))
    async with client_for(wire.url) as client:
        await client.delete_many(bare(*range(101, 0, -1), 7, 7), limit=LIMIT)
    first, seen, second, _, third = wire.received
    assert [one.method for one in wire.received] == ["DELETE", "GET", "DELETE", "GET", "DELETE"]
    assert [item["id"] for item in first.json] == list(range(1, 51))
    assert [value for name, value in seen.query if name == "id"] == [str(one) for one in range(1, 51)]
    assert [item["id"] for item in second.json] == list(range(51, 101))
    assert (third.path, third.json) == ("/api/ipam/prefixes/101/", {"changelog_message": "released"})


@pytest.mark.parametrize(
    "refusal",
    [
        answer(403, {"detail": "You do not have permission to perform this action."}),
        answer(404, {"detail": "No Prefix matches the given query."}),
        answer(409, {"detail": "Unable to delete object."}),
        answer(400, [{"id": ["A valid integer is required."]}]),
    ],
)
async def test_one_prefix_that_cannot_be_deleted_does_not_keep_the_others(wire: WireServer, refusal: Any) -> None:
    denied = answer(403, {"detail": "You do not have permission to perform this action."})
    wire.then(refusal, denied, answer(204), GONE, NONE, answer(204))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected) as caught:
            await client.delete_many(bare(4, 3, 2, 1), limit=LIMIT)
    assert "/1/" in caught.value.detail
    deletions = [one.path.split("/")[-2] for one in wire.received if one.method == "DELETE"]
    assert deletions == ["prefixes", "1", "2", "3", "4"]


async def test_what_netbox_passes_over_in_a_bulk_is_not_taken_for_deleted(wire: WireServer) -> None:
    """Its 204 says nothing about prefixes outside of the constraints of the right to delete."""
    second, third = (prefix_json(number, f"83.118.168.{number}/32") for number in (2, 3))
    wire.then(answer(204), answer(200, page_json(second, third)), GONE, answer(200, page_json(second)), answer(204))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected) as caught:
            await client.delete_many(bare(1, 2, 3, 4), limit=LIMIT)
    assert caught.value.detail == (
        "the token may view prefix 2, but not delete it: see the constraints of its permissions"
    )
    deletions = [one.path.split("/")[-2] for one in wire.received if one.method == "DELETE"]
    assert deletions == ["prefixes", "2", "3"]


async def test_one_prefix_that_breaks_netbox_does_not_keep_the_others(wire: WireServer) -> None:
    wire.then(*[BROKEN[0]] * 4, answer(204), answer(204))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.delete_many(bare(1, 2, 3), limit=LIMIT)
        assert client.available
    assert [one.path.split("/")[-2] for one in wire.received] == ["prefixes", "prefixes", "1", "1", "2", "3"]


async def test_without_the_right_to_delete_the_rest_is_not_tried(wire: WireServer) -> None:
    denied = answer(403, {"detail": "You do not have permission to perform this action."})
    wire.then(*[denied] * 51)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected):
            await client.delete_many(bare(*range(1, 200)), limit=LIMIT)
    assert len(wire.received) == 51
