"""What is taken inside one container prefix: a picture of NetBox's prefixes, IP addresses and IP ranges. No I/O.

The picture may err towards "taken" only, since a choice of a taken address is a conflict on the network, and a free one
that is passed over costs nothing:

- an own creation is entered before the request is sent (`reserve`), and taken out only when it is known what came of it
  (`created`, `end`);
- an own release is entered when NetBox has carried out the deletion (`released`);
- what changed since a moment is only ever added (`enter`): what others deleted shows at the next full load;
- a full load (`picture.Loading`) replaces the picture only as a whole, and what this instance created or released
  while the listing was read is applied on top of it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

from ipam_lib.addresses import HOST_LENGTH, network
from ipam_lib.netbox.base import Container, Occupant, SpaceUse
from ipam_lib.netbox.picture import Loading, Picture


class Occupancy:
    """The picture of one container. Everything happens in one event loop, and nothing here waits, so a choice is also a
    reservation: two requests of one instance never get the same address."""

    def __init__(self, container: Container) -> None:
        net = network(container.prefix)
        self.container = container
        self.base = int(net.network_address)
        self.bits = net.max_prefixlen - net.prefixlen
        self._last = net.num_addresses - 1
        self._picture: Picture | None = None
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
        self._loading = Loading(self.bits, self.clip)
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
            self._loading.note_released(netbox_id, number)
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
