"""Registrations as documents, the same in every store. Pure: this module imports no driver.

A document is a dict of plain values; dates are aware datetimes. The earlier service writes these fields:

    _id, secret, zone, address, ip_family, netbox_id,
    services: [{service_name, namespace_id, cluster_id, retention_period_days, deny_external_cleanup, expires_at?}]

This service adds:

- `state`: absent when live, as in documents of the earlier service.
- `revision`, `lease_until`.
- `held_secret`: the secret while the registration is not live.
- `duplicate`: the document's own id, if it is a duplicate.
- `since` in each service: when the service was registered.
- `departed`: services that have left, until they are in the history:
  `[{id, service_name, namespace_id, cluster_id, since?, until}]`.
- `described`: the texts that this service has written to the description of the prefix, last one last.
- `description_due`: true if the description must be written.

Reading accepts fields that are missing, null, unknown or in any order. Writing keeps the fields that it does not know.
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
    """The difference between two revisions of a document: fields to set, and fields to remove."""

    set: Document
    unset: tuple[str, ...]

    def apply(self, document: Mapping[str, Any]) -> Document:
        """The changed document. `document` itself is not changed."""
        return {key: value for key, value in document.items() if key not in self.unset} | self.set


def to_registration(document: Mapping[str, Any], *, raw_document: Any = None) -> Registration:
    """Read a document.

    Raises StorageUnavailable for a state that only a newer version knows. Skipping the document would make its address
    look free.
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
        described=_texts(document.get("described")),
        description_due=document.get("description_due") is True,
        raw_document=raw_document,
    )


def to_document(registration: Registration, stored_services: Any = None) -> Document:
    """Write a registration. `stored_services` is the stored array; its unknown fields are kept."""
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
        "described": list(one.described) or None,
        "description_due": one.description_due or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def change(old: Registration, new: Registration, stored_services: Any) -> Change:
    """The change from `old` to `new`. It keeps the unknown fields of the stored services. A field that is the same in
    both is not written, whatever its stored value is."""
    before, after = to_document(old), to_document(new)
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    if "services" in changed:
        changed["services"] = merge_services(new.services, stored_services)
    return Change(changed, tuple(name for name in before if name not in after))


def merge_services(services: Sequence[Service], stored: Any) -> list[Document]:
    """The array of services to store. A service with a stored one of the same key keeps the unknown fields of that; an
    unchanged service stays as it is stored, field for field."""
    present = _services(stored)
    merged = []
    for service in services:
        same = next((raw for one, raw in present if one == service and one.since == service.since), None)
        same_key: Document = next((raw for one, raw in present if one.key == service.key), {})
        merged.append(_service_document(service, same_key) if same is None else same)
    return merged


def services_as_read(registration: Registration) -> Any:
    """The array of services when the document was last read; None if it was never read or has no array."""
    return registration.raw_document.get("services") if registration.raw_document else None


def cas_fields(old: Registration) -> tuple[Any, str | None]:
    """The services and the secret that the stored document of `old` must have, field for field; None for no such field.

    They are as they were read, or as later revisions by this process left them. Each of these merged its services into
    the array that was read."""
    if old.raw_document and integer(old.raw_document.get("revision")) == old.revision:
        return old.raw_document.get("services"), old.raw_document.get("secret")
    return merge_services(old.services, services_as_read(old)), old.secret if old.state is State.LIVE else None


def mark_duplicate(document: Mapping[str, Any]) -> Document:
    """The document marked as a duplicate of the one that keeps its zone and address. The mark is a new revision, so
    that a request that works on the document reads it again.

    A creation that still has a placeholder as its address is aborted instead. A placeholder is for one creation at a
    time, so this one gets a placeholder of its own.
    """
    changed: Document = {"revision": (integer(document.get("revision")) or 0) + 1}
    if str(document.get("address")).startswith(PENDING):
        changed |= {"address": f"{PENDING}{document['_id']}", "state": State.ABORTING.value}
    else:
        changed["duplicate"] = document["_id"]
    return {**document, **changed}


def integer(value: Any) -> int | None:
    """A whole number, or None. BSON has several types of numbers, and the MongoDB shell writes integers as doubles."""
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
    """The fields that identify a service."""
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
    """Skips entries that this service did not write."""
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


def _texts(stored: Any) -> tuple[str, ...]:
    return tuple(one for one in stored if isinstance(one, str)) if isinstance(stored, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def to_moment(value: Any) -> datetime | None:
    """A date, or None. Year 1 is the zero value of Go's `time.Time`: it means "not set", not "long past"."""
    if not isinstance(value, datetime) or value.year == 1:
        return None
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _ip_family(value: Any, address: str) -> IPFamily:
    if value == "ipv4" or value == "ipv6":
        return value  # type: ignore[no-any-return]
    return "ipv6" if ":" in address else "ipv4"
