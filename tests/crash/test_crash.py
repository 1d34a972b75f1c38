"""Schedules by the hundred, with fixed seeds, in every test run. Many more: `python -m tests.crash`."""

from __future__ import annotations

import logging
from collections import Counter
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
    ("store", "options", "seeds"),
    [
        *(("memory", "", range(first, first + 100)) for first in range(0, 600, 100)),
        *(("memory", "latecomers", range(first, first + 100)) for first in range(10_000, 10_300, 100)),
        *(("memory", "warm", range(first, first + 100)) for first in range(40_000, 40_300, 100)),
        *(("memory", "warm latecomers", range(first, first + 100)) for first in range(50_000, 50_100, 100)),
        *(("memory", "rush", range(first, first + 50)) for first in range(80_000, 80_100, 50)),
        ("memory", "rush warm latecomers", range(90_000, 90_050)),
        ("sqlite", "", range(20_000, 20_060)),
        ("sqlite", "latecomers", range(30_000, 30_040)),
        ("sqlite", "warm", range(60_000, 60_030)),
        ("sqlite", "warm latecomers", range(70_000, 70_015)),
        ("sqlite", "rush", range(95_000, 95_015)),
    ],
    ids=lambda value: f"from-{value.start}" if isinstance(value, range) else value,
)
def test_nothing_is_leaked_lost_or_given_twice(store: str, options: str, seeds: range) -> None:
    total, calls = Summary(), Counter[str]()
    for seed in seeds:
        summary, history = run_schedule(seed, store=store, **dict.fromkeys(options.split(), True))
        assert not summary.problems, "\n".join([f"seed {seed}", *summary.problems, *history])
        total.add(summary)
        calls.update(line.split()[2] for line in history)
    assert total.answers["ok"] > 5 * len(seeds), "the schedules hardly did anything"
    used = ["netbox.create_next", "netbox.delete_many"]
    used += ["netbox.create_next_many"] if "rush" in options or "warm" in options else []
    used += ["store.pool_claim", "store.pool_insert", "netbox.update_many"] if "warm" in options else []
    assert all(calls[name] > len(seeds) / 10 for name in used), "a part of the service was hardly used"


@pytest.mark.parametrize("warm", [False, True])
def test_a_seed_replays_exactly(warm: bool) -> None:
    assert run_schedule(7, warm=warm)[1] == run_schedule(7, warm=warm)[1]
    assert run_schedule(7, warm=warm)[1] != run_schedule(8, warm=warm)[1]
