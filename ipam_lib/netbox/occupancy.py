"""What is taken inside one container prefix: a picture of NetBox's prefixes, IP addresses and IP ranges. No I/O.

The picture may err towards "taken" only, since a choice of a taken address is a conflict on the network, and a free one
that is passed over costs nothing:

- an own creation is entered before the request is sent (`reserve`), and taken out only when it is known that nothing
  came of it (`withdraw`);
- an own release is entered when NetBox has carried out the deletion (`released`);
- what changed since a moment is only ever added (`enter`): what others deleted shows at the next full load;
- a full load (`Loading`) replaces the picture only as a whole, and what this instance created or released while the
  listing was read is applied on top of it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from ipam_lib.addresses import HOST_LENGTH, network
from ipam_lib.intervals import IntervalSet
from ipam_lib.netbox.base import Container

MAX_INTERVALS = 2_000_000
"""The most rows of one container that are kept: some 100 MB. A container with more has no picture."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Addresses from `first` to `last`, both inclusive, as integers. `netbox_id`: of the prefix, IP address or IP
    range."""

    netbox_id: int
    first: int
    last: int

    @property
    def is_host(self) -> bool:
        """Whether it is a single address."""
        return self.first == self.last


@dataclass(frozen=True, slots=True)
class SpaceUse:
    """How a container's addresses are used, in numbers of addresses. `prefixes`: inside child prefixes, ours included;
    `ip_addresses`: outside of those, but an IP address or in an IP range; `free`: the rest."""

    size: int
    prefixes: int
    ip_addresses: int

    @property
    def free(self) -> int:
        return self.size - self.prefixes - self.ip_addresses


@dataclass(slots=True)
class _Layers:
    """The picture itself. `hosts`: prefixes of one address; `blocks`: wider prefixes; `addresses`: IP addresses and IP
    ranges; `taken`: all of them together. `duplicates`: how many more host prefixes than one stand on an address.
    Numbers count from the first address of the container."""

    hosts: IntervalSet
    blocks: IntervalSet
    addresses: IntervalSet
    taken: IntervalSet
    duplicates: Counter[int] = field(default_factory=Counter)

    def enter_host(self, number: int) -> None:
        self.hosts.add(number, number)
        self.taken.add(number, number)

    def remove_host(self, number: int) -> None:
        if self.duplicates[number] > 0:
            self.duplicates[number] -= 1
            return
        self.hosts.remove(number, number)
        if number not in self.blocks and number not in self.addresses:
            self.taken.remove(number, number)


class Loading:
    """A full load under way: pages of prefixes (ascending NetBox ids) and of IP addresses and ranges come in, and what
    this instance does meanwhile is noted. `Occupancy.replace` ends it."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self.rows = 0
        self.prefix_rows = 0
        self._hosts: list[int] = []
        self._blocks: list[tuple[int, int]] = []
        self._addresses: list[tuple[int, int]] = []
        self._read_up_to = 0
        self._entered: set[int] = set(occupancy.in_flight)
        self._released_ids: set[int] = set()
        self._released_after_reading: list[int] = []

    @property
    def too_large(self) -> bool:
        """Whether there are more rows than a picture holds."""
        return self.rows > MAX_INTERVALS

    def add_prefixes(self, rows: Iterable[Taken]) -> None:
        """A page of child prefixes, all ids higher than those of the page before."""
        for row in rows:
            self.prefix_rows += 1
            self.rows += 1
            self._read_up_to = max(self._read_up_to, row.netbox_id)
            if row.netbox_id in self._released_ids or (clipped := self._occupancy.clip(row)) is None:
                continue
            if clipped[0] == clipped[1]:
                self._hosts.append(clipped[0])
            else:
                self._blocks.append(clipped)

    def add_addresses(self, rows: Iterable[Taken]) -> None:
        """A page of IP addresses or IP ranges."""
        for row in rows:
            self.rows += 1
            if (clipped := self._occupancy.clip(row)) is not None:
                self._addresses.append(clipped)

    def note_entered(self, number: int) -> None:
        self._entered.add(number)

    def note_released(self, netbox_id: int, number: int) -> None:
        self._entered.discard(number)
        if netbox_id <= self._read_up_to:
            self._released_after_reading.append(number)
        self._released_ids.add(netbox_id)

    def note_withdrawn(self, number: int) -> None:
        self._entered.discard(number)

    def layers(self) -> _Layers:
        """The new picture."""
        bits = self._occupancy.bits
        hosts = IntervalSet(bits, ((one, one) for one in self._hosts))
        blocks = IntervalSet(bits, self._blocks)
        addresses = IntervalSet(bits, self._addresses)
        counted = Counter(self._hosts)
        duplicates = Counter({number: times - 1 for number, times in counted.items() if times > 1})
        layers = _Layers(hosts, blocks, addresses, IntervalSet(bits, chain(hosts, blocks, addresses)), duplicates)
        for number in self._released_after_reading:
            layers.remove_host(number)
        for number in self._entered:
            layers.enter_host(number)
        return layers


class Occupancy:
    """The picture of one container. Everything happens in one event loop, and nothing here waits, so a choice is also a
    reservation: two requests of one instance never get the same address."""

    def __init__(self, container: Container) -> None:
        net = network(container.prefix)
        self.container = container
        self.base = int(net.network_address)
        self.bits = net.max_prefixlen - net.prefixlen
        self._last = net.num_addresses - 1
        self._layers: _Layers | None = None
        self._loading: Loading | None = None
        self.in_flight: set[int] = set()
        """Addresses of creations that are under way, as numbers."""

    @property
    def loaded(self) -> bool:
        """Whether there is a picture."""
        return self._layers is not None

    def load(self) -> Loading:
        """Begin a full load; one that was begun before and not ended is dropped."""
        self._loading = Loading(self)
        return self._loading

    def replace(self, loading: Loading) -> None:
        """Make the load, which was read whole, the picture. One that was dropped meanwhile changes nothing."""
        if loading is self._loading:
            self._loading = None
            self._layers = loading.layers()

    def forget(self) -> None:
        """Have no picture any more: it may be wrong towards "free"."""
        self._layers = None
        self._loading = None

    def clip(self, row: Taken) -> tuple[int, int] | None:
        """The part of it that lies inside the container, as numbers; None when none does."""
        first, last = max(row.first - self.base, 0), min(row.last - self.base, self._last)
        return (first, last) if first <= last else None

    def enter_prefixes(self, rows: Iterable[Taken]) -> None:
        """Child prefixes that were created or changed since the load."""
        for row in rows:
            if self._layers is None or (clipped := self.clip(row)) is None:
                continue
            if clipped[0] != clipped[1]:
                self._layers.blocks.add(*clipped)
            else:
                self._layers.hosts.add(*clipped)
            self._layers.taken.add(*clipped)

    def enter_addresses(self, rows: Iterable[Taken]) -> None:
        """IP addresses and IP ranges that were created or changed since the load."""
        for row in rows:
            if self._layers is not None and (clipped := self.clip(row)) is not None:
                self._layers.addresses.add(*clipped)
                self._layers.taken.add(*clipped)

    # -- choosing ----------------------------------------------------------------------------------------------------

    def reserve(self, *, skip: int = 0) -> str | None:
        """The lowest free address, with its mask, entered as taken; None when there is none, or no picture. `skip`:
        pass over so many free ones before it (fewer where there are fewer), so that instances which collide part."""
        if self._layers is None:
            return None
        number = None
        for first, last in self._layers.taken.gaps(0, self._last):
            number = min(first + skip, last)
            if first + skip <= last:
                break
            skip -= last - first + 1
        if number is None:
            return None
        self._enter(number)
        return self._text(number)

    def reserve_exactly(self, address: str) -> None:
        """Enter an address that a request names."""
        self._enter(self._number(address))

    def settle(self, address: str) -> None:
        """The creation of a reserved address is in NetBox: it is not under way any more."""
        self.in_flight.discard(self._number(address))

    def withdraw(self, address: str) -> None:
        """Surely nothing came of the creation of a reserved address."""
        number = self._number(address)
        if number not in self.in_flight:
            return
        self.in_flight.discard(number)
        if self._loading is not None:
            self._loading.note_withdrawn(number)
        if self._layers is not None:
            self._layers.remove_host(number)

    def created(self, address: str) -> None:
        """NetBox has created the host prefix `address` for this instance, whichever of the two chose it."""
        number = self._number(address)
        self._enter(number)
        self.in_flight.discard(number)

    def released(self, netbox_id: int, address: str) -> None:
        """NetBox has deleted a host prefix of this service."""
        number = self._number(address)
        if number in self.in_flight:
            return
        if self._loading is not None:
            self._loading.note_released(netbox_id, number)
        if self._layers is not None and number in self._layers.hosts:
            self._layers.remove_host(number)

    def netbox_next(self) -> str | None:
        """The address that NetBox's own search comes to: the lowest that no child prefix covers. None when there is
        none, or no picture."""
        if self._layers is None:
            return None
        for first, last in self._layers.hosts.gaps(0, self._last):
            for number, _ in self._layers.blocks.gaps(first, last):
                return self._text(number)
        return None

    def is_free(self, address: str) -> bool:
        """Whether nothing that the picture knows of takes the address. False without a picture."""
        return self._layers is not None and self._number(address) not in self._layers.taken

    @property
    def fragments(self) -> int:
        """How many runs of taken addresses there are: what NetBox's own search grows with."""
        return 0 if self._layers is None else len(self._layers.taken)

    @property
    def full(self) -> bool:
        """Whether the picture knows of no free address."""
        return self._layers is not None and self._layers.taken.total > self._last

    def use(self) -> SpaceUse | None:
        """How the container is used; None without a picture."""
        if self._layers is None:
            return None
        prefixes = sum(last - first + 1 for first, last in self._union(self._layers.hosts, self._layers.blocks))
        return SpaceUse(self._last + 1, prefixes, self._layers.taken.total - prefixes)

    def _union(self, *sets: IntervalSet) -> Iterator[tuple[int, int]]:
        return iter(IntervalSet(self.bits, chain(*sets)))

    def _enter(self, number: int) -> None:
        if not 0 <= number <= self._last:
            return
        self.in_flight.add(number)
        if self._loading is not None:
            self._loading.note_entered(number)
        if self._layers is not None:
            self._layers.enter_host(number)

    def _number(self, address: str) -> int:
        return int(network(address).network_address) - self.base

    def _text(self, number: int) -> str:
        length = HOST_LENGTH[self.container.ip_family]
        make = ipaddress.IPv4Address if length == 32 else ipaddress.IPv6Address
        return f"{make(self.base + number)}/{length}"
