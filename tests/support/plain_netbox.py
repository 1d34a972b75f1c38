"""NetBox as the registry sees it, in plain dictionaries: what each call does, at once and without JSON.

Like the real one it hands out the lowest free address, frees addresses at once, and does not guarantee uniqueness.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ipam_lib import addresses
from ipam_lib.errors import (
    ContainerFull,
    ContainerGone,
    DuplicatePrefix,
    UnknownZone,
)
from ipam_lib.models import IPFamily
from ipam_lib.netbox.base import NO_DESCRIPTIONS, Container, NetBox, Occupant, Prefix, PrefixChange, Zones


class PlainNetBox(NetBox):
    """See the module. `checks_uniqueness` says whether `create_exact` refuses what is there (its check races)."""

    def __init__(self, containers: Sequence[Container] = ()) -> None:
        self.containers = {one.id: one for one in containers}
        self.prefixes: dict[int, Prefix] = {}
        self.zone_of: dict[int, int] = {}
        self._last_id = 1000
        self.ip_addresses: dict[int, Occupant] = {}
        self.stamps: dict[int, datetime] = {}
        self.edited: dict[int, tuple[datetime, str]] = {}
        """When somebody wrote which description, by the prefix's id."""
        self.overwritten: list[tuple[timedelta, str]] = []
        """The texts of somebody that were replaced, and their age then."""
        self.asked_at: dict[str, datetime] = {}
        self.now: Callable[[], datetime] = lambda: datetime(2026, 1, 1, tzinfo=UTC)
        self.checks_uniqueness = True
        self.up = True

    @property
    def available(self) -> bool:
        return self.up

    def _in(self, container: Container) -> list[Prefix]:
        return [
            one
            for one in self.prefixes.values()
            if one.vrf_id == container.vrf_id and addresses.contains(container.prefix, one.prefix)
        ]

    def free(self, container: Container) -> str | None:
        """The lowest free address, or None."""
        taken = [ipaddress.ip_network(one.prefix) for one in self._in(container)]
        for candidate in ipaddress.ip_network(container.prefix):
            if not any(candidate in network for network in taken):
                return addresses.host_address(str(candidate))
        return None

    def add(
        self,
        container: Container,
        prefix: str,
        uuid: str | None = None,
        status: str = "active",
        description: str = "",
    ) -> Prefix:
        """Put a prefix there, as anybody could."""
        self._last_id += 1
        made = Prefix(self._last_id, prefix, container.vrf_id, status, container.zone, uuid, description)
        self.prefixes[made.id] = made
        self.stamps[made.id] = self.now()
        return made

    def add_ip_address(self, address: str) -> Occupant:
        """Enter an IP address, as anybody could."""
        self._last_id += 1
        number = int(ipaddress.ip_interface(address).ip)
        entered = Occupant(self._last_id, number, number, "IP address", address, self.now())
        self.ip_addresses[entered.netbox_id] = entered
        return entered

    def edit(self, prefix_id: int, description: str) -> None:
        """Write a description, as anybody could."""
        self.prefixes[prefix_id] = replace(self.prefixes[prefix_id], description=description)
        self.edited[prefix_id] = (self.now(), description)

    def asked(self, uuids: Sequence[str]) -> None:
        """A creation is being sent: what is in NetBox by now may not be on its address."""
        self.asked_at.update((uuid, self.now()) for uuid in uuids)

    def children(self, container: Container) -> list[Occupant]:
        """The prefixes inside a container as occupants, by ascending id."""
        rows = []
        for one in sorted(self._in(container), key=lambda one: one.id):
            net = ipaddress.ip_network(one.prefix)
            rows.append(Occupant(one.id, int(net[0]), int(net[-1]), "prefix", one.prefix, self.stamps[one.id]))
        return rows

    async def create_next(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        if container.id not in self.containers:
            raise ContainerGone("container gone")
        free = self.free(container)
        if free is None:
            raise ContainerFull("container full")
        return self.add(container, free, uuid, description=description)

    async def create_next_many(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool = False,
        descriptions: Mapping[str, str] = NO_DESCRIPTIONS,
    ) -> list[Prefix]:
        before = dict(self.prefixes)
        try:
            made = [
                await self.create_next(container, uuid=uuid, limit=limit, description=descriptions.get(uuid, ""))
                for uuid in uuids
            ]
        except ContainerFull:
            self.prefixes = before
            raise
        await self.update_many([PrefixChange(one.id, str(one.uuid), reserved) for one in made], limit=limit)
        return [self.prefixes[one.id] for one in made]

    async def create_exact(
        self, container: Container, address: str, *, uuid: str, limit: float, description: str = ""
    ) -> Prefix:
        [made] = await self.create_given(container, [address], [uuid], limit=limit, descriptions={uuid: description})
        return made

    async def create_given(
        self,
        container: Container,
        wanted: Sequence[str],
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool = False,
        descriptions: Mapping[str, str] = NO_DESCRIPTIONS,
    ) -> list[Prefix]:
        """As `space_create.PrefixCreator`."""
        taken = {one.prefix for one in self._in(container)}
        if self.checks_uniqueness and (there := taken.intersection(wanted)):
            raise DuplicatePrefix(f"duplicate prefix {sorted(there)}")
        status = "reserved" if reserved else "active"
        return [
            self.add(container, one, uuid, status, descriptions.get(uuid, ""))
            for one, uuid in zip(wanted, uuids, strict=True)
        ]

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        return [
            one
            for one in self.prefixes.values()
            if one.vrf_id == container.vrf_id and addresses.contains(one.prefix, address)
        ]

    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        return [one for one in self.prefixes.values() if one.uuid in uuids]

    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        return [self.prefixes[one] for one in prefix_ids if one in self.prefixes]

    async def conflict(self, container: Container, prefix: Prefix, *, limit: float) -> Occupant | None:
        return None

    async def delete_many(self, prefixes: Sequence[Prefix], *, limit: float) -> None:
        for one in prefixes:
            self.prefixes.pop(one.id, None)

    async def assign(self, prefix_id: int, uuid: str, *, limit: float) -> bool:
        if prefix_id not in self.prefixes:
            return False
        self.prefixes[prefix_id] = replace(self.prefixes[prefix_id], uuid=uuid)
        self.stamps[prefix_id] = self.now()
        return True

    async def update_many(self, changes: Sequence[PrefixChange], *, limit: float) -> set[int]:
        known = [one for one in changes if one.id in self.prefixes]
        for one in known:
            if one.description is not None and (edited := self.edited.pop(one.id, None)) and edited[1]:
                self.overwritten.append((self.now() - edited[0], edited[1]))
            changed = {"uuid": one.uuid, "status": one.status, "description": one.description}
            given: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
            self.prefixes[one.id] = replace(self.prefixes[one.id], **given)
            self.stamps[one.id] = self.now()
        return {one.id for one in known}

    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        return sorted((one for one in self._in(container) if one.id > after), key=lambda one: one.id)[:50]


class PlainZones(Zones):
    """The zones of a fixed list of containers."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self._containers = list(containers)

    @property
    def names(self) -> Sequence[str]:
        return list(dict.fromkeys(one.zone for one in self._containers))

    async def check(self, zone: str) -> None:
        if zone not in self.names:
            raise UnknownZone(zone, self.names)

    def containers(self, zone: str, ip_family: IPFamily) -> Sequence[Container]:
        return [one for one in self._containers if one.zone == zone and one.ip_family == ip_family]

    def all_containers(self) -> Sequence[Container]:
        return self._containers

    def container_of(self, zone: str, address: str) -> Container | None:
        return next(
            (one for one in self._containers if one.zone == zone and addresses.contains(one.prefix, address)), None
        )

    async def refresh(self) -> bool:
        return False
