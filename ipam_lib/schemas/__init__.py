"""The bodies and query strings of the HTTP interface: parsers, and schemas for the specification. No I/O.

    parse_json(raw)            bytes -> JSON value
    parse_register(body)       JSON value -> models.Request
    parse_expire(body)         JSON value -> models.Request
    parse_cluster(body)        JSON value -> the cluster's id
    parse_listing(query)       query string -> filter, limit, cursor
    parse_history(query)       query string -> zone, limit, cursor
    parse_address(text)        part of a path -> the texts under which the address may be stored

Each raises BadRequest and nothing else. aiohttp-apispec makes the specification from the metadata of the schemas. There
is one instance of each schema, because building one takes longer than using it.
"""

from ipam_lib.schemas.history_query import HistorySchema, history_parameters, parse_history
from ipam_lib.schemas.json_body import parse_json
from ipam_lib.schemas.list_query import (
    AddressesFoundSchema,
    AddressesSchema,
    ZonesSchema,
    listing_parameters,
    parse_address,
    parse_listing,
)
from ipam_lib.schemas.requests import (
    CLUSTER_EXAMPLE,
    EVENT_EXAMPLE,
    EXPIRE_EXAMPLE,
    REGISTER_EXAMPLE,
    ClusterSchema,
    EventSchema,
    ExpireSchema,
    RegisterSchema,
    ServiceSchema,
    bad_request,
    parse_cluster,
    parse_expire,
    parse_register,
)
from ipam_lib.schemas.response_schemas import AddressSchema, ClusterExpiredSchema, ErrorSchema, EventAcceptedSchema

__all__ = [
    "CLUSTER_EXAMPLE",
    "EVENT_EXAMPLE",
    "EXPIRE_EXAMPLE",
    "REGISTER_EXAMPLE",
    "AddressSchema",
    "AddressesFoundSchema",
    "AddressesSchema",
    "ClusterExpiredSchema",
    "ClusterSchema",
    "ErrorSchema",
    "EventAcceptedSchema",
    "EventSchema",
    "ExpireSchema",
    "HistorySchema",
    "RegisterSchema",
    "ServiceSchema",
    "ZonesSchema",
    "bad_request",
    "history_parameters",
    "listing_parameters",
    "parse_address",
    "parse_cluster",
    "parse_expire",
    "parse_history",
    "parse_json",
    "parse_listing",
    "parse_register",
]
