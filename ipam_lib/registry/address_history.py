"""The history of an address: which service had it, and from when to when. A crash leaves no gap in it.

The registration says which services have the address now, and since when. So the beginning of a tenure needs no extra
write. The end of a tenure has three steps:

1. One compare-and-set moves the service from `services` to `departed` in the document. At this moment the tenure ends.
2. The tenure is inserted into the history. Its ID is made of the registration's ID and revision, so any number of
   instances may insert it.
3. The tenure is removed from the document with a compare-and-set, or the document is deleted.

After a crash, the next cleanup of any instance finds the document and continues. Times come from the clock of the
instance that made the change, just before the write.
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
from ipam_lib.storage.history_store import HistoryPosition

log = logging.getLogger(__name__)

PRUNED_AT_ONCE: Final = 500
BATCHES_OF_A_ROUND: Final = 20
READINGS: Final = 10

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NOT_ENDED: Final = 2**63 - 1
_RANK: Final = struct.Struct(">qq12s")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Tenures: first those that have not ended, then the others, latest end first. `cursor` asks for the next page;
    None after the last page."""

    tenures: Sequence[Tenure]
    cursor: str | None


class _Rank(NamedTuple):
    """The position of a tenure in the list, highest first: by its end, or by its beginning if it has not ended, in
    milliseconds."""

    until: int
    since: int
    id: str

    @classmethod
    def of(cls, tenure: Tenure) -> _Rank:
        if tenure.until is not None:
            return cls(_milliseconds(tenure.until), 0, tenure.id)
        return cls(_NOT_ENDED, _milliseconds(tenure.since) if tenure.since else 0, tenure.id)

    @classmethod
    def read(cls, cursor: str) -> _Rank:
        """Raises BadRequest."""
        until, since, identity = _RANK.unpack(from_cursor(cursor, _RANK.size))
        return cls(until, since, identity.hex())

    @property
    def cursor(self) -> str:
        return to_cursor(_RANK.pack(self.until, self.since, bytes.fromhex(self.id)))

    @property
    def place(self) -> HistoryPosition | None:
        """The position among the ended tenures. None: before all of them. Raises BadRequest if the time is invalid."""
        if self.until == _NOT_ENDED:
            return None
        try:
            return HistoryPosition(_EPOCH + _MILLISECOND * self.until, self.id)
        except OverflowError:
            raise invalid_cursor() from None


def arrived(services: Iterable[Service], now: datetime) -> tuple[Service, ...]:
    """The services, with `now` as the beginning of their tenures."""
    return tuple(replace(one, since=now) for one in services)


def departed(context: Context, registration: Registration, now: datetime) -> tuple[Departure, ...]:
    """The `departed` of the next revision of a registration, after the services that have expired at `now` leave it."""
    if not context.settings.history:
        return registration.departed
    revision = (registration.revision or 0) + 1
    leaving = [one for one in registration.services if one.expired(now)]
    return registration.departed + tuple(
        Departure(_digest(registration.id, str(revision), str(number)), one.key, one.since, max(now, one.since or now))
        for number, one in enumerate(leaving)
    )


async def record(context: Context, registrations: Iterable[Registration], deadline: Deadline) -> None:
    """Insert the departures of these registrations, as they are stored, into the history. Safe to repeat.

    Raises Unavailable.
    """
    ended = [_tenure(registration, gone.id, gone) for registration in registrations for gone in registration.departed]
    if ended:
        await writes.history_insert(context, ended, deadline)


async def record_departures(context: Context, registrations: Sequence[Registration]) -> int:
    """Insert the departures of registrations into the history, then remove them from the live registrations. The others
    will be deleted. Returns how many live registrations failed; the next round tries them again."""
    live = [one for one in registrations if one.state is State.LIVE]
    failed = 0
    try:
        await record(context, registrations, context.deadline())
    except IPAMError as error:
        log.warning("could not write the history of %d addresses: %s", len(registrations), error)
        return len(live)
    for registration in live:
        try:
            # If the registration has changed meanwhile, the next round does it.
            await writes.replace(context, registration, registration.changed(departed=()), context.deadline())
        except IPAMError as error:
            failed += 1
            log.warning("could not remove the departed services of %s: %s", registration.address, error)
    return failed


async def prune(context: Context, time: ExpiryClock) -> int:
    """Delete tenures that ended longer ago than the history is stored, a bounded number of them. Returns how many.

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
    """One page of the tenures of an address, at most `limit`. Pages are stable: if a tenure ends between two pages, its
    end appears only once.

    `spellings`: the address in each of its spellings, the canonical one first. `zone`: None means any zone.

    Raises BadRequest if the cursor is not one of an earlier page, Unavailable.
    """
    after = None if cursor is None else _Rank.read(cursor)
    place = None if after is None else after.place
    standing = await _standing(context, spellings, zone)
    for _ in range(READINGS):
        ended = await context.store.history_page(address=spellings[0], zone=zone, before=place, limit=limit + 1)
        before, standing = standing, await _standing(context, spellings, zone)
        # If a tenure moved from a registration to the history between the two reads, it could be in both, or in none.
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
    """Whether the service had the address at any moment from `first` to `last`. If its beginning is unknown, it is
    taken for earlier than `last`."""
    began = tenure.since is None or tenure.since <= last
    return began and (tenure.until is None or first < tenure.until)


async def _standing(context: Context, spellings: Sequence[str], zone: str | None) -> list[Registration]:
    """The registrations on an address that are live or releasing."""
    found = await context.store.find_address(zone=zone, addresses=spellings)
    return [one for one in found if one.state in (State.LIVE, State.RELEASING)]


def _of_registrations(registrations: Iterable[Registration]) -> list[Tenure]:
    """The tenures in the registrations: those that have not ended, and those that are not in the history yet."""
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
    """24 hex digits, made of the parts by a hash: equal for equal parts only."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
