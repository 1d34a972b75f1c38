"""The bodies of the three requests that change something, and their conversion to `models.Request`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load

from ipam_lib.errors import BadRequest, InvalidJSON
from ipam_lib.models import SECRET_LENGTHS, Request, ServiceKey
from ipam_lib.schemas.fields import Days, Family, Flag, HostAddress, Name, StrictSchema, Text, UUIDText
from ipam_lib.text import json_type

_SHOWN = 3  # the number of problems in the message of an error
_CLUSTER_ID = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"


class ServiceSchema(StrictSchema):
    """The service that the request is for. The first three fields identify it."""

    service_name = Text(1, 253, metadata={"description": "Name of the service.", "example": "ingress_inet"})
    namespace_id = UUIDText(
        metadata={
            "description": "UUID of the service's namespace.",
            "example": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
        }
    )
    cluster_id = UUIDText(metadata={"description": "UUID of the service's cluster.", "example": _CLUSTER_ID})
    retention_period_days = Days(
        30,
        metadata={
            "description": "Days from the DELETE request to the expiration of the service. When a POST "
            "does not say: 0; when a DELETE does not say: what was registered.",
            "example": 0,
        },
    )
    deny_external_cleanup = Flag(
        metadata={
            "description": "Whether the expiration of a whole cluster does not expire this service.",
            "default": False,
            "example": False,
        }
    )
    expires_at = fields.Raw(
        allow_none=True,
        # No type: clients that send back what they keep of it are not to fail on its form.
        metadata={"description": "Accepted and ignored.", "example": "2026-11-25T00:50:49.291Z"},
    )


class _RequestSchema(StrictSchema):
    address = HostAddress(
        optional=True,
        metadata={
            "description": "One host address: A, A/32 or A/128. Empty means the same as absent: the service's own, or "
            "(POST) the next free one.",
            "example": "83.118.168.10/32",
        },
    )
    ip_family = Family(metadata={"description": "Family of the address.", "example": "ipv4"})
    zone = Name(
        1, 100, metadata={"description": "A choice of NetBox's choice set `k8s_zone_choices`.", "example": "inet"}
    )
    secret = Text(
        *SECRET_LENGTHS,
        metadata={"description": "All services on one address send the same secret.", "example": "SuperSecret"},
    )
    service = fields.Nested(
        ServiceSchema,
        required=True,
        error_messages={"required": "is missing", "null": "must not be null"},
        metadata={"description": "The service on whose behalf the request is made."},
    )

    @post_load(pass_original=True)
    def _request(self, content: dict[str, Any], original: dict[str, Any], **options: Any) -> Request:
        service = content["service"]
        address = content.get("address")
        return Request(
            zone=content["zone"],
            ip_family=content["ip_family"],
            key=ServiceKey(service["service_name"], service["namespace_id"], service["cluster_id"]),
            secret=content["secret"],
            address=address,
            spelling=None if address is None else original["address"],
            new_secret=content.get("new_secret"),
            retention_period_days=service.get("retention_period_days"),
            deny_external_cleanup=service.get("deny_external_cleanup") or False,
        )


class RegisterSchema(_RequestSchema):
    """The body of POST: register an address for a service, or update it. Loads to a `models.Request`."""

    new_secret = Text(
        *SECRET_LENGTHS,
        optional=True,
        metadata={
            "description": "Replaces the secret, while the service is the only one on the address. Empty means the "
            "same as absent.",
            "example": "SuperSecret2",
        },
    )


class ExpireSchema(_RequestSchema):
    """The body of DELETE: set the expiration of a service. Loads to a `models.Request`; `new_secret` is ignored."""


class ClusterSchema(StrictSchema):
    """The body of DELETE of a cluster. Loads to the cluster's id."""

    cluster_id = UUIDText(metadata={"description": "UUID of the cluster.", "example": _CLUSTER_ID})

    @post_load
    def _cluster_id(self, content: dict[str, str], **options: Any) -> str:
        return content["cluster_id"]


class EventSchema(Schema):
    """The body of an event of NetBox, for the specification; `netbox.events` parses it."""

    event = fields.String(required=True, metadata={"description": "`created`, `updated` or `deleted`."})
    object_type = fields.String(metadata={"description": "The type of object; before NetBox 4.4 it is `model`."})
    data = fields.Dict(required=True, metadata={"description": "The object."})
    snapshots = fields.Dict(metadata={"description": "The object before and after the change."})


# Bodies that always work: without `address`, and without `new_secret`, with which the second try would fail.
REGISTER_EXAMPLE: dict[str, Any] = {
    "ip_family": "ipv4",
    "zone": "inet",
    "secret": "SuperSecret",
    "service": {
        "service_name": "ingress_inet",
        "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
        "cluster_id": _CLUSTER_ID,
        "retention_period_days": 0,
        "deny_external_cleanup": False,
    },
}
EXPIRE_EXAMPLE: dict[str, Any] = REGISTER_EXAMPLE
CLUSTER_EXAMPLE: dict[str, Any] = {"cluster_id": _CLUSTER_ID}
EVENT_EXAMPLE: dict[str, Any] = {
    "event": "deleted",
    "object_type": "ipam.prefix",
    "data": {"id": 128, "prefix": "83.118.168.16/32", "vrf": {"id": 1}},
    "snapshots": {"prechange": {"prefix": "83.118.168.16/32", "vrf": 1}, "postchange": None},
}

_REGISTER = RegisterSchema()
_EXPIRE = ExpireSchema()
_CLUSTER = ClusterSchema()


def parse_register(body: object) -> Request:
    """The request in the body of a POST. Raises BadRequest, with every wrong field in `errors`."""
    request: Request = _load(_REGISTER, body)
    return request


def parse_expire(body: object) -> Request:
    """The request in the body of a DELETE. Raises BadRequest, with every wrong field in `errors`."""
    request: Request = _load(_EXPIRE, body)
    return request


def parse_cluster(body: object) -> str:
    """The cluster id in the body, as given. Raises BadRequest, with every wrong field in `errors`."""
    cluster_id: str = _load(_CLUSTER, body)
    return cluster_id


def _load(schema: Schema, body: object) -> Any:
    if not isinstance(body, dict):
        raise InvalidJSON(f"the body must be one JSON object, not {json_type(body)}")
    try:
        return schema.load(body)
    except ValidationError as error:
        problems = error.messages
    # Raised here, so that its context is not the library's error, which holds the whole body.
    raise bad_request(problems)


def bad_request(messages: Mapping[str, Any] | list[Any]) -> BadRequest:
    """The error for marshmallow's messages: all of them in `errors` by dotted field name, the first few in the message.

    Neither repeats the values.
    """
    errors: dict[str, list[str]] = {}
    for name, text in _flat("", messages):
        errors.setdefault(name or "body", []).append(text)
    said = [f"{name} {text}" for name, texts in errors.items() for text in texts]
    more = f" (and {len(said) - _SHOWN} more)" if len(said) > _SHOWN else ""
    return BadRequest("invalid request: " + "; ".join(said[:_SHOWN]) + more, errors)


def _flat(name: str, messages: Any) -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            # marshmallow has the errors of a whole object under `_schema`.
            yield from _flat(name if key == "_schema" else f"{name}.{key}".lstrip("."), inner)
    else:
        for text in messages:
            yield name, str(text)
