"""What the service should come to, as a plain model: no order of steps, no other moment than now, nothing to fail.

The state machine compares the real thing with it after each of its steps.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ipam_lib.errors import (
    AddressTaken,
    IPAMError,
    NotFound,
    SecretShared,
    StillInFlight,
    Unavailable,
    WrongSecret,
    ZoneFull,
)
from ipam_lib.models import Request

Place = tuple[str, str]
Refused = type[IPAMError]


@dataclass
class Held:
    """A service on an address."""

    days: int
    deny: bool
    since: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Ended:
    """A service was on an address."""

    place: Place
    name: str
    since: datetime
    until: datetime


@dataclass
class Entry:
    """A registration. `prefix`: whether its prefix is in NetBox, `marked`: with its id. Without services it is being
    released. `born` orders them by age."""

    family: str
    secret: str
    born: int
    services: dict[str, Held]
    prefix: bool = True
    marked: bool = True
    releasing: bool = False


@dataclass
class Limbo:
    """A creation whose process died. `address`: the given one; `made`: what NetBox made for it."""

    zone: str
    family: str
    name: str
    secret: str
    born: int
    address: str | None
    made: str | None
    aborting: bool = False


@dataclass
class ReferenceModel:
    """Registrations by zone and address, and what else is in NetBox. `hosts`: the addresses of each zone and family, in
    the order in which they are handed out."""

    hosts: dict[tuple[str, str], list[str]]
    clusters: dict[str, str]
    entries: dict[Place, Entry] = field(default_factory=dict)
    limbos: list[Limbo] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    ended: list[Ended] = field(default_factory=list)
    reachable: bool = True
    births: int = 0
    last_born: int = 0

    # -- NetBox ------------------------------------------------------------------------------------------------------

    def prefixes(self) -> dict[str, str]:
        """Everything in NetBox but the containers, and whose it is."""
        found = dict.fromkeys(self.foreign, "foreign") | dict.fromkeys(self.orphans, "orphan")
        for (zone, address), entry in self.entries.items():
            if entry.prefix:
                found[address] = f"{zone} {address}" if entry.marked else "foreign"
        for limbo in self.limbos:
            if limbo.made:
                found[limbo.made] = f"{limbo.zone} {limbo.address or limbo.name}"
        return found

    def covering(self, address: str) -> set[str]:
        """What in NetBox holds the address, or is it."""
        host = ipaddress.ip_network(address)
        return {
            prefix
            for prefix, net in ((one, ipaddress.ip_network(one)) for one in self.prefixes())
            if net.version == host.version and host.subnet_of(net)  # type: ignore[arg-type]
        }

    def steal(self, prefix: str) -> None:
        """Another user deletes a prefix in NetBox, with any owner."""
        self.foreign.discard(prefix)
        self.orphans.discard(prefix)
        for (_, address), entry in self.entries.items():
            if address == prefix:
                entry.prefix, entry.marked = False, True
        for limbo in self.limbos:
            if limbo.made == prefix:
                limbo.made = None

    # -- POST --------------------------------------------------------------------------------------------------------

    def register(self, asked: Request, now: datetime) -> str | Refused:
        """The address, or why there is none."""
        done = self._registered_already(asked, now)
        if done is not None:
            return done
        place = (asked.zone, asked.address or "")
        entry = self.entries.get(place)
        if entry is not None and not entry.releasing:
            return WrongSecret
        limbo = self._met(asked)
        if entry is not None:
            if not self.reachable:
                return Unavailable
            del self.entries[place]
        if limbo is not None and limbo.aborting:
            if not self.reachable:
                return Unavailable
            self.limbos.remove(limbo)
            limbo = None
        if limbo is not None and (limbo.name, limbo.secret) != (asked.key.service_name, asked.secret):
            return StillInFlight
        if not self.reachable:
            return Unavailable
        self.last_born = born = self._next_birth() if limbo is None else limbo.born
        made = None
        if limbo is not None:
            self.limbos.remove(limbo)
            made = limbo.made
        address = self._next_free(asked, made) if asked.address is None else self._given(asked.address, made)
        if isinstance(address, str):
            held = Held(asked.retention_period_days or 0, asked.deny_external_cleanup, now)
            self.entries[asked.zone, address] = Entry(
                asked.ip_family, asked.secret, born, {asked.key.service_name: held}
            )
        return address

    def _registered_already(self, asked: Request, now: datetime) -> str | Refused | None:
        for secret, new_secret in ((asked.secret, asked.new_secret), (asked.new_secret, None)):
            found = self.find(asked, secret)
            if secret == asked.secret and found is not None:
                return self._update(found, asked, new_secret, now)
            if found is not None and asked.key.service_name in self.entries[found].services:
                return self._update(found, asked, None, now)
        return None

    def find(self, asked: Request, secret: str | None) -> Place | None:
        """The registration that is meant."""
        name = asked.key.service_name
        found = [
            (entry.services[name].expires_at is not None if name in entry.services else False, entry.born, place)
            for place, entry in self.entries.items()
            if place[0] == asked.zone
            and entry.family == asked.ip_family
            and entry.secret == secret
            and not entry.releasing
            and (place[1] == asked.address if asked.address else name in entry.services)
        ]
        return min(found)[2] if found else None

    def _update(self, place: Place, asked: Request, new_secret: str | None, now: datetime) -> str | Refused:
        entry = self.entries[place]
        if new_secret is not None and new_secret != asked.secret:
            if list(entry.services) != [asked.key.service_name]:
                return SecretShared
            entry.secret = new_secret
        name = asked.key.service_name
        since = entry.services[name].since if name in entry.services else now
        entry.services[name] = Held(asked.retention_period_days or 0, asked.deny_external_cleanup, since)
        return place[1]

    def _met(self, asked: Request) -> Limbo | None:
        """The unfinished creation that stands where this one would."""
        for limbo in self.limbos:
            if limbo.zone != asked.zone or limbo.address != asked.address:
                continue
            if asked.address is not None or (limbo.family, limbo.name) == (asked.ip_family, asked.key.service_name):
                return limbo
        return None

    def _next_free(self, asked: Request, made: str | None) -> str | Refused:
        """The lowest free address; a prefix that comes out of NetBox for a registration without one is given to that.
        `made` is what the creation has in NetBox already."""
        candidates = [made] if made else []
        candidates += self.hosts[asked.zone, asked.ip_family]
        for address in candidates:
            if address != made and self.covering(address):
                continue
            entry = self.entries.get((asked.zone, address))
            limbo = next((one for one in self.limbos if one.address == address), None)
            if entry is not None and entry.releasing:
                del self.entries[asked.zone, address]
            elif entry is not None:
                assert not entry.prefix, "NetBox does not hand out what is there"
                entry.prefix = True
                made = None
                continue
            elif limbo is not None and limbo.aborting:
                self.limbos.remove(limbo)
            elif limbo is not None:
                continue
            return address
        return ZoneFull

    def _given(self, address: str, made: str | None) -> str | Refused:
        if made is not None:
            return made
        holding = self.covering(address)
        if not holding:
            return address
        yielding = {limbo.made for limbo in self.limbos}
        return Unavailable if holding <= yielding else AddressTaken

    def _next_birth(self) -> int:
        self.births += 1
        return self.births

    def leave_behind(self, asked: Request, *, made: bool) -> None:
        """A creation whose process dies before or after NetBox made its prefix; `asked` must be new, and possible."""
        address: str | None = asked.address
        if asked.address is None:
            hosts = self.hosts[asked.zone, asked.ip_family]
            address = next(one for one in hosts if not self.covering(one))
        self._add_limbo(asked, self._next_birth(), address if made else None)

    def stay_behind(self, asked: Request) -> None:
        """The creation that was just refused has not ended."""
        self._add_limbo(asked, self.last_born, None)

    def _add_limbo(self, asked: Request, born: int, made: str | None) -> None:
        name = asked.key.service_name
        self.limbos.append(Limbo(asked.zone, asked.ip_family, name, asked.secret, born, asked.address, made))

    # -- DELETE, and the workers ---------------------------------------------------------------------------------------

    def expire(self, asked: Request, now: datetime) -> str | Refused:
        """The address, or why there is none."""
        place = self.find(asked, asked.secret)
        held = self.entries[place].services.get(asked.key.service_name) if place else None
        if place is None or held is None:
            return NotFound
        days = held.days if asked.retention_period_days is None else asked.retention_period_days
        held.expires_at = now + timedelta(days=days)
        return place[1]

    def expire_cluster(self, cluster: str, now: datetime) -> tuple[int, int] | Refused:
        """How many expire, and how many deny that."""
        theirs = [
            held
            for entry in self.entries.values()
            for name, held in entry.services.items()
            if self.clusters[name] == cluster.lower()
        ]
        willing = [held for held in theirs if not held.deny]
        for held in willing:
            held.expires_at = min(held.expires_at or now, now)
        return (len(willing), len(theirs) - len(willing)) if theirs else NotFound

    def release(self, now: datetime) -> None:
        """The cleanup."""
        for place, entry in list(self.entries.items()):
            for name, held in list(entry.services.items()):
                if held.expires_at is not None and held.expires_at <= now:
                    self.ended.append(Ended(place, name, held.since, now))
                    del entry.services[name]
            if not entry.services:
                entry.releasing = True
                if self.reachable:
                    del self.entries[place]

    def recover(self) -> None:
        """Recovery, when every unfinished creation is old enough for it."""
        for limbo in self.limbos:
            limbo.aborting = True
        if self.reachable:
            self.limbos.clear()

    def reconcile(self) -> None:
        """Three rounds with repairs."""
        if not self.reachable:
            return
        for (_, address), entry in self.entries.items():
            if not entry.releasing:
                entry.marked = True
                if not entry.prefix and not self.covering(address):
                    entry.prefix = True
        self.orphans.clear()

    def forget(self, place: Place) -> None:
        """An admin deletes the document."""
        entry = self.entries.pop(place)
        if entry.prefix:
            (self.orphans if entry.marked else self.foreign).add(place[1])

    def states(self) -> dict[Place, Literal["live", "releasing", "creating", "aborting"]]:
        """The state of each document, by zone and address (or the service whose address is pending)."""
        found: dict[Place, Literal["live", "releasing", "creating", "aborting"]] = {
            place: "releasing" if entry.releasing else "live" for place, entry in self.entries.items()
        }
        for limbo in self.limbos:
            place = (limbo.zone, limbo.address or f"{limbo.family} of {limbo.name}")
            found[place] = "aborting" if limbo.aborting else "creating"
        return found
