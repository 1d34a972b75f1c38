"""The bodies of answers, for the specification."""

from __future__ import annotations

from marshmallow import Schema, fields

from ipam_lib.errors import CODES


class AddressSchema(Schema):
    """The answer to a registration and to an expiration."""

    message = fields.String(
        required=True,
        metadata={"description": "What was done.", "example": "Address registered successfully"},
    )
    address = fields.String(
        required=True,
        metadata={"description": "The address, canonical, with its mask.", "example": "83.118.168.10/32"},
    )


class ClusterExpiredSchema(Schema):
    """The answer to the expiration of a cluster."""

    message = fields.String(
        required=True,
        metadata={"description": "What was done.", "example": "Cluster expiration set successfully"},
    )
    cluster_id = fields.String(
        required=True,
        metadata={"description": "The cluster.", "example": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"},
    )
    expired = fields.Integer(
        required=True, metadata={"description": "How many services now expire at once.", "example": 3}
    )
    denied = fields.Integer(
        required=True, metadata={"description": "How many services deny external cleanup.", "example": 1}
    )


class EventAcceptedSchema(Schema):
    """The answer to an event of NetBox."""

    message = fields.String(required=True, metadata={"description": "What was done.", "example": "Event accepted"})


class ErrorSchema(Schema):
    """The answer to a failed request."""

    code = fields.String(
        required=True,
        metadata={"description": "The reason, for programs.", "enum": list(CODES), "example": "invalid_request"},
    )
    message = fields.String(
        required=True,
        metadata={"description": "What went wrong.", "example": "invalid request: zone is missing"},
    )
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={
            "description": "With some 400s: what is wrong with each field, by its dotted name.",
            "example": {"zone": ["is missing"]},
        },
    )
    request_id = fields.String(
        metadata={"description": "With 500: the id under which it was logged.", "example": "5f0c9d6e8b7a4c21"}
    )
