"""Who really held which address, from when to when: told by the writes that the store has carried out, whatever became
of whoever sent them. What the history says is held against it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from ipam_lib.models import Registration, ServiceKey, State, Tenure
from ipam_lib.storage.base import Store
from tests.support.virtual_loop import EPOCH, VirtualLoop

SKEW = timedelta(seconds=2.1)
"""How far the clocks of instances are from the loop's."""
UNDER_WAY = timedelta(seconds=31)
"""How long before a write is carried out its moment may have been read: as long as a request lasts, and the last call
of the storage."""


@dataclass(slots=True)
class Held:
    """A service held an address. `until` None: it still does."""

    registration_id: str
    zone: str
    address: str
    key: ServiceKey
    since: datetime
    until: datetime | None = None

    def is_told_by(self, tenure: Tenure) -> bool:
        """Whether the tenure says this, and nothing beyond it, as far as clocks go."""
        if (tenure.registration_id, tenure.zone, tenure.address, tenure.key) != (
            self.registration_id,
            self.zone,
            self.address,
            self.key,
        ):
            return False
        return _is_near(tenure.since, self.since) and _is_near(tenure.until, self.until)


def _is_near(told: datetime | None, real: datetime | None) -> bool:
    if told is None or real is None:
        return told is real
    return real - UNDER_WAY - SKEW <= told <= real + SKEW


class ClusterDeletions:
    """The deletions of the cluster that clients have sent: a service that a client registers while one is under way may
    expire all the same. One that was not answered is under way for as long as a request lasts: its instance may go on
    with it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._under_way: list[float] = []
        """Until when each may be carried out."""

    def send(self) -> Callable[[bool], None]:
        """A client sends one. Call the result when the client stops to wait, with whether it was answered."""
        place = len(self._under_way)
        until = self._loop.time() + UNDER_WAY.total_seconds()
        self._under_way.append(float("inf"))

        def end(answered: bool) -> None:
            self._under_way[place] = self._loop.time() if answered else until

        return end

    def mark(self) -> Callable[[], bool]:
        """The result says whether none has been under way from now until then."""
        sent = len(self._under_way)
        quiet = all(until <= self._loop.time() for until in self._under_way)
        return lambda: quiet and sent == len(self._under_way)


class Truth:
    """See the module. It stands between the store and every writer."""

    def __init__(self, store: Store, loop: VirtualLoop) -> None:
        self._loop = loop
        self._holding: dict[str, dict[ServiceKey, Held]] = {}
        self.all: list[Held] = []
        self.left = asyncio.Queue[str]()
        """The address of each service that leaves, at that moment."""
        self._watch(store, "replace", lambda done, _, new: self._changed(new) if done else None)
        self._watch(store, "delete", lambda done, old: self._changed(old, gone=True) if done else None)

    def now(self) -> datetime:
        """The moment."""
        return EPOCH + timedelta(seconds=self._loop.time())

    def _watch(self, store: Store, name: str, carried_out: Callable[..., None]) -> None:
        operation: Callable[..., Awaitable[bool]] = getattr(store, name)

        @wraps(operation)
        async def watched(*registrations: Registration) -> bool:
            # Whoever gives up waiting does not undo it.
            return await asyncio.shield(self._loop.create_task(carry_out(*registrations)))

        async def carry_out(*registrations: Registration) -> bool:
            done = await operation(*registrations)
            carried_out(done, *registrations)
            return done

        setattr(store, name, watched)

    def _changed(self, registration: Registration, *, gone: bool = False) -> None:
        before = self._holding.get(registration.id, {})
        after: dict[ServiceKey, Held] = {}
        if registration.state is State.LIVE and not gone:
            for service in registration.services:
                held = before.get(service.key)
                if held is None:
                    place = (registration.id, registration.zone, registration.address)
                    held = Held(*place, service.key, self.now())
                    self.all.append(held)
                after[service.key] = held
        for key in before.keys() - after.keys():
            before[key].until = self.now()
            self.left.put_nowait(registration.address)
        self._holding[registration.id] = after

    def on(self, address: str) -> list[Held]:
        """Who held this address, in any zone."""
        return [one for one in self.all if one.address == address]

    def lies(self, address: str, told: Sequence[Tenure], began: datetime) -> list[str]:
        """What is wrong with what was told of an address to a reader that began at `began` and has just
        ended."""
        rest = list(told)
        problems = []
        for held in self.on(address):
            one = next((each for each in rest if held.is_told_by(each)), None)
            if one is None and held.until is not None and held.until >= began:
                # It ended meanwhile: it may have been seen before that.
                still = Held(held.registration_id, held.zone, held.address, held.key, held.since)
                one = next((each for each in rest if still.is_told_by(each)), None)
            if one is not None:
                rest.remove(one)
            elif held.since < began:
                problems.append(f"lost from the history: {held}")
        return problems + [f"lies: the history says {one}" for one in rest]

    def addresses(self) -> Iterable[str]:
        """Every address that was ever held."""
        return dict.fromkeys(one.address for one in self.all)


async def everything(read: Callable[..., Awaitable[Any]], address: str, limit: int) -> list[Tenure]:
    """All pages of an address's history."""
    found: list[Tenure] = []
    cursor = None
    while True:
        page = await read([address, address.partition("/")[0]], limit=limit, cursor=cursor)
        found += page.tenures
        cursor = page.cursor
        if cursor is None:
            return found
