"""Claims: the pool entries that a creation takes, and that a release finds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ipam_lib.addresses import same
from ipam_lib.errors import AddressHeld, Unavailable
from ipam_lib.models import PoolEntry, PoolState, Registration, State
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline

log = logging.getLogger(__name__)


async def claim_exactly(context: Context, own: Registration, deadline: Deadline) -> PoolEntry | None:
    """Claim the pool entry of the registration's address. None if the pool does not have it, or cannot give it now.

    Raises AddressHeld if the address is in its cooldown, Unavailable.
    """
    entry = await context.store.pool_find_address(zone=own.zone, address=own.address)
    if entry is None:
        return None
    if entry.state is PoolState.COOLING and entry.cooldown_until is not None:
        raise AddressHeld(own.address, entry.cooldown_until)
    if entry.state is PoolState.CLAIMED and entry.registration_id == own.id:
        return entry
    if entry.state is not PoolState.READY and not (
        entry.state is PoolState.CLAIMED and await is_unused(context, entry)
    ):
        return None
    claimed = entry.changed(PoolState.CLAIMED, registration_id=own.id, lease_until=None)
    return claimed if await writes.pool_replace(context, entry, claimed, deadline) else None


def is_leased(context: Context, entry: PoolEntry) -> bool:
    """Whether a worker may be writing to the entry's prefix in NetBox now."""
    return entry.lease_until is not None and entry.lease_until > context.clock.now()


async def is_unused(context: Context, entry: PoolEntry) -> bool:
    """Whether the registration that claimed the entry will never have its address."""
    if is_leased(context, entry):
        return False
    holder = None if entry.registration_id is None else await context.store.get(entry.registration_id)
    return not may_have(holder, entry)


def may_have(holder: Registration | None, entry: PoolEntry) -> bool:
    """Whether this registration has the address of the entry, or may still get it."""
    return holder is not None and (holder.state is not State.LIVE or same(holder.address, entry.address))


async def pass_on(context: Context, entry: PoolEntry, deadline: Deadline) -> bool:
    """Pass a claimed entry on to the registration that has its address. False if no registration has it any more.

    If that registration is live and its own prefix is gone from NetBox, the worker gives it this prefix. Otherwise the
    worker drops the entry, or puts it back when that registration ends.

    Raises Unavailable.
    """
    found = await context.store.find_address(zone=entry.zone, addresses=[entry.address])
    holder = next((one for one in found if not one.duplicate), None)
    if holder is None:
        return False
    await writes.pool_replace(context, entry, entry.changed(PoolState.CLAIMED, registration_id=holder.id), deadline)
    return True


async def entries_of(context: Context, registrations: Sequence[Registration]) -> dict[str, list[PoolEntry]]:
    """The pool entries of these registrations at their addresses, by registration ID. Raises StorageUnavailable."""
    by_id = {one.id: one for one in registrations}
    entries: dict[str, list[PoolEntry]] = {one.id: [] for one in registrations}
    for entry in await context.store.pool_find_by(list(by_id)):
        if entry.registration_id is not None and same(entry.address, by_id[entry.registration_id].address):
            entries[entry.registration_id].append(entry)
    return entries


async def delete_released(context: Context, entry: PoolEntry, deadline: Deadline) -> None:
    """Delete an entry whose prefix was deleted at the release of its registration, before the registration is deleted.

    Raises Unavailable if the entry has just changed: if it stayed, the worker would put it back without a prefix.
    """
    if not await writes.pool_delete(context, entry, deadline) and await context.store.pool_get_many([entry.id]):
        raise Unavailable(f"the pool's entry of {entry.address} has just changed; try again")
