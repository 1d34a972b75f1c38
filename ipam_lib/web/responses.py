"""The shapes of answers: every error is one JSON object, and every answer carries the id of its request."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web

from ipam_lib.errors import BadRequest, IPAMError, TooManyAttempts, Unauthorized, Unavailable
from ipam_lib.telemetry.redaction import redact

REQUEST_ID_HEADER: Final = "X-Request-ID"
REQUEST_ID: Final = web.RequestKey("request_id", str)
BODY: Final = web.RequestKey("body", bytes)
# Why it is an error, as the answer says it; for the log.
REASON: Final = web.ResponseKey("reason", str)
# Where the validation middleware puts what came out of a body.
DATA: Final = web.RequestKey("data", object)

# What clients may put into our logs: no spaces, no quotes, nothing that any log viewer would obey.
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)

_ENCODER = json.JSONEncoder(ensure_ascii=False)
# Written in one turn of the event loop: about a millisecond's worth.
_CHARACTERS_A_TURN: Final = 64 * 1024

_MESSAGES = {
    400: "the request is not valid HTTP",
    404: "there is nothing at this path",
    405: "this path does not take this method",
    408: "the request did not arrive in time",
    413: "the body is larger than 64 KiB",
    417: "only `Expect: 100-continue` can be met",
}


def request_id_of(request: web.BaseRequest) -> str:
    """The id of the request: the client's own where it is 1 to 128 safe characters, else one made now and kept."""
    known = request.get(REQUEST_ID)
    if known is None:
        offered = request.headers.get(REQUEST_ID_HEADER, "")
        known = offered if _SAFE_ID.fullmatch(offered) else secrets.token_hex(8)
        request[REQUEST_ID] = known
    return known


def json_response(
    content: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """One JSON object as an answer."""
    return _json(_ENCODER.encode(content), status=status, headers=headers)


async def list_response(name: str, items: Iterable[Mapping[str, Any]], **more: Any) -> web.Response:
    """One JSON object as an answer, with a list of this name, and `more` after it. However long the list is, the event
    loop gets its turn while it is made (so `items` had better be a generator) and written."""
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
    status: int,
    message: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
    **more: Any,
) -> web.Response:
    """An error: `{"message": ...}`, and what more there is to say. `close`: the connection is of no use any more."""
    if message is None:
        message = _MESSAGES.get(status) or HTTPStatus(status).phrase.lower()
    answer = json_response({"message": message, **more}, status=status, headers=headers)
    answer[REASON] = message
    if close:
        answer.force_close()
    return answer


def failure_response(error: IPAMError) -> web.Response:
    """The answer that an error of ours stands for."""
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, BadRequest) and error.errors:
        # Where a client put its secret into another field as well, it is not repeated from there.
        more["errors"] = {name: [redact(text) for text in texts] for name, texts in error.errors.items()}
    if isinstance(error, Unauthorized):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if isinstance(error, (Unavailable, TooManyAttempts)):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after)
    # Where the body was not read to its end, what follows on the connection cannot be told from it.
    close = error.status in {408, 413, 415}
    return error_response(error.status, redact(error.message), headers=headers, close=close, **more)


def bug_response(request: web.BaseRequest, *, close: bool = False) -> web.Response:
    """The answer to a request that failed by a bug: where in the log it is found, and nothing else."""
    request_id = request_id_of(request)
    text = f"internal error; the log has more under request id {request_id}"
    return error_response(500, text, close=close, request_id=request_id)


def plain_http_response(error: web.HTTPException) -> web.Response:
    """An answer of aiohttp's own, in our shape."""
    allow = error.headers.get(hdrs.ALLOW)
    return error_response(
        error.status, headers={hdrs.ALLOW: allow} if allow else None, close=error.status in {413, 417}
    )


def add_common_headers(request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Put on what every answer carries. Once is enough; twice does no harm."""
    headers = answer.headers
    if REQUEST_ID_HEADER in headers or answer.prepared:
        return
    headers[REQUEST_ID_HEADER] = request_id_of(request)
    # Not what we are made of, and in which version.
    headers[hdrs.SERVER] = "ipam-api"
    headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
    if hdrs.CACHE_CONTROL not in headers:
        headers[hdrs.CACHE_CONTROL] = "no-store"
