"""Filters on custom fields (`cf_NAME`), whose meaning depends on the field's `filter_logic`.

A text field is loose by default: `cf_k8s_uuid=1111` finds every value that contains 1111, in any case, and the explicit
look-ups (`__ie`, `__ic`, `__isw`, `__n`, `__empty`) are then unknown filters, which NetBox ignores. A select field is
always compared exactly, and has the look-ups always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from netbox_simulator.state import FieldIndex, Prefix, State
from netbox_simulator.validation import prefix_fields

Test = Callable[[str], bool]


def custom_field_filters(state: State, name: str, values: list[str]) -> set[int] | Callable[[Prefix], bool] | None:
    """What `cf_<name>=<values>` leaves; None when NetBox would ignore the filter."""
    fields = prefix_fields(state)
    field, _, lookup = (name, "", "") if name in fields else name.rpartition("__")
    if field not in fields or fields[field]["filter_logic"] == "disabled":
        return None
    index = state.prefixes.by_field.get(field) or FieldIndex()
    loose = fields[field]["filter_logic"] == "loose" and fields[field]["type"] not in ("select", "integer", "boolean")
    if lookup in ("", "n") and values == ["null"]:
        return lambda row: (row.custom_fields.get(field) in (None, "")) != bool(lookup)
    if not lookup:
        if loose:
            return _join(index.containing(value) for value in values)
        return _join(index.exact.get(typed, ()) for value in values for typed in _typed(value))
    if loose:
        return None
    if lookup == "n":
        excluded = _join(index.exact.get(typed, ()) for value in values for typed in _typed(value))
        return lambda row: row.id not in excluded
    if lookup == "empty":
        if not state.version.since("4.4"):
            return set()
        empty = values[-1].lower() in ("true", "1")
        return lambda row: (row.custom_fields.get(field) in (None, "")) == empty
    make = _LOOKUPS.get(lookup)
    if make is None:
        return None
    tests = [make(value) for value in values]
    return index.matching(lambda text: any(test(text) for test in tests))


def _typed(value: str) -> list[Any]:
    """The values that the text of a query may stand for."""
    typed: list[Any] = [value]
    if value.lstrip("-").isdigit():
        typed.append(int(value))
    if value.lower() in ("true", "false"):
        typed.append(value.lower() == "true")
    return typed


def _join(groups: Iterable[Iterable[int]]) -> set[int]:
    joined: set[int] = set()
    for ids in groups:
        joined.update(ids)
    return joined


_LOOKUPS: dict[str, Callable[[str], Test]] = {
    # The text is in lower case already.
    "ie": lambda value: lambda text: text == value.lower(),
    "ic": lambda value: lambda text: value.lower() in text,
    "isw": lambda value: lambda text: text.startswith(value.lower()),
    "iew": lambda value: lambda text: text.endswith(value.lower()),
}
