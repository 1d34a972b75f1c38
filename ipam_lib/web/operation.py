"""An operation of the HTTP interface: its description, and the aiohttp handler around its use case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from aiohttp import hdrs, web
from marshmallow import Schema

from ipam_lib import schemas
from ipam_lib.crypto import Secret, same_text
from ipam_lib.errors import Unauthorized
from ipam_lib.lifecycle import Services
from ipam_lib.netbox.events import parse_event
from ipam_lib.registry import Registry
from ipam_lib.telemetry import redaction
from ipam_lib.web.middlewares import ANSWER_BY, SERVICES, Handler, time_left
from ipam_lib.web.request_body import SECONDS_FOR_BODY, read_body
from ipam_lib.web.responses import DATA, json_response

# The headings of the specification.
CHANGE: Final = "Register and expire"
READ: Final = "Read"
SERVICE: Final = "The service itself"

Content = TypeVar("Content")

_PARSERS: Final[Mapping[type[Schema], Callable[[object], object]]] = {
    schemas.RegisterSchema: schemas.parse_register,
    schemas.ExpireSchema: schemas.parse_expire,
    schemas.ClusterSchema: schemas.parse_cluster,
    schemas.EventSchema: parse_event,
}


@dataclass(slots=True)
class Bearer:
    """The bearer token. A reload may replace it."""

    token: Secret


BEARER: Final = web.AppKey("bearer", Bearer)


@dataclass(frozen=True, slots=True)
class Call(Generic[Content]):
    """One call of an operation. `content`: the content of the body, as its schema loads it; None without a body."""

    request: web.Request
    services: Services
    content: Content

    @property
    def registry(self) -> Registry:
        """The use cases."""
        return self.services.registry

    @property
    def deadline(self) -> float:
        """The time limit of the request, by the monotonic clock."""
        return self.request[ANSWER_BY]


Answer = Mapping[str, Any] | web.StreamResponse
UseCase = Callable[[Call[Any]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A use case with its routes and its description for the specification.

    `function`: returns the JSON object of the answer, or a whole response. `takes`: the schema of the body. `answers`:
    the schema of the answer; None for a page. `done`: the description of status 200. `errors`: its error codes, beside
    those common to all operations. `unready`: the schema of a 503 that differs from the common one.
    `bearer`: whether it needs the bearer token. `storage`: whether it needs the prepared storage. `admit`: gets the
    request and its body, before anything of the body is parsed; it raises an IPAMError to refuse the request.
    """

    function: UseCase
    method: str
    paths: Sequence[str]
    name: str
    summary: str
    description: str
    tag: str
    takes: type[Schema] | None = None
    answers: type[Schema] | None = None
    done: str = "Done"
    errors: Sequence[str] = ()
    unready: type[Schema] | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    bearer: bool = False
    storage: bool = True
    admit: Callable[[web.Request, bytes], None] | None = None

    def handler(self) -> Handler:
        """A new aiohttp handler of this operation."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if self.bearer:
                check_bearer(request)
            content = None if self.takes is None else await _content(request, self.takes, self.admit)
            services = request.app[SERVICES]
            if self.storage:
                services.check_prepared()
            answer = await self.function(Call(request, services, content))
            return answer if isinstance(answer, web.StreamResponse) else json_response(answer)

        return handle


def operation(
    method: str, *paths: str, **about: Any
) -> Callable[[Callable[[Call[Any]], Awaitable[Answer]]], Operation]:
    """A decorator: it makes an `Operation` of a use case. `about`: the other fields of `Operation`."""
    return lambda function: Operation(function=function, method=method, paths=paths, **about)


def check_bearer(request: web.Request) -> None:
    """Raises Unauthorized without the right bearer token. The token may stand alone: existing clients send it so."""
    given = request.headers.get(hdrs.AUTHORIZATION, "").strip()
    scheme, _, rest = given.partition(" ")
    token = rest.strip() if scheme.lower() == "bearer" else given
    if not same_text(token, request.app[BEARER].token.reveal()):
        raise Unauthorized("the bearer token is missing or wrong")


async def _content(
    request: web.Request, schema: type[Schema], admit: Callable[[web.Request, bytes], None] | None
) -> object:
    """The content of the body, also kept under `DATA`. Raises BadRequest, and the errors of `read_body` and
    `admit`."""
    raw = await read_body(request, seconds=min(SECONDS_FOR_BODY, time_left(request) / 2))
    if admit is not None:
        admit(request, raw)
    body = schemas.parse_json(raw)
    if isinstance(body, dict):
        redaction.set_request_secrets(body.get("secret"), body.get("new_secret"))
    content = request[DATA] = _PARSERS[schema](body)
    return content
