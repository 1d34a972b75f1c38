"""Release: remove services whose expiration has passed, and give back the addresses that have no service left.

A registration goes from `live` to `releasing` in one compare-and-set, together with its last service; from then on no
service can be added to it. Then its prefix is deleted, then who held it is written down (see `history`), then the
document is deleted. A crash leaves `releasing`, and the next
round, of any instance, goes on. Several may be at the same registration at once: deletions by id are safe to repeat,
and ids are never used twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from ipam_lib.addresses import is_host, same
from ipam_lib.errors import IPAMError, NetBoxError
from ipam_lib.models import PoolEntry, PoolState, Registration, State
from ipam_lib.netbox.base import Prefix, PrefixChange
from ipam_lib.registry import address_history, writes
from ipam_lib.registry.context import Context, Deadline
from ipam_lib.registry.expiry_clock import ExpiryClock
from ipam_lib.registry.log_fields import registration_fields, service_names
from ipam_lib.registry.pool import claim, cooldown

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReleaseReport:
    """What a round did: services removed, addresses released, and registrations left for the next round by an error."""

    expired_services: int = 0
    released: int = 0
    failed: int = 0


async def release_expired(context: Context, time: ExpiryClock) -> ReleaseReport:
    """One round: remove what has expired, release what has no service left. One failing registration does not stop the
    others; memory is bounded by one page. `time` says what has expired; it is kept from round to round."""
    report = ReleaseReport()
    now = _expiry_now(context, time)
    after: str | None = None
    while page := await context.store.find_due(now=now, after=after, limit=context.settings.batch):
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
        after = page[-1].id
    after = None
    while page := await context.store.find_states({State.RELEASING}, after=after, limit=context.settings.batch):
        ended = await finish_all(context, page)
        report.released += ended.released
        report.failed += ended.failed
        after = page[-1].id
    return report


def _expiry_now(context: Context, time: ExpiryClock) -> datetime:
    return time.read(context.clock.now(), context.clock.monotonic())


async def _remove_expired(context: Context, time: ExpiryClock, registration: Registration) -> Registration | None:
    """Take the expired services off, and start the release in the same step when none is left; the registration as it
    then is. None when it was changed meanwhile: that is left to the next round, since it may have come back in time."""
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
        text = "%s of zone %s: expired for %s"
        more = registration_fields(registration, gone, services_left=len(remaining))
        log.info(text, registration.address, registration.zone, service_names(gone), extra=more)
    return changed


async def finish_all(context: Context, registrations: Sequence[Registration]) -> ReleaseReport:
    """End the release of registrations, in bulk; where the bulk fails, each by itself. Never raises: what fails is
    counted and logged, and has its next chance in the next round."""
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
    """Delete the prefixes of registrations that are `releasing`, in bulk, write down who held them, then delete the
    documents; how many this call ended (the others were ended by somebody else meanwhile).

    Raises Unavailable; the registrations that are left then stay `releasing`.
    """
    # Before the prefixes: an entry that is gone by now has left its prefix to the registration.
    entries = await claim.entries_of(context, registrations)
    prefixes = await prefixes_of(context, registrations, deadline, entries)
    to_delete: list[int] = []
    held: list[PrefixChange] = []
    for registration in registrations:
        for prefix in prefixes[registration.id]:
            if is_releasable(prefix, registration, entries[registration.id]):
                cooling = await _hold(context, registration, prefix, entries, deadline)
                if cooling is None:
                    to_delete.append(prefix.id)
                else:
                    held.append(PrefixChange(prefix.id, cooling.id, reserved=True))
            else:
                log.warning(
                    "prefix %s (NetBox id %d, k8s_uuid %s) is not what registration %s of %s made; left alone",
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
                await claim.let_go(context, entry, deadline)
        if await writes.delete(context, registration, deadline):
            done += 1
            held_by = [gone.key for gone in registration.departed]
            text = "released %s of zone %s, last held by %s"
            to_cool = any(entry.state is PoolState.COOLING for entry in entries[registration.id])
            more = registration_fields(registration, held_by, cooling_down=to_cool)
            log.info(text, registration.address, registration.zone, service_names(held_by), extra=more)
    return done


async def _hold(
    context: Context,
    registration: Registration,
    prefix: Prefix,
    entries: dict[str, list[PoolEntry]],
    deadline: Deadline,
) -> PoolEntry | None:
    """Where released addresses have to cool down: the entry that holds this one. Of several prefixes on the address
    the first is held."""
    if not context.settings.cooldown or any(one.netbox_id != prefix.id for one in entries[registration.id]):
        return None
    cooling = await cooldown.cool_down(context, registration, prefix, entries[registration.id], deadline)
    if cooling is not None:
        entries[registration.id] = [cooling]
    return cooling


def is_releasable(prefix: Prefix, registration: Registration, entries: Iterable[PoolEntry] = ()) -> bool:
    """Whether the prefix still is the registration's: same address, and its own `k8s_uuid` or none (the earlier service
    wrote that in a second step), or that of one of its pool entries. Never a container, whoever marked it."""
    return (
        same(prefix.prefix, registration.address)
        and prefix.uuid in (registration.id, None, "", *(entry.id for entry in entries))
        and not prefix.is_container
    )


async def prefixes_of(
    context: Context,
    registrations: Sequence[Registration],
    deadline: Deadline,
    entries: Mapping[str, Sequence[PoolEntry]] = MappingProxyType({}),
) -> dict[str, list[Prefix]]:
    """The prefixes in NetBox that belong to each registration, by the id that it names or by their `k8s_uuid`; also
    those of its pool entries, where these are given."""
    found: dict[str, dict[int, Prefix]] = {registration.id: {} for registration in registrations}
    by_netbox_id: dict[int, list[str]] = {}
    for registration in registrations:
        named = {registration.netbox_id, *(entry.netbox_id for entry in entries.get(registration.id, ()))}
        for netbox_id in sorted(one for one in named if one):
            by_netbox_id.setdefault(netbox_id, []).append(registration.id)
    if by_netbox_id:
        for prefix in await context.netbox.get_many(list(by_netbox_id), limit=deadline.call_limit()):
            for owner in by_netbox_id[prefix.id]:
                found[owner][prefix.id] = prefix
    for prefix in await context.netbox.find_by_uuid(list(found), limit=deadline.call_limit()):
        if prefix.uuid in found:
            found[prefix.uuid][prefix.id] = prefix
    return {key: list(prefixes.values()) for key, prefixes in found.items()}


def own_prefixes(prefixes: Iterable[Prefix], registration_id: str) -> list[Prefix]:
    """Those that a creation under this id made: single addresses that carry it; lowest id first."""
    return sorted(
        (one for one in prefixes if one.uuid == registration_id and not one.is_container and is_host(one.prefix)),
        key=lambda prefix: prefix.id,
    )
