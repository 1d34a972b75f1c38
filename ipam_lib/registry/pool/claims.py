"""What creation and release have to do with the pool's entries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from ipam_lib.addresses import same
from ipam_lib.errors import AddressHeld, StoreConflict, Unavailable
from ipam_lib.models import PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline

log = logging.getLogger(__name__)


async def claim_exactly(context: Context, own: Registration, deadline: Deadline) -> PoolEntry | None:
    """The entry of the very address that stands in the registration, claimed by it; None when the pool has it not, or
    not to give away at this moment.

    Raises AddressHeld when the address has to cool down.
    """
    entry = await context.store.pool_find_address(zone=own.zone, address=own.address)
    if entry is None:
        return None
    if entry.state is PoolState.COOLING and entry.until is not None:
        raise AddressHeld(own.address, entry.until)
    if entry.state is PoolState.CLAIMED and entry.by == own.id:
        return entry
    if entry.state is not PoolState.READY and not (entry.state is PoolState.CLAIMED and await is_stray(context, entry)):
        return None
    claimed = entry.changed(PoolState.CLAIMED, by=own.id, lease_until=None)
    return claimed if await writes.pool_replace(context, entry, claimed, deadline) else None


def is_leased(context: Context, entry: PoolEntry) -> bool:
    """Whether somebody is writing to the entry's prefix in NetBox at this moment."""
    return entry.lease_until is not None and entry.lease_until > context.clock.now()


async def is_stray(context: Context, entry: PoolEntry) -> bool:
    """Whether the registration that claimed the entry will never have it."""
    if is_leased(context, entry):
        return False
    holder = None if entry.by is None else await context.store.get(entry.by)
    return not may_have(holder, entry)


def may_have(holder: Registration | None, entry: PoolEntry) -> bool:
    """Whether the address of an entry is, or may yet become, this registration's."""
    return holder is not None and (holder.state is not State.LIVE or same(holder.address, entry.address))


async def pass_on(context: Context, entry: PoolEntry, deadline: Deadline) -> bool:
    """Another registration stands on the address that was claimed: let it have the entry. (If it is live and its own
    prefix is gone from NetBox it takes this one; else the entry is dropped, or goes back when it ends.) False when
    nobody stands there any more."""
    found = await context.store.find_address(zone=entry.zone, addresses=[entry.address])
    holder = next((one for one in found if not one.duplicate), None)
    if holder is None:
        return False
    await writes.pool_replace(context, entry, entry.changed(PoolState.CLAIMED, by=holder.id), deadline)
    return True


async def entries_of(context: Context, registrations: Sequence[Registration]) -> dict[str, list[PoolEntry]]:
    """The entries that these registrations hold, or left behind, at their addresses; by registration id."""
    by_id = {one.id: one for one in registrations}
    entries: dict[str, list[PoolEntry]] = {one.id: [] for one in registrations}
    for entry in await context.store.pool_find_by(list(by_id)):
        if entry.by is not None and same(entry.address, by_id[entry.by].address):
            entries[entry.by].append(entry)
    return entries


async def let_go(context: Context, entry: PoolEntry, deadline: Deadline) -> None:
    """Remove an entry whose prefix has been deleted together with its registration's, before that registration goes.

    Raises Unavailable when the entry changed at this moment: left behind, it would go back to be handed out.
    """
    if not await writes.pool_delete(context, entry, deadline) and await context.store.pool_get_many([entry.id]):
        raise Unavailable(f"the pool's entry of {entry.address} has just changed; try again")


async def cool_down(
    context: Context, registration: Registration, prefix: Prefix, entries: Iterable[PoolEntry], deadline: Deadline
) -> PoolEntry | None:
    """The entry that holds the address of a registration that is `releasing`, until its cooldown is over; None when
    the address cannot be held, since another entry stands on it.

    `entries`: what the registration holds in the pool (see `entries_of`).

    Raises Unavailable when the pool changed at this moment.
    """
    until = context.clock.now() + context.settings.cooldown
    for entry in entries:
        if entry.state is PoolState.COOLING:
            return entry
        if entry.state is PoolState.CLAIMED and entry.netbox_id == prefix.id:
            if is_leased(context, entry):
                raise Unavailable(f"{registration.address} is being handed over in NetBox; try again")
            cooling = entry.changed(PoolState.COOLING, until=until, lease_until=None)
            if await writes.pool_replace(context, entry, cooling, deadline):
                return cooling
            raise Unavailable(f"the pool's entry of {registration.address} has just changed; try again")
    cooling = PoolEntry(
        id=context.new_id(),
        zone=registration.zone,
        ip_family=registration.ip_family,
        address=registration.address,
        state=PoolState.COOLING,
        netbox_id=prefix.id,
        by=registration.id,
        until=until,
    )
    try:
        await context.store.pool_insert([cooling])
    except StoreConflict:
        standing = await context.store.pool_find_address(zone=registration.zone, address=registration.address)
        if standing is None or standing.by == registration.id:
            raise Unavailable(f"the pool's entry of {registration.address} has just changed; try again") from None
        log.warning("%s is in the pool already; it is released without a cooldown", registration.address)
        return None
    return cooling
