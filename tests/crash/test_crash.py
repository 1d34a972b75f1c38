"""A thousand schedules with fixed seeds, in every test run. Many more: `python -m tests.crash`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.crash.run import run_schedule
from tests.crash.world import Summary


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The warnings that trouble makes are of no interest here, and cost time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "latecomers", "seeds"),
    [
        *(("memory", False, range(first, first + 100)) for first in range(0, 600, 100)),
        *(("memory", True, range(first, first + 100)) for first in range(10_000, 10_300, 100)),
        ("sqlite", False, range(20_000, 20_060)),
        ("sqlite", True, range(30_000, 30_040)),
    ],
    ids=lambda value: f"from-{value.start}" if isinstance(value, range) else str(value),
)
def test_nothing_is_leaked_lost_or_given_twice(store: str, latecomers: bool, seeds: range) -> None:
    total = Summary()
    for seed in seeds:
        summary, history = run_schedule(seed, store=store, latecomers=latecomers)
        assert not summary.problems, "\n".join([f"seed {seed}", *summary.problems, *history])
        total.add(summary)
    assert total.answers["ok"] > 5 * len(seeds), "the schedules hardly did anything"


def test_a_seed_replays_exactly() -> None:
    assert run_schedule(7)[1] == run_schedule(7)[1]
    assert run_schedule(7)[1] != run_schedule(8)[1]
