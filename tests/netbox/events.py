"""Events of NetBox for the tests: those that were recorded, and made ones in the form of any version."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any

from tests.support.processes import REPOSITORY

RECORDED = REPOSITORY / "tests" / "data" / "netbox-events" / "4.6.8.json"


@dataclass(frozen=True)
class Delivery:
    """One request of the webhook."""

    body: bytes
    signature: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def recorded() -> tuple[str, list[Delivery]]:
    """The secret of the recorded webhook, and its deliveries."""
    content = json.loads(RECORDED.read_text())
    deliveries = [Delivery(json.dumps(one["json"]).encode(), one["signature"]) for one in content["deliveries"]]
    return content["secret"], deliveries


def sign(body: bytes, secret: str) -> str:
    """The signature, as NetBox's documentation describes it."""
    return hmac.new(secret.encode(), body, "sha512").hexdigest()


def event(
    action: str,
    netbox_id: int,
    data: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
    object_type: str = "ipam.prefix",
    version: str = "4.6",
) -> dict[str, Any]:
    """An event. `before`: what the object was before, in the short form of a snapshot."""
    model = object_type.partition(".")[2]
    named = {"3.7": {"model": model}, "4.4": {"model": model, "object_type": object_type}}
    return {
        "event": action,
        "timestamp": "2026-11-23T07:03:32.907671+00:00",
        **named.get(version, {"object_type": object_type}),
        "username": "admin",
        "request_id": "e4595c21-0fb4-479a-82e5-680cfe81efd2",
        "data": {"id": netbox_id, "vrf": None, "status": {"value": "active"}, "custom_fields": {}, **data},
        "snapshots": {"prechange": before, "postchange": None},
    }
