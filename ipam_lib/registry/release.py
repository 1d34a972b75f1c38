"""Release: remove services whose expiration has passed, and release the addresses that have no service left.

One compare-and-set removes the last service and changes the registration from `live` to `releasing`. After that, no
service can be added. Then the prefix is deleted, then the tenure is written to the history (see `address_history`),
then the document is deleted. With a cooldown the prefix is not deleted: a pool entry holds it (see `pool/cooldown.py`).
After a crash, the next round of any instance completes the registrations that are `releasing`. Several instances may
work on one registration at the same time: a deletion by ID is safe to repeat, and an ID is never used again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ipam_lib.errors import IPAMError, NetBoxError
from ipam_lib.models import PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Prefix, PrefixChange
from ipam_lib.registry import address_history, owned_prefixes, writes
from ipam_lib.registry.context import Context, Deadline, pages
from ipam_lib.registry.expiry_clock import ExpiryClock
from ipam_lib.registry.log_fields import log_registration
from ipam_lib.registry.pool import claim, cooldown

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReleaseReport:
    """The result of a round: removed services, released addresses, and registrations that failed and wait for the next
    round."""

    expired_services: int = 0
    released: int = 0
    failed: int = 0


async def release_expired(context: Context, time: ExpiryClock) -> ReleaseReport:
    """One round: remove expired services, and release the registrations without services. If one registration fails,
    the others are still done. Memory is bounded by one page.

    `time` decides what has expired; the caller passes the same clock in every round.

    Raises StorageUnavailable if the storage cannot be read.
    """
    report = ReleaseReport()
    await _expire_services(context, time, report)
    releasing, batch = {State.RELEASING}, context.settings.batch
    async for page in pages(lambda after: context.store.find_states(releasing, after=after, limit=batch)):
        ended = await finish_all(context, page)
        report.released += ended.released
        report.failed += ended.failed
    return report


async def _expire_services(context: Context, time: ExpiryClock, report: ReleaseReport) -> None:
    """Remove the expired services of all registrations, and write their tenures to the history."""
    now, batch = _expiry_now(context, time), context.settings.batch
    async for page in pages(lambda after: context.store.find_due(now=now, after=after, limit=batch)):
        looked_at: list[Registration] = []
        for registration in page:
            try:
                changed = await _remove_expired(context, time, registration)
            except IPAMError as error:
                report.failed += 1
                log.warning("could not expire services of %s: %s", registration.address, error)
                continue
            if changed is not None:
                report.expired_services += len(registration.services) - len(changed.services)
                looked_at.append(changed)
        report.failed += await address_history.record_departures(context, [one for one in looked_at if one.departed])


def _expiry_now(context: Context, time: ExpiryClock) -> datetime:
    return time.read(context.clock.now(), context.clock.monotonic())


async def _remove_expired(context: Context, time: ExpiryClock, registration: Registration) -> Registration | None:
    """Remove the expired services. If no service is left, the same step begins the release. Returns the changed
    registration. None if another request has changed it meanwhile: a service may have been registered again in time,
    so the next round decides."""
    now = _expiry_now(context, time)
    remaining = tuple(service for service in registration.services if not service.expired(now))
    if remaining and len(remaining) == len(registration.services):
        return registration
    changed = registration.changed(
        services=remaining,
        departed=address_history.departed(context, registration, now),
        state=State.LIVE if remaining else State.RELEASING,
    )
    if not await writes.replace(context, registration, changed, context.deadline()):
        return None
    gone = [service.key for service in registration.services if service.expired(now)]
    if gone:
        log_registration(log, "%s of zone %s: expired for %s", registration, gone, services_left=len(remaining))
    return changed


async def finish_all(context: Context, registrations: Sequence[Registration]) -> ReleaseReport:
    """Complete the release of registrations in bulk. If that fails, complete each one alone. An error is counted and
    logged, not raised; the next round tries again."""
    try:
        return ReleaseReport(released=await finish(context, registrations, context.deadline()))
    except IPAMError as error:
        if isinstance(error, NetBoxError) and not context.netbox.available:
            log.warning("releasing %d addresses waits for NetBox: %s", len(registrations), error)
            return ReleaseReport(failed=len(registrations))
        if len(registrations) == 1:
            log.warning("could not release %s: %s", registrations[0].address, error)
            return ReleaseReport(failed=1)
    total = ReleaseReport()
    for registration in registrations:
        one = await finish_all(context, [registration])
        total.released += one.released
        total.failed += one.failed
    return total


async def finish(context: Context, registrations: Sequence[Registration], deadline: Deadline) -> int:
    """Complete the release of registrations that are `releasing`: delete their prefixes in bulk, write their tenures to
    the history, then delete the documents. Returns how many documents this call deleted; another request deleted the
    others meanwhile.

    Raises Unavailable; the remaining registrations stay `releasing`.
    """
    # Read the entries before the prefixes: if an entry is gone by now, its prefix has the registration's ID.
    entries = await claim.entries_of(context, registrations)
    prefixes = await owned_prefixes.prefixes_of(context, registrations, deadline, entries)
    to_delete: list[Prefix] = []
    held: list[PrefixChange] = []
    for registration in registrations:
        for prefix in prefixes[registration.id]:
            if owned_prefixes.is_releasable(prefix, registration, entries[registration.id]):
                cooling = await _hold(context, registration, prefix, entries, deadline)
                if cooling is None:
                    to_delete.append(prefix)
                else:
                    # Nobody has the address now.
                    text = "" if context.settings.description and prefix.description in registration.described else None
                    held.append(PrefixChange(prefix.id, cooling.id, reserved=True, description=text))
            else:
                log.warning(
                    "prefix %s (NetBox id %d, k8s_uuid %s) does not belong to registration %s of %s; it is not deleted",
                    prefix.prefix,
                    prefix.id,
                    prefix.uuid,
                    registration.id,
                    registration.address,
                )
    if to_delete:
        await context.netbox.delete_many(to_delete, limit=deadline.call_limit())
    if held:
        await context.netbox.update_many(held, limit=deadline.call_limit())
    await address_history.record(context, registrations, deadline)
    done = 0
    for registration in registrations:
        for entry in entries[registration.id]:
            if entry.state is not PoolState.COOLING:
                await claim.delete_released(context, entry, deadline)
        if await writes.delete(context, registration, deadline):
            done += 1
            held_by = [gone.key for gone in registration.departed]
            text = "released %s of zone %s, last held by %s"
            cooling_down = any(entry.state is PoolState.COOLING for entry in entries[registration.id])
            log_registration(log, text, registration, held_by, cooling_down=cooling_down)
    return done


async def _hold(
    context: Context,
    registration: Registration,
    prefix: Prefix,
    entries: dict[str, list[PoolEntry]],
    deadline: Deadline,
) -> PoolEntry | None:
    """If released addresses have a cooldown: the pool entry that holds this address. If the address has several
    prefixes, the first one is held."""
    if not context.settings.cooldown or any(one.netbox_id != prefix.id for one in entries[registration.id]):
        return None
    cooling = await cooldown.cool_down(context, registration, prefix, entries[registration.id], deadline)
    if cooling is not None:
        entries[registration.id] = [cooling]
    return cooling
