"""What the client puts on the wire, and what it refuses to be configured with."""

from __future__ import annotations

from typing import Any

import pytest

from ipam_lib.errors import (
    ConfigError,
    NetBoxRejected,
    NetBoxUnavailable,
)
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.transport import Transport
from tests.netbox.clients import (
    GLOBAL6,
    INET,
    LIMIT,
    MADE,
    OTHER,
    TAG,
    TOKEN,
    UUID,
    client_for,
    create,
    page_json,
    prefix_json,
    read,
)
from tests.support.wire import WireServer, answer, cut


@pytest.mark.parametrize(
    ("token", "header"),
    [
        (TOKEN, f"Token {TOKEN}"),
        ("nbt_abc.def", "Bearer nbt_abc.def"),
        (f"  {TOKEN}\n", f"Token {TOKEN}"),
    ],
)
async def test_sends_the_token_with_its_keyword_and_no_cookies(wire: WireServer, token: str, header: str) -> None:
    wire.then(answer(200, page_json(), headers={"Set-Cookie": "csrftoken=x; Path=/"}), answer(200, page_json()))
    # By name: no client keeps cookies of an address anyway.
    url = wire.url.replace("127.0.0.1", "localhost")
    async with client_for(url, token=token, user_agent="ipam-api/1.2.3") as client:
        await client.get_many([1], limit=LIMIT)
        await client.get_many([1], limit=LIMIT)
    first, second = wire.received
    assert first.headers["authorization"] == header
    assert first.headers["user-agent"] == "ipam-api/1.2.3"
    assert first.headers["accept"] == "application/json"
    assert "cookie" not in second.headers
    assert wire.connections == 1, "the connection is kept"


async def test_a_new_token_counts_from_the_next_request_on(wire: WireServer) -> None:
    wire.then(answer(200, page_json()), answer(200, page_json()))
    async with client_for(wire.url) as client:
        await client.get_many([1], limit=LIMIT)
        client.set_token("nbt_new.token")
        await client.get_many([1], limit=LIMIT)
    assert [one.headers["authorization"] for one in wire.received] == [f"Token {TOKEN}", "Bearer nbt_new.token"]


@pytest.mark.parametrize("token", ["", " \n", "two words", "line\nbreak", "blåbær"])
def test_what_can_be_no_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Transport(NetBoxSettings("http://netbox.example.com", token))
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "netbox.example.com",
        "ftp://netbox.example.com",
        "http://",
        "https://u:p@nb/",
        "http://nb/?q=1",
        "http://nb:x",
    ],
)
def test_an_unusable_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"netbox\.url"):
        Transport(NetBoxSettings(url, TOKEN))


def test_an_unusable_ca_file_is_a_configuration_error(tmp_path: Any) -> None:
    garbage = tmp_path / "ca.pem"
    garbage.write_text("garbage")
    for path in (garbage, tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match=r"netbox\.ca_file"):
            Transport(NetBoxSettings("https://nb", TOKEN, ca_file=path))


@pytest.mark.parametrize("prefix", ["", "/", "/netbox", "/netbox/"])
async def test_a_path_prefix_with_or_without_slash(wire: WireServer, prefix: str) -> None:
    wire.then(answer(200, page_json()))
    async with client_for(wire.url + prefix) as client:
        assert await read(client) == []
        assert client.zone_reader.url == wire.url + prefix.rstrip("/") + "/"
    assert wire.received[0].path == prefix.rstrip("/") + "/api/ipam/prefixes/"


async def test_proxies_of_the_environment_are_not_used(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    wire.then(answer(200, page_json()))
    async with client_for(wire.url) as client:
        assert await client.get_many([1], limit=LIMIT) == []


async def test_create_next_sends_everything_in_one_request(wire: WireServer) -> None:
    wire.then(TAG, MADE)
    constants = {"domain": "na", "infra": "default", "k8s_zone": "elsewhere"}
    inherit = ["infra", "site", "racks", "absent"]
    async with client_for(
        wire.url, constraint_tag="vitistack", custom_fields=constants, inherit_custom_fields=inherit
    ) as client:
        made = await client.create_next(INET, uuid=UUID, limit=LIMIT, description="a (cluster b)")
    assert (made.id, made.prefix, made.vrf_id, made.zone, made.uuid) == (73, "83.118.168.1/32", 1, "inet", UUID)
    lookup, post = wire.received
    assert (lookup.path, lookup.query) == ("/api/extras/tags/", [("name", "vitistack")])
    assert (post.method, post.path) == ("POST", "/api/ipam/prefixes/1/available-prefixes/")
    assert post.headers["content-type"] == "application/json"
    assert post.json == {
        "prefix_length": 32,
        "status": "active",
        "tenant": 1,
        "role": 2,
        "tags": [5],
        "custom_fields": {
            "domain": "na",
            "infra": "prod",
            "site": 7,
            "racks": [1, 2],
            "k8s_zone": "inet",
            "k8s_uuid": UUID,
        },
        "changelog_message": f"registration {UUID}",
        "description": "a (cluster b)",
    }


async def test_create_exact_names_the_vrf_even_if_it_is_none(wire: WireServer) -> None:
    made = prefix_json(9, "2a03:f40:1::5/128", vrf=None, zone="hnet-public", uuid=UUID)
    wire.then(answer(201, made))
    async with client_for(wire.url) as client:
        assert (await client.create_exact(GLOBAL6, "2A03:F40:1::5", uuid=UUID, limit=LIMIT)).id == 9
    [post] = wire.received
    assert (post.method, post.path) == ("POST", "/api/ipam/prefixes/")
    assert post.json == {
        "prefix": "2a03:f40:1::5/128",
        "vrf": None,
        "status": "active",
        "custom_fields": {"k8s_zone": "hnet-public", "k8s_uuid": UUID},
        "changelog_message": f"registration {UUID}",
    }


async def test_a_list_is_matched_by_uuid_not_by_place(wire: WireServer) -> None:
    first, second = (
        prefix_json(73, "83.118.168.1/32", uuid=UUID),
        prefix_json(74, "83.118.168.2/32", uuid=OTHER),
    )
    wire.then(answer(201, [second, first]))
    async with client_for(wire.url) as client:
        made = await client.create_next_many(INET, [UUID, OTHER], limit=LIMIT, descriptions={OTHER: "second"})
        assert [one.id for one in made] == [73, 74]
        assert await client.create_next_many(INET, [], limit=LIMIT) == []
    assert [item["custom_fields"]["k8s_uuid"] for item in wire.received[0].json] == [UUID, OTHER]
    assert [item.get("description") for item in wire.received[0].json] == [None, "second"]


@pytest.mark.parametrize("body", [[], {"id": 1}, [prefix_json(73, "83.118.168.1/32", uuid=UUID)] * 2])
async def test_a_list_that_is_not_what_was_asked_for(wire: WireServer, body: Any) -> None:
    wire.then(answer(201, body))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.create_next_many(INET, [UUID, OTHER], limit=LIMIT)
    assert caught.value.applied


async def test_the_tag_is_looked_up_once(wire: WireServer) -> None:
    wire.then(TAG, MADE, MADE)
    async with client_for(wire.url, constraint_tag="vitistack") as client:
        await create(client)
        await create(client)
    assert [one.method for one in wire.received] == ["GET", "POST", "POST"]


async def test_a_tag_that_was_made_anew_is_looked_up_anew(wire: WireServer) -> None:
    unknown = {"tags": ["Related object not found using the provided numeric ID: 5"]}
    anew = answer(200, {"count": 1, "next": None, "results": [{"id": 8, "name": "vitistack"}]})
    wire.then(TAG, MADE, answer(400, unknown), anew, MADE)
    async with client_for(wire.url, constraint_tag="vitistack") as client:
        await create(client)
        await create(client)
    assert wire.received[-1].json["tags"] == [8]


async def test_a_tag_that_is_refused_again_is_an_error_not_a_loop(wire: WireServer) -> None:
    unknown = answer(400, [{}, {"tags": ["Related object not found using the provided numeric ID: 5"]}])
    wire.then(TAG, unknown, unknown, TAG, unknown)
    async with client_for(wire.url, constraint_tag="vitistack") as client:
        with pytest.raises(NetBoxRejected):
            await create(client)  # the id is fresh: no reason to look again
        with pytest.raises(NetBoxRejected):
            await client.create_next_many(INET, [UUID, OTHER], limit=LIMIT)


@pytest.mark.parametrize(
    "results", [[], [{"id": 5, "name": "Vitistack"}], [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]]
)
async def test_a_missing_tag_says_what_to_do(wire: WireServer, results: Any, caplog: pytest.LogCaptureFixture) -> None:
    wire.then(answer(200, {"count": len(results), "next": None, "results": results}))
    async with client_for(wire.url, constraint_tag="vitistack") as client:
        with pytest.raises(NetBoxRejected) as caught:
            await create(client)
    assert "vitistack" in caught.value.detail
    assert "netbox-setup" in caplog.text
    assert [one.method for one in wire.received] == ["GET"]


@pytest.mark.parametrize(
    "act", [cut, answer(502), answer(200, {"results": "x"}), answer(200, {"results": [{"name": "vitistack"}]})]
)
async def test_when_the_tag_cannot_be_looked_up_nothing_was_created(wire: WireServer, act: Any) -> None:
    wire.then(*[act] * 8)
    async with client_for(wire.url, constraint_tag="vitistack") as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert (caught.value.applied, caught.value.timed_out) == (False, False)
    assert all(one.method == "GET" for one in wire.received)
    wire.script.clear()
