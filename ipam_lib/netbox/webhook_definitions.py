"""The webhooks and event rules in NetBox that send events to this service: what there is, and what there should be.

https://netboxlabs.com/docs/netbox/models/extras/webhook/ and https://netboxlabs.com/docs/netbox/models/extras/eventrule/
describe them. Before NetBox 4.1, an event rule has a flag for each type of event, and calls object types content types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ipam_lib.crypto import Secret, same_text
from ipam_lib.netbox.definitions import object_types, value_of
from ipam_lib.netbox.paging import pages
from ipam_lib.netbox.transport import Transport

WEBHOOKS: Final = "api/extras/webhooks/"
EVENT_RULES: Final = "api/extras/event-rules/"
OBJECT_TYPES: Final = ("ipam.prefix", "ipam.ipaddress", "ipam.iprange", "extras.customfieldchoiceset")
# The flags of NetBox before 4.1, by the types of events of later versions.
EVENT_TYPES: Final = {
    "object_created": "type_create",
    "object_updated": "type_update",
    "object_deleted": "type_delete",
}
# What differs from the default of NetBox, and what the service would not understand otherwise.
_NEEDED: Final = {"http_method": "POST", "http_content_type": "application/json", "body_template": ""}
_LONGEST_NAME: Final = 150
_WEBHOOK_TYPE: Final = "extras.webhook"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where NetBox sends events to, and the secret that it signs them with."""

    url: str
    secret: Secret

    @property
    def name(self) -> str:
        """The name of the webhook and of its event rule; one of each for each instance of the service."""
        return f"IPAM-API {self.url}"[:_LONGEST_NAME]


@dataclass(frozen=True, slots=True)
class Hooks:
    """All webhooks and event rules that the token may view."""

    webhooks: Sequence[Object]
    rules: Sequence[Object]

    def to(self, url: str) -> Object | None:
        """The webhook with this URL."""
        return next((one for one in self.webhooks if one.get("payload_url") == url), None)

    def signed_with(self, secret: Secret) -> list[Object]:
        """The webhooks with this secret."""
        return [one for one in self.webhooks if same_text(str(one.get("secret", "")), secret.reveal())]

    def rules_of(self, webhook: Object) -> list[Object]:
        """The event rules with this webhook as their action."""
        return [
            one
            for one in self.rules
            if one.get("action_object_type") == _WEBHOOK_TYPE and one.get("action_object_id") == webhook.get("id")
        ]


async def read_hooks(transport: Transport, operation: str) -> Hooks:
    """Raises NetBoxRejected if the token may not view them, NetBoxUnavailable."""
    read: list[list[Object]] = []
    for path in (WEBHOOKS, EVENT_RULES):
        listing = pages(transport, operation, path, (), transport.budget())
        read.append([one async for items in listing for one in items if isinstance(one, Mapping)])
    return Hooks(*read)


def webhook_wanted(target: WebhookTarget) -> dict[str, Any]:
    """What a new webhook is made of."""
    return {"name": target.name, "payload_url": target.url, **_NEEDED, "secret": target.secret.reveal()}


def event_rule_wanted(target: WebhookTarget, webhook_id: int) -> dict[str, Any]:
    """What a new event rule is made of, for every version: each ignores the names of the other ones."""
    return {
        "name": target.name,
        "object_types": list(OBJECT_TYPES),
        "content_types": list(OBJECT_TYPES),
        "event_types": list(EVENT_TYPES),
        **dict.fromkeys(EVENT_TYPES.values(), True),
        "enabled": True,
        "action_type": "webhook",
        "action_object_type": _WEBHOOK_TYPE,
        "action_object_id": webhook_id,
    }


def webhook_problems(webhook: Object, secret: Secret) -> list[str]:
    """Why the events of this webhook would be refused; empty when they are not."""
    wrong = [f"its {name} is not {value or 'empty'}" for name, value in _NEEDED.items() if webhook.get(name) != value]
    if not same_text(str(webhook.get("secret", "")), secret.reveal()):
        wrong.append("its secret is not the one in the file of netbox.webhook_secret_path")
    return wrong


def event_rule_problems(rules: Sequence[Object]) -> list[str]:
    """Which events these rules of one webhook do not send."""
    if not rules:
        return ["no event rule has it as its action"]
    sent = {
        (object_type, event_type)
        for rule in rules
        if rule.get("enabled") and not rule.get("conditions") and value_of(rule.get("action_type")) == "webhook"
        for object_type in object_types(rule)
        for event_type, flag in EVENT_TYPES.items()
        if event_type in (rule.get("event_types") or ()) or rule.get(flag)
    }
    problems = []
    for object_type in OBJECT_TYPES:
        lacking = [one for one in EVENT_TYPES if (object_type, one) not in sent]
        if lacking:
            problems.append(f"no enabled rule without conditions sends {', '.join(lacking)} of {object_type}")
    return problems


def by_hand(url: str) -> str:
    """What to enter in NetBox."""
    return (
        f"Enter in NetBox by hand: a webhook with the URL {url}, HTTP method POST, HTTP content type application/json,"
        " no body template, and as secret the content of the file of netbox.webhook_secret_path; and an event rule with"
        f" the object types {', '.join(OBJECT_TYPES)}, the events object created, updated and deleted, no conditions,"
        " and that webhook as its action."
    )
