"""Read the body of a request, with limits of size and time that do not rely on its headers."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import hdrs, web

from ipam_lib.errors import InvalidJSON, PayloadTooLarge, RequestTooSlow, UnsupportedEncoding
from ipam_lib.web.responses import BODY

LARGEST_BODY: Final = 64 * 1024
SECONDS_FOR_BODY: Final = 10.0


async def leave_expectation(request: web.Request) -> None:
    """Leave `Expect: 100-continue` to `read_body`: the client sends the body only if it will be read."""
    del request


async def _meet_expectation(request: web.Request) -> None:
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is None or request.version < (1, 1):
        return
    if expectation.lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The size of an interim answer does not count in the size of the answer.
    request.writer.output_size = 0


async def read_body(request: web.Request, *, seconds: float) -> bytes:
    """The body of the request, also kept on the request for the log.

    Raises UnsupportedEncoding for a compressed body, PayloadTooLarge for more than 64 KiB (the rest is not read),
    RequestTooSlow after `seconds`, InvalidJSON for invalid framing or when the client hangs up.
    """
    known: bytes | None = request.get(BODY)
    if known is not None:
        return known
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in {"identity", ""}:
        raise UnsupportedEncoding("the body must not be compressed")
    if (request.content_length or 0) > LARGEST_BODY:
        raise PayloadTooLarge("the body is larger than 64 KiB")
    await _meet_expectation(request)
    body = _arrived(request)
    if body is None:
        body = await _receive(request, seconds)
    request[BODY] = body
    return body


def _arrived(request: web.Request) -> bytes | None:
    """The body if all of it arrived with the head, as for nearly every request; else None."""
    content = request.content
    if not content.is_eof() or content.exception() is not None or content.total_bytes > LARGEST_BODY:
        return None
    return content.read_nowait()


async def _receive(request: web.Request, seconds: float) -> bytes:
    """Wait for the body. Raises as `read_body` does."""
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise RequestTooSlow(f"the body did not arrive within {seconds:g} seconds") from None
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge("the body is larger than 64 KiB") from None
    except (web.RequestPayloadError, ConnectionError):
        raise InvalidJSON("the body broke off, or its framing is not valid HTTP") from None
