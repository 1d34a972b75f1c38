"""No answer is believed without a look."""

from __future__ import annotations

from typing import Any

import pytest

from ipam_lib.errors import (
    NetBoxRejected,
    NetBoxUnavailable,
)
from ipam_lib.netbox.paging import READINGS_OF_A_PAGE
from tests.netbox.clients import (
    GLOBAL6,
    INET,
    LIMIT,
    OTHER,
    UUID,
    client_for,
    create,
    page_json,
    prefix_json,
)
from tests.support.wire import WireServer, answer


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"uuid": None}, "k8s_uuid"),
        ({"uuid": UUID.upper()}, "k8s_uuid"),
        ({"uuid": UUID + "0"}, "k8s_uuid"),
        ({"zone": "other"}, "k8s_zone"),
        ({"zone": None}, "k8s_zone"),
        ({"vrf": 2}, "VRF"),
        ({"vrf": None}, "VRF"),
        ({"prefix": "83.118.168.0/31"}, "length"),
        ({"prefix": "9.9.9.9/32"}, "inside"),
        ({"prefix": "2a03:f40:1::/128"}, "inside"),
        ({"prefix": "83.118.168.77/24"}, "proper prefix"),
        ({"prefix": 7}, "proper prefix"),
        ({"prefix_id": None}, "without an id"),
        ({"prefix_id": True}, "without an id"),
        ({"status": None}, "status"),
        ({"custom_fields": None}, "custom_fields"),
    ],
)
async def test_a_creation_that_is_not_what_was_asked_for(
    wire: WireServer, changes: dict[str, Any], complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    right: dict[str, Any] = {"prefix_id": 73, "prefix": "83.118.168.1/32", "uuid": UUID} | changes
    item = prefix_json(right.pop("prefix_id"), right.pop("prefix"), **{k: v for k, v in right.items() if k != "status"})
    if "status" in changes:
        item["status"] = changes["status"]
    wire.then(answer(201, item))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
        assert client.available
    assert caught.value.applied is True
    assert complaint in caught.value.detail
    assert complaint in caplog.text
    assert len(wire.received) == 1, "nothing is undone on the strength of a doubtful answer"


async def test_another_address_than_the_given_one(wire: WireServer) -> None:
    wire.then(answer(201, prefix_json(73, "83.118.168.51/32", uuid=UUID)))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.create_exact(INET, "83.118.168.50/32", uuid=UUID, limit=LIMIT)
    assert "83.118.168.50" in caught.value.detail


@pytest.mark.parametrize("item", [prefix_json(8, "83.118.168.7/32", uuid=UUID), prefix_json(7, "83.118.168.7/32"), {}])
async def test_an_assignment_that_is_not_what_was_asked_for(wire: WireServer, item: Any) -> None:
    wire.then(answer(200, item))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.assign(7, UUID, limit=LIMIT)


async def test_filters_are_applied_once_more(wire: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    """NetBox ignores filters that it does not know, and returns everything."""
    everything = answer(
        200,
        page_json(
            prefix_json(1, "83.118.168.0/24", status="container"),
            prefix_json(2, "83.118.168.7/32", uuid=UUID),
            prefix_json(3, "83.118.168.7/32", uuid=UUID.upper(), vrf=2),
            prefix_json(4, "83.118.168.8/32", uuid=UUID + "f"),
            prefix_json(5, "83.118.168.7/32", vrf=None),
            prefix_json(6, "10.0.0.0/8", status="container", zone="other", vrf=2),
            prefix_json(7, "192.0.2.0/24", status="container", zone=None),
        ),
    )
    wire.then(*[everything] * 6)
    async with client_for(wire.url) as client:
        assert [one.id for one in await client.covering(INET, "83.118.168.7", limit=LIMIT)] == [1, 2]
        assert [one.id for one in await client.find_by_uuid([UUID], limit=LIMIT)] == [2]
        assert "filter logic" in caplog.text
        assert [one.id for one in await client.get_many([4, 5, 99], limit=LIMIT)] == [4, 5]
        assert [one.id for one in await client.list_prefixes(INET, after=0, limit=LIMIT)] == [2, 4]
        assert [one.id for one in await client.zone_reader.containers(limit=LIMIT)] == [1, 6]
        caplog.clear()
        await client.find_by_uuid([UUID], limit=LIMIT)
        assert not caplog.records, "told once"


async def test_the_queries_are_those_that_netbox_was_seen_to_answer(wire: WireServer) -> None:
    wire.then(*[answer(200, page_json())] * 6)
    paging = [("id__gte", "0"), ("ordering", "id"), ("limit", "1000")]
    fields = ("fields", "id,prefix,vrf,status,custom_fields,description")
    async with client_for(wire.url) as client:
        await client.covering(INET, "83.118.168.7", limit=LIMIT)
        await client.covering(GLOBAL6, "2a03:f40:1::7/128", limit=LIMIT)
        await client.find_by_uuid([UUID, OTHER, UUID], limit=LIMIT)
        await client.get_many([3, 2, 3], limit=LIMIT)
        await client.list_prefixes(INET, after=41, limit=LIMIT)
        await client.zone_reader.containers(limit=LIMIT)
    assert {one.path for one in wire.received} == {"/api/ipam/prefixes/"}
    assert [one.query for one in wire.received] == [
        [("contains", "83.118.168.7/32"), ("vrf_id", "1"), fields, *paging],
        [("contains", "2a03:f40:1::7/128"), ("vrf_id", "null"), fields, *paging],
        [("cf_k8s_uuid", UUID), ("cf_k8s_uuid", OTHER), fields, *paging],
        [("id", "3"), ("id", "2"), fields, *paging],
        [("within", "83.118.168.0/24"), ("vrf_id", "1"), fields, ("id__gte", "42"), *paging[1:]],
        [
            ("status", "container"),
            ("fields", "id,prefix,vrf,status,custom_fields,tenant,role"),
            *paging,
        ],
    ]


async def test_urls_stay_short(wire: WireServer) -> None:
    wire.then(*[answer(200, page_json())] * 6)
    async with client_for(wire.url) as client:
        await client.find_by_uuid([f"{number:024x}" for number in range(120)], limit=LIMIT)
        await client.get_many([10**9 + number for number in range(101)], limit=LIMIT)
        await client.find_by_uuid([], limit=LIMIT)
        await client.get_many([], limit=LIMIT)
        await client.delete_many([], limit=LIMIT)
    assert len(wire.received) == 6
    assert all(len(one.target) < 3000 for one in wire.received)
    asked = [value for one in wire.received for name, value in one.query if name == "cf_k8s_uuid"]
    assert len(set(asked)) == len(asked) == 120


async def test_pages_are_followed_by_id_and_never_to_another_host(wire: WireServer) -> None:
    wire.then(
        answer(200, page_json(prefix_json(3, "83.118.168.3/32", uuid=UUID), more=True)),
        answer(200, page_json(prefix_json(9, "83.118.168.9/32", uuid=UUID), more=True)),
        answer(200, page_json(prefix_json(10, "83.118.168.9/32", uuid=UUID))),
    )
    async with client_for(wire.url) as client:
        assert [one.id for one in await client.find_by_uuid([UUID], limit=LIMIT)] == [3, 9, 10]
    assert [dict(one.query)["id__gte"] for one in wire.received] == ["0", "4", "10"]


async def test_a_page_with_nothing_of_ours_is_not_taken_for_the_end(wire: WireServer) -> None:
    wire.then(
        answer(200, page_json(prefix_json(3, "9.9.9.9/32"), more=True)),
        answer(200, page_json(prefix_json(9, "83.118.168.9/32"))),
    )
    async with client_for(wire.url) as client:
        assert [one.id for one in await client.list_prefixes(INET, after=2, limit=LIMIT)] == [9]


@pytest.mark.parametrize(
    "page",
    [
        page_json(prefix_json(3, "9.9.9.9/32")),
        page_json(prefix_json(9, "9.9.9.9/32"), prefix_json(8, "9.9.9.8/32")),
        page_json(prefix_json(9, "9.9.9.9/32"), prefix_json(9, "9.9.9.9/32")),
        page_json(more=True),
        page_json(prefix_json(9, "9.9.9.9/32")) | {"count": 2},
        page_json(prefix_json(9, "9.9.9.9/32"), more=True) | {"count": 1},
    ],
    ids=["below", "descending", "repeated", "empty", "ends early", "goes on"],
)
async def test_a_listing_that_contradicts_itself_is_never_taken_for_the_whole(wire: WireServer, page: Any) -> None:
    wire.then(*[answer(200, page)] * READINGS_OF_A_PAGE)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.list_prefixes(INET, after=7, limit=LIMIT)
    assert "list_prefixes: NetBox's answer does not fit the request" in caught.value.detail


async def test_a_page_during_which_a_row_went_is_read_again(wire: WireServer) -> None:
    row = prefix_json(9, "83.118.168.9/32")
    wire.then(answer(200, page_json(row) | {"count": 2}), answer(200, page_json(row)))
    async with client_for(wire.url) as client:
        assert [one.id for one in await client.list_prefixes(INET, after=7, limit=LIMIT)] == [9]


@pytest.mark.parametrize("count", [1, None], ids=["a row came meanwhile", "NetBox does not count"])
async def test_a_page_with_all_rows_is_the_end(wire: WireServer, count: int | None) -> None:
    rows = [prefix_json(9, "83.118.168.9/32"), prefix_json(10, "83.118.168.10/32")]
    wire.then(answer(200, page_json(*rows) | {"count": count}))
    async with client_for(wire.url) as client:
        assert [one.id for one in await client.list_prefixes(INET, after=7, limit=LIMIT)] == [9, 10]


async def test_an_endless_listing_ends(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipam_lib.netbox.paging.MOST_PAGES", 3)
    wire.then(*[answer(200, page_json(prefix_json(9 + n, "9.9.9.9/32"), more=True)) for n in range(3)])
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.list_prefixes(INET, after=1, limit=LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        [],
        '"text"',
        7,
        {},
        {"results": {}},
        {"results": []},
        {"results": [], "count": None},
        page_json() | {"count": "many"},
        page_json(7),
        page_json({"id": 7}),
        page_json(prefix_json(7, "9.9.9.9/32", vrf=None) | {"vrf": 3}),
        page_json({k: v for k, v in prefix_json(7, "9.9.9.9/32").items() if k != "vrf"}),
        page_json(prefix_json(7, "9.9.9.9/32") | {"custom_fields": {"k8s_uuid": 7}}),
        page_json(prefix_json(7, "9.9.9.9/32") | {"status": "active"}),
    ],
)
async def test_json_of_the_wrong_shape(wire: WireServer, body: Any) -> None:
    wire.then(answer(200, body))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.get_many([7], limit=LIMIT)


async def test_choices_of_the_wrong_shape(wire: WireServer) -> None:
    async with client_for(wire.url) as client:
        for extra in (None, {}, ["inet"], [[]], [[7, "seven"]]):
            item = {"name": "k8s_zone_choices", "extra_choices": extra}
            wire.then(answer(200, {"count": 1, "next": None, "results": [item]}))
            with pytest.raises(NetBoxUnavailable):
                await client.zone_reader.choices(limit=LIMIT)
        wire.then(answer(200, {"count": 0, "next": None, "results": [{"name": "other", "extra_choices": []}]}))
        with pytest.raises(NetBoxRejected) as caught:
            await client.zone_reader.choices(limit=LIMIT)
        assert "k8s_zone_choices" in caught.value.detail
