"""The specification: valid, complete, and true."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ipam_lib import schemas
from ipam_lib.netbox.events import parse_event
from ipam_lib.version import __version__
from tests.web.service import FakeZones, Service, service

NOT_DESCRIBED = {
    "/metrics",
    "/swagger",
    "/swagger/",
    "/swagger/index.html",
    "/swagger/doc.json",
    "/openapi.json",
    "/swagger/{name}",
    "/assets/{name}",
}


async def _spec(running: Service) -> dict[str, Any]:
    status, content, _ = await running.call("GET", "/swagger/doc.json")
    assert status == 200
    return content


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(inner) for inner in value.values()))
    return set().union(*(_references(inner) for inner in value)) if isinstance(value, list) else set()


async def test_every_route_is_described() -> None:
    async with service(webhook_secret="s3cret") as running:
        described = {(path, method) for path, item in (await _spec(running))["paths"].items() for method in item}
        routes = {
            (route.resource.canonical, route.method.lower())
            for route in running.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    pages = {(path, "get") for path in NOT_DESCRIBED}
    assert described == routes - pages
    assert len(described) == 13


async def test_the_cluster_path_is_described_only_where_it_is() -> None:
    async with service(bearer=False) as running:
        assert "/v2/cluster" not in (await _spec(running))["paths"]


async def test_it_is_swagger_2_0_and_whole() -> None:
    async with service(webhook_secret="s3cret") as running:
        spec = await _spec(running)
    assert spec["swagger"] == "2.0"
    assert spec["info"]["version"] == __version__
    # Left out, so that "Try it out" goes where the page came from.
    assert not {"host", "basePath", "schemes"} & spec.keys()
    assert _references(spec) == {f"#/definitions/{name}" for name in spec["definitions"]}
    operations = [operation for item in spec["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status)
            assert response["description"]
            if operation["produces"] == ["text/html"]:
                continue
            assert response["schema"]["$ref"]
            assert "X-Request-ID" in response["headers"]
            assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))


async def test_both_paths_of_a_request_are_described_alike() -> None:
    async with service() as running:
        paths = (await _spec(running))["paths"]
    for old, new in (
        (paths["/"]["post"], paths["/v2/address"]["post"]),
        (paths["/"]["delete"], paths["/v2/service"]["delete"]),
    ):
        assert old.pop("operationId") != new.pop("operationId")
        assert old == new


async def test_statuses_bodies_and_security() -> None:
    async with service() as running:
        spec = await _spec(running)
    common = {"200", "400", "403", "408", "413", "415", "417", "500", "503"}
    expected = {
        ("/", "post"): common | {"409", "429"},
        ("/", "delete"): common | {"404", "429"},
        ("/v2/cluster", "delete"): common | {"401", "404"},
    }
    bodies = {("/", "post"): "Register", ("/", "delete"): "Expire", ("/v2/cluster", "delete"): "Cluster"}
    for (path, method), statuses in expected.items():
        operation = spec["paths"][path][method]
        assert set(operation["responses"]) == statuses
        [body] = operation["parameters"]
        assert (body["in"], body["required"]) == ("body", True)
        assert body["schema"] == {"$ref": f"#/definitions/{bodies[path, method]}"}
        assert operation.get("security") == ([{"bearer": []}] if path == "/v2/cluster" else None)
    assert spec["securityDefinitions"]["bearer"]["name"] == "Authorization"


async def test_the_examples_are_good_requests() -> None:
    async with service() as running:
        definitions = (await _spec(running))["definitions"]
        assert schemas.parse_register(definitions["Register"]["example"])
        assert schemas.parse_expire(definitions["Expire"]["example"])
        assert schemas.parse_cluster(definitions["Cluster"]["example"])
        assert parse_event(schemas.EVENT_EXAMPLE)
        for method, path, name in (
            ("POST", "/", "Register"),
            ("DELETE", "/", "Expire"),
            ("POST", "/v2/address", "Register"),
        ):
            status, _, _ = await running.call(method, path, definitions[name]["example"])
            assert status == 200


async def test_the_zones_of_now_are_the_choices() -> None:
    zones = FakeZones(names=("inet", "lab"))
    async with service(zones=zones) as running:
        definitions = (await _spec(running))["definitions"]
        assert definitions["Register"]["properties"]["zone"]["enum"] == ["inet", "lab"]
        assert definitions["Expire"]["properties"]["zone"]["enum"] == ["inet", "lab"]
        zones.names = ()
        definitions = (await _spec(running))["definitions"]
        assert "enum" not in definitions["Register"]["properties"]["zone"]


async def test_a_second_application_in_one_process_is_described_alike() -> None:
    async with service() as first, service() as second:
        assert await _spec(first) == await _spec(second)


@pytest.mark.parametrize("path", ["/", "/v2/address"])
async def test_every_refusal_has_the_described_shape(path: str) -> None:
    async with service() as running:
        error = (await _spec(running))["definitions"]["Error"]
        for body in (b"{", {}, b"x" * 70_000):
            _, content, _ = await running.call("POST", path, body)
            assert set(error["required"]) <= content.keys() | {"code"} <= set(error["properties"])
