"""Drop pool entries: delete the prefix in NetBox, then the entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ipam_lib.addresses import is_host, same
from ipam_lib.models import PoolEntry, PoolState, State
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline


def is_overdue(context: Context, entry: PoolEntry) -> bool:
    """Whether the cooldown of the entry has ended, or the lease of its creation ended one longest request ago."""
    now = context.clock.now()
    if entry.state is PoolState.COOLING:
        return entry.cooldown_until is None or entry.cooldown_until <= now
    extra_time = timedelta(seconds=context.settings.longest_request)
    return entry.state is PoolState.MAKING and (entry.lease_until is None or entry.lease_until + extra_time < now)


async def drop(context: Context, entries: Sequence[PoolEntry], deadline: Deadline) -> int:
    """Delete the prefixes of entries that are `dropping`, in bulk, then the entries. Returns how many entries this call
    deleted.

    Raises Unavailable; the remaining entries stay `dropping`.
    """
    holders = {
        one.id: one
        for one in await context.store.get_many([one.registration_id for one in entries if one.registration_id])
    }
    going: list[PoolEntry] = []
    for entry in entries:
        holder = holders.get(entry.registration_id or "")
        if holder is not None and holder.state is State.LIVE and holder.netbox_id == entry.netbox_id:
            # The registration names this prefix after all.
            await writes.pool_replace(context, entry, entry.changed(PoolState.CLAIMED), deadline)
        else:
            going.append(entry)
    to_delete = await _prefixes_of(context, going, deadline)
    if to_delete:
        await context.netbox.delete_many(to_delete, limit=deadline.call_limit())
    return sum([await writes.pool_delete(context, entry, deadline) for entry in going])


async def _prefixes_of(context: Context, entries: Sequence[PoolEntry], deadline: Deadline) -> list[Prefix]:
    """The prefixes of these entries, by `k8s_uuid` and by NetBox ID. A prefix that a registration had before may still
    have that registration's ID."""
    if not entries:
        return []
    found = await context.netbox.find_by_uuid([one.id for one in entries], limit=deadline.call_limit())
    if named := [one.netbox_id for one in entries if one.netbox_id is not None]:
        found += await context.netbox.get_many(named, limit=deadline.call_limit())
    by_id = {prefix.id: prefix for prefix in found}
    return [prefix for prefix in by_id.values() if any(_is_of(prefix, entry) for entry in entries)]


def _is_of(prefix: Prefix, entry: PoolEntry) -> bool:
    if prefix.is_container:
        return False
    if prefix.uuid == entry.id:
        return is_host(prefix.prefix) or same(prefix.prefix, entry.address)
    theirs = entry.registration_id is not None and prefix.uuid == entry.registration_id
    return theirs and prefix.id == entry.netbox_id and same(prefix.prefix, entry.address)
