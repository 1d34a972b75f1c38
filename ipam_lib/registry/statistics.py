"""Counts of everything in the storage. A worker reads them for the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ipam_lib.models import IPFamily
from ipam_lib.registry import quotas, zone_usage
from ipam_lib.registry.context import Context
from ipam_lib.registry.quotas import QuotaUse
from ipam_lib.storage.pool_store import PoolKey
from ipam_lib.storage.usage import Usage


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts at one moment.

    `counted_at`: this moment, a value of the clock's `monotonic()`. `zones`: how full each zone is, with its quotas.
    `usage`: the
    contents of the storage, by zone and family. `pool`: the number of pool entries. `pool_wanted`: the number of ready
    addresses in the settings, for each zone and family that has such a setting. `quotas`: the use of every quota.
    """

    counted_at: float
    zones: Sequence[zone_usage.ZoneUse]
    usage: Mapping[tuple[str, IPFamily], Usage]
    pool: Mapping[PoolKey, int]
    pool_wanted: Mapping[tuple[str, IPFamily], int] = field(default_factory=dict)
    quotas: Sequence[QuotaUse] = ()


async def count(context: Context) -> Statistics:
    """Count everything. With a million registrations this takes seconds (see `Store.usage`).

    Raises StorageUnavailable.
    """
    usage = await context.store.usage()
    pool = await context.store.pool_counts()
    used = {place: sum(one.states.values()) for place, one in usage.items()}
    wanted = {
        (one.zone, one.ip_family): number
        for one in context.zones.all_containers()
        if (number := context.settings.warm_in(one.zone))
    }
    quota_uses = await quotas.use(context)
    zones = zone_usage.zone_uses(context, used, pool, quota_uses)
    return Statistics(context.clock.monotonic(), zones, usage, pool, wanted, quota_uses)
