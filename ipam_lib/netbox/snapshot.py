"""The zones and their containers as they were at one moment: immutable, and indexed for look-ups. No I/O."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ipam_lib.addresses import network
from ipam_lib.models import IPFamily
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.payloads import UnexpectedResponse


class _Place(NamedTuple):
    """A network as numbers: its bits in front of the mask's end, and how many those are. Sorts by address."""

    address: int
    length: int
    bits: int

    @property
    def key(self) -> int:
        return self.address >> (self.bits - self.length)


def _place(cidr: str) -> _Place:
    net = network(cidr)
    return _Place(int(net.network_address), net.prefixlen, net.max_prefixlen)


class _Table:
    """The containers of one VRF and family, by length and network: a look-up costs one dict access a length in use."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[int, list[Container]]] = {}

    def add(self, place: _Place, container: Container) -> None:
        self._by_length.setdefault(place.length, {}).setdefault(place.key, []).append(container)

    def sort(self) -> None:
        """To be called once everything is added."""
        self._by_length = dict(sorted(self._by_length.items(), reverse=True))

    def holding(self, address: int, bits: int, *, up_to: int) -> Iterator[list[Container]]:
        """Those that hold the address and are at most `up_to` bits long, the most specific first; equals together."""
        for length, networks in self._by_length.items():
            if length <= up_to:
                found = networks.get(address >> (bits - length))
                if found:
                    yield found


class Snapshot:
    """Zones and containers, as of `loaded_at` (aware UTC).

    `zones` are the choices of the choice set. A container of a zone that is no choice any more stands in the index (it
    still takes its space), but in no zone.
    """

    def __init__(self, zones: Iterable[str], containers: Iterable[Container], loaded_at: datetime) -> None:
        self.zones = tuple(dict.fromkeys(zones))
        self.loaded_at = loaded_at
        placed = [(_place(one.prefix), one) for one in containers]
        # Ascending by address; a container before those inside it; then whatever makes the order the same every time.
        placed.sort(
            key=lambda pair: (pair[0].bits, pair[0], -1 if pair[1].vrf_id is None else pair[1].vrf_id, pair[1].id)
        )
        self._placed = placed
        self._tables: dict[tuple[int | None, int], _Table] = {}
        lists: dict[tuple[str, IPFamily], list[Container]] = {}
        vrfs: dict[tuple[str, int], dict[int | None, None]] = {}
        for place, one in placed:
            self._tables.setdefault((one.vrf_id, place.bits), _Table()).add(place, one)
            lists.setdefault((one.zone, one.ip_family), []).append(one)
            vrfs.setdefault((one.zone, place.bits), {})[one.vrf_id] = None
        for table in self._tables.values():
            table.sort()
        known = set(self.zones)
        self._containers = {key: tuple(found) for key, found in lists.items() if key[0] in known}
        self._vrfs = {key: tuple(found) for key, found in vrfs.items() if key[0] in known}

    @property
    def all_containers(self) -> Sequence[Container]:
        """Every container, in a fixed order."""
        return [one for _, one in self._placed]

    def containers(self, zone: str, ip_family: IPFamily) -> Sequence[Container]:
        """The containers of a zone and family, ascending by address."""
        return self._containers.get((zone, ip_family), ())

    def container_of(self, zone: str, address: str) -> Container | None:
        """See `Zones.container_of`. Where the zone has containers in several VRFs that hold the address, the most
        specific; among equals the one of the global table, then of the lowest VRF id."""
        host = ipaddress.ip_interface(address).ip
        bits = host.max_prefixlen
        best: tuple[int, Container] | None = None
        for vrf in self._vrfs.get((zone, bits), ()):
            nearest = next(self._tables[vrf, bits].holding(int(host), bits, up_to=bits), [])
            mine = next((one for one in nearest if one.zone == zone), None)
            if mine is not None:
                length = int(mine.prefix.rpartition("/")[2])
                if best is None or (length, _rank(best[1])) > (best[0], _rank(mine)):
                    best = (length, mine)
        return best[1] if best else None

    def problems(self) -> list[tuple[int, str]]:
        """What an operator should know about this set-up: logging level and text of each, in a fixed order."""
        known = set(self.zones)
        used = {zone for zone, _ in self._containers}
        found = [(logging.INFO, f"zone {zone!r} has no container prefixes") for zone in self.zones if zone not in used]
        for place, one in self._placed:
            if one.zone not in known:
                found.append((logging.WARNING, f"container {_name(one)} is of zone {one.zone!r}, which is no choice"))
            around = self._tables[one.vrf_id, place.bits].holding(place.address, place.bits, up_to=place.length)
            for other in (other for level in _nearest_two(around) for other in level):
                same = other.prefix == one.prefix
                if other.zone != one.zone and (not same or one.id < other.id):
                    how = "is also" if same else "lies inside"
                    found.append(
                        (
                            logging.WARNING,
                            f"container {_name(one)} of zone {one.zone!r} {how} {_name(other)} of {other.zone!r}",
                        )
                    )
        return found

    def document(self, netbox: str) -> dict[str, Any]:
        """As a JSON document, to be kept in storage. `netbox`: where it was loaded from."""
        return {
            "netbox": netbox,
            "loaded_at": self.loaded_at.isoformat(),
            "zones": list(self.zones),
            "containers": [payloads.as_document(one) for one in self.all_containers],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], netbox: str) -> Snapshot:
        """The snapshot in such a document.

        Raises UnexpectedResponse when it is none, or was loaded from another NetBox (whose ids mean other things).
        """
        if document.get("netbox") != netbox:
            raise UnexpectedResponse(f"the stored zones are those of {document.get('netbox')}")
        try:
            loaded_at = datetime.fromisoformat(document["loaded_at"])
            zones, containers = document["zones"], document["containers"]
        except (KeyError, TypeError, ValueError):
            raise UnexpectedResponse("the stored zones cannot be read") from None
        if (
            loaded_at.tzinfo is None
            or not isinstance(containers, list)
            or not isinstance(zones, list)
            or not all(isinstance(zone, str) for zone in zones)
        ):
            raise UnexpectedResponse("the stored zones cannot be read")
        return cls(zones, [payloads.from_document(one) for one in containers], loaded_at)


def _rank(container: Container) -> int:
    return -1 if container.vrf_id is None else container.vrf_id


def _nearest_two(levels: Iterator[list[Container]]) -> Iterator[list[Container]]:
    """A container's own level, and the one around it."""
    for _ in range(2):
        level = next(levels, None)
        if level is not None:
            yield level


def _name(container: Container) -> str:
    where = "the global table" if container.vrf_id is None else f"VRF {container.vrf_id}"
    return f"{container.prefix} (NetBox id {container.id}, {where})"
