"""Reading the body of a request: bounded in size and time, whatever it says about itself."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import hdrs, web

from ipam_lib.errors import BadRequest, PayloadTooLarge, RequestTooSlow, UnsupportedEncoding
from ipam_lib.web.responses import BODY

LARGEST_BODY: Final = 64 * 1024
SECONDS_FOR_BODY: Final = 10.0


async def leave_expectation(request: web.Request) -> None:
    """Do nothing about `Expect` yet: whoever reads the body says `100 Continue`, and only then is the body sent."""
    del request


async def _meet_expectation(request: web.Request) -> None:
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is None or request.version < (1, 1):
        return
    if expectation.lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # An interim answer does not count as the answer.
    request.writer.output_size = 0


async def read_body(request: web.Request, *, seconds: float) -> bytes:
    """The body of the request, kept on the request for the log.

    Raises UnsupportedEncoding for a compressed body, PayloadTooLarge as soon as it is known to be over 64 KiB (the rest
    is not read), RequestTooSlow when it has not arrived after `seconds`, BadRequest when its framing is broken or the
    client hung up in the middle.
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
    """The body where all of it came along with the head, as that of nearly every request does; else None."""
    content = request.content
    if not content.is_eof() or content.exception() is not None or content.total_bytes > LARGEST_BODY:
        return None
    return content.read_nowait()


async def _receive(request: web.Request, seconds: float) -> bytes:
    """The body as it comes in. Raises as `read_body` does."""
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise RequestTooSlow(f"the body did not arrive within {seconds:g} seconds") from None
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge("the body is larger than 64 KiB") from None
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequest("the body broke off, or its framing is not valid HTTP") from None
