"""What older NetBox versions do otherwise. The rest of this package answers as NetBox 4.6.8; each difference names its
version here or where it takes effect. Source: recorded exchanges of real instances (tests/data/netbox-versions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netbox_simulator.wire import Row


@dataclass(frozen=True, slots=True)
class Version:
    """A NetBox version. `name` is `4.6`, `full` is `4.6.8`."""

    name: str
    full: str
    python: str = "3.12.1"

    def since(self, name: str) -> bool:
        """Whether it is this version or a later one."""
        return _key(self.name) >= _key(name)

    def shown(self, row: Row, kind: str) -> Row:
        """An object of this version, made from the object as NetBox 4.6 shows it. `kind` is `custom-field`, say."""
        hidden = {name for name, since in {**_ADDED[""], **_ADDED.get(kind, {})}.items() if not self.since(since)}
        shown = {name: value for name, value in row.items() if name not in hidden}
        if not self.since("4.2"):
            if kind == "custom-field":
                shown |= {"content_types": row["object_types"], "object_type": None}
            elif kind == "prefix":
                shown["site"] = None
            elif kind == "event-rule":
                shown |= {"content_types": row["object_types"], **_flags(row["event_types"])}
        return shown

    def nested(self, row: Row) -> Row:
        """The same for the short form of an object inside another one."""
        hidden = () if self.since("4.2") else ("display_url", "description")
        return {name: value for name, value in row.items() if name not in hidden}

    def given(self, data: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        """A payload in the words of NetBox 4.6."""
        if kind not in ("custom-field", "event-rule") or self.since("4.2"):
            return data
        given = {name: value for name, value in data.items() if name not in ("object_types", "event_types")}
        if "content_types" in data:
            given["object_types"] = data["content_types"]
        if kind == "event-rule":
            given["event_types"] = [event for event, flag in _FLAGS.items() if data.get(flag)]
        return given


def _flags(event_types: Sequence[str]) -> dict[str, bool]:
    """The event types of a rule, as NetBox before 4.1 shows them."""
    return {flag: event in event_types for event, flag in _FLAGS.items()}


def _key(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


# Before NetBox 4.1, an event rule had a flag for each type of event.
_FLAGS: Final = {"object_created": "type_create", "object_updated": "type_update", "object_deleted": "type_delete"}
# The version that added a field, by kind of object; under "" for all kinds.
_ADDED: Final[dict[str, dict[str, str]]] = {
    "": {"display_url": "4.2", "owner": "4.5"},
    "choice-set": {"choice_colors": "4.6"},
    "custom-field": {
        **dict.fromkeys(("object_types", "related_object_type", "unique", "related_object_filter", "comments"), "4.2"),
        "validation_schema": "4.6",
    },
    "event-rule": dict.fromkeys(("object_types", "event_types"), "4.2"),
    "prefix": dict.fromkeys(("scope_type", "scope_id", "scope"), "4.2"),
    "role": {"comments": "4.5", "asn_count": "4.6"},
    "tag": {"weight": "4.4"},
}

VERSIONS: Final = {
    one.name: one
    for one in (
        Version("3.7", "3.7.8", "3.11.7"),
        Version("4.2", "4.2.9"),
        Version("4.4", "4.4.10"),
        Version("4.5", "4.5.10"),
        Version("4.6", "4.6.8"),
    )
}
NEWEST: Final = VERSIONS["4.6"]
