"""Keeping the pool: what a worker does to it, again and again, on any number of instances at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ipam_lib.errors import IPAMError
from ipam_lib.models import IPFamily, PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import PrefixChange
from ipam_lib.registry import release, writes
from ipam_lib.registry.context import Context, Deadline
from ipam_lib.registry.pool import claim, drop, refill
from ipam_lib.registry.pool.claim import may_have
from ipam_lib.storage.pool_store import PoolKey

log = logging.getLogger(__name__)

Place = tuple[str, IPFamily]
_Held = tuple[PoolEntry, Registration]

SHORTEST_BACKOFF = 30.0
LONGEST_BACKOFF = 600.0


@dataclass(slots=True)
class PoolReport:
    """What a round did: addresses made ready, handed over to their registrations in NetBox, put back because nobody
    came for them, and given up. `error`: the first thing that went wrong; the rest of the round was done. `counts`:
    how many entries of each kind there were when it began."""

    made: int = 0
    handed_over: int = 0
    put_back: int = 0
    dropped: int = 0
    error: IPAMError | None = None
    counts: Mapping[PoolKey, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Backoff:
    """A zone that is full is not asked again at once."""

    failures: int = 0
    until: float = float("-inf")


@dataclass(slots=True)
class PoolWorker:
    """The worker. It remembers which zones were full."""

    context: Context
    _backoffs: dict[Place, _Backoff] = field(default_factory=dict)

    async def keep(self) -> PoolReport:
        """One round: hand over what was claimed, end what is overdue, and have as many addresses ready as the settings
        say. Where one step fails, the others are done all the same.

        Raises StorageUnavailable when the storage does not answer at the beginning.
        """
        counts = await self.context.store.pool_counts()
        report = PoolReport(counts=counts)
        present = {key.state for key in counts}
        steps: list[Callable[[PoolReport], Awaitable[None]]] = []
        if PoolState.CLAIMED in present:
            steps.append(self._hand_over)
        if present & {PoolState.MAKING, PoolState.COOLING}:
            steps.append(self._end_overdue)
        # Before the zones are known, none of them is known to be gone.
        if self.context.zones.all_containers():
            steps += [partial(self._adjust, place, counts) for place in self._places(counts)]
        steps.append(self._drop)
        for step in steps:
            try:
                await step(report)
            except IPAMError as error:
                report.error = report.error or error
        return report

    # -- handing over ------------------------------------------------------------------------------------------------

    async def _hand_over(self, report: PoolReport) -> None:
        """Let each claimed prefix bear the id of its registration, in NetBox, and the entry go; put back what nobody
        will come for."""
        async for page in self._pages({PoolState.CLAIMED}):
            deadline = self.context.deadline()
            held = await self._hold(page, deadline, report)
            if held:
                await self._tell(held, deadline)
                for entry, _ in held:
                    report.handed_over += await writes.pool_delete(self.context, entry, deadline)

    async def _hold(self, page: Sequence[PoolEntry], deadline: Deadline, report: PoolReport) -> list[_Held]:
        """The entries that are to be handed over, each under a lease of this keeper, and their registrations."""
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

    async def _tell(self, held: Sequence[_Held], deadline: Deadline) -> None:
        """Write the registrations' ids on the prefixes, in bulk. What somebody has deleted, or made his own, is left to
        `reconcile`."""
        ids = [entry.netbox_id or 0 for entry, _ in held]
        found = await self.context.netbox.get_many(ids, limit=deadline.call_limit())
        standing = {one.id: one for one in found}
        changes = []
        for entry, holder in held:
            prefix = standing.get(entry.netbox_id or 0)
            if prefix is not None and release.is_releasable(prefix, holder, [entry]):
                changes.append(PrefixChange(prefix.id, holder.id, reserved=False))
            else:
                log.warning("%s is registered, but its prefix was deleted or changed in NetBox", holder.address)
        if changes:
            limit = deadline.limit_until(min(entry.lease_until for entry, _ in held if entry.lease_until))
            await self.context.netbox.update_many(changes, limit=limit)

    async def _lease(self, entry: PoolEntry, deadline: Deadline) -> PoolEntry | None:
        """The entry, held by this keeper for the longest request: nobody else writes to its prefix before that is over
        (unless to delete it), and this keeper does not write afterwards. None when the entry has changed."""
        held = entry.changed(PoolState.CLAIMED, lease_until=self.context.lease())
        return held if await writes.pool_replace(self.context, entry, held, deadline) else None

    async def _is_theirs(self, entry: PoolEntry, holder: Registration, deadline: Deadline) -> bool:
        """Whether the live registration names the entry's prefix; where its own has gone from NetBox it is made to.
        Where it has another that stands, the entry is given up."""
        if holder.netbox_id == entry.netbox_id:
            return True
        theirs = (await release.prefixes_of(self.context, [holder], deadline))[holder.id]
        if any(release.is_releasable(one, holder) and one.id != entry.netbox_id for one in theirs):
            dropping = entry.changed(PoolState.DROPPING, lease_until=None)
            await writes.pool_replace(self.context, entry, dropping, deadline)
            return False
        log.warning("%s is registered, but its prefix was gone from NetBox; giving it a new one", holder.address)
        return await writes.replace(self.context, holder, holder.changed(netbox_id=entry.netbox_id), deadline)

    # -- ending ------------------------------------------------------------------------------------------------------

    async def _end_overdue(self, report: PoolReport) -> None:
        """Give up what nobody is making any more, and what has cooled down."""
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

    def _places(self, counts: Mapping[PoolKey, int]) -> list[Place]:
        """Where there are, or could be, addresses that are ready."""
        containers = self.context.zones.all_containers()
        places = {(one.zone, one.ip_family) for one in containers if self.context.settings.warm_in(one.zone)}
        return sorted(places | {(key.zone, key.ip_family) for key in counts if key.state is PoolState.READY})

    async def _adjust(self, place: Place, counts: Mapping[PoolKey, int], report: PoolReport) -> None:
        """Fill up when a quarter is missing, give up what is more than a quarter too much: so that several instances,
        each of which sees what the others do a moment later, come to rest."""
        zone, family = place
        containers = self.context.zones.containers(zone, family)
        wanted = self.context.settings.warm_in(zone) if containers else 0
        ready, making = (counts.get(PoolKey(zone, family, state), 0) for state in (PoolState.READY, PoolState.MAKING))
        if ready > wanted + wanted // 4:
            # The count is of a moment ago, and other instances may be at it: not so many, but all beyond those to keep.
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

    async def _pages(self, states: Collection[PoolState]) -> AsyncIterator[Sequence[PoolEntry]]:
        after: str | None = None
        while page := await self.context.store.pool_page(states, after=after, limit=self.context.settings.batch):
            yield page
            after = page[-1].id
