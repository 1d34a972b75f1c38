"""Who held an address, from when to when, in an order that a crash cannot make lie.

The registration is the one record of who holds an address now: each of its services says since when. So a tenure has
begun when the document says so, and there is nothing else to write. A service that leaves is taken off the document,
and put down in it as departed, in one compare-and-set: from then on the tenure has ended, and not before. Then the
tenure is written to the history, under an id that is made of the registration and its revision, so that any number of
instances may do so at any time; and only then does the document let go of it: by another compare-and-set, or by its
deletion. What a crash leaves in a document is found by the next round of cleanup, of any instance.

Times are those of the clock of the instance that made the change, read just before it was stored.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ipam_lib.addresses import canonical
from ipam_lib.errors import IPAMError, Unavailable
from ipam_lib.models import Departure, Registration, Service, State, Tenure
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, Deadline
from ipam_lib.registry.expiry_clock import ExpiryClock
from ipam_lib.registry.listing import from_cursor, invalid_cursor, to_cursor
from ipam_lib.storage.history_store import Place

log = logging.getLogger(__name__)

PRUNED_AT_ONCE: Final = 500
BATCHES_OF_A_ROUND: Final = 20
READINGS: Final = 10

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_STILL: Final = 2**63 - 1
_RANK: Final = struct.Struct(">qq12s")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Tenures, those that still last first, then those that ended last. `cursor` asks for the next page; None after the
    last."""

    tenures: Sequence[Tenure]
    cursor: str | None


class _Rank(NamedTuple):
    """Where a tenure stands, highest first: by its end, in milliseconds; those without one by their beginning."""

    until: int
    since: int
    id: str

    @classmethod
    def of(cls, tenure: Tenure) -> _Rank:
        if tenure.until is not None:
            return cls(_milliseconds(tenure.until), 0, tenure.id)
        return cls(_STILL, _milliseconds(tenure.since) if tenure.since else 0, tenure.id)

    @classmethod
    def read(cls, cursor: str) -> _Rank:
        """Raises BadRequest."""
        until, since, identity = _RANK.unpack(from_cursor(cursor, _RANK.size))
        return cls(until, since, identity.hex())

    @property
    def cursor(self) -> str:
        return to_cursor(_RANK.pack(self.until, self.since, bytes.fromhex(self.id)))

    @property
    def place(self) -> Place | None:
        """The place among those that have ended; None before all of them. Raises BadRequest for what is no moment."""
        if self.until == _STILL:
            return None
        try:
            return Place(_EPOCH + _MILLISECOND * self.until, self.id)
        except OverflowError:
            raise invalid_cursor() from None


def arrived(services: Iterable[Service], now: datetime) -> tuple[Service, ...]:
    """The services, which hold their address from now on."""
    return tuple(replace(one, since=now) for one in services)


def departed(context: Context, registration: Registration, now: datetime) -> tuple[Departure, ...]:
    """What stands in the next revision of a registration when the services that have expired at `now` leave it."""
    if not context.settings.history:
        return registration.departed
    revision = (registration.revision or 0) + 1
    leaving = [one for one in registration.services if one.expired(now)]
    return registration.departed + tuple(
        Departure(_digest(registration.id, str(revision), str(number)), one.key, one.since, max(now, one.since or now))
        for number, one in enumerate(leaving)
    )


async def record(context: Context, registrations: Iterable[Registration], deadline: Deadline) -> None:
    """Write to the history what has departed from these registrations, as they are stored. May be repeated.

    Raises Unavailable.
    """
    ended = [_tenure(registration, gone.id, gone) for registration in registrations for gone in registration.departed]
    if ended:
        await writes.history_insert(context, ended, deadline)


async def record_departures(context: Context, registrations: Sequence[Registration]) -> int:
    """Write to the history what has departed from registrations, then let the live ones go of it (the others are about
    to be deleted). How many live ones failed: these have their next chance in the next round."""
    live = [one for one in registrations if one.state is State.LIVE]
    failed = 0
    try:
        await record(context, registrations, context.deadline())
    except IPAMError as error:
        log.warning("the history of %d addresses waits: %s", len(registrations), error)
        return len(live)
    for registration in live:
        try:
            # Where it was changed meanwhile, that is for the next round.
            await writes.replace(context, registration, registration.changed(departed=()), context.deadline())
        except IPAMError as error:
            failed += 1
            log.warning("could not let %s go of its history: %s", registration.address, error)
    return failed


async def prune(context: Context, time: ExpiryClock) -> int:
    """Remove tenures that ended longer ago than the history is kept, a bounded number of them; how many.

    Raises StorageUnavailable.
    """
    now = time.read(context.clock.now(), context.clock.monotonic())
    pruned = 0
    for _ in range(BATCHES_OF_A_ROUND):
        batch = await context.store.history_prune(before=now - context.settings.history, limit=PRUNED_AT_ONCE)
        pruned += batch
        if batch < PRUNED_AT_ONCE:
            break
    return pruned


async def read(
    context: Context, spellings: Sequence[str], *, zone: str | None = None, limit: int, cursor: str | None = None
) -> HistoryPage:
    """One page of the tenures of an address, given in each of its spellings (the canonical one first), in a zone or in
    any. At most `limit`. Pages are stable: what ends while they are read never shows an end twice.

    Raises BadRequest for a cursor that is none, Unavailable.
    """
    after = None if cursor is None else _Rank.read(cursor)
    place = None if after is None else after.place
    standing = await _standing(context, spellings, zone)
    for _ in range(READINGS):
        ended = await context.store.history_page(address=spellings[0], zone=zone, before=place, limit=limit + 1)
        before, standing = standing, await _standing(context, spellings, zone)
        # A tenure that went from a registration to the history between the two readings would be in both, or in none.
        if standing == before:
            break
    else:
        raise Unavailable("the registrations on this address keep changing; try again")
    found = {one.id: one for one in (*_of_registrations(standing), *ended)}
    ranked = sorted(((_Rank.of(one), one) for one in found.values()), key=lambda pair: pair[0], reverse=True)
    left = [pair for pair in ranked if after is None or pair[0] < after]
    page = left[:limit]
    return HistoryPage([one for _, one in page], page[-1][0].cursor if len(left) > limit else None)


def held_between(tenure: Tenure, first: datetime, last: datetime) -> bool:
    """Whether the service held the address at any moment from `first` to `last`; where its beginning is unknown, it
    may have."""
    began = tenure.since is None or tenure.since <= last
    return began and (tenure.until is None or first < tenure.until)


async def _standing(context: Context, spellings: Sequence[str], zone: str | None) -> list[Registration]:
    """The registrations on an address that hold it, or have let go of it a moment ago."""
    found = await context.store.find_address(zone=zone, addresses=spellings)
    return [one for one in found if one.state in (State.LIVE, State.RELEASING)]


def _of_registrations(registrations: Iterable[Registration]) -> list[Tenure]:
    """What the registrations know: who holds the address, and who departed and is not in the history yet."""
    found = []
    for registration in registrations:
        for number, service in enumerate(registration.services):
            key = service.key
            identity = _digest(registration.id, str(number), key.service_name, key.namespace_id, key.cluster_id)
            found.append(_tenure(registration, identity, service))
        found += [_tenure(registration, gone.id, gone) for gone in registration.departed]
    return found


def _tenure(registration: Registration, identity: str, of: Service | Departure) -> Tenure:
    return Tenure(
        id=identity,
        registration_id=registration.id,
        zone=registration.zone,
        ip_family=registration.ip_family,
        address=canonical(registration.address),
        key=of.key,
        since=of.since,
        until=of.until if isinstance(of, Departure) else None,
    )


def _digest(*parts: str) -> str:
    """24 hex digits, the same for the same parts and for no others."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
