"""Reconcile: compare storage with NetBox, name what differs, and repair what is provably this service's.

Both sides are read by pages, in bounded memory. A round looks from the registrations to their prefixes, then from the
prefixes to their registrations. Everything between two reads may have moved, so a drift is repaired only when three
rounds in a row have seen it and the first was longer ago than the longest request lasts, and after one more look at
both sides. The count is kept in storage; a dry run (the default) writes nothing at all, not even that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial

from ipam_lib import addresses
from ipam_lib.errors import ContainerGone, DuplicatePrefix, IPAMError, NetBoxUnavailable
from ipam_lib.models import Filter, PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.registry import release, writes
from ipam_lib.registry.context import Context
from ipam_lib.registry.drift import REPAIRED, SIGHTINGS, Drift, DriftHistory, DriftKind, DriftResult
from ipam_lib.registry.pool import claim, pool_reconcile

log = logging.getLogger(__name__)

DOCUMENT = "reconcile"
MOST_DELETIONS = 100
_OUR_ID = re.compile(r"[0-9a-f]{24}")


async def reconcile(
    context: Context, *, fix: bool = False, most_deletions: int = MOST_DELETIONS
) -> AsyncIterator[DriftResult]:
    """One round; each drift as it is found. With `fix`, what is provably ours and was seen often enough is repaired; at
    most `most_deletions` prefixes are deleted in a round, so that a wrong database does not empty NetBox.

    Raises Unavailable when a side cannot be read; what was repaired by then stays so.
    """
    reconciler = _Round(context, fix, most_deletions)
    reconciler.sightings = DriftHistory.from_document(await context.store.load_document(DOCUMENT) if fix else None)
    async for drift in reconciler.from_registrations():
        yield await reconciler.deal_with(drift)
    async for drift in pool_reconcile.drifts(context):
        yield await reconciler.deal_with(drift)
    async for drift in reconciler.from_prefixes():
        yield await reconciler.deal_with(drift)
    if fix:
        await context.store.save_document(DOCUMENT, reconciler.sightings.document())


class _Round:
    def __init__(self, context: Context, fix: bool, most_deletions: int) -> None:
        self.context = context
        self.fix = fix
        self.most_deletions = most_deletions
        self.deletions = 0
        self.sightings = DriftHistory()
        self._repairs: dict[DriftKind, Callable[[Drift], Awaitable[str]]] = {
            DriftKind.PREFIX_WITHOUT_REGISTRATION: self._delete_prefix,
            DriftKind.PREFIX_LEFT_OVER: self._delete_prefix,
            DriftKind.REGISTRATION_WITHOUT_PREFIX: self._create_prefix,
            DriftKind.NETBOX_ID_DIFFERS: self._name_prefix,
            DriftKind.UUID_MISSING: self._mark_prefix,
            DriftKind.POOL_ENTRY_WITHOUT_PREFIX: partial(pool_reconcile.end, context),
            DriftKind.POOL_ENTRY_STUCK: partial(pool_reconcile.end, context),
        }
        assert self._repairs.keys() == REPAIRED

    # -- looking -----------------------------------------------------------------------------------------------------

    async def from_registrations(self) -> AsyncIterator[Drift]:
        """What is wrong with each registration."""
        after: str | None = None
        while page := await self.context.store.page(
            Filter(states=None), after=after, limit=self.context.settings.batch
        ):
            live = [one for one in page if one.state is State.LIVE]
            # Before the prefixes: an entry that is gone by now has left its prefix to the registration.
            entries = await claim.entries_of(self.context, live)
            prefixes = await release.prefixes_of(self.context, live, self.context.deadline())
            for registration in page:
                if registration.state is not State.LIVE:
                    if self._is_stuck(registration):
                        yield _drift(DriftKind.STUCK, registration, detail=f"is {registration.state}")
                    continue
                if registration.duplicate:
                    yield _drift(DriftKind.DUPLICATE_REGISTRATION, registration)
                for drift in _compare(registration, prefixes[registration.id], entries[registration.id]):
                    yield drift
            after = page[-1].id

    def _is_stuck(self, registration: Registration) -> bool:
        """A creation whose lease ended long ago; undoing and releasing have no lease: the sightings count."""
        patience = timedelta(seconds=4 * self.context.settings.longest_request)
        lease = registration.lease_until
        return lease is None or lease + patience < self.context.clock.now()

    async def from_prefixes(self) -> AsyncIterator[Drift]:
        """What is wrong with the prefixes inside the zones' containers."""
        for container in self.context.zones.all_containers():
            seen, after = _SeenAddresses(container), 0
            while page := await self.context.netbox.list_prefixes(
                container, after=after, limit=self.context.settings.longest_request
            ):
                hosts = [one for one in page if not one.is_container and addresses.is_host(one.prefix)]
                for prefix in hosts:
                    if seen.again(prefix.prefix):
                        yield Drift(DriftKind.DUPLICATE_PREFIX, container.zone, prefix.prefix, prefix.uuid, prefix.id)
                ours = [one for one in hosts if _OUR_ID.fullmatch(one.uuid or "")]
                uuids = [str(one.uuid) for one in ours]
                # Before the registrations: an entry that is gone by now has left its prefix to one of these.
                pooled = {one.id for one in await self.context.store.pool_get_many(uuids)}
                known = {one.id: one for one in await self.context.store.get_many(uuids)}
                for prefix in ours:
                    if prefix.uuid in pooled:
                        continue
                    drift = await self._without_owner(prefix, container, known.get(str(prefix.uuid)))
                    if drift is not None:
                        yield drift
                after = page[-1].id

    async def _without_owner(
        self, prefix: Prefix, container: Container, registration: Registration | None
    ) -> Drift | None:
        zone = prefix.zone or container.zone
        if registration is None:
            return Drift(DriftKind.PREFIX_WITHOUT_REGISTRATION, zone, prefix.prefix, prefix.uuid, prefix.id)
        if registration.state is not State.LIVE or registration.netbox_id == prefix.id or not registration.netbox_id:
            return None
        named = await self.context.netbox.get_many([registration.netbox_id], limit=self.context.settings.netbox_call)
        if any(addresses.same(one.prefix, registration.address) and one.uuid == registration.id for one in named):
            return Drift(
                DriftKind.PREFIX_LEFT_OVER,
                zone,
                prefix.prefix,
                registration.id,
                prefix.id,
                f"the registration has NetBox id {registration.netbox_id}",
            )
        return None

    # -- repairing ---------------------------------------------------------------------------------------------------

    async def deal_with(self, drift: Drift) -> DriftResult:
        """Count the drift, and repair it when its time has come."""
        sightings, age = self.sightings.count(drift, self.context.clock.now())
        ripe = sightings >= SIGHTINGS and age > timedelta(seconds=2 * self.context.settings.longest_request)
        if not self.fix or drift.kind not in REPAIRED or not ripe:
            return DriftResult(drift, sightings)
        try:
            trouble = await self._repairs[drift.kind](drift)
        except IPAMError as error:
            trouble = error.message
        if trouble:
            log.warning("%s: %s of zone %s could not be repaired: %s", drift.kind, drift.address, drift.zone, trouble)
        else:
            log.warning("%s: repaired %s of zone %s", drift.kind, drift.address, drift.zone)
        return DriftResult(drift, sightings, repaired=not trouble, note=trouble)

    async def _delete_prefix(self, drift: Drift) -> str:
        """Delete a prefix that bears an id of ours and is no registration's, after a last look at both sides; where a
        registration names it, give it that one's id instead."""
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
            # A hand-over came too late, or was cut short: it is theirs, whatever id it bears.
            if holder.state is not State.LIVE:
                return f"a registration that is {holder.state} names it"
            done = await self.context.netbox.assign(prefix.id, holder.id, limit=limit)
            return "" if done else "the prefix has gone"
        self.deletions += 1
        await self.context.netbox.delete_many([prefix.id], limit=limit)
        return ""

    async def _create_prefix(self, drift: Drift) -> str:
        """Create the prefix of a live registration again, at the same address, if nobody has that by now."""
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
                container, registration.address, uuid=registration.id, limit=self.context.settings.netbox_call
            )
        except DuplicatePrefix:
            return "the address was taken in NetBox at this very moment"
        except (NetBoxUnavailable, ContainerGone) as error:
            return f"{error.message} (should it have been created after all, the next round finds it)"
        if await writes.replace(self.context, registration, registration.changed(netbox_id=made.id), deadline):
            return ""
        current = await self.context.store.get(registration.id)
        if current is None or current.netbox_id != made.id:
            await self.context.netbox.delete_many([made.id], limit=self.context.settings.netbox_call)
        return "the registration has changed"

    async def _name_prefix(self, drift: Drift) -> str:
        """Let the registration name the prefix that bears its id and address."""
        assert drift.prefix_id is not None
        registration = await self._live(drift)
        prefix = await self._prefix(drift.prefix_id)
        if registration is None or prefix is None or not _fits(prefix, registration, {registration.id}):
            return "the registration or the prefix has changed"
        named = registration.changed(netbox_id=prefix.id)
        done = await writes.replace(self.context, registration, named, self.context.deadline())
        return "" if done else "the registration has changed"

    async def _mark_prefix(self, drift: Drift) -> str:
        """Write the registration's id on its prefix: the earlier service did so in a second step, which may have
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


def _compare(registration: Registration, prefixes: Sequence[Prefix], entries: Sequence[PoolEntry] = ()) -> list[Drift]:
    """What differs between a live registration and the prefixes that it names, or that bear its id. A prefix that it
    has claimed from the pool bears that entry's id until NetBox has been told."""
    ids = {registration.id, *(entry.id for entry in entries if entry.state is PoolState.CLAIMED)}
    fitting = [one for one in prefixes if _fits(one, registration, ids)]
    named = next((one for one in prefixes if one.id == registration.netbox_id), None)
    drifts: list[Drift] = []
    if named in fitting and named is not None:
        if named.zone not in (registration.zone, None, ""):  # the earlier service did not always write it
            drifts.append(_drift(DriftKind.ZONE_DIFFERS, registration, named, f"NetBox says {named.zone}"))
    elif fitting:
        drifts.append(
            _drift(DriftKind.NETBOX_ID_DIFFERS, registration, fitting[0], f"storage: {registration.netbox_id}")
        )
    elif named is None:
        drifts.append(_drift(DriftKind.REGISTRATION_WITHOUT_PREFIX, registration))
    elif not addresses.same(named.prefix, registration.address):
        drifts.append(_drift(DriftKind.ADDRESS_DIFFERS, registration, named, f"NetBox says {named.prefix}"))
    elif not named.uuid:
        drifts.append(_drift(DriftKind.UUID_MISSING, registration, named))
    else:
        drifts.append(_drift(DriftKind.UUID_DIFFERS, registration, named, f"NetBox says {named.uuid}"))
    return drifts


def _fits(prefix: Prefix, registration: Registration, ids: Collection[str]) -> bool:
    return addresses.same(prefix.prefix, registration.address) and prefix.uuid in ids and not prefix.is_container


def _drift(kind: DriftKind, registration: Registration, prefix: Prefix | None = None, detail: str = "") -> Drift:
    return Drift(kind, registration.zone, registration.address, registration.id, prefix.id if prefix else None, detail)


class _SeenAddresses:
    """Which addresses of a container have been seen. The low 16 million of them, which first-fit fills first, cost a
    bit each; those beyond cost a few dozen bytes."""

    LOW = 1 << 24

    def __init__(self, container: Container) -> None:
        network = addresses.network(container.prefix)
        self._first = int(network.network_address)
        self._low = bytearray(min(network.num_addresses, self.LOW) // 8 + 1)
        self._high: set[int] = set()

    def again(self, prefix: str) -> bool:
        """Note an address; whether it had been seen before."""
        offset = int(addresses.network(prefix).network_address) - self._first
        if offset >= self.LOW:
            if offset in self._high:
                return True
            self._high.add(offset)
            return False
        mask = 1 << (offset & 7)
        if self._low[offset >> 3] & mask:
            return True
        self._low[offset >> 3] |= mask
        return False
