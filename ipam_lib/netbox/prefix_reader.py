"""Look-ups of prefixes. Each filter is applied a second time to what NetBox returns (see `paging`): text custom fields
compare as substrings by default, and a filter that NetBox ignores returns everything."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ipam_lib.addresses import contains, network
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.paging import chunks, pages, read_all
from ipam_lib.netbox.transport import Budget, Params, Transport

log = logging.getLogger(__name__)

PREFIXES = "api/ipam/prefixes/"

# 50 ids of 24 digits make 2 KiB of URL; gunicorn, which NetBox runs under, takes 4 KiB.
IDS_IN_URL = 50
FIELDS = ("fields", payloads.PREFIX_FIELDS)


class PrefixReader:
    """The reads of `base.NetBox`, each within a budget. They are repeated while NetBox is unavailable.

    Every method raises NetBoxUnavailable and NetBoxRejected as `base.NetBox` says.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._warned_of_ignored_filter = False

    async def covering(self, container: Container, address: str, budget: Budget) -> list[Prefix]:
        """Every prefix in the container's VRF that contains the address or equals it."""
        host = str(network(address))
        # Not present_in_vrf_id: NetBox fails (500) on it for the global table.
        params = [("contains", host), ("vrf_id", vrf_filter(container)), FIELDS]
        found = await self._prefixes("covering", params, budget)
        return [one for one in found if one.vrf_id == container.vrf_id and contains(one.prefix, host)]

    async def find_by_uuid(self, uuids: Sequence[str], budget: Budget) -> list[Prefix]:
        """Every prefix whose `k8s_uuid` is exactly one of `uuids`."""
        found: dict[int, Prefix] = {}
        for wanted in chunks(dict.fromkeys(uuids), IDS_IN_URL):
            # Several values of one filter are alternatives, with a filter logic of exact and of loose.
            params = [*((f"cf_{payloads.UUID_FIELD}", uuid) for uuid in wanted), FIELDS]
            for one in await self._prefixes("find_by_uuid", params, budget):
                if one.uuid in wanted:
                    found[one.id] = one
                elif one.uuid is None and not self._warned_of_ignored_filter:
                    self._warned_of_ignored_filter = True
                    log.warning(
                        "NetBox ignores the filter on %s: set the filter logic of that custom field to exact",
                        payloads.UUID_FIELD,
                    )
        return list(found.values())

    async def get_many(self, prefix_ids: Sequence[int], budget: Budget) -> list[Prefix]:
        """Those of these prefixes that exist."""
        found: dict[int, Prefix] = {}
        for wanted in chunks(dict.fromkeys(prefix_ids), IDS_IN_URL):
            params = [*(("id", str(prefix_id)) for prefix_id in wanted), FIELDS]
            found |= {one.id: one for one in await self._prefixes("get_many", params, budget) if one.id in wanted}
        return list(found.values())

    async def list_prefixes(self, container: Container, after: int, budget: Budget) -> list[Prefix]:
        """The next page of what lies inside the container, with ids above `after`; empty at the end."""
        params = [("within", container.prefix), ("vrf_id", vrf_filter(container)), FIELDS]
        async for items in pages(self._transport, "list_prefixes", PREFIXES, params, budget, first_id=after + 1):
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

    async def _prefixes(self, operation: str, params: Params, budget: Budget) -> list[Prefix]:
        return [
            prefix
            async for items in pages(self._transport, operation, PREFIXES, params, budget)
            for prefix in read_all(operation, items, payloads.prefix)
        ]


def vrf_filter(container: Container) -> str:
    """The value of the filter `vrf_id`."""
    return "null" if container.vrf_id is None else str(container.vrf_id)
