"""What a kind of object is, besides prefixes: where it lives in the API, its fields, and how it is shown and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netbox_simulator.state import State, etag
from netbox_simulator.wire import Row

CHOICE_SET, CUSTOM_FIELD, TAG = "choice-set", "custom-field", "tag"
TENANT, ROLE, VRF, ADDRESS, RANGE = "tenant", "role", "vrf", "ip-address", "ip-range"
WEBHOOK, EVENT_RULE = "webhook", "event-rule"
USER, PERMISSION, TOKEN = "user", "permission", "token"

ADDRESS_STATUSES = {
    "active": "Active",
    "reserved": "Reserved",
    "deprecated": "Deprecated",
    "dhcp": "DHCP",
    "slaac": "SLAAC",
}
RANGE_STATUSES = {"active": "Active", "reserved": "Reserved", "deprecated": "Deprecated"}
STATUSES = {"container": "Container", "active": "Active", "reserved": "Reserved", "deprecated": "Deprecated"}
Computed = Callable[[State, Row, str], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind. `ref` names the kind that it points to, `computed` makes a read-only value."""

    name: str
    default: Any = ""
    required: bool = False
    unique: bool = False
    choices: Mapping[str, str] | None = None
    ref: str | None = None
    many: bool = False
    computed: Computed | None = None
    write_only: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: where it lives in the API, and how it looks."""

    name: str
    path: str
    model: str
    verbose: str
    object_type: str
    fields: tuple[Field, ...]
    ui: str = ""
    display: Callable[[Row], str] = field(default=lambda row: str(row["name"]))
    nested: tuple[str, ...] = ("name", "description")
    order: tuple[str, ...] = ("name",)
    search: tuple[str, ...] = ("name", "description")
    stamped: bool = True

    def defaults(self) -> Row:
        """A row with nothing given."""
        return {
            each.name: list(each.default) if isinstance(each.default, list) else each.default
            for each in self.fields
            if each.computed is None
        }

    def etag(self, row: Row) -> str | None:
        """The entity tag of an object of this kind; users and permissions have none."""
        moment = row.get("last_updated") or (row.get("created") if self.name == TOKEN else None)
        return etag(moment) if moment else None
