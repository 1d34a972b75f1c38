"""Tests that cannot run here say so: in pytest's last lines, and by failing a CI run that must not miss them.

A pytest plugin: tests/conftest.py loads it. Use `skip_loudly` instead of `pytest.skip`.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

MARK = " did NOT run: "
REQUIRED_UNDER_CI = ("MongoDB tests",)


def skip_loudly(what: str, reason: str) -> NoReturn:
    """Skip the test (or, from a fixture, every test that needs it).

    what: what is missing from the run, such as "MongoDB tests". reason: why, and what would help.
    """
    pytest.skip(f"{what}{MARK}{reason}")


def _not_run(config: pytest.Config) -> Counter[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    reasons = (report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple))
    return Counter(reason.removeprefix("Skipped: ") for reason in reasons)


def _missing_under_ci(config: pytest.Config) -> list[str]:
    if os.environ.get("CI") != "true":
        return []
    return [reason for reason in _not_run(config) if reason.startswith(REQUIRED_UNDER_CI)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run under CI=true from which required tests are missing."""
    if _missing_under_ci(session.config) and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell in the last lines what did not run and why (every skipped test, grouped by reason)."""
    not_run = _not_run(config)
    if not not_run:
        return
    terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
    for reason, count in sorted(not_run.items()):
        terminalreporter.line(f"{reason} [{count} skipped]", red=True)
    for reason in _missing_under_ci(config):
        terminalreporter.line(f"FAILED, because CI=true: {reason}", red=True, bold=True)
