"""The query strings of the read paths, and the bodies of their answers for the specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from marshmallow import Schema, ValidationError, fields

from ipam_lib.addresses import HOST_LENGTH, spellings
from ipam_lib.models import Filter
from ipam_lib.schemas.fields import Family, Name, StrictSchema, UUIDText
from ipam_lib.schemas.requests import bad_request

DEFAULT_LIMIT: Final = 50
MOST: Final = 1000


class Listing(NamedTuple):
    """A page of registrations to read: the filter, the largest number, and the cursor of the page before."""

    wanted: Filter
    limit: int
    cursor: str | None


class _Limit(fields.Field[int]):
    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if not (value.isascii() and value.isdecimal() and len(value) < 6 and 1 <= int(value) <= MOST):
            raise ValidationError(f"must be an integer from 1 to {MOST}")
        return int(value)


class _Truth(fields.Field[bool]):
    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if value not in {"true", "false"}:
            raise ValidationError("must be true or false")
        return bool(value == "true")


LIMIT: Final = _Limit(metadata={"description": f"How many at most: 1 to {MOST}, {DEFAULT_LIMIT} when not given."})
CURSOR: Final = fields.String(metadata={"description": "The `cursor` of the page before."})


class ListingSchema(StrictSchema):
    """The query string of `GET /v2/addresses`. Unknown names are ignored; an empty value counts as absent."""

    zone = Name(1, 253, optional=True, metadata={"description": "Only of this zone."})
    ip_family = Family(optional=True, metadata={"description": "Only of this family."})
    cluster_id = UUIDText(optional=True, metadata={"description": "Only with a service of this cluster (any case)."})
    namespace_id = UUIDText(optional=True, metadata={"description": "Only with a service of this namespace."})
    service_name = Name(1, 253, optional=True, metadata={"description": "Only with a service of this name."})
    expiring = _Truth(
        metadata={"description": "Only with (`true`) or without (`false`) a service that has an expiration."}
    )
    limit = LIMIT
    cursor = CURSOR


class ServiceReadSchema(Schema):
    """A service on an address."""

    service_name = fields.String(required=True, metadata={"example": "ingress_inet"})
    namespace_id = fields.String(required=True, metadata={"example": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"})
    cluster_id = fields.String(required=True, metadata={"example": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"})
    retention_period_days = fields.Integer(required=True, metadata={"example": 0})
    deny_external_cleanup = fields.Boolean(required=True, metadata={"example": False})
    expires_at = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "RFC 3339, UTC; null: it does not expire.", "x-nullable": True},
    )


class RegistrationSchema(Schema):
    """A registration, without its secret."""

    id = fields.String(
        required=True,
        metadata={"description": "The `k8s_uuid` of its prefix in NetBox.", "example": "6b04df5c89ee3b54e38fc946"},
    )
    address = fields.String(required=True, metadata={"description": "With its mask.", "example": "83.118.168.10/32"})
    zone = fields.String(required=True, metadata={"example": "inet"})
    ip_family = fields.String(required=True, metadata={"enum": list(HOST_LENGTH), "example": "ipv4"})
    state = fields.String(
        required=True,
        metadata={"description": "`live`, or `releasing`: the address is being released.", "example": "live"},
    )
    netbox_id = fields.Integer(
        required=True, allow_none=True, metadata={"description": "The prefix in NetBox.", "example": 4711}
    )
    duplicate = fields.Boolean(
        required=True,
        metadata={"description": "Whether another registration of the same address counts instead.", "example": False},
    )
    services = fields.List(fields.Nested(ServiceReadSchema), required=True)


class AddressesSchema(Schema):
    """A page of registrations, in the order in which they were made."""

    addresses = fields.List(fields.Nested(RegistrationSchema), required=True)
    cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Asks for the next page; null after the last.", "x-nullable": True},
    )


class AddressesFoundSchema(Schema):
    """The registrations on one address: one for each zone that holds it."""

    addresses = fields.List(fields.Nested(RegistrationSchema), required=True)


_UNKNOWN: Final = " null: not known, because NetBox is not read yet, or the token does not see all prefixes."
_UNREAD: Final = (
    " null: not known, because NetBox is not read yet, or the token may not view them, or `netbox.ip_addresses` is"
    " `ignore`."
)


def _count(description: str, example: int) -> fields.Integer:
    metadata = {"description": description, "x-nullable": True, "example": example}
    return fields.Integer(required=True, allow_none=True, metadata=metadata)


def _as_of(description: str) -> fields.String:
    metadata = {"description": description, "x-nullable": True, "example": "2026-11-24T13:30:00.000Z"}
    return fields.String(required=True, allow_none=True, metadata=metadata)


class ContainerSchema(Schema):
    """A container prefix."""

    prefix = fields.String(required=True, metadata={"example": "83.118.168.0/24"})
    size = fields.Integer(required=True, metadata={"description": "Addresses in it.", "example": 256})
    netbox_id = fields.Integer(required=True, metadata={"example": 12})
    vrf_id = fields.Integer(
        required=True, allow_none=True, metadata={"description": "null: the global table.", "x-nullable": True}
    )
    utilized = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={
            "description": "Whether NetBox marks it as utilized: then none of its addresses is free." + _UNKNOWN,
            "x-nullable": True,
            "example": False,
        },
    )
    own = _count("Addresses in prefixes of this service: registered, or held by the pool." + _UNKNOWN, 17)
    other_prefixes = _count("Addresses in other prefixes, and in containers inside this one." + _UNKNOWN, 20)
    other_addresses = _count("Of the others, IP addresses and addresses in IP ranges." + _UNREAD, 3)
    free = _count("Addresses that can be the next free address." + _UNKNOWN, 216)
    as_of = _as_of("When NetBox was read for these counts (RFC 3339, UTC)." + _UNKNOWN)


class FamilyUseSchema(Schema):
    """How full a zone is, in addresses of one family. Numbers are integers of any size (2^64 in a /64)."""

    ip_family = fields.String(required=True, metadata={"enum": list(HOST_LENGTH), "example": "ipv4"})
    size = fields.Integer(
        required=True, metadata={"description": "Of all containers; where they overlap, counted once.", "example": 256}
    )
    used = fields.Integer(
        required=True, metadata={"description": "Registrations here; at most 15 s old.", "example": 17}
    )
    reserved = fields.Integer(required=True, metadata={"description": "Held by the pool.", "example": 0})
    other_prefixes = _count("Addresses in prefixes of other systems." + _UNKNOWN, 20)
    other_addresses = _count("In no prefix, but IP addresses or addresses in IP ranges." + _UNREAD, 3)
    free = _count("Addresses that can be the next free address: taken by nothing in NetBox." + _UNKNOWN, 216)
    as_of = _as_of(
        "When NetBox was read for other_prefixes, other_addresses and free (RFC 3339, UTC); the oldest reading, if"
        " there are several containers." + _UNKNOWN
    )
    containers = fields.List(fields.Nested(ContainerSchema), required=True)


class QuotaUseSchema(Schema):
    """The use of a quota in a zone, at most some minutes old."""

    owner = fields.String(required=True, metadata={"enum": ["cluster", "namespace"], "example": "cluster"})
    limit = fields.Integer(required=True, metadata={"description": "Addresses that each may have.", "example": 100})
    highest = fields.Integer(
        required=True, metadata={"description": "Addresses of the one that has most of them.", "example": 92}
    )
    nearly_used = fields.Integer(
        required=True, metadata={"description": "How many have at least 90 % of the limit.", "example": 1}
    )


class ZoneUseSchema(Schema):
    """How full a zone is."""

    zone = fields.String(required=True, metadata={"example": "inet"})
    families = fields.List(fields.Nested(FamilyUseSchema), required=True)
    quotas = fields.List(
        fields.Nested(QuotaUseSchema),
        required=True,
        metadata={"description": "Empty without `limits` in the configuration, and before the first count."},
    )


class ZonesSchema(Schema):
    """How full every zone is."""

    zones = fields.List(fields.Nested(ZoneUseSchema), required=True)


_LISTING = ListingSchema()


def parse_listing(query: Mapping[str, str]) -> Listing:
    """The content of a query string. Raises BadRequest with the wrong parameters."""
    try:
        content = _LISTING.load({name: value for name, value in query.items() if value})
    except ValidationError as error:
        problems = error.messages
    else:
        limit, cursor = content.pop("limit", DEFAULT_LIMIT), content.pop("cursor", None)
        return Listing(Filter(**content), limit, cursor)
    raise bad_request(problems)


def parse_address(text: str) -> tuple[str, ...]:
    """The texts under which an address, or a network of the earlier service's, may be stored; the canonical one first.

    Raises BadRequest.
    """
    try:
        return spellings(text)
    except ValueError as error:
        problem = str(error)
    raise bad_request({"address": [problem]})


def listing_parameters() -> list[dict[str, Any]]:
    """The parameters of `parse_listing`, for the specification."""
    return parameters_of(_LISTING)


def parameters_of(schema: Schema) -> list[dict[str, Any]]:
    """The parameters of a query string with this schema, for the specification."""
    kinds: dict[str, dict[str, Any]] = {
        "expiring": {"type": "boolean"},
        "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT_LIMIT},
        "ip_family": {"type": "string", "enum": list(HOST_LENGTH)},
    }
    return [
        {
            "in": "query",
            "name": name,
            "required": False,
            "allowEmptyValue": True,
            "description": field.metadata["description"],
            **kinds.get(name, {"type": "string"}),
        }
        for name, field in schema.fields.items()
    ]
