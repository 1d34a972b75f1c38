"""The specification as OpenAPI 3.0.3: valid, and with everything that the Swagger 2.0 document has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from ipam_lib import schemas
from ipam_lib.errors import CODES
from tests.web.service import Service, service


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


async def _document(running: Service, path: str = "/openapi.json") -> dict[str, Any]:
    status, content, answer = await running.call("GET", path)
    assert (status, answer.content_type) == (200, "application/json")
    return content


async def test_it_is_valid(running: Service) -> None:
    document = await _document(running)
    assert document["openapi"] == "3.0.3"
    assert list(OpenAPIV30SpecValidator(document).iter_errors()) == []


async def test_it_has_every_operation_status_header_and_parameter_of_the_other(running: Service) -> None:
    new, old = await _document(running), await _document(running, "/swagger/doc.json")
    assert new["info"] == old["info"]
    assert new["paths"].keys() == old["paths"].keys()
    assert new["components"]["schemas"].keys() == old["definitions"].keys()
    for path, item in old["paths"].items():
        assert new["paths"][path].keys() == item.keys()
        for method, before in item.items():
            after = new["paths"][path][method]
            assert after["operationId"] == before["operationId"]
            assert after.get("security") == before.get("security")
            assert {one["name"] for one in after.get("parameters", ())} == {
                one["name"] for one in before.get("parameters", ()) if one["in"] != "body"
            }
            assert ("requestBody" in after) == any(one["in"] == "body" for one in before.get("parameters", ()))
            assert after["responses"].keys() == before["responses"].keys()
            for status, response in before["responses"].items():
                assert after["responses"][status].get("headers", {}).keys() == response.get("headers", {}).keys()


async def test_the_bearer_scheme(running: Service) -> None:
    document = await _document(running)
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["paths"]["/v2/zones"]["get"]["security"] == [{"bearer": []}]


async def test_each_body_has_an_example_that_works(running: Service) -> None:
    document = await _document(running)
    for path, method, parse in (
        ("/v2/address", "post", schemas.parse_register),
        ("/v2/service", "delete", schemas.parse_expire),
        ("/v2/cluster", "delete", schemas.parse_cluster),
    ):
        assert parse(document["paths"][path][method]["requestBody"]["content"]["application/json"]["example"])


async def test_each_error_has_an_example_for_each_code(running: Service) -> None:
    responses = (await _document(running))["paths"]["/v2/address"]["post"]["responses"]
    examples = {
        code: example["value"]
        for status, response in responses.items()
        for code, example in response["content"]["application/json"].get("examples", {}).items()
        if int(status) == CODES[code].status
    }
    assert {"zone_full", "address_taken", "wrong_secret", "in_flight", "netbox_unavailable"} <= examples.keys()
    assert all(schemas.ErrorSchema().validate(value) == {} for value in examples.values())


async def test_null_is_said_in_the_words_of_openapi(running: Service) -> None:
    schemas_ = (await _document(running))["components"]["schemas"]
    assert schemas_["ServiceRead"]["properties"]["expires_at"]["nullable"] is True
    assert "x-nullable" not in str(schemas_)
    assert "#/definitions/" not in str(schemas_)
