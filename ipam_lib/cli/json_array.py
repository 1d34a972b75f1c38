"""Prints a long JSON array item by item, without holding it in memory."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any


class JSONArray:
    """Prints `{"name": [...], ...}` item by item.

        with JSONArray("registrations") as array:
            array.add(...)
            array.end(count=1)      optional: the fields after the array

    After an error, what was printed is not valid JSON, so that no reader takes it for the whole list.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._any = False
        self._rest: dict[str, Any] = {}

    def __enter__(self) -> JSONArray:
        sys.stdout.write(f"{{{json.dumps(self._name)}: [")
        return self

    def add(self, item: Any) -> None:
        """Print one more item."""
        sys.stdout.write((",\n" if self._any else "\n") + json.dumps(item))
        self._any = True

    def end(self, **rest: Any) -> None:
        """Set the fields after the array."""
        self._rest = rest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            rest = "".join(f",\n{json.dumps(name)}: {json.dumps(value)}" for name, value in self._rest.items())
            sys.stdout.write(("\n]" if self._any else "]") + rest + "}\n")
