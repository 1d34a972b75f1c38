"""Conversion between NetBox's JSON and this package's types, and checks of what NetBox answers. No I/O.

https://netboxlabs.com/docs/netbox/integrations/rest-api/ describes the objects. Their details were observed with NetBox
3.7, 4.2, 4.4, 4.5 and 4.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipam_lib.addresses import HOST_LENGTH, contains, family_of, network
from ipam_lib.models import IPFamily
from ipam_lib.netbox.base import Container, Prefix, PrefixChange

ZONE_FIELD = "k8s_zone"
UUID_FIELD = "k8s_uuid"
# An IP address or IP range of this status is known to be in use no more.
DEPRECATED = "deprecated"

# What the earlier service wrote on every prefix, whatever its configuration said.
EARLIER_CONSTANTS = ("domain", "env", "purpose")
EARLIER_VALUE = "na"
EARLIER_INHERITED = ("infra",)

# What is read of a prefix: the rest of it would be most of the answer.
PREFIX_FIELDS = "id,prefix,vrf,status,custom_fields,description"
CONTAINER_FIELDS = "id,prefix,vrf,status,custom_fields,tenant,role"

LONGEST_CHANGELOG_MESSAGE = 200


class UnexpectedResponse(ValueError):
    """An object is not one of NetBox's, or not the one that was asked for. Its text is for the log."""


def creation(
    container: Container,
    *,
    uuid: str,
    tag_id: int | None,
    constants: Mapping[str, Any] | None,
    inherited: Sequence[str] | None,
    description: str = "",
) -> dict[str, Any]:
    """The content of a new prefix in `container`: status, tenant, role, tag and custom fields. The caller adds the
    length, or the address and the VRF: a prefix that NetBox chooses has the VRF of the container. `constants` and
    `inherited`: see `stamped_fields`; nothing replaces `k8s_zone` and `k8s_uuid`."""
    fields = stamped_fields(container, constants, inherited) | {ZONE_FIELD: container.zone, UUID_FIELD: uuid}
    payload: dict[str, Any] = {
        "status": "active",
        "custom_fields": fields,
        "changelog_message": changelog(uuid),
    }
    if description:
        payload["description"] = description
    if container.tenant_id is not None:
        payload["tenant"] = container.tenant_id
    if container.role_id is not None:
        payload["role"] = container.role_id
    if tag_id is not None:
        payload["tags"] = [tag_id]
    return payload


def stamped_fields(
    container: Container, constants: Mapping[str, Any] | None, inherited: Sequence[str] | None
) -> dict[str, Any]:
    """The custom fields that a new prefix in `container` gets from the configuration.

    `constants` are set on every prefix. The fields named in `inherited` are copied from the container if it has a
    value, which replaces a constant. If both are None, the prefix gets the fields of the earlier service that NetBox
    has on prefixes: a container shows every custom field of prefixes, with null where it has no value.
    """
    if constants is None and inherited is None:
        constants = {name: EARLIER_VALUE for name in EARLIER_CONSTANTS if name in container.custom_fields}
        inherited = EARLIER_INHERITED
    fields = dict(constants or {})
    for name in inherited or ():
        value = container.custom_fields.get(name)
        if value is not None:
            fields[name] = _reference(value)
    return fields


def earlier_fields(
    containers: Sequence[Container], constants: Mapping[str, Any] | None, inherited: Sequence[str] | None
) -> list[str]:
    """The custom fields of the earlier service that new prefixes get without a setting that says so."""
    if constants is not None or inherited is not None:
        return []
    known = {name for one in containers for name in one.custom_fields}
    return [name for name in (*EARLIER_CONSTANTS, *EARLIER_INHERITED) if name in known]


def unfilled_fields(
    required: Iterable[str],
    containers: Sequence[Container],
    constants: Mapping[str, Any] | None,
    inherited: Sequence[str] | None,
) -> list[str]:
    """The required custom fields that a new prefix in one of the containers would lack."""
    stamped = [stamped_fields(one, constants, inherited) for one in containers]
    own = (ZONE_FIELD, UUID_FIELD)
    return [name for name in required if name not in own and any(each.get(name) in (None, "") for each in stamped)]


def change(wanted: PrefixChange) -> dict[str, Any]:
    """One element of a bulk change."""
    body: dict[str, Any] = {"id": wanted.id, "changelog_message": "services changed"}
    if wanted.status is not None:
        body["status"] = wanted.status
    if wanted.uuid is not None:
        body["custom_fields"] = {UUID_FIELD: wanted.uuid}
        body["changelog_message"] = changelog(wanted.uuid, reserved=bool(wanted.reserved))
    if wanted.description is not None:
        body["description"] = wanted.description
    return body


def changelog(uuid: str, *, reserved: bool = False) -> str:
    """The message for the object's changelog in NetBox."""
    return f"{'reserved as' if reserved else 'registration'} {uuid}"[:LONGEST_CHANGELOG_MESSAGE]


def prefix(item: Any) -> Prefix:
    """The prefix that NetBox describes. Raises UnexpectedResponse when it is none."""
    fields = _custom_fields(item)
    return Prefix(
        id=id_of(item),
        prefix=_cidr(item),
        vrf_id=related_id(item, "vrf"),
        status=status_of(item),
        zone=_text(fields, ZONE_FIELD),
        uuid=_text(fields, UUID_FIELD),
        description=_text(item, "description") or "",
    )


def container(item: Any) -> Container:
    """The container prefix of a zone that NetBox describes. Raises UnexpectedResponse when it is none."""
    fields = _custom_fields(item)
    zone = _text(fields, ZONE_FIELD)
    if not zone:
        raise UnexpectedResponse(f"prefix {id_of(item)} carries no {ZONE_FIELD}")
    cidr = _cidr(item)
    return Container(
        id=id_of(item),
        prefix=cidr,
        ip_family=family_of(cidr),
        zone=zone,
        vrf_id=related_id(item, "vrf"),
        tenant_id=related_id(item, "tenant"),
        role_id=related_id(item, "role"),
        custom_fields={name: value for name, value in fields.items() if name != ZONE_FIELD},
    )


def check_created(made: Prefix, wanted: Container, *, uuid: str, address: str | None = None) -> None:
    """Check that a created prefix is a host prefix inside the container, in its VRF, with its zone and this uuid.

    Raises UnexpectedResponse with every difference.
    """
    length = HOST_LENGTH[wanted.ip_family]
    problems = []
    if not made.prefix.endswith(f"/{length}"):
        problems.append(f"its length is not /{length}")
    if not contains(wanted.prefix, made.prefix):
        problems.append(f"it is not inside {wanted.prefix}")
    if address is not None and made.prefix != str(network(address)):
        problems.append(f"it is not {address}")
    if made.vrf_id != wanted.vrf_id:
        problems.append(f"its VRF is {made.vrf_id}, not {wanted.vrf_id}")
    if made.uuid != uuid:
        problems.append(f"its {UUID_FIELD} is {made.uuid!r}, not {uuid!r}")
    if made.zone != wanted.zone:
        problems.append(f"its {ZONE_FIELD} is {made.zone!r}, not {wanted.zone!r}")
    if problems:
        raise UnexpectedResponse(f"created prefix {made.id} ({made.prefix}): " + ", ".join(problems))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. `more`: whether rows follow. `count`: the number of rows in this page and after it, None
    where NetBox does not say."""

    items: list[Any]
    more: bool
    count: int | None


def page(body: Any) -> Page:
    """The page that NetBox describes. Raises UnexpectedResponse when it is none."""
    if isinstance(body, dict) and isinstance(body.get("results"), list) and "next" in body:
        count = body.get("count")
        if count is None or _is_id(count):
            return Page(body["results"], body["next"] is not None, count)
    raise UnexpectedResponse("it is not a page of a listing")


def choices(item: Any) -> list[str]:
    """The values of a custom field choice set, in its order.

    Raises UnexpectedResponse when it is none.
    """
    extra = item.get("extra_choices") if isinstance(item, dict) else None
    if not isinstance(extra, list):
        raise UnexpectedResponse("not a choice set")
    values = []
    for pair in extra:
        if not isinstance(pair, list) or not pair or not isinstance(pair[0], str):
            raise UnexpectedResponse("a choice is not a pair of texts")
        values.append(pair[0])
    return values


def as_document(item: Container) -> dict[str, Any]:
    """A container as a small JSON document."""
    return {
        "id": item.id,
        "prefix": item.prefix,
        "zone": item.zone,
        "vrf": item.vrf_id,
        "tenant": item.tenant_id,
        "role": item.role_id,
        "custom_fields": dict(item.custom_fields),
    }


def from_document(document: Any) -> Container:
    """The container in such a document. Raises UnexpectedResponse."""
    if not isinstance(document, dict):
        raise UnexpectedResponse("not a container")
    fields = document.get("custom_fields")
    ids = [document.get(name) for name in ("vrf", "tenant", "role")]
    if not isinstance(fields, dict) or not all(_is_id(value) or value is None for value in ids):
        raise UnexpectedResponse("not a container")
    cidr, zone = _cidr(document), document.get("zone")
    if not isinstance(zone, str):
        raise UnexpectedResponse("not a container")
    family: IPFamily = family_of(cidr)
    return Container(id_of(document), cidr, family, zone, ids[0], ids[1], ids[2], fields)


def _reference(value: Any) -> Any:
    """A custom field's value as NetBox takes it in a payload: objects by their ids."""
    if isinstance(value, dict) and _is_id(value.get("id")):
        return value["id"]
    if isinstance(value, list):
        return [_reference(one) for one in value]
    return value


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def id_of(item: Any) -> int:
    value = item.get("id") if isinstance(item, dict) else None
    if not _is_id(value):
        raise UnexpectedResponse("an object without an id")
    assert isinstance(value, int)
    return value


def related_id(item: dict[str, Any], name: str) -> int | None:
    if name not in item:
        raise UnexpectedResponse(f"prefix {id_of(item)} without a field {name}")
    return None if item[name] is None else id_of(item[name])


def _cidr(item: dict[str, Any]) -> str:
    value = item.get("prefix")
    try:
        # Not everything that `ipaddress` takes for a network is text.
        return str(network(value if isinstance(value, str) else ""))
    except ValueError:
        raise UnexpectedResponse(f"object {id_of(item)} without a proper prefix") from None


def status_of(item: dict[str, Any]) -> str:
    value = item.get("status")
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        return str(value["value"])
    raise UnexpectedResponse(f"prefix {id_of(item)} without a proper status")


def _custom_fields(item: Any) -> dict[str, Any]:
    fields = item.get("custom_fields") if isinstance(item, dict) else None
    if not isinstance(fields, dict):
        raise UnexpectedResponse("a prefix without custom_fields")
    return fields


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise UnexpectedResponse(f"field {name} is no text")
