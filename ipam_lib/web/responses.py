"""The common format of answers: an error is a JSON object with a code, every answer has the request id in a header."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from ipam_lib.errors import CODES, BadRequest, IPAMError, TooManyAttempts, Unauthorized, Unavailable
from ipam_lib.telemetry.redaction import redact

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID: Final = web.RequestKey("request_id", str)
BODY: Final = web.RequestKey("body", bytes)
# The message of an error, for the log.
REASON: Final = web.ResponseKey("reason", str)
# The content of the body, as its schema loads it.
DATA: Final = web.RequestKey("data", object)

# Request ids of clients that may get into the log: no spaces, quotes or control characters.
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)

_ENCODER = json.JSONEncoder(ensure_ascii=False)
# The part of an answer that is made in one turn of the event loop: about a millisecond.
_CHARACTERS_A_TURN: Final = 64 * 1024

# The codes and messages of errors that aiohttp answers.
_HTTP_ERRORS: Final = {
    400: ("invalid_http", "the request is not valid HTTP"),
    404: ("unknown_path", "there is nothing at this path"),
    405: ("method_not_allowed", "this path does not take this method"),
    408: ("request_timeout", "the request did not arrive in time"),
    413: ("body_too_large", "the body is larger than 64 KiB"),
    417: ("expectation_failed", "only `Expect: 100-continue` can be met"),
}


def request_id_of(request: web.BaseRequest) -> str:
    """The id of the request: `X-Request-ID` of the client if it is 1 to 128 safe characters, else a new one."""
    known = request.get(REQUEST_ID)
    if known is None:
        offered = request.headers.get(REQUEST_ID_HEADER, "")
        known = offered if _SAFE_ID.fullmatch(offered) else secrets.token_hex(8)
        request[REQUEST_ID] = known
    return known


def json_response(
    content: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer with one JSON object."""
    return _json(_ENCODER.encode(content), status=status, headers=headers)


async def list_response(name: str, items: Iterable[Mapping[str, Any]], **more: Any) -> web.Response:
    """An answer with one JSON object: a list under `name`, and the members `more`.

    Other tasks run while a long list is encoded, so `items` should be a generator.
    """
    texts: list[str] = []
    characters = 0
    for item in items:
        texts.append(_ENCODER.encode(item))
        characters += len(texts[-1])
        if characters > _CHARACTERS_A_TURN:
            await asyncio.sleep(0)
            characters = 0
    last = "".join(f", {_ENCODER.encode(key)}: {_ENCODER.encode(value)}" for key, value in more.items())
    return _json(f"{{{_ENCODER.encode(name)}: [{', '.join(texts)}]{last}}}")


def _json(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=text.encode("utf-8", "replace") + b"\n",
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def error_response(
    code: str, message: str, *, headers: Mapping[str, str] | None = None, close: bool = False, **more: Any
) -> web.Response:
    """An error: `{"code": ..., "message": ...}` and the members `more`. `close`: whether to close the connection."""
    answer = json_response({"code": code, "message": message, **more}, status=CODES[code].status, headers=headers)
    answer[REASON] = message
    if close:
        answer.force_close()
    return answer


def failure_response(error: IPAMError) -> web.Response:
    """The answer for an error of the program."""
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, BadRequest) and error.errors:
        # The client may have put its secret into another field too; the answer must not repeat it.
        more["errors"] = {name: [redact(text) for text in texts] for name, texts in error.errors.items()}
    if isinstance(error, Unauthorized):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if isinstance(error, (Unavailable, TooManyAttempts)):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after)
    # The rest of an unread body cannot be told from the next request.
    close = error.status in {408, 413, 415}
    return error_response(error.code, redact(error.message), headers=headers, close=close, **more)


def bug_response(request: web.BaseRequest, *, close: bool = False) -> web.Response:
    """The answer to a request that failed by a bug: only the request id of the log."""
    request_id = request_id_of(request)
    text = f"internal error; the log has more under request id {request_id}"
    return error_response("internal_error", text, close=close, request_id=request_id)


def plain_http_response(error: web.HTTPException) -> web.Response:
    """An error of aiohttp in the common format."""
    allow = error.headers.get(hdrs.ALLOW)
    return http_error_response(
        error.status, headers={hdrs.ALLOW: allow} if allow else None, close=error.status in {413, 417}
    )


def http_error_response(status: int, *, headers: Mapping[str, str] | None = None, close: bool = False) -> web.Response:
    """An error that HTTP itself defines, in the common format."""
    code, message = _HTTP_ERRORS.get(status, _HTTP_ERRORS[400])
    return error_response(code, message, headers=headers, close=close)


def add_common_headers(request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Add the headers of every answer. A second call changes nothing."""
    headers = answer.headers
    if REQUEST_ID_HEADER in headers or answer.prepared:
        return
    headers[REQUEST_ID_HEADER] = request_id_of(request)
    # Without the names and versions of libraries.
    headers[hdrs.SERVER] = "ipam-api"
    headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
    if hdrs.CACHE_CONTROL not in headers:
        headers[hdrs.CACHE_CONTROL] = "no-store"
