"""The specification as OpenAPI 3.0.3, made from the Swagger 2.0 document, which is all that aiohttp-apispec makes.

https://spec.openapis.org/oas/v3.0.3
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ipam_lib.errors import CODES

VERSION: Final = "3.0.3"
_JSON: Final = "application/json"
# The members of a parameter that are not part of its schema.
_OF_PARAMETER: Final = {"name", "in", "required", "description", "allowEmptyValue"}


def openapi(swagger: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of a Swagger document: the same paths, codes, headers, schemas and examples."""
    return {
        "openapi": VERSION,
        "info": swagger["info"],
        # Relative to the URL of the document.
        "servers": [{"url": "/"}],
        "tags": swagger["tags"],
        "paths": {
            path: {method: _operation(operation, swagger) for method, operation in item.items()}
            for path, item in swagger["paths"].items()
        },
        "components": {
            "schemas": {name: _schema(schema) for name, schema in swagger["definitions"].items()},
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": scheme["description"]}
                for name, scheme in swagger["securityDefinitions"].items()
            },
        },
    }


def _operation(operation: Mapping[str, Any], swagger: Mapping[str, Any]) -> dict[str, Any]:
    converted = {name: operation[name] for name in ("operationId", "summary", "description", "tags")}
    converted |= {"security": operation["security"]} if "security" in operation else {}
    parameters = operation.get("parameters", ())
    if others := [_parameter(one) for one in parameters if one["in"] != "body"]:
        converted["parameters"] = others
    for body in (one for one in parameters if one["in"] == "body"):
        name = body["schema"]["$ref"].rpartition("/")[2]
        content = {"schema": _schema(body["schema"]), "example": swagger["definitions"][name]["example"]}
        converted["requestBody"] = {"required": True, "content": {_JSON: content}}
    media_type = operation["produces"][0]
    converted["responses"] = {
        status: _response(int(status), response, media_type) for status, response in operation["responses"].items()
    }
    return converted


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = {name: value for name, value in parameter.items() if name not in _OF_PARAMETER}
    return {name: parameter[name] for name in parameter if name in _OF_PARAMETER} | {"schema": schema}


def _response(status: int, response: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    converted: dict[str, Any] = {"description": response["description"]}
    if "headers" in response:
        converted["headers"] = {
            name: {"description": header["description"], "schema": {"type": header["type"]}}
            for name, header in response["headers"].items()
        }
    if "schema" in response:
        content: dict[str, Any] = {"schema": _schema(response["schema"])}
        # The description names the codes that the operation answers.
        if response["schema"]["$ref"].endswith("/Error"):
            content["examples"] = {
                code: {"summary": row.meaning, "value": {"code": code, "message": row.meaning}}
                for code, row in CODES.items()
                if row.status == status and f"`{code}`:" in response["description"]
            }
        converted["content"] = {media_type: content}
    elif status == 200:
        converted["content"] = {media_type: {"schema": {"type": "string"}}}
    return converted


def _schema(value: Any) -> Any:
    """A schema, with the references and the keyword for null of OpenAPI 3.0."""
    if isinstance(value, list):
        return [_schema(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    converted: dict[str, Any] = {}
    for name, inner in value.items():
        if name == "$ref":
            converted[name] = inner.replace("#/definitions/", "#/components/schemas/")
        elif name == "example":
            converted[name] = inner
        else:
            converted["nullable" if name == "x-nullable" else name] = _schema(inner)
    return converted
