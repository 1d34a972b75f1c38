"""How full the zones are: sizes of the containers, registrations and pool of the storage, and what is taken in NetBox
as the pictures of the containers show it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple, get_args

from ipam_lib.addresses import network
from ipam_lib.models import IPFamily, PoolState
from ipam_lib.netbox.base import Container, SpaceUse
from ipam_lib.registry.context import Context
from ipam_lib.registry.quotas import QuotaUse
from ipam_lib.storage.pool_store import PoolKey

SECONDS_BETWEEN_COUNTS: Final = 15.0


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A container, and its use in NetBox; None while that is not known completely."""

    container: Container
    space: SpaceUse | None = None


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """How full a zone is, in addresses of one family.

    `size`: addresses of all containers; an address in two containers of one VRF counts once. `used`: registrations, in
    any state. `reserved`: addresses that the pool holds. `containers`: ascending by address.

    The others are None while they are not known. `free`: addresses that can be the next free address of the zone.
    `other_prefixes`: addresses in prefixes of other systems. `other_addresses`: addresses in no prefix, but an IP
    address or in an IP range. `as_of`: the time of the reading of NetBox that these three show; of the oldest one, if
    the zone has several containers.
    """

    ip_family: IPFamily
    size: int
    used: int
    reserved: int
    containers: Sequence[ContainerUse] = ()
    free: int | None = None
    other_prefixes: int | None = None
    other_addresses: int | None = None
    as_of: datetime | None = None


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
    return zone_uses(context, used, await context.store.pool_counts(), quotas)


def zone_uses(
    context: Context,
    used: Mapping[tuple[str, IPFamily], int],
    pool: Mapping[PoolKey, int],
    quotas: Sequence[QuotaUse],
) -> list[ZoneUse]:
    """The same, from the numbers of registrations and of pool entries."""
    reserved: Counter[tuple[str, str]] = Counter()
    for key, number in pool.items():
        if key.state is not PoolState.CLAIMED:
            reserved[key.zone, key.ip_family] += number
    names = dict.fromkeys((*context.zones.names, *sorted({zone for zone, _ in used})))
    inner = _inner_containers(context.zones.all_containers())
    found = []
    for name in names:
        families = []
        for family in get_args(IPFamily):
            number = used.get((name, family), 0)
            containers = [
                ContainerUse(one, context.netbox.space_use(one, inner.get(one.id, ())))
                for one in context.zones.containers(name, family)
            ]
            if containers or number:
                families.append(_family_use(family, number, reserved[name, family], containers))
        found.append(ZoneUse(name, families, [use for use in quotas if use.zone == name]))
    return found


def _family_use(family: IPFamily, used: int, reserved: int, containers: Sequence[ContainerUse]) -> FamilyUse:
    size = _size(one.container for one in containers)
    # NetBox may have the same prefix twice in one VRF. The one that is not marked as utilized has free addresses.
    distinct: dict[tuple[int | None, str], SpaceUse] = {}
    for one in containers:
        if one.space is None:
            return FamilyUse(family, size, used, reserved, containers)
        key = (one.container.vrf_id, one.container.prefix)
        if key not in distinct or distinct[key].free < one.space.free:
            distinct[key] = one.space
    spaces = distinct.values()
    ip_addresses = sum(one.ip_addresses for one in spaces)
    # A container inside another one is a prefix there. The difference counts its addresses once.
    other_prefixes = size - ip_addresses - sum(one.own + one.unused for one in spaces)
    return FamilyUse(
        family,
        size,
        used,
        reserved,
        containers,
        free=sum(one.free for one in spaces),
        # The pictures of two such containers are not of the same moment.
        other_prefixes=max(0, other_prefixes),
        other_addresses=ip_addresses if all(one.ip_addresses_known for one in spaces) else None,
        as_of=min((one.as_of for one in spaces if one.as_of is not None), default=None),
    )


class _Place(NamedTuple):
    """A container's VRF (-1: the global table), family, and first and last address. Sorts before those inside it."""

    vrf: int
    version: int
    first: int
    minus_last: int

    def contains(self, other: _Place) -> bool:
        """Whether the other place, which sorts behind this one, lies inside it."""
        return self[:2] == other[:2] and -other.minus_last <= -self.minus_last


@lru_cache(maxsize=10_000)
def _ends(prefix: str) -> tuple[int, int, int]:
    net = network(prefix)
    return net.version, int(net.network_address), -int(net.broadcast_address)


def _place(container: Container) -> _Place:
    return _Place(-1 if container.vrf_id is None else container.vrf_id, *_ends(container.prefix))


def _inner_containers(containers: Iterable[Container]) -> Mapping[int, Sequence[Container]]:
    """The containers directly inside each container, by its NetBox ID; of equal ones, one is enough."""
    equal: dict[_Place, list[Container]] = {}
    for one in containers:
        equal.setdefault(_place(one), []).append(one)
    inner: dict[int, list[Container]] = {}
    around: list[_Place] = []
    for place in sorted(equal):
        while around and not around[-1].contains(place):
            around.pop()
        for outer in equal[around[-1]] if around else ():
            inner.setdefault(outer.id, []).append(equal[place][0])
        around.append(place)
    return inner


def _size(containers: Iterable[Container]) -> int:
    size = 0
    outer: _Place | None = None
    for place in sorted(map(_place, containers)):
        if outer is None or not outer.contains(place):
            outer = place
            size += 1 - place.minus_last - place.first
    return size
