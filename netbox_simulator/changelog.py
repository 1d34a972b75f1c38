"""The changelog of the simulated NetBox: the latest changes only, in memory only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from netbox_simulator.access import User
from netbox_simulator.kinds import TAG
from netbox_simulator.state import Prefix, State, stamp
from netbox_simulator.wire import Row

KEPT = 10_000
ACTIONS = {"create": "Created", "update": "Updated", "delete": "Deleted"}
# The filters *_by_request, and the actions that they look for.
_BY_REQUEST = {"created": ("create",), "updated": ("update",), "modified": ("create", "update")}


class Changelog:
    """What was changed by whom, newest last."""

    def __init__(self) -> None:
        self.entries: OrderedDict[int, Row] = OrderedDict()
        self._last = 0

    def note(
        self,
        state: State,
        user: User,
        request_id: str,
        action: str,
        *,
        before: Prefix | None = None,
        after: Prefix | None = None,
        message: str = "",
    ) -> None:
        """Note the change of one prefix; an update that changes nothing is none."""
        changed = after or before
        assert changed is not None
        if before is not None and after is not None and snapshot(state, before) == snapshot(state, after):
            return
        self._last += 1
        self.entries[self._last] = {
            "id": self._last,
            "time": stamp(state.now()),
            "user": user.id,
            "user_name": user.name,
            "request_id": request_id,
            "action": action,
            "changed_object_type": "ipam.prefix",
            "changed_object_id": changed.id,
            "object_repr": changed.text,
            "message": message,
            "before": before,
            "after": after,
        }
        while len(self.entries) > KEPT:
            self.entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._last = 0

    def touched(self, how: str, request_ids: list[str]) -> set[int] | None:
        """The ids of the prefixes that these requests created, updated, or either; None for another word."""
        actions = _BY_REQUEST.get(how)
        if actions is None:
            return None
        return {
            entry["changed_object_id"]
            for entry in self.entries.values()
            if entry["request_id"] in request_ids and entry["action"] in actions
        }

    def select(self, values: Callable[[str], list[str]]) -> list[int]:
        """The ids of the entries that the filters of a list request leave, newest first."""
        names = ("changed_object_id", "changed_object_type", "request_id", "action")
        wanted = {name: values(name) for name in names if values(name)}
        return [
            entry_id
            for entry_id, entry in reversed(self.entries.items())
            if all(str(entry[name]) in allowed for name, allowed in wanted.items())
        ]

    def render(self, state: State, entry_id: int, base: str, show: Callable[[Prefix], Row]) -> Row:
        """One entry as NetBox shows it; `show` renders the object's short form while it exists."""
        entry = self.entries[entry_id]
        action: str = entry["action"]
        past = ACTIONS[action]
        current = state.prefixes.rows.get(entry["changed_object_id"])
        return {
            "id": entry_id,
            "url": f"{base}/api/core/object-changes/{entry_id}/",
            **({"display_url": f"{base}/core/changelog/{entry_id}/"} if state.version.since("4.2") else {}),
            "display": f"IPAM | prefix {entry['object_repr']} {past.lower()} by {entry['user_name']}",
            "time": entry["time"],
            "user": {
                "id": entry["user"],
                "url": f"{base}/api/users/users/{entry['user']}/",
                "display": entry["user_name"],
                "username": entry["user_name"],
            },
            "user_name": entry["user_name"],
            "request_id": entry["request_id"],
            "action": {"value": action, "label": past},
            "changed_object_type": entry["changed_object_type"],
            "changed_object_id": entry["changed_object_id"],
            "changed_object": show(current) if current is not None else None,
            "object_repr": entry["object_repr"],
            **({"message": entry["message"]} if state.version.since("4.4") else {}),
            "prechange_data": snapshot(state, entry["before"]),
            "postchange_data": snapshot(state, entry["after"]),
        }


def snapshot(state: State, prefix: Prefix | None) -> dict[str, Any]:
    """A prefix as changelog and events show what it was and is."""
    if prefix is None:
        return {}
    tags = state.rows(TAG)
    return {
        "vrf": prefix.vrf,
        "role": prefix.role,
        "tags": sorted(tags[each]["name"] for each in prefix.tags if each in tags),
        "vlan": None,
        "owner": None,
        "prefix": prefix.text,
        "status": prefix.status,
        "tenant": prefix.tenant,
        "is_pool": prefix.is_pool,
        "comments": prefix.comments,
        "scope_id": None,
        "scope_type": None,
        "description": prefix.description,
        "custom_fields": dict(prefix.custom_fields),
        "mark_utilized": prefix.mark_utilized,
    }
