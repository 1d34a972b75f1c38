"""Quotas: the number of addresses that a cluster or a namespace may have in a zone, both families together.

- An address counts once for a cluster, however many of its services share it. It counts from the insert of its
  registration until that is deleted.
- A request that would give a cluster or a namespace one address too many is refused. Registered services go on.
- On one instance the limit is exact: a lock is held from the count to the write. Instances do not know the locks of
  others, so several instances can exceed a limit by at most one address for each other instance.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ipam_lib.errors import QuotaExceeded
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import QuotaOwner, Registration, Request, ServiceKey
from ipam_lib.registry.context import Context
from ipam_lib.registry.quota_state import OWNERS

log = logging.getLogger(__name__)

NEARLY_USED: Final = 0.9


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """The use of a quota in a zone.

    `highest`: the number of addresses of the cluster (or namespace) that has most of them. `nearly_used`: the number of
    clusters (or namespaces) with at least 90 % of the limit.
    """

    owner: QuotaOwner
    zone: str
    limit: int
    highest: int
    nearly_used: int


@asynccontextmanager
async def admitted(context: Context, request: Request, registration: Registration | None = None) -> AsyncIterator[None]:
    """Admit one address for the cluster and the namespace of the request; write the registration inside the context.

    `registration`: the existing registration that the service joins. It adds no address for a cluster or namespace
    that has another service on it.

    Raises QuotaExceeded.
    """
    present = registration.services if registration is not None else ()
    async with AsyncExitStack() as stack:
        for owner in OWNERS:
            limit, owner_id = context.settings.quota(owner, request.zone), _id(request.key, owner)
            if not limit or any(_id(one.key, owner).lower() == owner_id.lower() for one in present):
                continue
            # All requests take the locks in the same order.
            await stack.enter_async_context(context.quotas.lock(owner, request.zone, owner_id))
            spellings = uuid_spellings(owner_id)
            if await context.store.count_owned(owner, spellings, zone=request.zone, limit=limit) >= limit:
                context.quotas.refused[owner] += 1
                raise QuotaExceeded(owner, owner_id, request.zone, limit)
        yield


async def use(context: Context) -> list[QuotaUse]:
    """The use of every quota, by zone. With a million registrations this takes seconds.

    Raises StorageUnavailable.
    """
    found = []
    for owner in OWNERS:
        zones = dict.fromkeys(context.zones.names)
        limits = {zone: limit for zone in zones if (limit := context.settings.quota(owner, zone))}
        if not limits:
            continue
        counts: dict[str, list[int]] = {zone: [] for zone in limits}
        for zone, number in _merged(await context.store.owned(owner)):
            if zone in counts:
                counts[zone].append(number)
        for zone, limit in limits.items():
            nearly = sum(number >= NEARLY_USED * limit for number in counts[zone])
            found.append(QuotaUse(owner, zone, limit, max(counts[zone], default=0), nearly))
    return found


def _merged(owned: Mapping[tuple[str, str], int]) -> Sequence[tuple[str, int]]:
    """The zone and the count of each owner, without regard to the case of its ID."""
    counts: Counter[tuple[str, str]] = Counter()
    for (zone, owner_id), number in owned.items():
        counts[zone, owner_id.lower()] += number
    return [(zone, number) for (zone, _), number in counts.items()]


def _id(key: ServiceKey, owner: QuotaOwner) -> str:
    return key.cluster_id if owner == "cluster" else key.namespace_id
