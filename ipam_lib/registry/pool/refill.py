"""Refill the pool: create addresses in NetBox ahead of demand, in bulk.

Like a registration, an entry is stored before its prefix is created. Its new ID becomes the `k8s_uuid` of the prefix.
The worker that creates the prefix has a lease. After a crash, this ID finds the prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ipam_lib.addresses import same
from ipam_lib.errors import ContainerFull, ContainerGone, NetBoxRejected, NetBoxUnavailable, StoreConflict
from ipam_lib.models import PoolEntry, PoolState, Registration, pool_placeholder
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline
from ipam_lib.registry.pool import drop

log = logging.getLogger(__name__)


async def fill(context: Context, containers: Sequence[Container], missing: int) -> int:
    """Make up to `missing` addresses of the containers ready. All containers belong to one zone and family. Returns how
    many were made; fewer if the containers are full.

    Raises Unavailable; the worker drops the unfinished entries later.
    """
    made = 0
    for container in containers:
        while made < missing:
            number = await _make(context, container, min(missing - made, context.settings.batch))
            made += number
            if not number:
                break
    return made


async def _make(context: Context, container: Container, number: int) -> int:
    """Create one list of addresses in one container: `number`, or as many as fit."""
    deadline = context.deadline()
    ids = [context.new_id() for _ in range(number)]
    entries = [
        PoolEntry(
            id=one,
            zone=container.zone,
            ip_family=container.ip_family,
            address=pool_placeholder(one),
            state=PoolState.MAKING,
            lease_until=context.lease(),
        )
        for one in ids
    ]
    await context.store.pool_insert(entries)
    try:
        prefixes = await _create(context, container, entries, deadline)
    except NetBoxUnavailable as error:
        if error.applied:
            # NetBox may have created the prefixes, or may still create them. Use those that are there; the worker
            # searches for the others after the end of the lease.
            found = await context.netbox.find_by_uuid(ids, limit=deadline.call_limit())
            await _store(context, container, entries, found, deadline)
        else:
            await _forget(context, entries, deadline)
        raise
    except NetBoxRejected:
        await _forget(context, entries, deadline)
        raise
    await _forget(context, entries[len(prefixes) :], deadline)
    return await _store(context, container, entries, prefixes, deadline)


async def _create(
    context: Context, container: Container, entries: Sequence[PoolEntry], deadline: Deadline
) -> list[Prefix]:
    """Create as many of the prefixes as fit. NetBox refuses a list that does not fit, so the list is halved until it
    fits."""
    number = len(entries)
    while number:
        try:
            ids = [one.id for one in entries[:number]]
            limit = deadline.limit_until(entries[0].lease_until)
            return await context.netbox.create_next_many(container, ids, limit=limit, reserved=True)
        except ContainerFull:
            number //= 2
        except ContainerGone:
            log.warning("container %s of zone %s is gone from NetBox", container.prefix, container.zone)
            return []
    return []


async def _forget(context: Context, entries: Sequence[PoolEntry], deadline: Deadline) -> None:
    """Delete entries for which NetBox certainly created nothing."""
    for entry in entries:
        await writes.pool_delete(context, entry, deadline)


async def _store(
    context: Context,
    container: Container,
    entries: Sequence[PoolEntry],
    prefixes: Sequence[Prefix],
    deadline: Deadline,
) -> int:
    """Store the prefixes in their entries. Returns how many are ready. If an address belongs to a registration (its
    prefix was deleted in NetBox, so the address was free there), that registration gets the entry. If NetBox has
    something else on an address, the entry is dropped."""
    if not prefixes:
        return 0
    by_uuid = {one.uuid: one for one in prefixes}
    zone = entries[0].zone
    registered = await context.store.find_address(zone=zone, addresses=[one.prefix for one in prefixes])
    holders = {one.address: one for one in registered if not one.duplicate}
    made = 0
    for entry in entries:
        prefix = by_uuid.get(entry.id)
        if prefix is None:
            continue
        if (other := await context.netbox.conflict(container, prefix, limit=deadline.call_limit())) is not None:
            log.info("%s is taken by %s: the pool gives it back", prefix.prefix, other)
            dropping = entry.changed(PoolState.DROPPING, netbox_id=prefix.id, lease_until=None)
            await writes.pool_replace(context, entry, dropping, deadline)
            continue
        made += await _keep(context, entry, prefix, holders.get(prefix.prefix), deadline)
    return made


async def _keep(
    context: Context, entry: PoolEntry, prefix: Prefix, holder: Registration | None, deadline: Deadline
) -> bool:
    known = replace(entry, address=prefix.prefix, netbox_id=prefix.id, lease_until=None)
    kept = known.changed(PoolState.CLAIMED, registration_id=holder.id) if holder else known.changed(PoolState.READY)
    for attempt in range(2):
        try:
            return await writes.pool_replace(context, entry, kept, deadline) and kept.state is PoolState.READY
        except StoreConflict:
            if attempt or not await _make_room(context, entry.zone, prefix.prefix, deadline):
                break
    await writes.pool_replace(
        context, entry, entry.changed(PoolState.DROPPING, netbox_id=prefix.id, lease_until=None), deadline
    )
    return False


async def _make_room(context: Context, zone: str, address: str, deadline: Deadline) -> bool:
    """NetBox gave an address that is already in the pool. Drop the old entry if its prefix is gone. True if the address
    is available now."""
    standing = await context.store.pool_find_address(zone=zone, address=address)
    if standing is None:
        return True
    if standing.state in (PoolState.READY, PoolState.COOLING) and standing.netbox_id is not None:
        found = await context.netbox.get_many([standing.netbox_id], limit=deadline.call_limit())
        if any(one.uuid == standing.id and same(one.prefix, address) for one in found):
            return False
        dropping = standing.changed(PoolState.DROPPING)
        if not await writes.pool_replace(context, standing, dropping, deadline):
            return False
        standing = dropping
    return standing.state is PoolState.DROPPING and bool(await drop.drop(context, [standing], deadline))
