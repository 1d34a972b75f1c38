"""`--soak`: the long random tests with their full numbers, and nothing else.

A plain run tries everything, the random tests (marked `soak`) with a share of their schedules, storms and mutants. How
much a test does is `amount(plain, soak)`; what was done stands in pytest's last lines.

A pytest plugin: tests/conftest.py loads it. Fixture: `record_amount`, a function that records how much a test did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
RecordAmount = Callable[[str, int], None]

COMMAND = "./scripts/test --soak"
_AMOUNT = "amount: "
_soak = False


def amount(plain: T, soak: T) -> T:
    """How much a random test does: `plain` in a plain run, `soak` under `--soak`. For modules of tests only: pytest has
    read its options before it imports them."""
    return soak if _soak else plain


@pytest.fixture
def record_amount(record_property: Callable[[str, object], None]) -> RecordAmount:
    """A function that records how much a test did, such as `record_amount("storms", 1)`, for the last lines."""

    def record(what: str, number: int) -> None:
        record_property(f"{_AMOUNT}{what}", number)

    return record


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption(
        "--soak", action="store_true", help="run the long random tests with their full numbers, and nothing else"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported."""
    global _soak
    _soak = config.getoption("--soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under `--soak` only what is marked `soak`; without, all but what is marked `soak(only=True)`."""
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("soak")
        wanted = marker is not None if config.getoption("--soak") else marker is None or not marker.kwargs.get("only")
        (chosen if wanted else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell in the last lines how much the random tests did, and that there is more."""
    done = Counter[str]()
    for report in terminalreporter.stats.get("passed", []):
        for name, number in report.user_properties:
            if name.startswith(_AMOUNT):
                done[name.removeprefix(_AMOUNT)] += number
    if not done:
        return
    terminalreporter.section("RANDOM TESTS")
    terminalreporter.line(", ".join(f"{number:,} {what}" for what, number in sorted(done.items())))
    if not config.getoption("--soak"):
        terminalreporter.line(f"{COMMAND} runs many more of them")
