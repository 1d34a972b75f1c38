"""The pool worker: it refills, hands over, puts back and drops entries, on any number of instances at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ipam_lib.description import is_ours
from ipam_lib.errors import IPAMError
from ipam_lib.models import IPFamily, PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import PrefixChange
from ipam_lib.registry import owned_prefixes, writes
from ipam_lib.registry.context import Context, Deadline, pages
from ipam_lib.registry.pool import claim, drop, refill
from ipam_lib.registry.pool.claim import may_have
from ipam_lib.storage.pool_store import PoolKey

log = logging.getLogger(__name__)

ZoneAndFamily = tuple[str, IPFamily]
_Held = tuple[PoolEntry, Registration]

SHORTEST_BACKOFF = 30.0
LONGEST_BACKOFF = 600.0


@dataclass(slots=True)
class PoolReport:
    """The result of a round. `made`: addresses that became ready. `handed_over`: prefixes that got the ID of their
    registration in NetBox. `put_back`: claimed entries that no registration will use. `dropped`: deleted entries.
    `error`: the first error; the other steps of the round were done. `counts`: the number of entries when it began."""

    made: int = 0
    handed_over: int = 0
    put_back: int = 0
    dropped: int = 0
    error: IPAMError | None = None
    counts: Mapping[PoolKey, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Backoff:
    """When to ask a full zone again. `until`: a value of the clock's `monotonic()`, in seconds."""

    failures: int = 0
    until: float = float("-inf")


@dataclass(slots=True)
class PoolWorker:
    """The pool worker of one process. It remembers which zones were full."""

    context: Context
    _backoffs: dict[ZoneAndFamily, _Backoff] = field(default_factory=dict)

    async def maintain(self) -> PoolReport:
        """One round: hand over claimed entries, end overdue entries, and keep as many addresses ready as the settings
        say. If one step fails, the others are still done.

        Raises StorageUnavailable if the storage cannot be read at the beginning.
        """
        counts = await self.context.store.pool_counts()
        report = PoolReport(counts=counts)
        present = {key.state for key in counts}
        steps: list[Callable[[PoolReport], Awaitable[None]]] = []
        if PoolState.CLAIMED in present:
            steps.append(self._hand_over)
        if present & {PoolState.MAKING, PoolState.COOLING}:
            steps.append(self._end_overdue)
        # Before the zones are loaded, a zone without containers is not known to be gone.
        if self.context.zones.all_containers():
            steps += [partial(self._adjust, place, counts) for place in self._places(counts)]
        steps.append(self._drop)
        for step in steps:
            try:
                await step(report)
            except IPAMError as error:
                report.error = report.error or error
        return report

    # -- hand-over ------------------------------------------------------------------------------------------------

    async def _hand_over(self, report: PoolReport) -> None:
        """Write the registration's ID to the prefix of each claimed entry, in NetBox, then delete the entry. Put back
        the entries that no registration will use."""
        async for page in self._pages({PoolState.CLAIMED}):
            deadline = self.context.deadline()
            held = await self._hold(page, deadline, report)
            if held:
                await self._update_netbox(held, deadline)
                for entry, _ in held:
                    report.handed_over += await writes.pool_delete(self.context, entry, deadline)

    async def _hold(self, page: Sequence[PoolEntry], deadline: Deadline, report: PoolReport) -> list[_Held]:
        """The entries to hand over, each with a lease of this worker, and their registrations."""
        holders = await self.context.store.get_many([one.registration_id for one in page if one.registration_id])
        by_id = {one.id: one for one in holders}
        held: list[_Held] = []
        for entry in page:
            holder = by_id.get(entry.registration_id or "")
            if claim.is_leased(self.context, entry):
                continue
            if not may_have(holder, entry):
                ready = entry.changed(PoolState.READY, registration_id=None, lease_until=None)
                report.put_back += await writes.pool_replace(self.context, entry, ready, deadline)
            elif holder is not None and holder.state is State.LIVE and self.context.netbox.available:
                leased = await self._lease(entry, deadline)
                if leased is not None and await self._is_theirs(leased, holder, deadline):
                    held.append((leased, holder))
        return held

    async def _update_netbox(self, held: Sequence[_Held], deadline: Deadline) -> None:
        """Write the registrations' IDs to the prefixes, in bulk. A prefix that another user has deleted or changed is
        left to `reconcile`."""
        ids = [entry.netbox_id or 0 for entry, _ in held]
        found = await self.context.netbox.get_many(ids, limit=deadline.call_limit())
        standing = {one.id: one for one in found}
        changes = []
        for entry, holder in held:
            prefix = standing.get(entry.netbox_id or 0)
            if prefix is not None and owned_prefixes.is_releasable(prefix, holder, [entry]):
                text = self.context.settings.next_description(holder)
                ours = text and is_ours(prefix.description, holder.described)
                changes.append(PrefixChange(prefix.id, holder.id, reserved=False, description=text if ours else None))
            else:
                log.warning("%s is registered, but its prefix was deleted or changed in NetBox", holder.address)
        if changes:
            limit = deadline.limit_until(min(entry.lease_until for entry, _ in held if entry.lease_until))
            await self.context.netbox.update_many(changes, limit=limit)

    async def _lease(self, entry: PoolEntry, deadline: Deadline) -> PoolEntry | None:
        """Take a lease on the entry for one longest request. Until its end, no other worker writes to the prefix
        (except to delete it); after its end, this worker does not write. None if the entry has changed."""
        held = entry.changed(PoolState.CLAIMED, lease_until=self.context.lease())
        return held if await writes.pool_replace(self.context, entry, held, deadline) else None

    async def _is_theirs(self, entry: PoolEntry, holder: Registration, deadline: Deadline) -> bool:
        """Whether the live registration names the entry's prefix. If its own prefix is gone from NetBox, it gets this
        one. If it has another prefix in NetBox, the entry is dropped."""
        if holder.netbox_id == entry.netbox_id:
            return True
        theirs = (await owned_prefixes.prefixes_of(self.context, [holder], deadline))[holder.id]
        if any(owned_prefixes.is_releasable(one, holder) and one.id != entry.netbox_id for one in theirs):
            dropping = entry.changed(PoolState.DROPPING, lease_until=None)
            await writes.pool_replace(self.context, entry, dropping, deadline)
            return False
        log.warning("%s is registered, but its prefix was gone from NetBox; it gets a new one", holder.address)
        return await writes.replace(self.context, holder, holder.changed(netbox_id=entry.netbox_id), deadline)

    # -- drop ------------------------------------------------------------------------------------------------------

    async def _end_overdue(self, report: PoolReport) -> None:
        """Change entries to `dropping` whose creation was abandoned, or whose cooldown has ended."""
        async for page in self._pages({PoolState.MAKING, PoolState.COOLING}):
            for entry in page:
                if drop.is_overdue(self.context, entry):
                    await self._replace(entry, entry.changed(PoolState.DROPPING, lease_until=None))

    async def _drop(self, report: PoolReport) -> None:
        async for page in self._pages({PoolState.DROPPING}):
            if not self.context.netbox.available:
                return
            report.dropped += await drop.drop(self.context, page, self.context.deadline())

    # -- how many there are ------------------------------------------------------------------------------------------

    def _places(self, counts: Mapping[PoolKey, int]) -> list[ZoneAndFamily]:
        """The zones and families that have ready addresses, or should have them."""
        containers = self.context.zones.all_containers()
        places = {(one.zone, one.ip_family) for one in containers if self.context.settings.warm_in(one.zone)}
        return sorted(places | {(key.zone, key.ip_family) for key in counts if key.state is PoolState.READY})

    async def _adjust(self, place: ZoneAndFamily, counts: Mapping[PoolKey, int], report: PoolReport) -> None:
        """Refill if a quarter is missing; drop the surplus if there are more than a quarter too many. Between these
        limits nothing happens, so several instances, which see each other's work a moment later, come to rest."""
        zone, family = place
        containers = self.context.zones.containers(zone, family)
        wanted = self.context.settings.warm_in(zone) if containers else 0
        ready, making = (counts.get(PoolKey(zone, family, state), 0) for state in (PoolState.READY, PoolState.MAKING))
        if ready > wanted + wanted // 4:
            # The count is old, and other instances may drop too: drop the entries beyond the wanted ones, not a number.
            for entry in await self.context.store.pool_beyond(
                zone=zone, ip_family=family, keep=wanted, limit=self.context.settings.batch
            ):
                await self._replace(entry, entry.changed(PoolState.DROPPING))
        elif wanted and ready + making <= wanted - max(1, wanted // 4):
            backoff = self._backoffs.setdefault(place, _Backoff())
            if self.context.clock.monotonic() < backoff.until or not self.context.netbox.available:
                return
            missing = wanted - ready - making
            made = await refill.fill(self.context, containers, missing)
            report.made += made
            if made == missing:
                self._backoffs.pop(place)
            else:
                seconds = min(SHORTEST_BACKOFF * 2.0 ** min(backoff.failures, 10), LONGEST_BACKOFF)
                backoff.failures += 1
                backoff.until = self.context.clock.monotonic() + seconds * (0.9 + 0.2 * self.context.random.random())
                log.info("zone %s has no %s addresses left to keep ready", zone, family, extra={"ready": ready + made})

    # -- the parts ---------------------------------------------------------------------------------------------------

    async def _replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        return await writes.pool_replace(self.context, old, new, self.context.deadline())

    def _pages(self, states: Collection[PoolState]) -> AsyncIterator[Sequence[PoolEntry]]:
        store, batch = self.context.store, self.context.settings.batch
        return pages(lambda after: store.pool_page(states, after=after, limit=batch))
