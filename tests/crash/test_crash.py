"""Hundreds of schedules with fixed seeds in a plain run, thousands in the soak. Others: `python -m tests.crash`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.crash.run import run_schedule
from tests.crash.world import Summary
from tests.support.soak import RecordAmount, amount


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The warnings that trouble makes are of no interest here, and cost time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# Store, options, seed of the first schedule, how many schedules in a plain run and in the soak.
SCHEDULES = [
    ("memory", "", 0, 200, 4000),
    ("memory", "latecomers", 10_000, 100, 2000),
    ("memory", "warm", 40_000, 100, 2000),
    ("memory", "warm latecomers", 50_000, 40, 800),
    ("memory", "rush", 80_000, 40, 800),
    ("memory", "rush warm latecomers", 90_000, 20, 400),
    ("memory", "picture", 120_000, 60, 1200),
    ("memory", "picture latecomers", 130_000, 20, 400),
    ("memory", "picture rush warm", 140_000, 20, 400),
    ("memory", "events", 160_000, 30, 600),
    ("memory", "descriptions", 170_000, 60, 1000),
    ("memory", "descriptions warm latecomers", 180_000, 20, 400),
    ("sqlite", "", 20_000, 30, 400),
    ("sqlite", "latecomers", 30_000, 15, 200),
    ("sqlite", "warm", 60_000, 10, 200),
    ("sqlite", "warm latecomers", 70_000, 8, 100),
    ("sqlite", "rush", 95_000, 8, 100),
    ("sqlite", "picture", 150_000, 8, 100),
    ("sqlite", "descriptions", 190_000, 8, 100),
]
AT_ONCE = 100


def parts(first: int, number: int) -> Iterator[range]:
    """The seeds, in tests of a bearable length."""
    for begin in range(first, first + number, AT_ONCE):
        yield range(begin, min(begin + AT_ONCE, first + number))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("store", "options", "seeds"),
    [
        (store, options, seeds)
        for store, options, first, plain, soak in SCHEDULES
        for seeds in parts(first, amount(plain, soak))
    ],
    ids=lambda value: f"from-{value.start}" if isinstance(value, range) else value,
)
def test_nothing_is_leaked_lost_or_given_twice(
    store: str, options: str, seeds: range, record_amount: RecordAmount
) -> None:
    total, calls = Summary(), Counter[str]()
    for seed in seeds:
        summary, history = run_schedule(seed, store=store, **dict.fromkeys(options.split(), True))
        assert not summary.problems, "\n".join([f"seed {seed}", *summary.problems, *history])
        total.add(summary)
        calls.update(line.split()[2] for line in history)
    assert total.answers["ok"] > 5 * len(seeds), "the schedules hardly did anything"
    used = [
        "netbox.create_given" if {"picture", "events"} & {*options.split()} else "netbox.create_next",
        "netbox.delete_many",
    ]
    used += ["netbox.create_next_many"] if "rush" in options or "warm" in options else []
    used += ["store.find_undescribed"] if "descriptions" in options else []
    used += ["store.pool_claim", "store.pool_insert", "netbox.update_many"] if "warm" in options else []
    assert all(calls[name] > len(seeds) / 10 for name in used), "a part of the service was hardly used"
    record_amount("schedules of the crash machine", len(seeds))


@pytest.mark.parametrize("warm", [False, True])
def test_a_seed_replays_exactly(warm: bool) -> None:
    assert run_schedule(7, warm=warm)[1] == run_schedule(7, warm=warm)[1]
    assert run_schedule(7, warm=warm)[1] != run_schedule(8, warm=warm)[1]
