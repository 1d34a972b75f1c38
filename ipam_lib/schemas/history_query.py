"""The query string of the history of an address, and the body of its answer for the specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from marshmallow import Schema, ValidationError, fields

from ipam_lib.addresses import HOST_LENGTH
from ipam_lib.schemas.fields import Name, StrictSchema
from ipam_lib.schemas.list_query import CURSOR, DEFAULT_LIMIT, LIMIT, parameters_of
from ipam_lib.schemas.requests import bad_request


class HistoryQuery(NamedTuple):
    """A page of a history to read: the zone (None: any), the largest number, and the cursor of the page before."""

    zone: str | None
    limit: int
    cursor: str | None


class HistoryQuerySchema(StrictSchema):
    """The query string. Unknown names are ignored; an empty value counts as absent."""

    zone = Name(1, 253, optional=True, metadata={"description": "Only of this zone."})
    limit = LIMIT
    cursor = CURSOR


class TenureSchema(Schema):
    """A service held the address, from when to when."""

    address = fields.String(required=True, metadata={"description": "With its mask.", "example": "83.118.168.10/32"})
    zone = fields.String(required=True, metadata={"example": "inet"})
    ip_family = fields.String(required=True, metadata={"enum": list(HOST_LENGTH), "example": "ipv4"})
    registration_id = fields.String(
        required=True,
        metadata={"description": "`k8s_uuid` of the prefix in NetBox.", "example": "6b04df5c89ee3b54e38fc946"},
    )
    service_name = fields.String(required=True, metadata={"example": "ingress_inet"})
    namespace_id = fields.String(required=True, metadata={"example": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"})
    cluster_id = fields.String(required=True, metadata={"example": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"})
    since = fields.String(
        data_key="from",
        required=True,
        allow_none=True,
        metadata={"description": "RFC 3339, UTC; null: not recorded.", "x-nullable": True},
    )
    until = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "RFC 3339, UTC; null while the service has the address.", "x-nullable": True},
    )
    ended = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Why it ended: `expired`; null while the service has the address.",
            "x-nullable": True,
        },
    )


class HistorySchema(Schema):
    """A page of the history of an address: services that have it now first, then the most recent end first."""

    history = fields.List(fields.Nested(TenureSchema), required=True)
    cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Asks for the next page; null after the last.", "x-nullable": True},
    )


_QUERY = HistoryQuerySchema()


def parse_history(query: Mapping[str, str]) -> HistoryQuery:
    """The content of a query string. Raises BadRequest with the wrong parameters."""
    try:
        content: dict[str, Any] = _QUERY.load({name: value for name, value in query.items() if value})
    except ValidationError as error:
        problems = error.messages
    else:
        return HistoryQuery(content.get("zone"), content.get("limit", DEFAULT_LIMIT), content.get("cursor"))
    raise bad_request(problems)


def history_parameters() -> list[dict[str, Any]]:
    """The parameters of `parse_history`, for the specification."""
    return parameters_of(_QUERY)
