"""The benchmarks run to their end, and say what they measured. These tests do not check speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import LESS, MORE, Figure, Side, as_ratio, in_turns, quartiles, table
from tests.support.processes import REPOSITORY

TINY = ("--quick", "--size", "300", "--few", "100", "--children", "20", "--clients", "3", "--time-scale", "0.02")
COMPARED = {
    "register again, p50",
    "register again / (a read + an empty handler)",
    "expire, p50",
    "expire / (a read + a write + a handler)",
    "register next, near-empty container, p50",
    "register next / one NetBox create",
    "register next, 20 alternating children, p50",
    "register next, 20 alternating children / near-empty container",
    "register next, 3 clients, pool off",
    "register next, warm pool, p50",
    "register next, 3 clients, warm pool",
}
OPERATIONS = {"find_service", "find_address", "find_cluster", "quota", "find_due", "find_states"}
OPERATIONS |= {"insert", "replace", "delete"}
PEAKS = {
    "serve, ready",
    "serve, register again",
    "serve, list of all",
    "serve, cleanup",
    "list-addresses",
    "reconcile",
    "mongo-backup",
}


def measured(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """A run at tiny sizes, and what it wrote."""
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", *TINY, "--directory", str(tmp_path), "--json", str(written)]
    done = subprocess.run([*command, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done, json.loads(written.read_text())


def check_shape(report: Any, storage: str) -> None:
    """Every figure is whole."""
    assert report["conditions"].keys() >= {"version", "python", "processors", "load_at_start", "time_scale", "many"}
    for figure in report["figures"]:
        assert figure["storage"] == storage
        assert figure["ratio"] == pytest.approx(figure["ours"]["median"] / figure["base"]["median"])
        assert figure["ratio_q1"] <= figure["ratio_q3"]
        assert figure["met"] in (True, False, None)
        assert (figure["met"] is None) == (figure["target"] == "")
        for side in (figure["ours"], figure["base"]):
            assert side["median"] > 0, figure["name"]
            assert side["q1"] <= side["median"] <= side["q3"]
            assert side["count"] >= len(side["medians_by_round"]) >= 1
        assert len(figure["ours"]["medians_by_round"]) == len(figure["base"]["medians_by_round"])


@pytest.mark.slow
@pytest.mark.soak(only=True)
@pytest.mark.no_cover
def test_every_figure_comes_out(tmp_path: Path) -> None:
    done, report = measured(tmp_path, "--storage", "sqlite")
    check_shape(report, "sqlite")
    names = {figure["name"] for figure in report["figures"]}
    assert names >= COMPARED
    assert names >= {f"storage: {one}" for one in OPERATIONS}
    assert names >= {f"memory: {one}" for one in PEAKS}
    assert "register again, with logs and metrics / without" in names
    assert len([name for name in names if name.startswith("storage: page of")]) == 7
    for name in names:
        assert name in done.stdout, "the table has what the file has"
    assert "round 1 of" in done.stderr, "it shows how far it is"
    assert done.returncode == int(any(figure["met"] is False for figure in report["figures"]))
    assert list(tmp_path.iterdir()) == [tmp_path / "figures.json"], "nothing is left behind"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.mongodb
def test_the_comparison_runs_on_mongodb(tmp_path: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAM_TEST_MONGODB_URI", mongodb_uri)
    _, report = measured(tmp_path, "--storage", "mongodb", "--only", "service")
    check_shape(report, "mongodb")
    assert {figure["name"] for figure in report["figures"]} == COMPARED


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--size", "0"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'0' is no number above 0" in done.stderr


def side(*rounds: list[float], unit: str = "ms") -> Side:
    return Side("something", unit, rounds)


def test_a_figure_is_the_ratio_of_the_medians_with_its_spread_over_the_rounds() -> None:
    figure = Figure("a", "sqlite", side([1, 2, 30], [2, 2, 2]), side([4, 4, 4], [8, 8, 90]), 0.5)
    assert figure.ratio == 2 / 6
    assert figure.spread == (0.25 + 0.0625, 0.25 + 0.1875), "rounds are 2/4 and 2/8"
    assert figure.met is True
    assert figure.target == "<= 1/2"


@pytest.mark.parametrize(
    ("ours", "limit", "sense", "met"),
    [(10, 5, MORE, True), (10, 11, MORE, False), (10, 9, LESS, False), (10, 10, LESS, True), (10, None, LESS, None)],
)
def test_whether_a_target_is_met(ours: float, limit: float | None, sense: str, met: bool | None) -> None:
    assert Figure("a", "sqlite", side([ours]), side([1]), limit, sense).met is met


def test_a_target_may_be_one_of_ours_alone() -> None:
    small = Figure("memory", "sqlite", side([119], unit="MB"), side([1], unit="MB"), limit_of_ours=120)
    assert (small.met, small.target) == (True, "120 MB")
    assert Figure("memory", "sqlite", side([121]), side([500]), limit_of_ours=120).met is False


def test_the_table_tells_what_was_missed() -> None:
    text = table(
        [Figure("quick", "sqlite", side([1]), side([40]), 1 / 20), Figure("slow", "x", side([2]), side([2]), 0.1)]
    )
    quick, slow = (line for line in text.splitlines() if "quick" in line or "slow" in line)
    assert "1/40" in quick
    assert quick.endswith("met")
    assert slow.endswith("MISSED")


def test_ratios_are_shown_as_people_say_them() -> None:
    assert [as_ratio(one) for one in (0.05, 0.5, 1.071, 42.0)] == ["1/20", "1/2", "1.07", "42"]


def test_sides_take_turns_and_the_first_round_only_warms_up() -> None:
    order: list[str] = []

    def measure(name: str) -> list[float]:
        order.append(name)
        return [float(len(order))]

    turns = in_turns(2, "test", a=lambda: measure("a"), b=lambda: measure("b"))
    assert order == ["a", "b"] * 3
    assert turns.side("a", "", "").rounds == [[3.0], [5.0]]
    assert turns.side("b", "", "").rounds == [[4.0], [6.0]]


def test_quartiles_of_one_are_that_one() -> None:
    assert quartiles([7.0]) == (7.0, 7.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
