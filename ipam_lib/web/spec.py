"""The routes of the operations, and the specification (Swagger 2.0) that aiohttp-apispec makes of their schemas."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.web_exceptions import NotAppKeyWarning
from aiohttp_apispec import docs, request_schema, setup_aiohttp_apispec

from ipam_lib import schemas
from ipam_lib.errors import CODES
from ipam_lib.version import __version__
from ipam_lib.web.operation import CHANGE, READ, SERVICE, Operation
from ipam_lib.web.request_body import leave_expectation
from ipam_lib.web.responses import REQUEST_ID_HEADER

SPECIFICATION: Final = web.AppKey("specification", dict[str, Any])

_DESCRIPTION: Final = """\
Hands out IP addresses to services in Kubernetes clusters and keeps NetBox in step.

Name, namespace and cluster together identify a service. A request with the secret of an address may add services to \
it, change them, and let them expire. A repeated request is safe: it gets the same address.

A body is one JSON object in UTF-8, at most 64 KiB, not compressed. `Content-Type` is not checked."""

_BEARER: Final = "bearer"
_TAGS: Final = {
    CHANGE: "The requests of operators in clusters",
    READ: "Registrations, histories and zones, for the bearer token",
    SERVICE: "Health of the service, and its page",
}


def _header(name: str, kind: str, description: str) -> dict[str, Any]:
    return {name: {"type": kind, "description": description}}


_ID_HEADER: Final = _header(REQUEST_ID_HEADER, "string", "The id of the request in the log")
_RETRY_HEADER: Final = _header(hdrs.RETRY_AFTER, "integer", "Seconds to wait before the next try")
_MORE_HEADERS: Final = {
    401: _header(hdrs.WWW_AUTHENTICATE, "string", "The scheme: `Bearer`"),
    429: _RETRY_HEADER,
    503: _RETRY_HEADER,
}

_ERRORS_WITH_BODY: Final = (
    *("invalid_json", "invalid_request", "request_timeout", "body_too_large", "compressed_body"),
    "expectation_failed",
)
_ERRORS_WITH_STORAGE: Final = (
    *("network_not_allowed", "certificate_not_allowed", "storage_unavailable", "time_limit", "try_again"),
)


def add_operations(app: web.Application, operations: Iterable[Operation]) -> None:
    """Add the routes of the operations to the application, and their specification under `SPECIFICATION`."""
    for operation in operations:
        for path in operation.paths:
            handler = docs(**_operation_description(operation, path))(operation.handler())
            if operation.takes is not None:
                handler = request_schema(operation.takes, required=True)(handler)
            options: Any = {} if operation.takes is None else {"expect_handler": leave_expectation}
            app.router.add_route(operation.method, path, handler, **options)
            if operation.method == hdrs.METH_GET:
                # A handler without notes, so that the specification does not repeat the operation for HEAD.
                app.router.add_route(hdrs.METH_HEAD, path, operation.handler())
    with warnings.catch_warnings():
        # aiohttp-apispec keeps its state under plain strings.
        warnings.simplefilter("ignore", NotAppKeyWarning)
        specification = setup_aiohttp_apispec(
            app,
            url=None,
            in_place=True,
            title="IPAM-API",
            version=__version__,
            info={"description": _DESCRIPTION},
            consumes=["application/json"],
            produces=["application/json"],
            tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            securityDefinitions={
                _BEARER: {
                    "type": "apiKey",
                    "in": "header",
                    "name": hdrs.AUTHORIZATION,
                    "description": "`Bearer TOKEN`, or the token alone",
                }
            },
        )
    content: dict[str, Any] = specification.swagger_dict()
    for schema, example in (
        ("Register", schemas.REGISTER_EXAMPLE),
        ("Expire", schemas.EXPIRE_EXAMPLE),
        ("Cluster", schemas.CLUSTER_EXAMPLE),
        ("Event", schemas.EVENT_EXAMPLE),
    ):
        if schema in content["definitions"]:
            content["definitions"][schema]["example"] = example
    app[SPECIFICATION] = content


def _operation_description(operation: Operation, path: str) -> dict[str, Any]:
    """The description of an operation at one of its paths: keyword arguments of aiohttp-apispec's `docs`."""
    notes: dict[str, Any] = {
        # Unique in the specification: the plain name for the first path.
        "operationId": operation.name + ("" if path == operation.paths[0] else path.replace("/", "_")),
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "parameters": [dict(parameter) for parameter in operation.parameters],
    }
    if operation.bearer:
        notes["security"] = [{_BEARER: []}]
    if operation.answers is None:
        notes["produces"] = ["text/html"]
        notes["responses"] = {
            "200": {"description": "The page"},
            "304": {"description": "The copy of the browser is current"},
        }
        return notes
    codes = {*operation.errors, "internal_error"}
    codes |= set(_ERRORS_WITH_BODY if operation.takes else ()) | set(_ERRORS_WITH_STORAGE if operation.storage else ())
    codes |= {"unauthorized"} if operation.bearer else set()
    responses: dict[str, Any] = {
        "200": {"schema": operation.answers, "description": operation.done, "headers": dict(_ID_HEADER)}
    }
    for status in sorted({CODES[code].status for code in codes}):
        rows = {code: row for code, row in CODES.items() if code in codes and row.status == status}
        unready = operation.unready if status == 503 else None
        responses[str(status)] = {
            "schema": unready or schemas.ErrorSchema,
            "description": " ".join(f"`{code}`: {row.meaning}." for code, row in rows.items()),
            "headers": _ID_HEADER | _MORE_HEADERS.get(status, {}),
        }
    return notes | {"responses": responses}
