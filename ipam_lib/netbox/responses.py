"""The meaning of an HTTP answer: JSON, or one of this program's errors. No I/O.

NetBox's error bodies, as observed: `{"detail": text}`, `{field: [texts]}`, `[{field: text or [texts]}, ...]`, texts one
level deeper (3.7), `{"error": text, "exception": name, ...}` (its 500), and HTML pages (404 for an unknown path, 500
without Redis, any error of a proxy in front of it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ipam_lib.errors import NetBoxError, NetBoxRejected, NetBoxUnavailable

REJECTED = "NetBox refused the request; the service's log says why"
UNREACHED = "NetBox is not where it is expected; the service's log says why"

_LONGEST_DETAIL = 600
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class NetBoxThrottled(NetBoxUnavailable):
    """NetBox, or a proxy in front of it, said when to try again: `retry_after`, in seconds."""


class NetBoxBroken(NetBoxUnavailable):
    """NetBox answered with its own JSON that the request made it fail (500)."""


class NetBoxUnexpected(NetBoxUnavailable):
    """NetBox answered, but the answer does not fit the request: what it did, if anything, is unknown."""


class Failures:
    """The errors of single prefixes in a bulk, collected so that one prefix does not stop the others."""

    def __init__(self) -> None:
        self.errors: list[NetBoxError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect the error of this prefix. Errors that say that NetBox as a whole is away are raised."""
        try:
            yield
        except (NetBoxRejected, NetBoxBroken) as error:
            self.errors.append(error)

    def raise_first(self) -> None:
        """Raise the first error, if there is one."""
        if self.errors:
            raise self.errors[0]


@dataclass(frozen=True, slots=True)
class NetBoxResponse:
    """An answer of NetBox. `body` is its JSON, None without one (204). `etag` is the version of the object in it, None
    before NetBox 4.6."""

    status: int
    body: Any = None
    etag: str | None = None

    @property
    def ok(self) -> bool:
        """Whether NetBox carried out the request."""
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """NetBox's own text, on one line, cut to 600 characters."""
        return shorten(json.dumps(self.body, ensure_ascii=False)) if self.body is not None else ""


def understand(
    status: int, content_type: str, retry_after: str | None, location: str | None, raw: bytes, expected: Collection[int]
) -> NetBoxResponse:
    """The answer, when its status is 2xx or in `expected` and it is JSON.

    Raises NetBoxRejected for redirects and other 4xx; NetBoxUnavailable for 5xx and for what is not JSON (`applied`
    True: whether it was carried out is unknown), NetBoxThrottled where there is a Retry-After.
    """
    if 300 <= status < 400:
        raise NetBoxRejected(
            UNREACHED,
            detail=f"HTTP {status} redirects to {shorten(location or '?')}: is netbox.url right (https, path)?",
        )
    body, is_json = _parse(content_type, raw)
    words = shorten(json.dumps(body, ensure_ascii=False)) if is_json else _page(content_type, raw)
    if status >= 500 or status in (408, 429):
        raise _unavailable(status, retry_after, f"HTTP {status}: {words}", body)
    if 200 <= status < 300:
        if status == 204 or (is_json and body is not None):
            return NetBoxResponse(status, body if is_json else None)
        raise NetBoxUnavailable(detail=f"HTTP {status} with {words} where JSON was expected: is netbox.url right?")
    if not is_json:
        raise NetBoxRejected(UNREACHED, detail=f"HTTP {status} with {words}: is netbox.url right?")
    # A gateway's 404 has another shape, and must not be taken for "that prefix is gone".
    if status in expected and not (status in (404, 409) and not _has_detail(body)):
        return NetBoxResponse(status, body)
    raise NetBoxRejected(REJECTED, detail=f"HTTP {status}: {words}")


def texts(body: Any, key: str | None = None) -> Iterator[str]:
    """Every text in an error body, in any of its shapes; only those under the field `key` when it is given."""
    if isinstance(body, str):
        if key is None:
            yield body
    elif isinstance(body, dict):
        for name, value in body.items():
            yield from texts(value, None if name == key else key)
    elif isinstance(body, list):
        for value in body:
            yield from texts(value, key)


def is_duplicate(body: Any) -> bool:
    """Whether an error body (400) says that the prefix exists already, in a VRF or in the global table."""
    return any("duplicate prefix" in text.lower() for text in texts(body, "prefix"))


def shorten(text: str) -> str:
    """`text` on one line, at most 600 characters of it."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_DETAIL else line[:_LONGEST_DETAIL] + "…"


def _parse(content_type: str, raw: bytes) -> tuple[Any, bool]:
    """The JSON in an answer, and whether it is JSON at all (by its content: a proxy may get the type wrong)."""
    try:
        return json.loads(raw), "html" not in content_type
    except (ValueError, RecursionError):
        return None, False


def _page(content_type: str, raw: bytes) -> str:
    """What to call a body that is not JSON: the title of an HTML page, or the beginning of the text."""
    if not raw:
        return "an empty body"
    text = raw[:20_000].decode("utf-8", "replace")
    title = _TITLE.search(text)
    if title:
        return f"an HTML page, {shorten(title[1])!r},"
    return f"{content_type or 'a body without a type'}, {shorten(text)[:200]!r},"


def _has_detail(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("detail"), str)


def _unavailable(status: int, retry_after: str | None, detail: str, body: Any) -> NetBoxUnavailable:
    # 429 is said instead of doing anything (RFC 6585, section 4). After a 504 NetBox may still be working on it.
    applied = status != 429
    timed_out = status == 504
    if status in (429, 503):
        seconds = _seconds(retry_after)
        if seconds is not None:
            return NetBoxThrottled(detail=detail, applied=applied, retry_after=seconds)
    if isinstance(body, dict) and "exception" in body:
        return NetBoxBroken(detail=detail)
    return NetBoxUnavailable(detail=detail, applied=applied, timed_out=timed_out)


def _seconds(retry_after: str | None) -> int | None:
    """Retry-After in its form of delay-seconds (RFC 9110, section 10.2.3), at least 1; None for a date or garbage."""
    if retry_after is None or not re.fullmatch(r"[0-9]{1,5}", retry_after.strip()):
        return None
    return max(1, int(retry_after))


def names_tags(body: Any) -> bool:
    """Whether NetBox refused the tags of a prefix, or of one in a list."""
    items = body if isinstance(body, list) else [body]
    return any(isinstance(item, dict) and "tags" in item for item in items)
