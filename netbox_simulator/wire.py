"""What goes in and out of the simulator's synchronous core: requests, answers, errors. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

# A stored object of any kind but prefixes, as plain JSON values.
Row = dict[str, Any]

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"

FORBIDDEN = "You do not have permission to perform this action."


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `query` holds the decoded pairs in their order, `headers` have lower-case names."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base: str = "http://netbox.invalid"
    remote: str = "127.0.0.1"

    def values(self, name: str) -> list[str]:
        """Every value of a query parameter, in order."""
        return [value for key, value in self.query if key == name]

    def value(self, name: str) -> str | None:
        """The last value of a query parameter, as Django reads it, or None."""
        values = self.values(name)
        return values[-1] if values else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a view answers, before it becomes bytes. Payload None with status 204 is an empty body."""

    status: int
    payload: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


# A view reads and checks, and gives either its answer or the write that remains to be done. Between the two lies the
# moment in which NetBox lets others in.
Write = Callable[[], Reply]
Outcome = Reply | Write


@dataclass(frozen=True, slots=True)
class Response:
    """The answer as it goes over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body. Raises ValueError when it is not JSON."""
        return json.loads(self.body)


class ApiError(Exception):
    """An answer other than success. `payload` is the JSON body."""

    def __init__(self, status: int, payload: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, payload)
        self.status = status
        self.payload = payload
        self.headers = dict(headers or {})


class FieldError(Exception):
    """One field does not validate; `messages` are NetBox's."""

    def __init__(self, messages: Any) -> None:
        super().__init__(messages)
        self.messages = messages if isinstance(messages, list | dict) else [messages]


class Unhandled(Exception):
    """NetBox itself would raise here: 500 with the name and text of its exception."""

    def __init__(self, exception: str, text: str) -> None:
        super().__init__(exception, text)
        self.exception = exception
        self.text = text

    def payload(self, netbox_version: str, python_version: str) -> dict[str, str]:
        """The JSON that NetBox gives for an unhandled exception."""
        versions = {"netbox_version": netbox_version, "python_version": python_version}
        return {"error": self.text, "exception": self.exception, **versions}


def forbidden(detail: str = FORBIDDEN) -> ApiError:
    """Every failure of authentication or permission in NetBox is a 403 with a detail."""
    return ApiError(403, {"detail": detail})


def not_found(model: str) -> ApiError:
    """The 404 of an object that does not exist, or that the user may not see."""
    return ApiError(404, {"detail": f"No {model} matches the given query."})


def check_match(request: Request, etag: str) -> None:
    """If-Match of RFC 9110, section 13.1.1, except that NetBox compares weak tags as if they were strong.

    Raises ApiError 412.
    """
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return
    if etag not in [each.strip() for each in given.split(",")]:
        raise ApiError(412, {"detail": "Precondition failed."}, {"ETag": etag})


def html_page(title: str, text: str) -> bytes:
    """A small page of the kind that NetBox or a proxy in front of it answers instead of JSON."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><title>{title} | NetBox</title></head>\n'
        f"<body><h1>{title}</h1><p>{text}</p></body>\n</html>\n"
    ).encode()


def make_request(
    method: str,
    path: str,
    *,
    query: str | Mapping[str, str] | tuple[tuple[str, str], ...] = (),
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    base: str = "http://netbox.invalid",
    remote: str = "127.0.0.1",
) -> Request:
    """A request from convenient parts: `path` may carry a query string, `body` may be bytes or anything JSON."""
    path, _, inline = path.partition("?")
    pairs: tuple[tuple[str, str], ...] = tuple(parse_qsl(inline, keep_blank_values=True))
    if isinstance(query, str):
        pairs += tuple(parse_qsl(query, keep_blank_values=True))
    elif isinstance(query, Mapping):
        pairs += tuple(query.items())
    else:
        pairs += query
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    if body is None:
        content = b""
    elif isinstance(body, bytes):
        content = body
    else:
        content = json.dumps(body).encode()
    if content:
        lowered.setdefault("content-type", JSON_TYPE)
    return Request(method.upper(), path, pairs, lowered, content, base, remote)
