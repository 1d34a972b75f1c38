"""The cooldown: a released address becomes a pool entry, which holds it until the cooldown has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ipam_lib.errors import Unavailable
from ipam_lib.models import PoolEntry, PoolState, Registration
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline
from ipam_lib.registry.pool.claim import is_leased
from ipam_lib.registry.pool.drop import drop

log = logging.getLogger(__name__)


async def cool_down(
    context: Context, registration: Registration, prefix: Prefix, entries: Iterable[PoolEntry], deadline: Deadline
) -> PoolEntry | None:
    """The entry that holds the address of a registration that is `releasing`, until its cooldown has ended. None if
    another entry has the address, so that it cannot be held.

    `entries`: the pool entries of the registration (see `entries_of`).

    Raises Unavailable if the pool has just changed, or a worker is writing to the prefix.
    """
    until = context.clock.now() + context.settings.cooldown
    for entry in entries:
        if entry.state is PoolState.COOLING:
            return entry
        if entry.state is PoolState.CLAIMED and entry.netbox_id == prefix.id:
            if is_leased(context, entry):
                raise Unavailable(f"{registration.address} is being handed over in NetBox; try again")
            cooling = entry.changed(PoolState.COOLING, cooldown_until=until, lease_until=None)
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
        registration_id=registration.id,
        cooldown_until=until,
    )
    if await writes.pool_insert(context, cooling, deadline):
        return cooling
    standing = await context.store.pool_find_address(zone=registration.zone, address=registration.address)
    if standing is not None and standing.state is PoolState.DROPPING:
        # Its prefix was deleted; otherwise NetBox had not given the address to this registration. Only the entry is
        # left. If a worker is suspended, it may stay for hours.
        await drop(context, [standing], deadline)
        if await writes.pool_insert(context, cooling, deadline):
            return cooling
    elif standing is not None and standing.registration_id != registration.id:
        log.warning("%s is in the pool already; it is released without a cooldown", registration.address)
        return None
    raise Unavailable(f"the pool's entry of {registration.address} has just changed; try again")
