"""The prefixes of one VRF and one family, in order: containment, children, first fit. Pure integers, no I/O.

A prefix is `(first, length)`: its network address as a number and its mask length. Prefixes may repeat (NetBox lets
duplicates in), so an id goes with each.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator

Block = tuple[int, int]
Key = tuple[int, int, int]


class AddressSpace:
    """Prefixes of one table and family, sorted as PostgreSQL sorts them: network address, then mask length, then id."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.keys: list[Key] = []
        self._lengths: Counter[int] = Counter()
        # For (container, length wanted): no free block of that length begins below this address. Insertions can only
        # make that more true; removals take it back.
        self._floors: dict[tuple[int, int, int], int] = {}
        # For each container that was asked about: what `breaks_within` says, kept up to date.
        self._breaks: dict[Block, int] = {}

    def size(self, length: int) -> int:
        """How many addresses a prefix of that length has."""
        return 1 << (self.bits - length)

    def network(self, address: int, length: int) -> int:
        """The first address of the prefix of that length around `address`."""
        return address & -self.size(length)

    def add(self, first: int, length: int, prefix_id: int) -> None:
        """Put a prefix in."""
        insort(self.keys, (first, length, prefix_id))
        self._lengths[length] += 1
        self._count_breaks((first, length, prefix_id), 1)

    def remove(self, first: int, length: int, prefix_id: int) -> None:
        """Take a prefix out. Raises KeyError when it is not there."""
        key = (first, length, prefix_id)
        index = bisect_left(self.keys, key)
        if index == len(self.keys) or self.keys[index] != key:
            raise KeyError(key)
        self._count_breaks(key, -1)
        del self.keys[index]
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]
        last = first + self.size(length) - 1
        for (container, container_length, wanted), floor in self._floors.items():
            if container <= first and last < container + self.size(container_length):
                # What became free may complete a block that begins below it.
                freed = max(container, self.network(first, wanted))
                if freed < floor:
                    self._floors[container, container_length, wanted] = freed

    def ids_at(self, first: int, length: int) -> list[int]:
        """The ids of exactly this prefix, lowest first."""
        low = bisect_left(self.keys, (first, length, 0))
        high = bisect_left(self.keys, (first, length + 1, 0))
        return [key[2] for key in self.keys[low:high]]

    def _inside(self, first: int, length: int) -> tuple[int, int]:
        """The slice of the keys strictly inside: a prefix that begins inside a network cannot reach out of it."""
        return (
            bisect_left(self.keys, (first, length + 1, 0)),
            bisect_left(self.keys, (first + self.size(length), 0, 0)),
        )

    def within(self, first: int, length: int) -> list[int]:
        """The ids of the prefixes strictly inside, in order."""
        low, high = self._inside(first, length)
        return [key[2] for key in self.keys[low:high]]

    def count_within(self, first: int, length: int) -> int:
        """How many prefixes lie strictly inside."""
        low, high = self._inside(first, length)
        return high - low

    def breaks_within(self, first: int, length: int) -> int:
        """How many of the prefixes strictly inside do not begin where the one before them ends (or within it)."""
        known = self._breaks.get((first, length))
        if known is None:
            low, high = self._inside(first, length)
            known = self._breaks[first, length] = sum(
                self._is_break(self.keys[index - 1], self.keys[index]) for index in range(low + 1, high)
            )
        return known

    def _is_break(self, before: Key, key: Key) -> bool:
        return key[0] > before[0] + self.size(before[1])

    def _count_breaks(self, key: Key, sign: int) -> None:
        """Keep `_breaks` up to date when a key has just been put in (1), or is about to be taken out (-1)."""
        if not self._breaks:
            return
        index = bisect_left(self.keys, key)
        for (container, container_length), breaks in self._breaks.items():
            low, high = self._inside(container, container_length)
            if low <= index < high:
                left = self.keys[index - 1] if index > low else None
                right = self.keys[index + 1] if index + 1 < high else None
                more = (left is not None and self._is_break(left, key)) + (
                    right is not None and self._is_break(key, right)
                )
                less = left is not None and right is not None and self._is_break(left, right)
                self._breaks[container, container_length] = breaks + sign * (more - less)

    def around(self, first: int, length: int) -> Iterator[int]:
        """The ids of the prefixes that strictly contain this one, widest first."""
        for outer in sorted(self._lengths):
            if outer >= length:
                return
            yield from self.ids_at(self.network(first, outer), outer)

    def _covered_until(self, address: int, container_length: int) -> int:
        """Where the cover of `address` by prefixes inside the container ends (exclusive), or the address itself."""
        for length in sorted(self._lengths):
            if length > container_length:
                network = self.network(address, length)
                if network != address and self.ids_at(network, length):
                    return network + self.size(length)
        return address

    def first_fit(self, first: int, length: int, wanted: int) -> int | None:
        """The lowest free aligned block of length `wanted` inside the container, or None.

        What blocks is what lies strictly inside the container; the container's own duplicates do not. An empty
        container of exactly the wanted length gives itself (NetBox does so, and then refuses it as a duplicate).
        """
        if wanted < length:
            return None
        size = self.size(wanted)
        end = first + self.size(length)
        floor_key = (first, length, wanted)
        cursor = self._covered_until(max(first, self._floors.get(floor_key, first)), length)
        index = max(bisect_left(self.keys, (cursor, 0, 0)), bisect_left(self.keys, (first, length + 1, 0)))
        keys = self.keys
        while index < len(keys):
            child, child_length, _ = keys[index]
            if child >= end:
                break
            if -(-cursor // size) * size + size <= child:
                break
            cursor = max(cursor, child + self.size(child_length))
            index += 1
        found = -(-cursor // size) * size
        self._floors[floor_key] = min(found, end)
        return found if found + size <= end else None

    def free_blocks(self, first: int, length: int) -> list[Block]:
        """What is free inside the container, as the fewest prefixes, in order."""
        blocks: list[Block] = []
        cursor = first
        end = first + self.size(length)
        low, high = self._inside(first, length)
        for child, child_length, _ in self.keys[low:high]:
            if child > cursor:
                blocks += self._blocks(cursor, child)
            cursor = max(cursor, child + self.size(child_length))
        if cursor < end:
            blocks += self._blocks(cursor, end)
        return blocks

    def _blocks(self, start: int, end: int) -> Iterator[Block]:
        """The range [start, end) as the fewest aligned blocks."""
        while start < end:
            aligned = start & -start if start else 1 << self.bits
            size = min(aligned, 1 << ((end - start).bit_length() - 1))
            yield start, self.bits - size.bit_length() + 1
            start += size
