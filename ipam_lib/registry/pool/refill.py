"""Filling the pool: addresses created in NetBox ahead of demand, in bulk.

Like a registration, an entry is stored before NetBox is asked, under a fresh id that its prefix then bears, and whoever
makes it holds a lease. What is left behind is found by that id.
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
    """Make up to `missing` addresses of the containers (of one zone and family) ready; how many were made. Fewer where
    the containers are full.

    Raises Unavailable; what was begun is then ended later.
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
    """One list of addresses of one container: `number`, or as many as still fit."""
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
            # It may have happened, or may happen yet: what is there by now is used, the rest looked for again when the
            # lease is over.
            found = await context.netbox.find_by_uuid(ids, limit=deadline.call_limit())
            await _store(context, entries, found, deadline)
        else:
            await _forget(context, entries, deadline)
        raise
    except NetBoxRejected:
        await _forget(context, entries, deadline)
        raise
    await _forget(context, entries[len(prefixes) :], deadline)
    return await _store(context, entries, prefixes, deadline)


async def _create(
    context: Context, container: Container, entries: Sequence[PoolEntry], deadline: Deadline
) -> list[Prefix]:
    """As many of the prefixes as fit: half as many again and again, since a list that does not fit is refused whole."""
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
    """Remove entries for which surely nothing was made."""
    for entry in entries:
        await writes.pool_delete(context, entry, deadline)


async def _store(context: Context, entries: Sequence[PoolEntry], prefixes: Sequence[Prefix], deadline: Deadline) -> int:
    """Let the entries know their prefixes; how many are ready now. An address that is registered (somebody deleted its
    prefix in NetBox, so it was free there) is left to that registration."""
    if not prefixes:
        return 0
    by_uuid = {one.uuid: one for one in prefixes}
    zone = entries[0].zone
    registered = await context.store.find_address(zone=zone, addresses=[one.prefix for one in prefixes])
    holders = {one.address: one for one in registered if not one.duplicate}
    made = 0
    for entry in entries:
        prefix = by_uuid.get(entry.id)
        if prefix is not None:
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
    """NetBox gave an address that the pool has already: whether that entry, whose prefix is gone, has left it."""
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
