"""The calls that only read. They are repeated while NetBox is unavailable and there is time.

What is relied on was observed with NetBox 4.6; what is sent back is never believed without a look. In particular NetBox
ignores filters that it does not know and then returns everything, and compares text custom fields as substrings, so
every filter is applied once more here.
"""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from ipam_lib.addresses import contains, network
from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container, NetBox, Prefix
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.responses import REJECTED
from ipam_lib.netbox.transport import Budget, Params, Transport

log = logging.getLogger(__name__)

T = TypeVar("T")

PREFIXES = "api/ipam/prefixes/"
CHOICE_SET = "k8s_zone_choices"

PAGE = 1000
MOST_PAGES = 10_000
# 50 ids of 24 digits make 2 KiB of URL; gunicorn, which NetBox runs under, takes 4 KiB.
IDS_IN_URL = 50


class ReadingClient(NetBox, ABC):
    """The reading half of the client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._told_of_ignored_filter = False

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        host = str(network(address))
        # Not present_in_vrf_id: that fails (500) for the global table.
        params = [("contains", host), ("vrf_id", _vrf(container)), ("fields", payloads.PREFIX_FIELDS)]
        found = await self._prefixes("covering", params, self._transport.budget(limit))
        return [one for one in found if one.vrf_id == container.vrf_id and contains(one.prefix, host)]

    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        budget = self._transport.budget(limit)
        found: dict[int, Prefix] = {}
        for wanted in chunks(dict.fromkeys(uuids), IDS_IN_URL):
            # Values of one filter are alternatives, whether the field's filter logic is exact or loose (substrings).
            params = [(f"cf_{payloads.UUID_FIELD}", uuid) for uuid in wanted]
            params.append(("fields", payloads.PREFIX_FIELDS))
            for one in await self._prefixes("find_by_uuid", params, budget):
                if one.uuid in wanted:
                    found[one.id] = one
                elif one.uuid is None and not self._told_of_ignored_filter:
                    self._told_of_ignored_filter = True
                    log.warning(
                        "NetBox ignores the filter on %s: set the filter logic of that custom field to exact",
                        payloads.UUID_FIELD,
                    )
        return list(found.values())

    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        return await self._get_many(prefix_ids, self._transport.budget(limit))

    async def _get_many(self, prefix_ids: Sequence[int], budget: Budget) -> list[Prefix]:
        found: dict[int, Prefix] = {}
        for wanted in chunks(dict.fromkeys(prefix_ids), IDS_IN_URL):
            params = [("id", str(prefix_id)) for prefix_id in wanted]
            params.append(("fields", payloads.PREFIX_FIELDS))
            for one in await self._prefixes("get_many", params, budget):
                if one.id in wanted:
                    found[one.id] = one
        return list(found.values())

    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        budget = self._transport.budget(limit)
        params = [("within", container.prefix), ("vrf_id", _vrf(container)), ("fields", payloads.PREFIX_FIELDS)]
        async for items in self._pages("list_prefixes", PREFIXES, params, budget, start=after + 1):
            inside = [
                one
                for one in read_all("list_prefixes", items, payloads.prefix)
                if one.vrf_id == container.vrf_id
                and one.prefix != container.prefix
                and contains(container.prefix, one.prefix)
            ]
            if inside:
                return inside
        return []

    async def status(self, *, limit: float) -> dict[str, Any]:
        """NetBox's account of itself: `netbox-version` and more. Needs a valid token."""
        budget = self._transport.budget(limit)
        answer = await self._transport.call("status", "GET", "api/status/", budget=budget, repeat=True)
        if not isinstance(answer.body, dict) or not isinstance(answer.body.get("netbox-version"), str):
            raise unexpected_response("status", UnexpectedResponse("no netbox-version"))
        return answer.body

    async def tag_id(self, name: str, *, limit: float) -> int | None:
        """The id of the tag of exactly this name, or None."""
        return await self._find_tag(name, self._transport.budget(limit))

    async def choices(self, *, limit: float) -> list[str]:
        """The zones: the choices of the choice set `k8s_zone_choices`, in its order.

        Raises NetBoxRejected when there is no such choice set, or the token may not view it.
        """
        budget = self._transport.budget(limit)
        found = await self._named("choices", "api/extras/custom-field-choice-sets/", CHOICE_SET, budget)
        if found is None:
            raise set_up_missing(
                f"choices: there is no choice set {CHOICE_SET!r} in NetBox that the token may view: create it"
                " (netbox-setup does), or give the token's user the right"
            )
        return read_all("choices", [found], payloads.choices)[0]

    async def containers(self, zone: str | None = None, *, limit: float) -> list[Container]:
        """Every container prefix that carries a zone, or this zone; by ascending id."""
        name = f"cf_{payloads.ZONE_FIELD}"
        wanted = (f"{name}__empty", "false") if zone is None else (name, zone)
        params = [("status", "container"), wanted, ("fields", payloads.CONTAINER_FIELDS)]
        found: list[Container] = []
        async for items in self._pages("containers", PREFIXES, params, self._transport.budget(limit), start=0):
            for item, one in zip(items, read_all("containers", items, payloads.prefix), strict=True):
                if one.is_container and one.zone is not None and zone in (None, one.zone):
                    found += read_all("containers", [item], payloads.container)
        return found

    async def _find_tag(self, name: str, budget: Budget) -> int | None:
        found = await self._named("tag", "api/extras/tags/", name, budget)
        return None if found is None else read_all("tag", [found], payloads.id_of)[0]

    async def _named(self, operation: str, path: str, name: str, budget: Budget) -> Any:
        """The object of exactly this name, or None. Names are unique in NetBox, so there is one page."""
        params = [("name", name)]
        answer = await self._transport.call(operation, "GET", path, budget=budget, params=params, repeat=True)
        items, _, _ = read_all(operation, [answer.body], payloads.page)[0]
        return next((item for item in items if isinstance(item, dict) and item.get("name") == name), None)

    async def _prefixes(self, operation: str, params: Params, budget: Budget) -> list[Prefix]:
        return [
            prefix
            async for items in self._pages(operation, PREFIXES, params, budget, start=0)
            for prefix in read_all(operation, items, payloads.prefix)
        ]

    async def _pages(
        self, operation: str, path: str, params: Params, budget: Budget, *, start: int
    ) -> AsyncIterator[list[Any]]:
        """The pages of a listing, by ascending id, none of them empty. `next` only tells whether there are more: where
        to is worked out here (it names the host that NetBox believes to be, not the one that was asked)."""
        for _ in range(MOST_PAGES):
            paging = [*params, ("start", str(start)), ("limit", str(PAGE))]
            answer = await self._transport.call(operation, "GET", path, budget=budget, params=paging, repeat=True)
            items, more, by_id = read_all(operation, [answer.body], payloads.page)[0]
            ids = read_all(operation, items, payloads.id_of)
            if not by_id or any(one < start for one in ids):
                raise set_up_missing(f"{operation}: NetBox does not page by id; it must be version 4.6 or newer")
            if items:
                yield items
            if not items or not more:
                return
            start = max(ids) + 1
        raise NetBoxUnavailable(detail=f"{operation}: a listing of more than {MOST_PAGES} pages")


def read_all(operation: str, items: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Each of `items` through `read`. Raises NetBoxUnavailable where that raises UnexpectedResponse."""
    try:
        return [read(item) for item in items]
    except UnexpectedResponse as error:
        raise unexpected_response(operation, error) from None


def unexpected_response(operation: str, error: UnexpectedResponse) -> NetBoxUnavailable:
    """NetBox answered, but not to what was asked: what it did, if anything, is unknown."""
    detail = f"{operation}: not what was asked for: {error}"
    log.warning("NetBox call failed: %s", detail, extra={"operation": operation})
    return NetBoxUnavailable(detail=detail)


def set_up_missing(detail: str) -> NetBoxRejected:
    """NetBox lacks something that this service needs; `detail` says what to do about it."""
    log.warning("NetBox is not set up: %s", detail)
    return NetBoxRejected(REJECTED, detail=detail)


def chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """`items` in lists of at most `size`."""
    everything = list(items)
    return (everything[at : at + size] for at in range(0, len(everything), size))


def _vrf(container: Container) -> str:
    """The value of the filter `vrf_id`."""
    return "null" if container.vrf_id is None else str(container.vrf_id)
