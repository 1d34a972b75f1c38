"""How full the zones are: sizes from the containers, counts from the storage."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

from ipam_lib.addresses import IPNetwork, network
from ipam_lib.models import IPFamily, PoolState
from ipam_lib.netbox.base import Container
from ipam_lib.registry.context import Context
from ipam_lib.registry.quotas import QuotaUse
from ipam_lib.storage.pool_store import PoolKey

SECONDS_BETWEEN_COUNTS: Final = 15.0


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """How full a zone is, in addresses of one family.

    `size`: addresses of all containers; an address in two containers of one VRF counts once. `used`: registrations, in
    any state. `reserved`: addresses that the pool holds. `containers`: ascending by address.
    """

    ip_family: IPFamily
    size: int
    used: int
    reserved: int
    containers: Sequence[Container]

    @property
    def free(self) -> int:
        """Addresses that are neither used nor reserved, never below 0. Addresses that others have taken in NetBox are
        not known here; they count as free."""
        return max(0, self.size - self.used - self.reserved)


@dataclass(frozen=True, slots=True)
class ZoneUse:
    """How full a zone is. A family with neither containers nor registrations is left out. `quotas`: the use of its
    quotas at the last count of the statistics; empty without quotas, and before the first count."""

    zone: str
    families: Sequence[FamilyUse]
    quotas: Sequence[QuotaUse] = ()


class CachedCounts:
    """The number of registrations by zone and family, counted at most once in `SECONDS_BETWEEN_COUNTS` for all
    requests."""

    def __init__(self) -> None:
        self._counting = asyncio.Lock()
        self._counts: Mapping[tuple[str, IPFamily], int] = {}
        self._counted_at: float | None = None

    async def read(self, context: Context) -> Mapping[tuple[str, IPFamily], int]:
        """The counts, at most `SECONDS_BETWEEN_COUNTS` old.

        Raises StorageUnavailable.
        """
        async with self._counting:
            now = context.clock.monotonic()
            if self._counted_at is None or now - self._counted_at >= SECONDS_BETWEEN_COUNTS:
                self._counts = await context.store.counts()
                self._counted_at = now
            return self._counts


async def zones(context: Context, cached_counts: CachedCounts, quotas: Sequence[QuotaUse]) -> list[ZoneUse]:
    """How full every zone is, in the order of NetBox's choice set, then the zones that only registrations name.

    `quotas`: the use of every quota, as counted last.

    Raises StorageUnavailable.
    """
    used = await cached_counts.read(context)
    found = zone_uses(context, used, await context.store.pool_counts())
    return [replace(one, quotas=[use for use in quotas if use.zone == one.zone]) for one in found]


def zone_uses(context: Context, used: Mapping[tuple[str, IPFamily], int], pool: Mapping[PoolKey, int]) -> list[ZoneUse]:
    """The same, from the numbers of registrations and of pool entries."""
    reserved: Counter[tuple[str, str]] = Counter()
    for key, number in pool.items():
        if key.state is not PoolState.CLAIMED:
            reserved[key.zone, key.ip_family] += number
    names = dict.fromkeys((*context.zones.names, *sorted({zone for zone, _ in used})))
    return [
        ZoneUse(
            name,
            [
                FamilyUse(family, _size(containers), number, reserved[name, family], containers)
                for family in get_args(IPFamily)
                if (containers := context.zones.containers(name, family)) or used.get((name, family))
                for number in (used.get((name, family), 0),)
            ],
        )
        for name in names
    ]


def _size(containers: Iterable[Container]) -> int:
    by_vrf: dict[int | None, list[IPNetwork]] = {}
    for one in containers:
        by_vrf.setdefault(one.vrf_id, []).append(network(one.prefix))
    size = 0
    for networks in by_vrf.values():
        for each in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]
            size += each.num_addresses
    return size
