"""What is taken inside one container prefix: a picture of NetBox's prefixes, IP addresses and IP ranges. No I/O.

The picture may err towards "taken" only, since a choice of a taken address is a conflict on the network, and a free one
that is passed over costs nothing:

- an own creation is entered before the request is sent (`reserve`), and taken out only when it is known what came of it
  (`created`, `end`);
- an own release is entered when NetBox has carried out the deletion (`released`);
- what changed since a moment is only ever added (`enter`): what others deleted shows at the next full load;
- a full load (`Loading`) replaces the picture only as a whole, and what this instance created or released while the
  listing was read is applied on top of it.
"""

from __future__ import annotations

import ipaddress
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, MutableSequence
from itertools import chain

from ipam_lib.addresses import HOST_LENGTH, network
from ipam_lib.intervals import BITS_OF_AN_ARRAY, IntervalSet
from ipam_lib.netbox.base import Container, Occupant, SpaceUse

MAX_ROWS = 2_000_000
"""The most rows of one container that are kept: some 150 MB. A container with more has no picture."""


class HostRows:
    """The child prefixes of one address: numbers and NetBox ids, ascending by number. NetBox may have several on one
    address. A row takes 16 bytes up to 64 `bits`."""

    def __init__(self, bits: int, rows: Iterable[tuple[int, int]] = ()) -> None:
        """`rows`: number and NetBox id of each."""
        ordered = sorted(set(rows))
        numbers, ids = [number for number, _ in ordered], [netbox_id for _, netbox_id in ordered]
        self._numbers: MutableSequence[int] = array("Q", numbers) if bits <= BITS_OF_AN_ARRAY else numbers
        self._ids: MutableSequence[int] = array("Q", ids)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        index = bisect_left(self._numbers, number)
        return index < len(self._numbers) and self._numbers[index] == number

    def add(self, number: int, netbox_id: int) -> None:
        """Add a row; one that is there already stays."""
        if self._find(number, netbox_id) is None:
            index = bisect_left(self._numbers, number)
            self._numbers.insert(index, number)
            self._ids.insert(index, netbox_id)

    def discard(self, number: int, netbox_id: int) -> None:
        """Remove a row, if it is there."""
        if (index := self._find(number, netbox_id)) is not None:
            del self._numbers[index]
            del self._ids[index]

    def has(self, number: int, netbox_id: int) -> bool:
        """Whether there is this row."""
        return self._find(number, netbox_id) is not None

    def others(self, number: int, netbox_id: int) -> bool:
        """Whether a row of another id stands on this number."""
        return bisect_right(self._numbers, number) - bisect_left(self._numbers, number) > (
            self._find(number, netbox_id) is not None
        )

    def intervals(self) -> Iterator[tuple[int, int]]:
        """Each number as an interval."""
        return zip(self._numbers, self._numbers, strict=True)

    def _find(self, number: int, netbox_id: int) -> int | None:
        index = bisect_left(self._numbers, number)
        while index < len(self._numbers) and self._numbers[index] == number:
            if self._ids[index] == netbox_id:
                return index
            index += 1
        return None


class _Picture:
    """What is taken. `hosts`: prefixes of one address; `blocks`: wider prefixes; `addresses`: IP addresses and IP
    ranges; `prefixes`: what hosts and blocks cover; `own`: what those of `own_hosts` and `own_blocks` cover, which are
    ours; `taken`: all of it, and the creations under way. Numbers count from the first address of the container."""

    def __init__(
        self,
        bits: int,
        *,
        hosts: Iterable[tuple[int, int]],
        own_hosts: Iterable[tuple[int, int]],
        blocks: Iterable[tuple[int, int]],
        own_blocks: Iterable[tuple[int, int]],
        addresses: Iterable[tuple[int, int]],
        in_flight: Iterable[int],
    ) -> None:
        self.hosts = HostRows(bits, hosts)
        self.own_hosts = HostRows(bits, own_hosts)
        self.own = IntervalSet(bits, chain(self.own_hosts.intervals(), own_blocks))
        self.blocks = IntervalSet(bits, blocks)
        self.addresses = IntervalSet(bits, addresses)
        self.prefixes = IntervalSet(bits, chain(self.hosts.intervals(), self.blocks))
        self.taken = IntervalSet(bits, chain(self.prefixes, self.addresses, ((one, one) for one in in_flight)))

    def add_host(self, number: int, netbox_id: int, *, own: bool) -> None:
        self.hosts.add(number, netbox_id)
        self.prefixes.add(number, number)
        self.taken.add(number, number)
        if own:
            self.own_hosts.add(number, netbox_id)
            self.own.add(number, number)

    def add_block(self, first: int, last: int, *, own: bool) -> None:
        for space in (self.blocks, self.prefixes, self.taken, *((self.own,) if own else ())):
            space.add(first, last)

    def add_addresses(self, first: int, last: int) -> None:
        for space in (self.addresses, self.taken):
            space.add(first, last)

    def remove_host(self, number: int, netbox_id: int, *, in_flight: bool) -> None:
        self.hosts.discard(number, netbox_id)
        self.own_hosts.discard(number, netbox_id)
        if number not in self.own_hosts:
            self.own.remove(number, number)
        if number not in self.hosts and number not in self.blocks:
            self.prefixes.remove(number, number)
        self.remove_in_flight(number, in_flight=in_flight)

    def remove_in_flight(self, number: int, *, in_flight: bool) -> None:
        if not in_flight and number not in self.prefixes and number not in self.addresses:
            self.taken.remove(number, number)


class Loading:
    """A full load under way: pages of prefixes (ascending NetBox ids) and of IP addresses and ranges come in, and what
    this instance creates and releases meanwhile is noted. `Occupancy.replace` ends it."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy
        self.prefix_rows = 0
        self._hosts: list[tuple[int, int]] = []
        self._own_hosts: list[tuple[int, int]] = []
        self._blocks: list[tuple[int, int]] = []
        self._own_blocks: list[tuple[int, int]] = []
        self._addresses: list[tuple[int, int]] = []
        # Host prefixes that were created or changed meanwhile, by NetBox id: number, and whether it is ours.
        self._noted: dict[int, tuple[int, bool]] = {}
        self._released: set[int] = set()

    @property
    def too_large(self) -> bool:
        """Whether there are more rows than a picture holds."""
        return self.prefix_rows + len(self._addresses) > MAX_ROWS

    def add_prefixes(self, rows: Iterable[Occupant]) -> None:
        """A page of child prefixes."""
        for row in rows:
            self.prefix_rows += 1
            if (clipped := self._occupancy.clip(row)) is None:
                continue
            is_host = clipped[0] == clipped[1]
            entry = (clipped[0], row.netbox_id) if is_host else clipped
            (self._hosts if is_host else self._blocks).append(entry)
            if row.own:
                (self._own_hosts if is_host else self._own_blocks).append(entry)

    def add_addresses(self, rows: Iterable[Occupant]) -> None:
        """A page of IP addresses or of IP ranges."""
        self._addresses += [one for row in rows if (one := self._occupancy.clip(row)) is not None]

    def note_prefix(self, netbox_id: int, ends: tuple[int, int], *, own: bool) -> None:
        if ends[0] == ends[1]:
            self._noted[netbox_id] = (ends[0], own)
            return
        self._blocks.append(ends)
        if own:
            self._own_blocks.append(ends)

    def note_addresses(self, ends: tuple[int, int]) -> None:
        self._addresses.append(ends)

    def note_released(self, netbox_id: int) -> None:
        self._released.add(netbox_id)

    def picture(self, in_flight: Iterable[int]) -> _Picture:
        """The new picture: what was read, and on top of it what this instance did meanwhile. NetBox never uses an id
        twice, so a released id is gone, whenever its page was read."""
        noted = [(number, netbox_id) for netbox_id, (number, _) in self._noted.items()]
        own_noted = [(number, netbox_id) for netbox_id, (number, own) in self._noted.items() if own]
        return _Picture(
            self._occupancy.bits,
            hosts=(row for row in chain(self._hosts, noted) if row[1] not in self._released),
            own_hosts=(row for row in chain(self._own_hosts, own_noted) if row[1] not in self._released),
            blocks=self._blocks,
            own_blocks=self._own_blocks,
            addresses=self._addresses,
            in_flight=in_flight,
        )


class Occupancy:
    """The picture of one container. Everything happens in one event loop, and nothing here waits, so a choice is also a
    reservation: two requests of one instance never get the same address."""

    def __init__(self, container: Container) -> None:
        net = network(container.prefix)
        self.container = container
        self.base = int(net.network_address)
        self.bits = net.max_prefixlen - net.prefixlen
        self._last = net.num_addresses - 1
        self._picture: _Picture | None = None
        self._loading: Loading | None = None
        # Addresses of creations that are under way, as numbers, and how many creations of each.
        self._in_flight: Counter[int] = Counter()
        # See `check_address`.
        self._checked: set[int] = set()

    @property
    def loaded(self) -> bool:
        """Whether there is a picture."""
        return self._picture is not None

    def load(self) -> Loading:
        """Begin a full load; one that was begun before and not ended is dropped."""
        self._loading = Loading(self)
        return self._loading

    def replace(self, loading: Loading) -> None:
        """Make the load, which was read whole, the picture. One that was dropped meanwhile changes nothing."""
        if loading is self._loading:
            self._loading = None
            self._picture = loading.picture(self._in_flight)
            self._checked.clear()

    def forget(self) -> None:
        """Have no picture any more: it may be wrong towards "free"."""
        self._picture = None
        self._loading = None

    def clip(self, row: Occupant) -> tuple[int, int] | None:
        """The part of it that lies inside the container, as numbers; None when none does."""
        first, last = max(row.first - self.base, 0), min(row.last - self.base, self._last)
        return (first, last) if first <= last else None

    def enter_prefixes(self, rows: Iterable[Occupant]) -> None:
        """Child prefixes that were created or changed since the load. A load under way may have passed them."""
        for row in rows:
            if (clipped := self.clip(row)) is None:
                continue
            if self._loading is not None:
                self._loading.note_prefix(row.netbox_id, clipped, own=row.own)
            if self._picture is not None and clipped[0] == clipped[1]:
                self._picture.add_host(clipped[0], row.netbox_id, own=row.own)
            elif self._picture is not None:
                self._picture.add_block(*clipped, own=row.own)

    def enter_addresses(self, rows: Iterable[Occupant]) -> None:
        """IP addresses and IP ranges that were created or changed since the load. As for prefixes."""
        for row in rows:
            if (clipped := self.clip(row)) is None:
                continue
            if self._loading is not None:
                self._loading.note_addresses(clipped)
            if self._picture is not None:
                self._picture.add_addresses(*clipped)
            self._checked = {number for number in self._checked if not clipped[0] <= number <= clipped[1]}

    def check_address(self, first: int) -> None:
        """NetBox is being asked whether an IP address or IP range still takes this address, an integer."""
        self._checked.add(first - self.base)

    def address_gone(self, first: int) -> bool:
        """NetBox has answered `check_address`: none takes it. False, without effect, if one may have been entered since
        then."""
        number = first - self.base
        if number not in self._checked or self._loading is not None or self._picture is None:
            return False
        self._checked.discard(number)
        self._picture.addresses.remove(number, number)
        self._picture.remove_in_flight(number, in_flight=number in self._in_flight)
        return True

    # -- choosing, and what becomes of it ----------------------------------------------------------------------------

    def reserve(self, *, skip: int = 0) -> str | None:
        """The lowest free address, with its mask, entered as a creation under way; None when there is none, or no
        picture. `skip`: pass over so many free addresses before it (fewer where there are fewer), so that instances
        that collided choose apart."""
        if self._picture is None:
            return None
        number = None
        for first, last in self._picture.taken.gaps(0, self._last):
            number = min(first + skip, last)
            if first + skip <= last:
                break
            skip -= last - first + 1
        if number is None:
            return None
        self._enter(number)
        return self._text(number)

    def reserve_exactly(self, address: str) -> None:
        """Enter an address that a request names as a creation under way."""
        self._enter(self._number(address))

    def created(self, netbox_id: int, address: str) -> None:
        """NetBox has created a host prefix for this instance, at an address that NetBox chose or that is reserved."""
        number = self._number(address)
        if self._loading is not None:
            self._loading.note_prefix(netbox_id, (number, number), own=True)
        if self._picture is not None:
            self._picture.add_host(number, netbox_id, own=True)

    def end(self, address: str) -> None:
        """The creation of a reserved address has ended: `created` was told where it may have come to something, or
        surely nothing came of it."""
        number = self._number(address)
        self._in_flight -= Counter((number,))
        if self._picture is not None:
            self._picture.remove_in_flight(number, in_flight=number in self._in_flight)

    def released(self, netbox_id: int, address: str) -> None:
        """NetBox has deleted a host prefix."""
        number = self._number(address)
        if self._loading is not None:
            self._loading.note_released(netbox_id)
        if self._picture is not None:
            self._picture.remove_host(number, netbox_id, in_flight=number in self._in_flight)

    def netbox_next(self, count: int) -> list[str]:
        """The addresses that NetBox's own search comes to: the lowest that no child prefix covers, at most `count`.
        None of them without a picture."""
        found: list[str] = []
        for first, last in self._picture.prefixes.gaps(0, self._last) if self._picture else ():
            found += map(self._text, range(first, min(last + 1, first + count - len(found))))
            if len(found) == count:
                break
        return found

    def shared(self, address: str, netbox_id: int) -> bool:
        """Whether anything but the prefix of this id takes the address, as far as the picture knows."""
        if self._picture is None:
            return False
        number = self._number(address)
        picture = self._picture
        return picture.hosts.others(number, netbox_id) or number in picture.blocks or number in picture.addresses

    def overlaps(self, first: int, last: int) -> bool:
        """Whether the container has an address of this interval of integers."""
        return first <= self.base + self._last and last >= self.base

    def has_prefix(self, netbox_id: int, first: int) -> bool | None:
        """Whether the picture has this host prefix. `first`: its address as an integer. None during a load, which may
        have read it."""
        if self._loading is not None:
            return None
        return self._picture is not None and self._picture.hosts.has(first - self.base, netbox_id)

    def has_address(self, first: int) -> bool | None:
        """Whether the picture knows that an IP address or IP range takes this address, an integer. None during a
        load."""
        if self._loading is not None:
            return None
        return self._picture is not None and first - self.base in self._picture.addresses

    def host(self, first: int) -> str:
        """The host prefix at this address, an integer."""
        return self._text(first - self.base)

    def is_free(self, address: str) -> bool:
        """Whether nothing that the picture knows of takes the address. False without a picture."""
        return self._picture is not None and self._number(address) not in self._picture.taken

    @property
    def fragments(self) -> int:
        """How many runs of addresses child prefixes take: NetBox's own search grows with their number."""
        return 0 if self._picture is None else len(self._picture.prefixes)

    @property
    def full(self) -> bool:
        """Whether the picture knows of no free address."""
        return self._picture is not None and self._picture.taken.total > self._last

    def use(self, inner: Iterable[Container] = ()) -> SpaceUse | None:
        """The use of the container; None without a picture. `inner`: containers in this one that do not contain each
        other; they count as the prefixes of others."""
        picture = self._picture
        if picture is None:
            return None
        under_way = sum(number not in picture.prefixes for number in self._in_flight)
        own, covered = picture.own.total, picture.prefixes.total
        for one in inner:
            net = network(one.prefix)
            first = int(net.network_address) - self.base
            own -= picture.own.count(first, first + net.num_addresses - 1)
        return SpaceUse(
            size=self._last + 1,
            own=own + under_way,
            prefixes=covered - own,
            ip_addresses=picture.taken.total - covered - under_way,
        )

    def _enter(self, number: int) -> None:
        self._in_flight[number] += 1
        if self._picture is not None:
            self._picture.taken.add(number, number)

    def _number(self, address: str) -> int:
        return int(network(address).network_address) - self.base

    def _text(self, number: int) -> str:
        length = HOST_LENGTH[self.container.ip_family]
        make = ipaddress.IPv4Address if length == 32 else ipaddress.IPv6Address
        return f"{make(self.base + number)}/{length}"
