"""What pytest-xdist needs in order to run these tests in several processes.

A pytest plugin: tests/conftest.py loads it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Escape lone surrogates in reports, which tests log on purpose: a worker that cannot send a report ends."""
    data = yield
    encodable: dict[str, Any] | None = _encodable(data)
    return encodable


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_encodable(key): _encodable(one) for key, one in value.items()}
        case list() | tuple():
            return type(value)(_encodable(one) for one in value)
        case _:
            return value
