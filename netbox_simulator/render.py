"""Objects as JSON: in full, and in the short form in which they stand inside others."""

from __future__ import annotations

from typing import Any

from netbox_simulator.catalog import KINDS
from netbox_simulator.kinds import Field, Kind
from netbox_simulator.state import State
from netbox_simulator.wire import Row


def url(path: str, row_id: int, base: str) -> str:
    """The address of an object in the API."""
    return f"{base}/api/{path}/{row_id}/"


def nested(state: State, kind: Kind, row_id: int | None, base: str, *, listed: bool = False) -> Row | None:
    """The short form in which an object stands inside another one; `listed` when as one of several."""
    row = state.rows(kind.name).get(row_id) if row_id is not None else None
    if row is None:
        return None
    short: Row = {"id": row["id"], "url": url(kind.path, row["id"], base)}
    if listed:
        short["display_url"] = f"{base}/{kind.path}/{row['id']}/"
    short["display"] = kind.display(row)
    computed = {each.name: each.computed for each in kind.fields if each.computed is not None}
    for name in kind.nested:
        compute = computed.get(name)
        short[name] = compute(state, row, base) if compute is not None else row[name]
    return state.version.nested(short)


def render(state: State, kind: Kind, row: Row, base: str) -> Row:
    """The full JSON of an object."""
    full: Row = {
        "id": row["id"],
        "url": url(kind.path, row["id"], base),
        "display_url": f"{base}/{kind.ui or kind.path}/{row['id']}/",
        "display": kind.display(row),
    }
    for each in kind.fields:
        if not each.write_only:
            full[each.name] = _value(state, each, row, base)
    return state.version.shown(full, kind.name)


def _value(state: State, each: Field, row: Row, base: str) -> Any:
    if each.computed is not None:
        return each.computed(state, row, base)
    value = row[each.name]
    if each.choices is not None:
        return {"value": value, "label": each.choices[value]} if value is not None else None
    if each.ref is not None:
        target = KINDS[each.ref]
        if each.many:
            return [nested(state, target, each_id, base, listed=True) for each_id in value]
        return nested(state, target, value, base)
    return value
