"""What the pictures cost NetBox: counts, which depend on no speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.picture import REGISTRATIONS, Cost, Costs, measure, table

# The container itself before and after, IP addresses, IP ranges.
BESIDE = 4


async def test_the_costs_of_a_container_are_counted(tmp_path: Path) -> None:
    costs = await measure(2_500, tmp_path)
    # One child more than these is in the container: the newest one.
    assert costs.load == Cost(3 + BESIDE, 2_501 + 2)
    assert costs.interval == 600
    assert (costs.look.requests, costs.look.rows) == (3, 1)
    # A creation and the three reads of its look.
    assert 4 * REGISTRATIONS <= costs.registrations.requests <= 4 * REGISTRATIONS + 3
    assert costs.registrations.rows < REGISTRATIONS * (REGISTRATIONS + 2)
    assert "2,500" in table([costs])


def test_a_large_container_is_read_less_often() -> None:
    costs = Costs(1, Cost(1_000, 1_000_000), 1_680.0, Cost(3, 0), Cost(240, 2_000))
    assert costs.idle_minute.rows == pytest.approx(35_714, abs=1)
    assert costs.busy_minute.requests == pytest.approx(240 + 35.7, abs=0.1)
