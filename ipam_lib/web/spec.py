"""The specification (Swagger 2.0) and the validation of bodies, both from the schemas, through aiohttp-apispec."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web
from aiohttp.web_exceptions import NotAppKeyWarning
from aiohttp_apispec import docs, request_schema, validation_middleware
from aiohttp_apispec.aiohttp_apispec import AiohttpApiSpec
from marshmallow import Schema
from webargs.aiohttpparser import AIOHTTPParser

from ipam_lib import schemas
from ipam_lib.telemetry import redaction
from ipam_lib.version import __version__
from ipam_lib.web.middlewares import time_left
from ipam_lib.web.request_body import SECONDS_FOR_BODY, read_body
from ipam_lib.web.responses import DATA, REQUEST_ID_HEADER

__all__ = ["DATA", "SERVICE", "SPECIFICATION", "THROTTLED", "add_specification", "documented", "validation_middleware"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

SPECIFICATION: Final = web.AppKey("specification", dict[str, Any])

_DESCRIPTION: Final = """\
Hands out IP addresses to services in Kubernetes clusters and keeps NetBox in step.

A service is known by its name, namespace and cluster together. Whoever knows the secret of an address may add \
services to it, change them, and let them expire. Sending a request again does no harm: it gives the same address.

`Content-Type` is not looked at; a body is one JSON object in UTF-8, at most 64 KiB, not compressed."""

_BEARER: Final = "bearer"

# Under which heading an operation stands, in this order.
CHANGE: Final = "Register and expire"
READ: Final = "Read"
SERVICE: Final = "The service itself"
_TAGS: Final = {
    CHANGE: "What operators in clusters ask for",
    READ: "Who holds what, and how full the zones are; for the bearer token",
    SERVICE: "Whether it lives and is ready, and its page",
}

_ID_HEADER: Final = {
    REQUEST_ID_HEADER: {"type": "string", "description": "The id under which the log has more about this request"}
}
_RETRY_HEADER: Final[dict[str, Any]] = {
    hdrs.RETRY_AFTER: {"type": "integer", "description": "Seconds to wait before trying again"}
}
_CHALLENGE_HEADER: Final[dict[str, Any]] = {
    hdrs.WWW_AUTHENTICATE: {"type": "string", "description": "The scheme: `Bearer`"}
}

_ERRORS: Final = {
    400: "The body is not JSON, or a field of it is missing or wrong; `errors` says which",
    401: "The bearer token is missing or wrong",
    408: "The body did not arrive in time",
    413: "The body is larger than 64 KiB",
    415: "The body is compressed",
    417: "An expectation other than `100-continue`",
    500: "A bug; the body repeats the request id under which it was logged",
    503: "NetBox or the storage is away or too slow; nothing is half done",
}
THROTTLED: Final = "Too many wrong secrets came from this source; this one was not looked at"
# What any request with a body can come to.
_ALWAYS: Final = (400, 408, 413, 415, 417, 500, 503)

_PARSERS: Final[Mapping[type[Schema], Callable[[object], object]]] = {
    schemas.RegisterSchema: schemas.parse_register,
    schemas.ExpireSchema: schemas.parse_expire,
    schemas.ClusterSchema: schemas.parse_cluster,
}


class BodyParser(AIOHTTPParser):
    """aiohttp-apispec's parser, with the rules of this service: any Content-Type, strict JSON, errors of ours."""

    async def parse(self, argmap: Any, req: web.Request | None = None, **options: Any) -> Any:
        """The body of a request as what its schema stands for.

        Raises BadRequest, and what `read_body` raises.
        """
        del options
        assert req is not None
        seconds = min(SECONDS_FOR_BODY, time_left(req))
        body = schemas.parse_json(await read_body(req, seconds=seconds))
        if isinstance(body, dict):
            redaction.set_request_secrets(body.get("secret"), body.get("new_secret"))
        return _PARSERS[type(argmap)](body)


class Specification(AiohttpApiSpec):  # type: ignore[misc]
    """aiohttp-apispec's collector of routes, without its habit of using up what the decorators left on a handler: one
    handler stands on several routes here, and several applications may live in one process."""

    def _register_route(self, route: web.AbstractRoute, method: str, view: Any) -> None:
        notes = getattr(view, "__apispec__", None)
        if notes is None or route.resource is None or method == hdrs.METH_HEAD.lower():
            return
        path = route.resource.canonical
        fresh = {name: copy.copy(value) for name, value in notes.items()}
        fresh["schemas"] = [dict(schema) for schema in notes["schemas"]]
        # One name for each path of a handler: the plain one for the first.
        name = fresh["operationId"]
        known = {each["operationId"] for item in self.spec.to_dict()["paths"].values() for each in item.values()}
        fresh["operationId"] = f"{name}{path.replace('/', '_')}" if name in known else name
        self._update_paths(fresh, method.lower(), path)


def _error(status: int, description: str, schema: type[Schema]) -> dict[str, Any]:
    headers: dict[str, Any] = dict(_ID_HEADER)
    if status in (429, 503):
        headers |= _RETRY_HEADER
    if status == 401:
        headers |= _CHALLENGE_HEADER
    return {"schema": schema, "description": description, "headers": headers}


def documented(
    *,
    name: str,
    summary: str,
    description: str,
    answers: type[Schema],
    takes: type[Schema] | None = None,
    done: str = "Done",
    errors: Mapping[int, str] | None = None,
    unready: type[Schema] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
    bearer: bool = False,
    tag: str | None = None,
) -> Callable[[Handler], Handler]:
    """A decorator for a handler: what it takes (validated before it runs, found under `DATA`), answers, and refuses.

    `errors` are statuses beside those that every such request can come to, or other words for one of them. `unready` is
    the shape of a 503 that is not the usual one. `parameters`: what may stand in the path and the query string. `tag`:
    the heading it stands under; when not given, by whether it changes anything.
    """
    texts = {status: _ERRORS[status] for status in (_ALWAYS if takes else (500,))} | dict(errors or {})
    if bearer:
        texts[401] = _ERRORS[401]
    responses: dict[str, Any] = {"200": {"schema": answers, "description": done, "headers": dict(_ID_HEADER)}}
    responses |= {
        str(status): _error(status, texts[status], unready if unready and status == 503 else schemas.ErrorSchema)
        for status in sorted(texts)
    }

    def decorate(handler: Handler) -> Handler:
        notes: dict[str, Any] = {"operationId": name, "summary": summary, "description": description}
        notes["tags"] = [tag or (CHANGE if takes else READ)]
        if parameters:
            notes["parameters"] = [dict(each) for each in parameters]
        if bearer:
            notes["security"] = [{_BEARER: []}]
            handler.needs_bearer = True  # type: ignore[attr-defined]
        handler = docs(responses=responses, **notes)(handler)
        return request_schema(takes, required=True)(handler) if takes else handler

    return decorate


def add_specification(app: web.Application) -> None:
    """Collect the specification of every route that the application has by now, and let its bodies be validated."""
    with warnings.catch_warnings():
        # aiohttp-apispec keeps its state under plain strings.
        warnings.simplefilter("ignore", NotAppKeyWarning)
        specification = Specification(
            url=None,
            app=app,
            in_place=True,
            request_data_name=DATA,
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
        app["_apispec_parser"] = BodyParser()
    content: dict[str, Any] = specification.swagger_dict()
    for schema, example in (
        ("Register", schemas.REGISTER_EXAMPLE),
        ("Expire", schemas.EXPIRE_EXAMPLE),
        ("Cluster", schemas.CLUSTER_EXAMPLE),
    ):
        if schema in content["definitions"]:
            content["definitions"][schema]["example"] = example
    app[SPECIFICATION] = content
