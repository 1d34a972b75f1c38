"""The zones and their containers at one moment: immutable, indexed for look-ups. No I/O."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple

from ipam_lib.addresses import network
from ipam_lib.models import IPFamily
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.payloads import UnexpectedResponse


@dataclass(frozen=True, slots=True)
class ZoneProblem:
    """Something about the zones that an operator should know. `no_containers`: the zone has none in any family;
    `unknown_zone`: a container has a zone that is no choice; `overlap`: containers of two zones overlap;
    `custom_field`: NetBox will refuse new prefixes."""

    kind: Literal["no_containers", "unknown_zone", "overlap", "custom_field"]
    text: str

    @property
    def level(self) -> int:
        """The logging level: a zone without containers may be meant so."""
        return logging.INFO if self.kind == "no_containers" else logging.WARNING


class _Place(NamedTuple):
    """A network as numbers. Sorts by address."""

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
    """The containers of one VRF and family by length and network: a look-up is one dict access for each length."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[int, list[Container]]] = {}

    def add(self, place: _Place, container: Container) -> None:
        self._by_length.setdefault(place.length, {}).setdefault(place.key, []).append(container)

    def sort(self) -> None:
        """Call it after the last `add`."""
        self._by_length = dict(sorted(self._by_length.items(), reverse=True))

    def holding(self, address: int, bits: int, *, up_to: int) -> Iterator[list[Container]]:
        """The containers of the address with a mask of at most `up_to` bits: most specific first, equals together."""
        for length, networks in self._by_length.items():
            if length <= up_to:
                found = networks.get(address >> (bits - length))
                if found:
                    yield found


class Snapshot:
    """Zones and containers, as of `loaded_at` (aware UTC).

    `zones` are the choices of the choice set. A container whose zone is not among them is in the index, because it
    still takes its space, but in no zone.
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
        """See `Zones.container_of`. If containers of the zone in several VRFs contain the address: the most specific;
        among equals that of the global table, then of the lowest VRF id."""
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

    def problems(self) -> list[ZoneProblem]:
        """What an operator should know about the zones, in a fixed order."""
        used = {zone for zone, _ in self._containers}
        found = [
            ZoneProblem("no_containers", f"zone {zone!r} has no container prefixes")
            for zone in self.zones
            if zone not in used
        ]
        for place, one in self._placed:
            if one.zone not in self.zones:
                text = f"container {_name(one)} is of zone {one.zone!r}, which is no choice"
                found.append(ZoneProblem("unknown_zone", text))
            around = self._tables[one.vrf_id, place.bits].holding(place.address, place.bits, up_to=place.length)
            # Its own level, and the next one around it.
            for other in (other for level in islice(around, 2) for other in level):
                same = other.prefix == one.prefix
                if other.zone != one.zone and (not same or one.id < other.id):
                    how = "is also" if same else "lies inside"
                    text = f"container {_name(one)} of zone {one.zone!r} {how} {_name(other)} of {other.zone!r}"
                    found.append(ZoneProblem("overlap", text))
        return found

    def document(self, netbox: str) -> dict[str, Any]:
        """The snapshot as a JSON document for the storage. `netbox`: the URL that it was loaded from."""
        return {
            "netbox": netbox,
            "loaded_at": self.loaded_at.isoformat(),
            "zones": list(self.zones),
            "containers": [payloads.as_document(one) for one in self.all_containers],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], netbox: str) -> Snapshot:
        """The snapshot in such a document.

        Raises UnexpectedResponse when it is none, or was loaded from another NetBox, where ids differ.
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


def _name(container: Container) -> str:
    where = "the global table" if container.vrf_id is None else f"VRF {container.vrf_id}"
    return f"{container.prefix} (NetBox id {container.id}, {where})"
