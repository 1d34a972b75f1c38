"""What the pictures cost NetBox: counts, which depend on no speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.netbox import TOKEN, build
from benchmarks.picture import REGISTRATIONS, Cost, Costs, Front, measure, table

# The container itself before and after, IP addresses, IP ranges.
BESIDE = 4


def test_the_pages_in_front_of_the_simulator_are_those_of_the_simulator() -> None:
    model = build({"token": TOKEN, "zones": {"inet": {"ipv4": ["10.0.0.0/24"]}}, "children": {"inet": [7, 2]}})
    headers = {"Authorization": f"Token {TOKEN}"}
    front, first_id = Front(model), 0
    for expected in (3, 3, 1):
        query = f"within=10.0.0.0/24&fields=id,prefix,vrf,last_updated&id__gte={first_id}&ordering=id&limit=3"
        theirs = model.handle("GET", f"/api/ipam/prefixes/?{query}", headers=headers).json()
        answer = front.page(first_id, 3)
        assert isinstance(answer.text, str)
        ours = json.loads(answer.text)
        assert len(ours["results"]) == expected
        assert (ours["count"], ours["next"] is None) == (theirs["count"], theirs["next"] is None)
        for one in theirs["results"]:
            one["vrf"] = one["vrf"] and {"id": one["vrf"]["id"]}
        assert ours["results"] == theirs["results"]
        first_id = ours["results"][-1]["id"] + 1


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
