"""What event rules send: a request to the webhook of each rule that a change concerns, signed with its secret.

https://netboxlabs.com/docs/netbox/models/extras/eventrule/ describes event rules. Conditions and templates are ignored.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from netbox_simulator.catalog import KINDS
from netbox_simulator.changelog import snapshot
from netbox_simulator.kinds import EVENT_RULE, WEBHOOK
from netbox_simulator.prefixes import OBJECT_TYPE, PrefixViews
from netbox_simulator.render import render
from netbox_simulator.state import PREFIX, Change, Prefix, State, stamp
from netbox_simulator.wire import Request, Row

_EVENTS: Final = {"created": "object_created", "updated": "object_updated", "deleted": "object_deleted"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to the URL of a webhook."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def deliveries(
    views: PrefixViews, changes: Iterable[Change], request: Request, request_id: str, username: str
) -> Iterator[Delivery]:
    """What NetBox sends because of the changes of one request."""
    state = views.state
    for change in changes:
        object_type = OBJECT_TYPE if change.kind == PREFIX else KINDS[change.kind].object_type
        event = "deleted" if change.after is None else "created" if change.before is None else "updated"
        for hook in _webhooks(state, object_type, _EVENTS[event]):
            content = _content(views, change, event, object_type, request, request_id, username)
            body = json.dumps(content).encode()
            headers = {"Content-Type": hook["http_content_type"]}
            if hook["secret"]:
                headers["X-Hook-Signature"] = hmac.new(hook["secret"].encode(), body, "sha512").hexdigest()
            yield Delivery(hook["http_method"], hook["payload_url"], headers, body)


def _webhooks(state: State, object_type: str, event_type: str) -> Iterator[Row]:
    """The webhooks of the rules for such an event."""
    for rule in state.rows(EVENT_RULE).values():
        hook = state.rows(WEBHOOK).get(rule["action_object_id"])
        concerned = object_type in rule["object_types"] and event_type in rule["event_types"]
        if rule["enabled"] and concerned and hook is not None:
            yield hook


def _content(
    views: PrefixViews,
    change: Change,
    event: str,
    object_type: str,
    request: Request,
    request_id: str,
    username: str,
) -> Row:
    state, version = views.state, views.state.version
    names: Row = {"object_type": object_type} if version.since("4.4") else {}
    if not version.since("4.5"):
        names["model"] = object_type.partition(".")[2]
    about: Row = {"id": request_id, "method": request.method, "path": request.path, "user": username}
    return {
        "event": event,
        "timestamp": stamp(state.now()).replace("Z", "+00:00"),
        **names,
        "username": username,
        "request_id": request_id,
        "data": _shown(views, change),
        **({"request": about} if version.since("4.6") else {}),
        "snapshots": {"prechange": _snapshot(state, change.before), "postchange": _snapshot(state, change.after)},
    }


def _shown(views: PrefixViews, change: Change) -> Row:
    """The object as NetBox shows it, with paths for URLs; of a deleted one, what it was."""
    row = change.after or change.before
    assert row is not None
    return views.render(row, "") if isinstance(row, Prefix) else render(views.state, KINDS[change.kind], row, "")


def _snapshot(state: State, row: Row | Prefix | None) -> Any:
    if isinstance(row, Prefix):
        return snapshot(state, row)
    return row and {name: value for name, value in row.items() if name != "id"}
