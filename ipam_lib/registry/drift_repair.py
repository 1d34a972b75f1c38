"""The repairs of `reconcile`: each one looks at both sides again before it changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

from ipam_lib import addresses
from ipam_lib.errors import ContainerGone, DuplicatePrefix, NetBoxUnavailable
from ipam_lib.models import Registration, State
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context
from ipam_lib.registry.drift import REPAIRED, Drift, DriftKind
from ipam_lib.registry.pool import pool_reconcile

MOST_DELETIONS = 100


class DriftRepair:
    """The repairs of one round. It deletes at most `most_deletions` prefixes."""

    def __init__(self, context: Context, most_deletions: int) -> None:
        self.context = context
        self.most_deletions = most_deletions
        self.deletions = 0
        self._repairs: dict[DriftKind, Callable[[Drift], Awaitable[str]]] = {
            DriftKind.PREFIX_WITHOUT_REGISTRATION: self._delete_prefix,
            DriftKind.PREFIX_LEFT_OVER: self._delete_prefix,
            DriftKind.REGISTRATION_WITHOUT_PREFIX: self._create_prefix,
            DriftKind.NETBOX_ID_DIFFERS: self._store_netbox_id,
            DriftKind.UUID_MISSING: self._write_uuid,
            DriftKind.POOL_ENTRY_WITHOUT_PREFIX: partial(pool_reconcile.end, context),
            DriftKind.POOL_ENTRY_STUCK: partial(pool_reconcile.end, context),
        }
        assert self._repairs.keys() | {DriftKind.DESCRIPTION_DIFFERS} == REPAIRED

    async def repair(self, drift: Drift) -> str:
        """Repair a drift of a kind in `REPAIRED`, except a description, which is written in bulk (see `descriptions`).
        Returns the reason if it was not repaired, otherwise an empty text.

        Raises Unavailable.
        """
        return await self._repairs[drift.kind](drift)

    async def _delete_prefix(self, drift: Drift) -> str:
        """Delete a prefix with an ID of this service that belongs to no registration. If a registration names the
        prefix, write that registration's ID to it instead."""
        assert drift.prefix_id is not None
        assert drift.registration_id is not None
        if self.deletions >= self.most_deletions:
            return f"{self.most_deletions} prefixes were deleted in this round already; is this the right database?"
        limit = self.context.settings.netbox_call
        prefix = await self._prefix(drift.prefix_id)
        if prefix is None:
            return ""
        if prefix.uuid != drift.registration_id or prefix.is_container or not addresses.is_host(prefix.prefix):
            return "the prefix has changed"
        if await self.context.store.pool_get_many([drift.registration_id]):
            return "the pool has it by now"
        registration = await self.context.store.get(drift.registration_id)
        if registration is not None and (
            registration.state is not State.LIVE or registration.netbox_id in (prefix.id, None)
        ):
            return "the registration has changed"
        holders = await self.context.store.find_address(zone=None, addresses=addresses.spellings(prefix.prefix))
        if (holder := next((one for one in holders if one.netbox_id == prefix.id), None)) is not None:
            # A hand-over was late or incomplete: the prefix belongs to this registration, whatever ID it has.
            if holder.state is not State.LIVE:
                return f"a registration that is {holder.state} names it"
            done = await self.context.netbox.assign(prefix.id, holder.id, limit=limit)
            return "" if done else "the prefix has gone"
        self.deletions += 1
        await self.context.netbox.delete_many([prefix], limit=limit)
        return ""

    async def _create_prefix(self, drift: Drift) -> str:
        """Create the prefix of a live registration again, at the same address, if the address is free in NetBox."""
        registration = await self._live(drift)
        if registration is None:
            return "the registration has changed"
        if not addresses.is_host(registration.address):
            return "a whole network is registered; create its prefix by hand"
        container = self.context.zones.container_of(registration.zone, registration.address)
        if container is None:
            return "no container of the zone holds the address any more"
        deadline = self.context.deadline()
        covering = await self.context.netbox.covering(container, registration.address, limit=deadline.call_limit())
        taken = [one for one in covering if not one.is_container and addresses.contains(container.prefix, one.prefix)]
        if taken:
            return f"the address is taken in NetBox by {taken[0].prefix} (id {taken[0].id})"
        try:
            made = await self.context.netbox.create_exact(
                container,
                registration.address,
                uuid=registration.id,
                limit=self.context.settings.netbox_call,
                description=self.context.settings.next_description(registration),
            )
        except DuplicatePrefix:
            return "the address was taken in NetBox at this very moment"
        except (NetBoxUnavailable, ContainerGone) as error:
            return f"{error.message} (should it have been created after all, the next round finds it)"
        if await writes.replace(self.context, registration, registration.changed(netbox_id=made.id), deadline):
            return ""
        current = await self.context.store.get(registration.id)
        if current is None or current.netbox_id != made.id:
            await self.context.netbox.delete_many([made], limit=self.context.settings.netbox_call)
        return "the registration has changed"

    async def _store_netbox_id(self, drift: Drift) -> str:
        """Store the NetBox ID of the prefix that has the registration's ID and address."""
        assert drift.prefix_id is not None
        registration = await self._live(drift)
        prefix = await self._prefix(drift.prefix_id)
        if registration is None or prefix is None or not fits(prefix, registration, {registration.id}):
            return "the registration or the prefix has changed"
        named = registration.changed(netbox_id=prefix.id)
        done = await writes.replace(self.context, registration, named, self.context.deadline())
        return "" if done else "the registration has changed"

    async def _write_uuid(self, drift: Drift) -> str:
        """Write the registration's ID to its prefix. The earlier service did this in a second step, which may have
        failed."""
        assert drift.prefix_id is not None
        registration = await self._live(drift)
        prefix = await self._prefix(drift.prefix_id)
        if (
            registration is None
            or prefix is None
            or prefix.uuid
            or not addresses.same(prefix.prefix, registration.address)
        ):
            return "the registration or the prefix has changed"
        limit = self.context.settings.netbox_call
        done = await self.context.netbox.assign(prefix.id, registration.id, limit=limit)
        return "" if done else "the prefix has gone"

    async def _live(self, drift: Drift) -> Registration | None:
        registration = await self.context.store.get(drift.registration_id or "")
        return registration if registration is not None and registration.state is State.LIVE else None

    async def _prefix(self, prefix_id: int) -> Prefix | None:
        found = await self.context.netbox.get_many([prefix_id], limit=self.context.settings.netbox_call)
        return found[0] if found else None


def fits(prefix: Prefix, registration: Registration, ids: Collection[str]) -> bool:
    """Whether a prefix has the address of the registration and one of these IDs, and is not a container."""
    return addresses.same(prefix.prefix, registration.address) and prefix.uuid in ids and not prefix.is_container
