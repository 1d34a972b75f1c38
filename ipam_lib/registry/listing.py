"""Reading what is registered: pages of registrations, one address, and how full the zones are. Nothing is changed, and
no secret leaves."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipam_lib.addresses import network
from ipam_lib.models import Filter, IPFamily, PoolState, Registration, State
from ipam_lib.netbox.base import Container
from ipam_lib.registry.context import Context
from ipam_lib.registry.cursors import from_cursor, to_cursor
from ipam_lib.storage.pool_store import PoolKey

_SHOWN: Final = frozenset({State.LIVE, State.RELEASING})
_FAMILIES: Final[tuple[IPFamily, ...]] = ("ipv4", "ipv6")
_ID_BYTES: Final = 12
SECONDS_BETWEEN_COUNTS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Page:
    """Registrations, lowest id first. `cursor` asks for the next page; None after the last."""

    registrations: Sequence[Registration]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """How full a zone is, in addresses of one family.

    `size`: of all containers together; what stands in two of the same VRF counts once. `used`: registrations, in
    whatever state. `reserved`: held by the pool. `free`: the rest; what others hold in NetBox is not known here, and
    counts as free. `containers`: ascending by address.
    """

    ip_family: IPFamily
    size: int
    used: int
    reserved: int
    containers: Sequence[Container]

    @property
    def free(self) -> int:
        """Addresses that are neither used nor reserved; never below 0."""
        return max(0, self.size - self.used - self.reserved)


@dataclass(frozen=True, slots=True)
class ZoneUse:
    """How full a zone is. Families that it has neither containers nor registrations of are left out."""

    zone: str
    families: Sequence[FamilyUse]


class CachedCounts:
    """How many registrations there are, by zone and family: counted at most every `SECONDS_BETWEEN_COUNTS`, once for
    everybody who asks meanwhile."""

    def __init__(self) -> None:
        self._counting = asyncio.Lock()
        self._counts: Mapping[tuple[str, IPFamily], int] = {}
        self._counted_at: float | None = None

    async def read(self, context: Context) -> Mapping[tuple[str, IPFamily], int]:
        """The counts, at most so old.

        Raises StorageUnavailable.
        """
        async with self._counting:
            now = context.clock.monotonic()
            if self._counted_at is None or now - self._counted_at >= SECONDS_BETWEEN_COUNTS:
                self._counts = await context.store.counts()
                self._counted_at = now
            return self._counts


async def addresses(context: Context, wanted: Filter, *, limit: int, cursor: str | None) -> Page:
    """One page of the registrations that fit, live or releasing, at most `limit`. The ids of cluster and namespace are
    taken in any case. Pages are stable: what is registered while they are read never shows a registration twice.

    Raises BadRequest for a cursor that is none, StorageUnavailable.
    """
    after = None if cursor is None else from_cursor(cursor, _ID_BYTES).hex()
    found: dict[str, Registration] = {}
    for cluster_id, namespace_id in itertools.product(_cases(wanted.cluster_id), _cases(wanted.namespace_id)):
        spelled = replace(wanted, cluster_id=cluster_id, namespace_id=namespace_id)
        page = await context.store.page(spelled, after=after, limit=limit + 1)
        found |= {one.id: one for one in page}
    first = [found[each] for each in sorted(found)[:limit]]
    return Page(first, to_cursor(bytes.fromhex(first[-1].id)) if len(found) > limit else None)


async def address(context: Context, spellings: Sequence[str], *, zone: str | None) -> list[Registration]:
    """The registrations on an address, live or releasing, given in each of its spellings: one for each zone that holds
    it (also its duplicates), lowest id first.

    Raises StorageUnavailable.
    """
    found = await context.store.find_address(zone=zone, addresses=spellings)
    return [one for one in found if one.state in _SHOWN]


async def zones(context: Context, cached_counts: CachedCounts) -> list[ZoneUse]:
    """How full every zone is, in the order of NetBox's choice set, then those that only registrations know.

    Raises StorageUnavailable.
    """
    used = await cached_counts.read(context)
    return zone_uses(context, used, await context.store.pool_counts())


def zone_uses(context: Context, used: Mapping[tuple[str, IPFamily], int], pool: Mapping[PoolKey, int]) -> list[ZoneUse]:
    """The same, out of the numbers of registrations and of pool entries."""
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
                for family in _FAMILIES
                if (containers := context.zones.containers(name, family)) or used.get((name, family))
                for number in (used.get((name, family), 0),)
            ],
        )
        for name in names
    ]


def _size(containers: Iterable[Container]) -> int:
    by_vrf: dict[int | None, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {}
    for one in containers:
        by_vrf.setdefault(one.vrf_id, []).append(network(one.prefix))
    size = 0
    for networks in by_vrf.values():
        for each in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]
            size += each.num_addresses
    return size


def _cases(text: str | None) -> list[str | None]:
    return [None] if text is None else list(dict.fromkeys((text, text.lower(), text.upper())))
