"""Listings of NetBox's REST API, page by page in ascending order of id, with every page checked.

NetBox ignores filters that it does not know and then returns everything, so a page is never taken on trust. The query
`id__gte=S&ordering=id` pages by id on NetBox 3.7 to 4.6; rows that are deleted meanwhile do not shift the others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from typing import Any, TypeVar

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox import payloads
from ipam_lib.netbox.payloads import Page, UnexpectedResponse
from ipam_lib.netbox.responses import REJECTED, NetBoxUnexpected
from ipam_lib.netbox.transport import Budget, Params, Transport

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 1000
MOST_PAGES = 100_000
# NetBox counts the rows and selects them in two steps; a row deleted in between makes the page contradict itself.
READINGS_OF_A_PAGE = 3


async def pages(
    transport: Transport, operation: str, path: str, params: Params, budget: Budget, *, first_id: int = 0
) -> AsyncIterator[list[Any]]:
    """The pages of a listing from `first_id` on, none of them empty, ids ascending over all of them.

    `next` only says whether there are more rows: its URL has the host that NetBox believes itself to be, so this
    program never follows it.

    Raises NetBoxUnavailable where a page contradicts itself, repeats rows or is out of order: such a listing is not
    complete, and what it lacks may exist.
    """
    for _ in range(MOST_PAGES):
        page = await _consistent_page(transport, operation, path, params, budget, first_id)
        if page.items:
            yield page.items
        if not page.more:
            return
        first_id = payloads.id_of(page.items[-1]) + 1
    raise NetBoxUnavailable(detail=f"{operation}: a listing of more than {MOST_PAGES} pages")


async def _consistent_page(
    transport: Transport, operation: str, path: str, params: Params, budget: Budget, first_id: int
) -> Page:
    paging = [*params, ("id__gte", str(first_id)), ("ordering", "id"), ("limit", str(PAGE))]
    problem = ""
    for _ in range(READINGS_OF_A_PAGE):
        answer = await transport.call(operation, "GET", path, budget=budget, params=paging, repeat=True)
        [page] = read_all(operation, [answer.body], payloads.page)
        problem = _problem(page, read_all(operation, page.items, payloads.id_of), first_id)
        if not problem:
            return page
    raise unexpected_response(operation, UnexpectedResponse(problem))


def _problem(page: Page, ids: list[int], first_id: int) -> str:
    """Why the page cannot be part of a complete listing; empty when it can."""
    if any(one < first_id for one in ids) or any(one >= other for one, other in pairwise(ids)):
        return f"a page that is not in ascending order of id from {first_id} on"
    if page.more and not ids:
        return "an empty page that says that there are more rows"
    if page.count is not None and (page.count > len(ids)) != page.more:
        return f"a page of {len(ids)} rows of {page.count} that says that there are {'' if page.more else 'no '}more"
    return ""


async def find_named(transport: Transport, operation: str, path: str, name: str, budget: Budget) -> Any:
    """The object of exactly this name, or None. Names are unique in NetBox, so one page suffices."""
    answer = await transport.call(operation, "GET", path, budget=budget, params=[("name", name)], repeat=True)
    [page] = read_all(operation, [answer.body], payloads.page)
    return next((item for item in page.items if isinstance(item, dict) and item.get("name") == name), None)


def read_all(operation: str, items: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Each of `items` through `read`. Raises NetBoxUnavailable where `read` raises UnexpectedResponse."""
    try:
        return [read(item) for item in items]
    except UnexpectedResponse as error:
        raise unexpected_response(operation, error) from None


def unexpected_response(operation: str, error: UnexpectedResponse) -> NetBoxUnexpected:
    """The error for an answer that does not fit the request."""
    detail = f"{operation}: NetBox's answer does not fit the request: {error}"
    log.warning("NetBox call failed: %s", detail, extra={"operation": operation})
    return NetBoxUnexpected(detail=detail)


def set_up_missing(detail: str) -> NetBoxRejected:
    """The error for something that NetBox lacks; `detail` says what to do."""
    log.warning("NetBox is not set up: %s", detail)
    return NetBoxRejected(REJECTED, detail=detail)


def chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """`items` in lists of at most `size`."""
    everything = list(items)
    return (everything[at : at + size] for at in range(0, len(everything), size))
