"""Event rules of the simulator: what it sends, compared with what a real NetBox sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netbox_simulator import VERSIONS, NetBoxModel, create_app, sample_model, serve
from netbox_simulator.events import Delivery
from tests.netbox.clients import TOKEN
from tests.netbox.events import recorded, sign

PREFIXES = "/api/ipam/prefixes/"
HEADERS = {"Authorization": f"Token {TOKEN}"}
EVENTS = {"event_types": ["object_created", "object_updated", "object_deleted"]}
FLAGS = {"type_create": True, "type_update": True, "type_delete": True}


def ask(model: NetBoxModel, method: str, path: str, body: Any = None) -> Any:
    answer = model.handle(method, path, headers=HEADERS, body=body)
    assert answer.status < 300, answer.body
    return answer.json() if answer.body else None


def hooked(version: str = "4.6", url: str = "http://127.0.0.1:9/hook", **rule: Any) -> NetBoxModel:
    """A model with a webhook and an event rule for prefixes and IP addresses."""
    model = sample_model(version=VERSIONS[version], tokens=[TOKEN])
    hook = ask(model, "POST", "/api/extras/webhooks/", {"name": "push", "payload_url": url, "secret": "s3cret"})
    types = ["ipam.prefix", "ipam.ipaddress"]
    action = {"action_type": "webhook", "action_object_type": "extras.webhook", "action_object_id": hook["id"]}
    kinds = {"object_types": types, "content_types": types}
    ask(model, "POST", "/api/extras/event-rules/", {"name": "push", **kinds, **EVENTS, **FLAGS, **action, **rule})
    return model


def shape(value: Any) -> Any:
    """The names in a JSON value, without the values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items() if name != "snapshots"}
    return [shape(inner) for inner in value] if isinstance(value, list) else None


def change_a_prefix(model: NetBoxModel) -> None:
    """What was done when the deliveries were recorded."""
    made = ask(
        model,
        "POST",
        f"{PREFIXES}1/available-prefixes/",
        {"prefix_length": 32, "tags": [1], "custom_fields": {"k8s_zone": "inet", "k8s_uuid": "hook-1"}},
    )
    ask(model, "PATCH", f"{PREFIXES}{made['id']}/", {"custom_fields": {"k8s_uuid": "hook-2"}})
    ask(model, "DELETE", f"{PREFIXES}{made['id']}/")
    both = ask(model, "POST", f"{PREFIXES}1/available-prefixes/", [{"prefix_length": 32}] * 2)
    ask(model, "DELETE", PREFIXES, [{"id": one["id"]} for one in both])


def contents(model: NetBoxModel) -> Iterator[Any]:
    return (json.loads(one.body) for one in model.deliveries)


def test_what_is_sent_has_the_form_of_what_was_recorded() -> None:
    model = hooked()
    change_a_prefix(model)
    secret, deliveries = recorded()
    assert [one["event"] for one in contents(model)] == [one.json["event"] for one in deliveries]
    for ours, theirs in zip(model.deliveries, deliveries, strict=True):
        assert ours.headers["X-Hook-Signature"] == sign(ours.body, secret)
        sent = json.loads(ours.body)
        assert shape(sent) == shape(theirs.json)
        for name, known in theirs.json["snapshots"].items():
            assert (sent["snapshots"][name] is None) == (known is None)
            assert known is None or set(sent["snapshots"][name]) <= set(known)


@pytest.mark.parametrize(
    ("version", "names"),
    [("3.7", {"model"}), ("4.2", {"model"}), ("4.4", {"model", "object_type"}), ("4.5", {"object_type"})],
)
def test_each_version_names_the_type_in_its_own_way(version: str, names: set[str]) -> None:
    model = hooked(version)
    change_a_prefix(model)
    ask(model, "POST", "/api/ipam/ip-addresses/", {"address": "192.0.2.1/24"})
    for one in contents(model):
        assert one.keys() & {"model", "object_type"} == names
    assert len(model.deliveries) == 8
    [rule] = ask(model, "GET", "/api/extras/event-rules/")["results"]
    assert (set(FLAGS) <= rule.keys()) == (version == "3.7")
    assert ("event_types" in rule) == (version != "3.7")


def test_only_what_the_rule_says_is_sent() -> None:
    for rule in ({"enabled": False}, {"object_types": ["ipam.vrf"]}, {"action_object_id": 77}):
        model = hooked(**rule)
        change_a_prefix(model)
        assert not model.deliveries
    model = hooked(event_types=["object_deleted"])
    change_a_prefix(model)
    assert [one["event"] for one in contents(model)] == ["deleted"] * 3


def test_a_change_that_is_refused_sends_nothing() -> None:
    model = hooked()
    assert model.handle("POST", PREFIXES, headers=HEADERS, body={"prefix": "nonsense"}).status == 400
    assert model.handle("DELETE", f"{PREFIXES}99999/", headers=HEADERS).status == 404
    assert not model.deliveries


async def test_deliveries_go_over_http_one_after_the_other() -> None:
    received: list[tuple[bytes, str]] = []

    async def take(request: web.Request) -> web.Response:
        received.append((await request.read(), request.headers["X-Hook-Signature"]))
        if len(received) == 8:
            done.set_result(None)
        # A failure does not stop the next one.
        return web.Response(status=500 if len(received) == 1 else 200)

    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app = web.Application()
    app.router.add_post("/hook", take)
    async with serve(app) as url:
        model = hooked(url=f"{url}/hook")
        model.deliveries.append(Delivery("POST", "http://127.0.0.1:1/nobody", {}, b"{}"))
        async with serve(create_app(model)) as netbox:
            change_a_prefix(model)
            async with (
                aiohttp.ClientSession(headers=HEADERS) as session,
                session.post(f"{netbox}{PREFIXES}", json={"prefix": "192.0.2.0/24"}) as answer,
            ):
                assert answer.status == 201
            await asyncio.wait_for(done, 30)
    assert [json.loads(body)["event"] for body, _ in received][-1] == "created"
    assert all(sign(body, "s3cret") == signature for body, signature in received)
