"""The zones and their containers, as NetBox has them: what `zones.ZoneCache` loads."""

from __future__ import annotations

from typing import Final

from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.definitions import CHOICE_SET, CHOICE_SETS
from ipam_lib.netbox.paging import find_named, pages, read_all, set_up_missing
from ipam_lib.netbox.prefix_reader import PREFIXES
from ipam_lib.netbox.transport import Transport

CONTAINERS: Final = (("status", "container"), ("fields", payloads.CONTAINER_FIELDS))


class ZoneReader:
    """Reads over one transport. `limit` is the longest time for a call, in seconds, repetitions included.

    Both methods raise NetBoxUnavailable where NetBox does not answer properly in time, NetBoxRejected where it refuses.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def url(self) -> str:
        """Where NetBox is, with a slash at the end."""
        return self._transport.url

    async def choices(self, *, limit: float) -> list[str]:
        """The zones: the choices of the choice set `k8s_zone_choices`, in its order.

        Raises NetBoxRejected also where there is no such choice set.
        """
        budget = self._transport.budget(limit)
        found = await find_named(self._transport, "choices", CHOICE_SETS, CHOICE_SET, budget)
        if found is None:
            raise set_up_missing(
                f"there is no choice set {CHOICE_SET!r} in NetBox that the token may view: create it (netbox-setup"
                " does), or give the token's user the right to view it"
            )
        return read_all("choices", [found], payloads.choices)[0]

    async def containers(self, *, limit: float) -> list[Container]:
        """Every container prefix that carries a zone, in ascending order of id.

        Containers without a zone are dropped here: the filter `cf_k8s_zone__empty` finds nothing before NetBox 4.4.
        """
        budget = self._transport.budget(limit)
        found: list[Container] = []
        async for items in pages(self._transport, "containers", PREFIXES, CONTAINERS, budget):
            for item, one in zip(items, read_all("containers", items, payloads.prefix), strict=True):
                if one.is_container and one.zone is not None:
                    found += read_all("containers", [item], payloads.container)
        return found
