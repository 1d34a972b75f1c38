"""Registrations as documents, the same in every store. Pure: no driver is known here.

A document is a dict of plain values (dates are aware datetimes):

    _id, secret, zone, address, ip_family, netbox_id,
    services: [{service_name, namespace_id, cluster_id, retention_period_days, deny_external_cleanup, expires_at?}]

as the earlier service writes them, and our own `state` (absent when live, as in its documents), `revision`,
`lease_until`, `held_secret` (the secret while not live), `duplicate` (the own id), `since` in each service (when it
came), and `departed` (services that have left, until they are in the history:
`[{id, service_name, namespace_id, cluster_id, since?, until}]`). Reading takes what it can get:
fields may be missing, null, in any order, or unknown. Writing never touches what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ipam_lib.clock import whole_milliseconds
from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import PENDING, Departure, IPFamily, Registration, Service, ServiceKey, State

Document = dict[str, Any]

_ID = re.compile("[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Change:
    """What turns one revision of a document into the next: fields to set, and fields to take away."""

    set: Document
    unset: tuple[str, ...]

    def apply(self, document: Mapping[str, Any]) -> Document:
        """The changed document; `document` stays as it is."""
        return {key: value for key, value in document.items() if key not in self.unset} | self.set


def to_registration(document: Mapping[str, Any], *, raw_document: Any = None) -> Registration:
    """Read a document.

    Raises StorageUnavailable for one of a newer version's making, whose state is unknown here: to pass over it would be
    to take its address for free.
    """
    identity, address = str(document["_id"]), _text(document.get("address"))
    try:
        state = State(document.get("state") or State.LIVE)
    except ValueError:
        raise StorageUnavailable(
            f"registration {identity} has a state that this version does not know; run the newest version",
            applied=False,
        ) from None
    secret = document.get("secret") if state is State.LIVE else document.get("held_secret") or document.get("secret")
    return Registration(
        id=identity,
        zone=_text(document.get("zone")),
        ip_family=_ip_family(document.get("ip_family"), address),
        address=address,
        secret=_text(secret),
        services=tuple(service for service, _ in _services(document.get("services"))),
        netbox_id=integer(document.get("netbox_id")),
        state=state,
        revision=integer(document.get("revision")),
        lease_until=to_moment(document.get("lease_until")),
        duplicate=bool(document.get("duplicate")),
        departed=_departures(document.get("departed")),
        raw_document=raw_document,
    )


def to_document(registration: Registration, stored_services: Any = None) -> Document:
    """Write a registration. `stored_services` is the stored array, whose unknown fields are kept."""
    one = registration
    live = one.state is State.LIVE
    fields: Document = {
        "_id": one.id,
        "secret": one.secret if live else None,
        "zone": one.zone,
        "address": one.address,
        "ip_family": one.ip_family,
        "netbox_id": one.netbox_id,
        "services": merge_services(one.services, stored_services),
        "state": None if live else one.state.value,
        "revision": one.revision,
        "lease_until": one.lease_until and whole_milliseconds(one.lease_until),
        "held_secret": None if live else one.secret,
        "duplicate": one.id if one.duplicate else None,
        "departed": [_departure_document(each) for each in one.departed] or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def change(old: Registration, new: Registration, stored_services: Any) -> Change:
    """What makes `new` of `old`, keeping the unknown fields of the stored services. A field in which the two agree is
    left alone, whatever stands there."""
    before, after = to_document(old), to_document(new)
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    if "services" in changed:
        changed["services"] = merge_services(new.services, stored_services)
    return Change(changed, tuple(name for name in before if name not in after))


def merge_services(services: Sequence[Service], stored: Any) -> list[Document]:
    """The array of services as it is to be stored. One that is stored already, by its key, keeps the fields unknown
    here; one that has not changed at all stays as it was, field for field."""
    present = _services(stored)
    merged = []
    for service in services:
        same = next((raw for one, raw in present if one == service and one.since == service.since), None)
        kin: Document = next((raw for one, raw in present if one.key == service.key), {})
        merged.append(_service_document(service, kin) if same is None else same)
    return merged


def read_services(registration: Registration) -> Any:
    """The array of services as it stood when the document was last read; None when it never was, or had none."""
    return registration.raw_document.get("services") if registration.raw_document else None


def witnessed(old: Registration) -> tuple[Any, str | None]:
    """The services and the secret that the document of `old` must hold, field for field (None: no such field): as they
    were read, or as the revisions since then have left them, all of which merged into the array as it was read."""
    if old.raw_document and integer(old.raw_document.get("revision")) == old.revision:
        return old.raw_document.get("services"), old.raw_document.get("secret")
    return merge_services(old.services, read_services(old)), old.secret if old.state is State.LIVE else None


def mark_duplicate(document: Mapping[str, Any]) -> Document:
    """The document told apart from the one that keeps its zone and address; as a revision of its own, so that whoever
    is at it reads it anew.

    A creation that still has a placeholder is not marked: the placeholder lets one creation through at a time, so a
    second one is none. It gets a placeholder that nobody else asks for, and is given up.
    """
    changed: Document = {"revision": (integer(document.get("revision")) or 0) + 1}
    if str(document.get("address")).startswith(PENDING):
        changed |= {"address": f"{PENDING}{document['_id']}", "state": State.ABORTING.value}
    else:
        changed["duplicate"] = document["_id"]
    return {**document, **changed}


def integer(value: Any) -> int | None:
    """A whole number, or None. BSON has three kinds of numbers, and a shell writes doubles where a program writes
    integers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _services(stored: Any) -> list[tuple[Service, Document]]:
    return [(_service(raw), raw) for raw in stored if isinstance(raw, dict)] if isinstance(stored, list) else []


def _service(raw: Document) -> Service:
    return Service(
        key=to_key(raw),
        retention_period_days=integer(raw.get("retention_period_days")) or 0,
        deny_external_cleanup=raw.get("deny_external_cleanup") is True,
        expires_at=to_moment(raw.get("expires_at")),
        since=to_moment(raw.get("since")),
    )


def to_key(raw: Mapping[str, Any]) -> ServiceKey:
    """The service that a document names."""
    return ServiceKey(_text(raw.get("service_name")), _text(raw.get("namespace_id")), _text(raw.get("cluster_id")))


def key_document(key: ServiceKey) -> Document:
    """The fields that make a service the same service."""
    return {"service_name": key.service_name, "namespace_id": key.namespace_id, "cluster_id": key.cluster_id}


def _service_document(service: Service, stored: Document) -> Document:
    document = {
        **stored,
        **key_document(service.key),
        "retention_period_days": service.retention_period_days,
        "deny_external_cleanup": service.deny_external_cleanup,
    }
    for name, moment in (("expires_at", service.expires_at), ("since", service.since)):
        document.pop(name, None)
        if moment is not None:
            document[name] = whole_milliseconds(moment)
    return document


def _departures(stored: Any) -> tuple[Departure, ...]:
    """What is no departure of our making is passed over."""
    found = []
    for raw in stored if isinstance(stored, list) else ():
        until = to_moment(raw.get("until")) if isinstance(raw, dict) else None
        if until is not None and _ID.fullmatch(_text(raw.get("id"))):
            found.append(Departure(raw["id"], to_key(raw), to_moment(raw.get("since")), until))
    return tuple(found)


def _departure_document(one: Departure) -> Document:
    document = {"id": one.id, **key_document(one.key), "until": whole_milliseconds(one.until)}
    if one.since is not None:
        document["since"] = whole_milliseconds(one.since)
    return document


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def to_moment(value: Any) -> datetime | None:
    """A date. Year 1 is the zero of Go's `time.Time`: not set, and certainly not long past."""
    if not isinstance(value, datetime) or value.year == 1:
        return None
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _ip_family(value: Any, address: str) -> IPFamily:
    if value == "ipv4" or value == "ipv6":
        return value  # type: ignore[no-any-return]
    return "ipv6" if ":" in address else "ipv4"
