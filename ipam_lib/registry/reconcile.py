"""Reconcile: compare the storage with NetBox, report the drift, and repair what certainly belongs to this service.

Both sides are read by pages, in bounded memory. A round goes from the registrations to their prefixes, then from the
pool entries to theirs, then from the prefixes to their registrations. Anything may change between two reads. So a drift
is repaired only if three rounds in a row have seen it, if the first of these rounds was more than two longest requests
ago, and if one more look at both sides confirms it. The counts of earlier rounds are kept in the storage. A dry run
(the default) writes nothing, not even these counts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta

from ipam_lib import addresses
from ipam_lib.errors import IPAMError
from ipam_lib.models import Filter, PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.registry import descriptions, owned_prefixes
from ipam_lib.registry.context import Context, pages
from ipam_lib.registry.drift import REPAIRED, SIGHTINGS, Drift, DriftHistory, DriftKind, DriftResult
from ipam_lib.registry.drift_repair import MOST_DELETIONS, DriftRepair, fits
from ipam_lib.registry.pool import claim, pool_reconcile

log = logging.getLogger(__name__)

DOCUMENT = "reconcile"
_OUR_ID = re.compile(r"[0-9a-f]{24}")


async def reconcile(
    context: Context, *, fix: bool = False, most_deletions: int = MOST_DELETIONS
) -> AsyncIterator[DriftResult]:
    """One round; yields each drift when it is found. With `fix`, a drift that can be repaired and was seen often enough
    is repaired. One round deletes at most `most_deletions` prefixes, so a wrong database does not empty NetBox.

    Raises Unavailable if one side cannot be read; earlier repairs of the round stay done.
    """
    work = _Round(context, fix, most_deletions)
    work.history = DriftHistory.from_document(await context.store.load_document(DOCUMENT) if fix else None)
    for drifts in (work.from_registrations, work.from_pool, work.from_prefixes):
        async for drift in drifts():
            yield await work.process(drift)
    if fix:
        await context.store.save_document(DOCUMENT, work.history.document())


class _Round:
    def __init__(self, context: Context, fix: bool, most_deletions: int) -> None:
        self.context = context
        self.fix = fix
        self.history = DriftHistory()
        self.described: dict[str, str] = {}
        """Why the description of a registration was not written; empty if it was."""
        self.repairs = DriftRepair(context, most_deletions)

    async def process(self, drift: Drift) -> DriftResult:
        """Count the drift, and repair it if it was seen often enough. A description was written when it was seen first,
        since that does no harm, together with others."""
        if drift.kind is DriftKind.DESCRIPTION_DIFFERS:
            note = self.described.get(drift.registration_id or "")
            return DriftResult(drift, 1, repaired=note == "", note=note or "")
        sightings, age = self.history.count(drift, self.context.clock.now())
        due = sightings >= SIGHTINGS and age > timedelta(seconds=2 * self.context.settings.longest_request)
        if not self.fix or drift.kind not in REPAIRED or not due:
            return DriftResult(drift, sightings)
        try:
            problem = await self.repairs.repair(drift)
        except IPAMError as error:
            problem = error.message
        if problem:
            log.warning("%s: %s of zone %s could not be repaired: %s", drift.kind, drift.address, drift.zone, problem)
        else:
            log.warning("%s: repaired %s of zone %s", drift.kind, drift.address, drift.zone)
        return DriftResult(drift, sightings, repaired=not problem, note=problem)

    async def from_registrations(self) -> AsyncIterator[Drift]:
        """The drift of each registration."""
        context = self.context
        async for page in pages(
            lambda after: context.store.page(Filter(states=None), after=after, limit=context.settings.batch)
        ):
            live = [one for one in page if one.state is State.LIVE]
            # Read the entries before the prefixes: if an entry is gone by now, its prefix has the registration's ID.
            entries = await claim.entries_of(context, live)
            prefixes = await owned_prefixes.prefixes_of(context, live, context.deadline())
            for outdated in await self._descriptions(live, prefixes, entries):
                yield outdated
            for registration in page:
                if registration.state is not State.LIVE:
                    if self._is_stuck(registration):
                        yield _drift(DriftKind.STUCK, registration, detail=f"is {registration.state}")
                    continue
                if registration.duplicate:
                    yield _drift(DriftKind.DUPLICATE_REGISTRATION, registration)
                if (drift := _compare(registration, prefixes[registration.id], entries[registration.id])) is not None:
                    yield drift

    async def _descriptions(
        self,
        live: Sequence[Registration],
        prefixes: Mapping[str, Sequence[Prefix]],
        entries: Mapping[str, Sequence[PoolEntry]],
    ) -> list[Drift]:
        """The drift of the descriptions, except those that the worker writes. With `fix`, they are written in bulk."""
        template = self.context.settings.description
        if template is None:
            return []
        found: list[Drift] = []
        outdated: list[Registration] = []
        for one in live:
            named = next((each for each in prefixes[one.id] if each.id == one.netbox_id), None)
            if named is None or not owned_prefixes.is_releasable(named, one) or entries[one.id] or one.description_due:
                continue
            if descriptions.is_outdated(template, one, named):
                detail = f"NetBox says {named.description!r}"
                found.append(_drift(DriftKind.DESCRIPTION_DIFFERS, one, named, detail))
                outdated.append(one)
        if self.fix and outdated:
            note = "the registration or the prefix has changed"
            written: Collection[str] = ()
            try:
                written = await descriptions.write(self.context, outdated, self.context.deadline())
            except IPAMError as error:
                note = error.message
            self.described = {one.id: "" if one.id in written else note for one in outdated}
        return found

    def from_pool(self) -> AsyncIterator[Drift]:
        """The drift of each pool entry."""
        return pool_reconcile.drifts(self.context)

    def _is_stuck(self, registration: Registration) -> bool:
        """Whether the lease of a creation ended long ago. A registration that is aborting or releasing has no lease:
        there the number of sightings decides."""
        extra_time = timedelta(seconds=4 * self.context.settings.longest_request)
        lease = registration.lease_until
        return lease is None or lease + extra_time < self.context.clock.now()

    async def from_prefixes(self) -> AsyncIterator[Drift]:
        """The drift of the prefixes inside the containers of the zones."""
        for container in self.context.zones.all_containers():
            seen, after = _SeenAddresses(container), 0
            while page := await self.context.netbox.list_prefixes(
                container, after=after, limit=self.context.settings.longest_request
            ):
                hosts = [one for one in page if not one.is_container and addresses.is_host(one.prefix)]
                for prefix in hosts:
                    if seen.add(prefix.prefix):
                        yield Drift(DriftKind.DUPLICATE_PREFIX, container.zone, prefix.prefix, prefix.uuid, prefix.id)
                ours = [one for one in hosts if _OUR_ID.fullmatch(one.uuid or "")]
                uuids = [str(one.uuid) for one in ours]
                # Read the entries before the registrations: if an entry is gone by now, a registration has its prefix.
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


def _compare(registration: Registration, prefixes: Sequence[Prefix], entries: Sequence[PoolEntry]) -> Drift | None:
    """The difference between a live registration and the prefixes that it names or that have its ID. A prefix that the
    registration has claimed from the pool has the ID of that entry until the hand-over."""
    ids = {registration.id, *(entry.id for entry in entries if entry.state is PoolState.CLAIMED)}
    fitting = [one for one in prefixes if fits(one, registration, ids)]
    named = next((one for one in prefixes if one.id == registration.netbox_id), None)
    if named in fitting and named is not None:
        if named.zone in (registration.zone, None, ""):  # the earlier service did not always write the zone
            return None
        return _drift(DriftKind.ZONE_DIFFERS, registration, named, f"NetBox says {named.zone}")
    if fitting:
        return _drift(DriftKind.NETBOX_ID_DIFFERS, registration, fitting[0], f"storage: {registration.netbox_id}")
    if named is None:
        return _drift(DriftKind.REGISTRATION_WITHOUT_PREFIX, registration)
    if not addresses.same(named.prefix, registration.address):
        return _drift(DriftKind.ADDRESS_DIFFERS, registration, named, f"NetBox says {named.prefix}")
    if not named.uuid:
        return _drift(DriftKind.UUID_MISSING, registration, named)
    return _drift(DriftKind.UUID_DIFFERS, registration, named, f"NetBox says {named.uuid}")


def _drift(kind: DriftKind, registration: Registration, prefix: Prefix | None = None, detail: str = "") -> Drift:
    return Drift(kind, registration.zone, registration.address, registration.id, prefix.id if prefix else None, detail)


class _SeenAddresses:
    """The addresses of a container that were seen. The lowest 16 million addresses, which NetBox gives out first, need
    one bit each; every other address needs a few dozen bytes."""

    LOW = 1 << 24

    def __init__(self, container: Container) -> None:
        network = addresses.network(container.prefix)
        self._first = int(network.network_address)
        self._low = bytearray(min(network.num_addresses, self.LOW) // 8 + 1)
        self._high: set[int] = set()

    def add(self, prefix: str) -> bool:
        """Add an address. True if it was seen before."""
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
