"""Tests that are marked `no_cover` (of pytest-cov) run without coverage, and so do the processes that they start.

Coverage takes half of a long test's time or more. The mark is for tests that cover nothing which others do not.

A pytest plugin: tests/conftest.py loads it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from typing import Final

import pytest

# How coverage reaches the processes that tests start (https://coverage.readthedocs.io/en/latest/subprocess.html).
COVERAGE_VARIABLE: Final = "COVERAGE_PROCESS_CONFIG"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Start workers without the variable, which each then sets for its own processes: pytest-cov measures a worker."""
    os.environ.pop(COVERAGE_VARIABLE, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Start a test's processes without coverage, if it is marked so."""
    config = os.environ.pop(COVERAGE_VARIABLE, None) if item.get_closest_marker("no_cover") else None
    try:
        return (yield)
    finally:
        if config is not None:
            os.environ[COVERAGE_VARIABLE] = config


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test without coverage, if it is marked so. In a worker of pytest-xdist, pytest-cov 7.1 has two measurements
    one over the other, and stops only one."""
    if not item.get_closest_marker("no_cover"):
        return (yield)
    of_this, of_new = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(of_this)
        threading.settrace(of_new)
