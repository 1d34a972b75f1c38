"""The only place that uses private parts of aiohttp; `tests/web/test_aiohttp_internals.py` checks them.

aiohttp has no documented way for either: to know whether a connection waits for a request, and to answer a request of
HTTP/1.2 in the version that the server speaks.
"""

from __future__ import annotations

from aiohttp import HttpVersion10, HttpVersion11, web


def waits_for_head(connection: web.RequestHandler) -> bool:
    """Whether the connection waits for the (rest of the) request line and headers of its next request."""
    waiter = connection._waiter
    return waiter is not None and not waiter.done()


def answer_in_spoken_version(request: web.BaseRequest) -> None:
    """Let the answer to a request in another version of HTTP/1 say HTTP/1.1 (RFC 9110, section 6.2)."""
    if request._version not in (HttpVersion10, HttpVersion11):
        request._version = HttpVersion11
        request._cache.pop("version", None)
