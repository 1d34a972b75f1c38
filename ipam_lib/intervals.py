"""Sets of integers as sorted intervals: what is taken of an address space. No I/O."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Final

BITS_OF_AN_ARRAY: Final = 64
"""Up to so many bits, an `array` holds the integers."""


class IntervalSet:
    """Integers from 0 to `2 ** bits - 1`, as intervals `(first, last)`, both inclusive: ascending, disjoint, and never
    adjacent.

    A look-up is a binary search. A change moves the intervals behind it in memory, which takes microseconds for tens of
    thousands of them. An interval takes 16 bytes up to 64 `bits`, and some 100 bytes above.
    """

    def __init__(self, bits: int, intervals: Iterable[tuple[int, int]] = ()) -> None:
        """Sort and merge `intervals`, which may overlap and come in any order."""
        self.bits = bits
        small = bits <= BITS_OF_AN_ARRAY
        self._firsts: MutableSequence[int] = array("Q") if small else []
        self._lasts: MutableSequence[int] = array("Q") if small else []
        self._total = 0
        for first, last in sorted(intervals):
            self.append(first, last)

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return self._total

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    def append(self, first: int, last: int) -> None:
        """The same as `add`, for an interval that begins where the last one begins, or behind that."""
        if self._lasts and first <= self._lasts[-1] + 1:
            if last > self._lasts[-1]:
                self._total += last - self._lasts[-1]
                self._lasts[-1] = last
        else:
            self._firsts.append(first)
            self._lasts.append(last)
            self._total += last - first + 1

    def add(self, first: int, last: int) -> None:
        """Put `first` to `last` into the set; what is in it already stays."""
        # Also those that touch the new interval are merged with it.
        low = bisect_left(self._lasts, max(0, first - 1))
        high = bisect_right(self._firsts, min(last + 1, 2**self.bits - 1))
        for index in range(low, high):
            self._total -= self._lasts[index] - self._firsts[index] + 1
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._splice(low, high, [(first, last)])

    def remove(self, first: int, last: int) -> None:
        """Take `first` to `last` out of the set; what is not in it is passed over."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        left = []
        for index in range(low, high):
            self._total -= self._lasts[index] - self._firsts[index] + 1
            if self._firsts[index] < first:
                left.append((self._firsts[index], first - 1))
            if self._lasts[index] > last:
                left.append((last + 1, self._lasts[index]))
        self._splice(low, high, left)

    def count(self, first: int, last: int) -> int:
        """How many integers between `first` and `last` are in the set. Takes longer the more intervals are there."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return sum(min(self._lasts[index], last) - max(self._firsts[index], first) + 1 for index in range(low, high))

    def gaps(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The intervals between `first` and `last` that are not in the set, ascending. The set must not change
        meanwhile."""
        index = bisect_left(self._lasts, first)
        while index < len(self._firsts) and self._firsts[index] <= last:
            if first < self._firsts[index]:
                yield first, self._firsts[index] - 1
            first = self._lasts[index] + 1
            index += 1
        if first <= last:
            yield first, last

    def _splice(self, low: int, high: int, intervals: list[tuple[int, int]]) -> None:
        """Put `intervals` in the place of those from index `low` to before `high`."""
        # One after the other: assigning a slice would copy all that stands behind it.
        for numbers, ends in ((self._firsts, 0), (self._lasts, 1)):
            common = min(high - low, len(intervals))
            for index in range(common):
                numbers[low + index] = intervals[index][ends]
            for index in range(common, len(intervals)):
                numbers.insert(low + index, intervals[index][ends])
            if low + common < high:
                del numbers[low + common : high]
        self._total += sum(last - first + 1 for first, last in intervals)
