"""The webhook of NetBox: events, signed with a shared secret, that say what has changed in NetBox."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from ipam_lib.crypto import Secret
from ipam_lib.errors import WrongSignature
from ipam_lib.netbox.events import SIGNATURE_HEADER, Event, is_signed
from ipam_lib.schemas import EventAcceptedSchema, EventSchema
from ipam_lib.web.client_address import client_address
from ipam_lib.web.middlewares import SERVICES
from ipam_lib.web.operation import SERVICE, Answer, Call, operation
from ipam_lib.web.responses import BODY

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WebhookSecret:
    """The secret with which NetBox signs events. A reload may replace it."""

    secret: Secret


WEBHOOK_SECRET: Final = web.AppKey("webhook_secret", WebhookSecret)


def _admit(request: web.Request, body: bytes) -> None:
    """Raises WrongSignature for a body that NetBox has not signed."""
    # Not for the log: an event of another type of object may hold a secret of NetBox, and there may be thousands.
    del request[BODY]
    if not is_signed(body, request.headers.get(SIGNATURE_HEADER, ""), request.app[WEBHOOK_SECRET].secret.reveal()):
        request.app[SERVICES].metrics.event("unknown", "refused")
        fields = {"ip": client_address(request)}
        log.warning("an event of NetBox was refused: its signature is missing or wrong", extra=fields)
        raise WrongSignature


@operation(
    hdrs.METH_POST,
    "/netbox/webhook",
    name="netbox_webhook",
    summary="Receive an event of NetBox",
    description="For the webhook of an event rule in NetBox. An event only says where the service looks in NetBox, at "
    "most twice a second: deleted prefixes become free at once, and new objects are avoided. Without "
    "`netbox.webhook_secret_path` this path does not exist.",
    tag=SERVICE,
    takes=EventSchema,
    answers=EventAcceptedSchema,
    done="`Event accepted`, or `Event ignored` if the service need not look because of it",
    errors=("wrong_signature", "network_not_allowed", "certificate_not_allowed"),
    parameters=(
        {
            "in": "header",
            "name": SIGNATURE_HEADER,
            "required": True,
            "type": "string",
            "description": "HMAC-SHA512 of the body with the secret of the webhook, in hexadecimal digits.",
        },
    ),
    storage=False,
    admit=_admit,
)
async def netbox_webhook(call: Call[Event | None]) -> Answer:
    """Note what the event asks for."""
    event, events = call.content, call.services.events
    accepted = event is not None and events is not None and events.add(event)
    call.services.metrics.event(event.kind if event else "other", "accepted" if accepted else "ignored")
    return {"message": "Event accepted" if accepted else "Event ignored"}
