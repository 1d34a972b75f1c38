"""The queries of the MongoDB store, and the indexes that answer them, as plain data. This module imports no driver.

Ids are ObjectIds already. Live documents have no `state`, whether this service or the earlier one wrote them: comparing
with null matches both, by index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ipam_lib.models import Filter, IPFamily, QuotaOwner, ServiceKey, State
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.documents import mark_duplicate

Query = dict[str, Any]

STAGED: Final = "_restoring"
"""Follows the name of a collection that is filled beside the one that it will replace."""

# https://www.mongodb.com/docs/manual/reference/error-codes/
_DUPLICATE_KEY: Final = 11000


@dataclass(frozen=True, slots=True)
class Index:
    """An index by its name, its ascending fields, and whether it is unique."""

    name: str
    fields: tuple[str, ...]
    unique: bool = False


UNIQUE_INDEX = Index("ipam_address", ("address", "zone", "duplicate"), unique=True)
INDEXES = (
    # The whole key of a service, and the secret: one look-up, however many registrations share either.
    Index("ipam_service", ("services.service_name", "services.namespace_id", "services.cluster_id", "secret")),
    # In the order of the pages. Its null entries are the registrations without a service.
    Index("ipam_cluster", ("services.cluster_id", "_id")),
    Index("ipam_namespace", ("services.namespace_id", "_id")),
    Index("ipam_expiration", ("services.expires_at", "_id")),
    Index("ipam_departed", ("departed.until", "_id")),
    Index("ipam_state", ("state", "_id")),
    Index("ipam_description", ("description_due", "_id")),
    # Pages of a zone, and of one family in it. `COUNTS` reads the second.
    Index("ipam_zone", ("zone", "_id")),
    Index("ipam_zone_family", ("zone", "ip_family", "_id")),
)
POOL_INDEXES = (
    Index("ipam_address", ("address", "zone"), unique=True),
    Index("ipam_order", ("zone", "ip_family", "state", "order")),
    Index("ipam_state", ("state", "_id")),
    Index("ipam_by", ("by", "_id")),
)
HISTORY_INDEXES = (
    # The pages read it backwards.
    Index("ipam_address", ("address", "until", "_id")),
    Index("ipam_until", ("until", "_id")),
)
COLLECTION_INDEXES: Mapping[CollectionKind, tuple[Index, ...]] = {
    CollectionKind.REGISTRATIONS: (*INDEXES, UNIQUE_INDEX),
    CollectionKind.DOCUMENTS: (),
    CollectionKind.POOL: POOL_INDEXES,
    CollectionKind.HISTORY: HISTORY_INDEXES,
}

# The zones and addresses that are registered more than once.
DUPLICATES: list[Query] = [
    {"$match": {"duplicate": None}},
    {"$group": {"_id": {"zone": "$zone", "address": "$address"}, "count": {"$sum": 1}}},
    {"$match": {"count": {"$gt": 1}}},
]

# Sorted first, so that the server reads the index and not the documents.
COUNTS: list[Query] = [
    {"$sort": {"zone": 1, "ip_family": 1}},
    {"$group": {"_id": {"zone": "$zone", "ip_family": "$ip_family"}, "count": {"$sum": 1}}},
]

_SERVICES: Query = {"$cond": [{"$isArray": "$services"}, "$services", []]}

# Year 1 is the zero value of Go's `time.Time`: no expiration.
_FIRST_MOMENT = datetime(2, 1, 1, tzinfo=UTC)

_EXPIRING: Query = {"$filter": {"input": _SERVICES, "as": "one", "cond": {"$gte": ["$$one.expires_at", _FIRST_MOMENT]}}}

# The numbers of `Store.usage`.
USAGE: list[Query] = [
    {
        "$group": {
            "_id": {"zone": "$zone", "ip_family": "$ip_family", "state": "$state"},
            "registrations": {"$sum": 1},
            "services": {"$sum": {"$size": _SERVICES}},
            "expiring": {"$sum": {"$size": _EXPIRING}},
        }
    }
]


def owned(owner: QuotaOwner) -> list[Query]:
    """The pipeline of `Store.owned`. `$setUnion` keeps each ID of a document once."""
    ids = {"$cond": [{"$isArray": "$services"}, f"$services.{owner}_id", []]}
    return [
        {"$project": {"zone": "$zone", "owner": {"$setUnion": [ids, []]}}},
        {"$unwind": "$owner"},
        {"$group": {"_id": {"zone": "$zone", "owner": "$owner"}, "count": {"$sum": 1}}},
    ]


def by_owner(owner: QuotaOwner, ids: Sequence[str], zone: str) -> Query:
    """The query of `Store.count_owned`."""
    return {f"services.{owner}_id": {"$in": list(ids)}, "zone": zone}


def by_service(secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey) -> Query:
    """The query of `Store.find_service`. Only live documents have a `secret`."""
    key = {
        "service_name": service.service_name,
        "namespace_id": service.namespace_id,
        "cluster_id": service.cluster_id,
    }
    return {"services": {"$elemMatch": key}, "secret": {"$in": list(secrets)}, "zone": zone, "ip_family": ip_family}


def by_address(zone: str | None, addresses: Sequence[str]) -> Query:
    """The query of `Store.find_address`."""
    query: Query = {"address": {"$in": list(addresses)}}
    return query if zone is None else query | {"zone": zone}


def due(now: datetime, after: Any) -> Query:
    """The query of `Store.find_due`. Each branch is the whole condition, so that an index of its own answers it.

    MongoDB turns a `$nor` of one condition into `$not`, and that into `$exists: false`, which is an index look-up of
    null. Written like this, the condition means the same to servers that tell an empty array from a missing field.
    """
    expired = {"services": {"$elemMatch": {"expires_at": {"$gte": _FIRST_MOMENT, "$lte": now}}}}
    without = {"$nor": [{"services.cluster_id": {"$exists": True}}], "services.0": {"$exists": False}}
    departed = {"departed.until": {"$gte": _FIRST_MOMENT}}
    return {"$or": [{**branch, "state": None, **above(after)} for branch in (expired, without, departed)]}


def undescribed(after: Any) -> Query:
    """The query of `Store.find_undescribed`."""
    return {"description_due": True, "state": None, **above(after)}


def by_states(states: Collection[State], after: Any) -> Query:
    """The query of `Store.find_states`."""
    return {"state": {"$in": sorted(state.value for state in states)}, **above(after)}


def by_cluster(cluster_ids: Sequence[str], after: Any) -> Query:
    """The query of `Store.find_cluster`."""
    return {"services.cluster_id": {"$in": list(cluster_ids)}, "state": None, **above(after)}


def page(wanted: Filter, after: Any) -> Query:
    """The query of `Store.page`."""
    query: Query = above(after)
    for name in ("zone", "ip_family", "address"):
        if (value := getattr(wanted, name)) is not None:
            query[name] = value
    service = {name: getattr(wanted, name) for name in ("service_name", "namespace_id", "cluster_id")}
    service = {name: value for name, value in service.items() if value is not None}
    if service:
        query["services"] = {"$elemMatch": service}
    if wanted.states is not None:
        query["state"] = {"$in": [None if state is State.LIVE else state.value for state in wanted.states]}
    if wanted.expiring is not None:
        expiring = {"services.expires_at": {"$gte": _FIRST_MOMENT}}
        query |= expiring if wanted.expiring else {"$nor": [expiring]}
    return query


def above(after: Any) -> Query:
    """The documents whose id is above `after`."""
    return {"_id": {"$gt": after}}


def mark(document: Mapping[str, Any]) -> tuple[Query, Query]:
    """Condition and update that mark a stored document as a duplicate (`documents.mark_duplicate`)."""
    fields = ("_id", "zone", "address", "duplicate", "revision")
    marked = mark_duplicate(document)
    changed = {field: value for field, value in marked.items() if field not in document or document[field] != value}
    return {field: document.get(field) for field in fields}, {"$set": changed}


def exists(index: Index, present: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether such an index exists, under any name. `present` is what PyMongo's `index_information` returns."""
    return any(
        [(field, 1) for field in index.fields] == [tuple(pair) for pair in info["key"]]
        and bool(info.get("unique")) == index.unique
        and not info.keys() & {"sparse", "partialFilterExpression", "collation", "hidden", "expireAfterSeconds"}
        for info in present.values()
    )


def clash(index: Index, collection: str, words: str) -> str:
    """The message about an index that cannot be made because another one is in its way."""
    fields = ", ".join(index.fields)
    return (
        f"mongodb: the {'unique ' * index.unique}index {index.name} on ({fields}) cannot be made ({words}): an index of"
        f" this name, or on these fields, is there in another shape. Look at db.{collection}.getIndexes(), drop it with"
        f" db.{collection}.dropIndex(NAME), and start again"
    )


def too_slow(index: Index, collection: str, documents: int, seconds: float) -> str:
    """The message about an index that the server did not build in time."""
    problem = (
        f"mongodb: the server did not build the index {index.name} of {collection} ({documents} documents) within"
        f" {seconds:.0f} s"
    )
    if collection.endswith(STAGED):
        return f"{problem}; restore into a server that builds it faster, or into the embedded database"
    fields = ", ".join(f'"{field}": 1' for field in index.fields)
    unique = ", unique: true" * index.unique
    return (
        f"{problem}. Build it once without a time limit, in mongosh: db.{collection}.createIndex({{{fields}}},"
        f' {{name: "{index.name}"{unique}}}), then restart the service'
    )


def only_duplicate_keys(details: Mapping[str, Any]) -> bool:
    """Whether a bulk write failed only because ids or unique fields are taken (`BulkWriteError.details`)."""
    return all(one.get("code") == _DUPLICATE_KEY for one in details.get("writeErrors") or [{}])
