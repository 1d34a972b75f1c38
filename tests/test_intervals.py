"""`IntervalSet` against a set of integers that does the same the long way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.intervals import IntervalSet

TOP = 63
ENDS = st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(sorted)


def numbers(first: int, last: int) -> set[int]:
    return set(range(first, last + 1))


def check(found: IntervalSet, expected: set[int]) -> None:
    intervals = list(found)
    assert set().union(*(numbers(*one) for one in intervals)) == expected
    assert found.total == len(expected)
    assert len(found) == len(intervals)
    # Disjoint, ascending, and not adjacent.
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(intervals))


@pytest.mark.parametrize("bits", [6, 64, 128])
@given(
    start=st.lists(ENDS, max_size=8),
    changes=st.lists(st.tuples(st.booleans(), ENDS), max_size=12),
    window=ENDS,
)
def test_it_holds_what_a_set_of_integers_holds(
    bits: int, start: list[list[int]], changes: list[tuple[bool, list[int]]], window: list[int]
) -> None:
    found = IntervalSet(bits, [(first, last) for first, last in start])
    expected = set().union(*(numbers(*one) for one in start))
    check(found, expected)
    for adds, (first, last) in changes:
        if adds:
            found.add(first, last)
            expected |= numbers(first, last)
        else:
            found.remove(first, last)
            expected -= numbers(first, last)
        check(found, expected)
        assert all((number in found) == (number in expected) for number in range(TOP + 1))
        gaps = set().union(*(numbers(*gap) for gap in found.gaps(*window)))
        assert gaps == numbers(*window) - expected
        assert found.count(*window) == len(numbers(*window) & expected)


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_the_ends_of_the_space(bits: int) -> None:
    last = 2**bits - 1
    whole = IntervalSet(bits, [(0, last)])
    assert whole.total == 2**bits
    assert not list(whole.gaps(0, last))
    whole.remove(last, last)
    whole.remove(0, 0)
    assert list(whole.gaps(0, last)) == [(0, 0), (last, last)]
    whole.add(last, last)
    whole.add(0, 0)
    assert list(whole) == [(0, last)]
