"""The picture of what is taken inside one container, and its full load. No I/O. `occupancy` says what it is for."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from heapq import merge
from typing import Final

from ipam_lib.intervals import BITS_OF_AN_ARRAY, IntervalSet
from ipam_lib.netbox.base import Occupant

MAX_ROWS: Final = 2_000_000
"""The most rows of one container that are kept: some 150 MB. A container with more has no picture."""
ROWS_IN_A_STEP: Final = 2000


class HostRows:
    """The child prefixes of one address: numbers and NetBox ids, ascending by number. NetBox may have several on one
    address. A row takes 16 bytes up to 64 `bits`."""

    def __init__(self, bits: int) -> None:
        self._numbers: MutableSequence[int] = array("Q") if bits <= BITS_OF_AN_ARRAY else []
        self._ids: MutableSequence[int] = array("Q")

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        index = bisect_left(self._numbers, number)
        return index < len(self._numbers) and self._numbers[index] == number

    def append(self, number: int, netbox_id: int) -> None:
        """Add a row that sorts behind all others, or is the last one."""
        if not (self._numbers and (self._numbers[-1], self._ids[-1]) == (number, netbox_id)):
            self._numbers.append(number)
            self._ids.append(netbox_id)

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


class Picture:
    """What is taken. `hosts`: prefixes of one address; `blocks`: wider prefixes; `addresses`: IP addresses and IP
    ranges; `prefixes`: what hosts and blocks cover; `own`: what those of `own_hosts` and `own_blocks` cover, which are
    ours; `taken`: all of it, and the creations under way. Numbers count from the first address of the container."""

    def __init__(self, bits: int) -> None:
        self.hosts = HostRows(bits)
        self.own_hosts = HostRows(bits)
        self.own = IntervalSet(bits)
        self.blocks = IntervalSet(bits)
        self.addresses = IntervalSet(bits)
        self.prefixes = IntervalSet(bits)
        self.taken = IntervalSet(bits)

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
    """A full load under way: pages of prefixes and of IP addresses and ranges come in, and what this instance creates
    and releases meanwhile is noted. `Occupancy.replace` ends it.

    `clip`: the part of an occupant that lies inside the container, as numbers; None when none does.
    """

    def __init__(self, bits: int, clip: Callable[[Occupant], tuple[int, int] | None]) -> None:
        self._bits = bits
        self._clip = clip
        self.prefix_rows = 0
        self._address_rows = 0
        # Pages, each ascending. Hosts: number, NetBox id, whether it is ours. Blocks: first, last, whether it is ours.
        self._hosts: list[list[tuple[int, int, bool]]] = []
        self._blocks: list[list[tuple[int, int, bool]]] = []
        self._addresses: list[list[tuple[int, int]]] = []
        # What this instance did meanwhile, and what looks have shown. Hosts by NetBox id.
        self._noted_hosts: dict[int, tuple[int, int, bool]] = {}
        self._noted_blocks: list[tuple[int, int, bool]] = []
        self._noted_addresses: list[tuple[int, int]] = []
        self._released: dict[int, int] = {}
        self._built: Picture | None = None

    @property
    def too_large(self) -> bool:
        """Whether there are more rows than a picture holds."""
        return self.prefix_rows + self._address_rows > MAX_ROWS

    def add_prefixes(self, rows: Iterable[Occupant]) -> None:
        """A page of child prefixes."""
        hosts, blocks = [], []
        for row in rows:
            self.prefix_rows += 1
            if (ends := self._clip(row)) is None:
                continue
            if ends[0] == ends[1]:
                hosts.append((ends[0], row.netbox_id, row.own))
            else:
                blocks.append((*ends, row.own))
        self._hosts.append(sorted(hosts))
        self._blocks.append(sorted(blocks))

    def add_addresses(self, rows: Iterable[Occupant]) -> None:
        """A page of IP addresses or of IP ranges."""
        page = sorted(ends for row in rows if (ends := self._clip(row)) is not None)
        self._address_rows += len(page)
        self._addresses.append(page)

    def note_prefix(self, netbox_id: int, ends: tuple[int, int], *, own: bool) -> None:
        if ends[0] == ends[1]:
            self._noted_hosts[netbox_id] = (ends[0], netbox_id, own)
        else:
            self._noted_blocks.append((*ends, own))

    def note_addresses(self, ends: tuple[int, int]) -> None:
        self._noted_addresses.append(ends)

    def note_released(self, netbox_id: int, number: int) -> None:
        self._released[netbox_id] = number

    def build(self) -> Iterator[None]:
        """Make the picture of the pages, in steps of some milliseconds: a million rows take seconds, in which requests
        must be answered. What is noted after the beginning is not in it yet."""
        picture, gone = Picture(self._bits), frozenset(self._released)
        hosts = [*self._hosts, sorted(self._noted_hosts.values())]
        blocks = [*self._blocks, sorted(self._noted_blocks)]
        addresses = [*self._addresses, sorted(self._noted_addresses)]
        self._noted_hosts, self._noted_blocks, self._noted_addresses = {}, [], []
        own_blocks: list[tuple[int, int]] = []

        def add_host(number: int, netbox_id: int, own: bool) -> None:
            # NetBox never uses an id twice, so a released id is gone, whenever its page was read.
            if netbox_id not in gone:
                picture.hosts.append(number, netbox_id)
                if own:
                    picture.own_hosts.append(number, netbox_id)

        def add_block(first: int, last: int, own: bool) -> None:
            picture.blocks.append(first, last)
            if own:
                own_blocks.append((first, last))

        yield from _in_steps(add_host, merge(*hosts))
        yield from _in_steps(add_block, merge(*blocks))
        yield from _in_steps(picture.addresses.append, merge(*addresses))
        yield from _in_steps(picture.own.append, merge(picture.own_hosts.intervals(), own_blocks))
        yield from _in_steps(picture.prefixes.append, merge(picture.hosts.intervals(), picture.blocks))
        yield from _in_steps(picture.taken.append, merge(picture.prefixes, picture.addresses))
        self._built = picture

    def picture(self, in_flight: Iterable[int]) -> Picture:
        """The new picture: what was read, and on top of it what this instance did meanwhile."""
        if self._built is None:
            for _ in self.build():
                pass
        picture = self._built
        assert picture is not None
        for number, netbox_id, own in self._noted_hosts.values():
            picture.add_host(number, netbox_id, own=own)
        for first, last, own in self._noted_blocks:
            picture.add_block(first, last, own=own)
        for ends in self._noted_addresses:
            picture.add_addresses(*ends)
        for netbox_id, number in self._released.items():
            picture.remove_host(number, netbox_id, in_flight=False)
        for number in in_flight:
            picture.taken.add(number, number)
        return picture


def _in_steps(use: Callable[..., None], items: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Call `use` with each of the items, and yield after every step."""
    for count, item in enumerate(items, 1):
        use(*item)
        if count % ROWS_IN_A_STEP == 0:
            yield
