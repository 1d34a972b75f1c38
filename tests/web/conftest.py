"""Nothing in the web application may make the event loop wait."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unblocked(loop_guard: None) -> None:
    """See `tests.support.loop_guard`."""
