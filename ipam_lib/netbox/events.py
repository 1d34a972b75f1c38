"""The events that NetBox sends to a webhook, as hints where to look. No I/O.

https://netboxlabs.com/docs/netbox/models/extras/webhook/ describes the body. Its type of object is `model` up to NetBox
4.4, and `object_type` from 4.4 on.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ipam_lib.crypto import same_text
from ipam_lib.errors import BadRequest
from ipam_lib.models import IPFamily
from ipam_lib.netbox import payloads

SIGNATURE_HEADER: Final = "X-Hook-Signature"

EventKind = Literal["prefix", "ip_address", "ip_range", "choice_set"]
_KINDS: Final[Mapping[str, EventKind]] = {
    "prefix": "prefix",
    "ipaddress": "ip_address",
    "iprange": "ip_range",
    "customfieldchoiceset": "choice_set",
}
_ACTIONS: Final = ("created", "updated", "deleted")
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is in the address space: from `first` to `last`, both inclusive, as integers.

    `taken`: whether its status takes the addresses. `container`: whether it is a container of a zone.
    """

    vrf_id: int | None
    ip_family: IPFamily
    first: int
    last: int
    taken: bool = True
    container: bool = False

    @property
    def single(self) -> bool:
        """Whether it is one address."""
        return self.first == self.last

    @property
    def position(self) -> tuple[object, ...]:
        """What decides which addresses the object takes."""
        return self.vrf_id, self.ip_family, self.first, self.last, self.taken


@dataclass(frozen=True, slots=True)
class Event:
    """What an event says about an object: where it was and is; None before its creation and after its deletion, and
    where the event does not say. None of it is certain."""

    kind: EventKind
    netbox_id: int
    before: Place | None = None
    after: Place | None = None


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Whether NetBox has signed the body: the signature is the HMAC-SHA512 of the body in hexadecimal digits. The
    comparison takes the same time wherever the signature is wrong."""
    return same_text(signature, hmac.new(secret.encode(), body, "sha512").hexdigest())


def parse_event(body: object) -> Event | None:
    """The event in a JSON value; None if the service does not need to look because of it: another type of object, or
    another kind of event.

    Raises BadRequest if the value is no event.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("the body is not an event of NetBox: not a JSON object")
    action, type_name = body.get("event"), body.get("object_type", body.get("model"))
    data, snapshots = body.get("data"), body.get("snapshots") or {}
    if not (isinstance(action, str) and isinstance(type_name, str)):
        raise BadRequest("the body is not an event of NetBox: it has no event, or neither object_type nor model")
    app, _, model = type_name.rpartition(".")
    kind = _KINDS.get(model) if app in ("", "extras" if model == "customfieldchoiceset" else "ipam") else None
    if kind is None or action not in _ACTIONS:
        return None
    if not isinstance(data, Mapping) or not isinstance(snapshots, Mapping):
        raise BadRequest("the body is not an event of NetBox: data and snapshots must be objects")
    netbox_id = data.get("id")
    if type(netbox_id) is not int or not 0 < netbox_id <= _LARGEST_ID:
        raise BadRequest("the body is not an event of NetBox: data has no id")
    if kind == "choice_set":
        return Event(kind, netbox_id)
    place = _place(kind, data)
    if action == "deleted":
        return Event(kind, netbox_id, before=place)
    earlier = snapshots.get("prechange")
    before = _place(kind, earlier) if action == "updated" and isinstance(earlier, Mapping) else None
    return Event(kind, netbox_id, before, place)


def _place(kind: EventKind, shown: Mapping[str, Any]) -> Place:
    """Where an object is. A snapshot has the id of the VRF and the name of the status, the object itself has objects.

    Raises BadRequest.
    """
    try:
        if kind == "prefix":
            net = ipaddress.ip_network(_text(shown, "prefix"), strict=False)
            first, last, version = int(net[0]), int(net[-1]), net.version
        else:
            names = ("address", "address") if kind == "ip_address" else ("start_address", "end_address")
            ends = [ipaddress.ip_interface(_text(shown, name)).ip for name in names]
            first, last, version = int(ends[0]), int(ends[1]), ends[0].version
            if last < first or ends[1].version != version:
                raise ValueError
    except ValueError:
        raise BadRequest(f"the body is not an event of NetBox: a {kind} without its address") from None
    fields = shown.get("custom_fields")
    status = _inner(shown.get("status"), "value")
    return Place(
        _vrf(shown),
        "ipv4" if version == 4 else "ipv6",
        first,
        last,
        taken=kind == "prefix" or status != payloads.DEPRECATED,
        container=status == "container" and isinstance(fields, Mapping) and bool(fields.get(payloads.ZONE_FIELD)),
    )


def _text(shown: Mapping[str, Any], name: str) -> str:
    value = shown.get(name)
    if not isinstance(value, str):
        raise ValueError(name)  # noqa: TRY004 - as for any other text that is no address
    return value


def _vrf(shown: Mapping[str, Any]) -> int | None:
    vrf_id = _inner(shown.get("vrf"), "id")
    return vrf_id if type(vrf_id) is int else None


def _inner(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else value
