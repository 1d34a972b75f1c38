"""Set-up, checks and prefixes on each NetBox version, from an empty NetBox on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from ipam_lib.crypto import Secret
from ipam_lib.findings import Finding
from ipam_lib.netbox.base import PrefixChange
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.events import is_signed, parse_event
from ipam_lib.netbox.probe import NetBoxProbe
from ipam_lib.netbox.setup import NetBoxSetup
from ipam_lib.netbox.transport import Transport
from ipam_lib.netbox.webhook_definitions import WebhookTarget
from netbox_simulator import VERSIONS, NetBoxModel, create_app, sample_model, serve
from netbox_simulator.app import request_of, web_response
from tests.netbox.clients import LIMIT, TOKEN
from tests.netbox.world import numbered

V2_TOKEN = "nbt_KEYKEYKEYKEY." + "s" * 40


@asynccontextmanager
async def transport_to(model: NetBoxModel, token: str = TOKEN) -> AsyncIterator[Transport]:
    """A transport to the model over HTTP; the model knows both tokens."""
    async with (
        serve(create_app(model, tokens=[TOKEN, V2_TOKEN])) as url,
        Transport(NetBoxSettings(url, token, constraint_tag="vitistack")) as transport,
    ):
        yield transport


async def findings_of(transport: Transport) -> list[Finding]:
    return [one async for one in NetBoxProbe(transport).findings()]


def of(found: list[Finding], check: str) -> list[Finding]:
    return [one for one in found if one.check == check]


@pytest.mark.parametrize("name", VERSIONS)
async def test_an_empty_netbox_is_set_up_checked_and_used(name: str) -> None:
    model = NetBoxModel(version=VERSIONS[name])
    model.state.max_page_size = 20
    async with transport_to(model) as transport:
        setup = NetBoxSetup(transport)
        done = await setup.apply(await setup.plan(["inet"]), lambda item: None)
        assert [item.failure for item in done if not item.settled] == []
        extended = await setup.apply(await setup.plan(["inet", "office"]), lambda item: None)
        assert all(item.settled for item in extended)
        assert [item.zones for item in extended if item.done] == [("office",)]
        body = {"prefix": "10.0.0.0/24", "status": "container", "custom_fields": {"k8s_zone": "inet"}}
        headers = {"Authorization": f"Token {TOKEN}"}
        assert model.handle("POST", "/api/ipam/prefixes/", headers=headers, body=body).status == 201

        found = await findings_of(transport)
        assert [one for one in found if one.status == "error"] == []
        [version] = of(found, "netbox.version")
        assert f"NetBox {VERSIONS[name].full} at" in version.message
        assert ("version 2" in version.message) == (name in ("3.7", "4.2", "4.4"))
        assert ("ETag" in version.message) == (name != "4.6")

        client = NetBoxClient(transport)
        [container] = await client.zone_reader.containers(limit=LIMIT)
        made = await client.create_next_many(container, [numbered(number) for number in range(45)], limit=LIMIT)
        assert await client.create_exact(container, "10.0.0.200", uuid=numbered(50), limit=LIMIT)
        listed = []
        while page := await client.list_prefixes(container, after=listed[-1].id if listed else 0, limit=LIMIT):
            listed += page
        assert {one.uuid for one in listed} == {numbered(number) for number in (*range(45), 50)}
        assert len(await client.find_by_uuid([str(one.uuid) for one in made], limit=LIMIT)) == 45
        changes = [PrefixChange(one.id, numbered(100 + one.id), reserved=True) for one in made]
        assert await client.update_many(changes, limit=LIMIT) == {one.id for one in made}
        await client.delete_many(made, limit=LIMIT)
        assert len(await client.list_prefixes(container, after=0, limit=LIMIT)) == 1


@pytest.mark.parametrize("name", ["3.7", "4.6"])
async def test_a_netbox_behind_a_path_whose_links_name_another_host(name: str) -> None:
    """As behind a proxy that ends TLS: NetBox believes itself to be elsewhere. Only this server is ever asked."""
    model = sample_model({"inet": {"ipv4": ["10.0.0.0/24"]}}, tokens=[TOKEN], version=VERSIONS[name])
    model.state.max_page_size = 20
    asked = []

    async def behind(request: web.Request) -> web.Response:
        asked.append(request.path)
        plain = replace(await request_of(request), base="https://inside.invalid:8443")
        return web_response(model.stage(replace(plain, path=plain.path.removeprefix("/netbox"))).commit())

    app = web.Application()
    app.router.add_route("*", "/netbox/{path:.*}", behind)
    async with serve(app) as url, Transport(NetBoxSettings(f"{url}/netbox", TOKEN)) as transport:
        client = NetBoxClient(transport)
        [container] = await client.zone_reader.containers(limit=LIMIT)
        made = await client.create_next_many(container, [numbered(number) for number in range(45)], limit=LIMIT)
        found = await client.get_many([one.id for one in made], limit=LIMIT)
        assert sorted(one.id for one in found) == sorted(one.id for one in made)
        assert [one for one in await findings_of(transport) if one.status == "error"] == []
    assert all(path.startswith("/netbox/api/") for path in asked)


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("token", ["f" * 40, V2_TOKEN, "nbt_KEYKEYKEYKEY." + "x" * 40])
async def test_a_token_is_judged_by_a_request_for_prefixes(name: str, token: str) -> None:
    """NetBox 3.7 answers status/ to everybody."""
    async with transport_to(NetBoxModel(version=VERSIONS[name]), token) as transport:
        found = of(await findings_of(transport), "netbox.token")
    knows_v2 = name in ("4.5", "4.6")
    assert [one.status for one in found] == ([] if token == V2_TOKEN and knows_v2 else ["error"])
    if found and token.startswith("nbt_"):
        assert ("need NetBox 4.5" in found[0].advice) != knows_v2


async def test_a_required_custom_field_comes_with_the_line_to_add() -> None:
    model = NetBoxModel()
    async with transport_to(model) as transport:
        setup = NetBoxSetup(transport)
        await setup.apply(await setup.plan(["inet"]), lambda item: None)
        headers = {"Authorization": f"Token {TOKEN}"}
        for field, required in (("domain", False), ("infra", False), ("owner_team", True)):
            body = {"name": field, "type": "text", "object_types": ["ipam.prefix"], "required": required}
            assert model.handle("POST", "/api/extras/custom-fields/", headers=headers, body=body).status == 201
        fields = {"k8s_zone": "inet", "owner_team": "x"}
        body = {"prefix": "10.0.0.0/24", "status": "container", "custom_fields": fields}
        assert model.handle("POST", "/api/ipam/prefixes/", headers=headers, body=body).status == 201
        [problem] = [one for one in await findings_of(transport) if one.status == "error"]
    assert problem.check == "netbox.custom_fields"
    assert "owner_team" in problem.message
    line = '"custom_fields": {"domain": "na", "owner_team": "..."}, "inherit_custom_fields": ["infra"]'
    assert problem.advice.endswith(line)


@pytest.mark.parametrize("name", VERSIONS)
async def test_a_webhook_and_its_events(name: str) -> None:
    model = sample_model(version=VERSIONS[name])
    target = WebhookTarget("http://127.0.0.1:9/netbox/webhook", Secret("s3cret"))
    async with transport_to(model) as transport:
        setup = NetBoxSetup(transport)
        done = await setup.apply(await setup.plan(["inet"], [target]), lambda item: None)
        assert [item.failure for item in done if not item.settled] == []
        assert {item.action for item in await setup.plan(["inet"], [target])} == {"present"}
        probe = NetBoxProbe(transport, webhook_secret=target.secret)
        [found] = of([one async for one in probe.findings()], "netbox.webhook")
        assert (found.status, found.message) == ("ok", f"NetBox sends events to {target.url}")

    headers = {"Authorization": f"Token {TOKEN}"}
    for path, body in (
        ("ipam/prefixes", {"prefix": "83.118.168.9/32", "vrf": 1}),
        ("ipam/ip-addresses", {"address": "83.118.168.1/24", "vrf": 1}),
        ("ipam/ip-ranges", {"start_address": "83.118.168.2/24", "end_address": "83.118.168.5/24", "vrf": 1}),
        ("extras/custom-field-choice-sets", {"name": "other", "extra_choices": [["a", "a"]]}),
    ):
        made = model.handle("POST", f"/api/{path}/", headers=headers, body=body).json()
        assert model.handle("PATCH", f"/api/{path}/{made['id']}/", headers=headers, body=body).status == 200
        assert model.handle("DELETE", f"/api/{path}/{made['id']}/", headers=headers).status == 204
    events = []
    for one in model.deliveries:
        assert is_signed(one.body, one.headers["X-Hook-Signature"], "s3cret")
        events.append(parse_event(json.loads(one.body)))
    kinds = ["prefix", "ip_address", "ip_range", "choice_set"]
    assert [one.kind for one in events if one] == [kind for kind in kinds for _ in range(3)]
    placed = [one for one in events if one is not None and one.kind != "choice_set"]
    for created, updated, deleted in zip(placed[::3], placed[1::3], placed[2::3], strict=True):
        assert created.before is None is deleted.after
        assert created.after == updated.before == updated.after == deleted.before
