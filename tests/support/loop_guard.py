"""Fails a test in which the program makes the event loop wait (see `blocking`).

A pytest plugin: tests/conftest.py loads it. Fixture: `loop_guard`; the folders whose tests run the program on a loop of
the test's own take it for every test. Processes that tests start are watched by `processes`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.blocking_calls import MARK, guarded


@pytest.fixture
def loop_guard() -> Iterator[None]:
    """Fails the test when the program made the loop wait in it."""
    with guarded() as found:
        yield
    assert not found, "\n".join([MARK, *found])
