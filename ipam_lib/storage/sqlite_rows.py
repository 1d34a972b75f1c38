"""Registrations as rows of the embedded database, and the queries that find them. Everything here blocks."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from ipam_lib.models import Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage import sqlite_json
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.documents import Document, change, mark_duplicate, to_document, to_registration
from ipam_lib.storage.sqlite_connection import Query
from ipam_lib.storage.usage import Usage, UsageCounting

# A list is one JSON value, so that each query has one text and lists have no limit of length. A plus before a column
# keeps the planner from using its index
# (https://www.sqlite.org/optoverview.html#disqualifying_where_clause_terms_using_unary_), so that it uses the index of
# `due_at`. INDEXED BY keeps it from reading a whole zone to find a few addresses.
_IN_PAGES = "ORDER BY id LIMIT ?"
_BY_IDS = "SELECT document FROM registrations WHERE id IN (SELECT value FROM json_each(?))"
_BY_SERVICE = """
SELECT document FROM registrations
WHERE id IN (SELECT registration_id FROM services WHERE service_name = ? AND namespace_id = ? AND cluster_id = ?)
AND zone = ? AND ip_family = ? AND state = 'live' AND secret IN (SELECT value FROM json_each(?))
ORDER BY id"""
_BY_ADDRESS = """
SELECT document FROM registrations INDEXED BY registrations_address
WHERE address IN (SELECT value FROM json_each(?)) AND zone = ? ORDER BY id"""
_BY_ADDRESS_IN_ANY_ZONE = _BY_ADDRESS.replace(" AND zone = ?", "")
_DUE = """
SELECT document FROM registrations
WHERE id IN (SELECT id FROM registrations WHERE due_at <= ? AND +id > ? ORDER BY +id LIMIT ?)
ORDER BY id"""
_UNDESCRIBED = """
SELECT document FROM registrations INDEXED BY registrations_description
WHERE json_type(document, '$.description_due') = 'true' AND id > ? AND state = 'live' ORDER BY id LIMIT ?"""
_BY_STATES = """
SELECT document FROM registrations
WHERE state <> 'live' AND state IN (SELECT value FROM json_each(?)) AND id > ? ORDER BY id LIMIT ?"""
_BY_CLUSTER = """
SELECT document FROM registrations
WHERE id IN (
    SELECT registration_id FROM services
    WHERE cluster_id IN (SELECT value FROM json_each(?)) AND registration_id > ?
)
AND id > ? AND state = 'live'
ORDER BY id LIMIT ?"""
# A join, because it stops at the limit: `IN (SELECT ...)` first reads all services of the cluster. The index of the
# zone is much smaller than the table, which has the documents.
_COUNT_OF_CLUSTER = """
SELECT count(*) FROM (
    SELECT DISTINCT registration_id
    FROM services CROSS JOIN registrations INDEXED BY registrations_zone ON id = registration_id
    WHERE cluster_id IN (SELECT value FROM json_each(?)) AND zone = ? LIMIT ?
)"""
_BY_CLUSTERS = """
SELECT zone, owner_id, count(*) FROM (SELECT DISTINCT registration_id, cluster_id AS owner_id FROM services)
CROSS JOIN registrations ON id = registration_id GROUP BY zone, owner_id"""
_PAGE = "SELECT document FROM registrations WHERE"
_OF_REGISTRATION = {"address": "address = ?", "zone": "{}zone = ?", "ip_family": "ip_family = ?"}
_OF_SERVICES = "id IN (SELECT registration_id FROM services WHERE "
_OF_SERVICE = {"service_name": "service_name = ?", "namespace_id": "namespace_id = ?", "cluster_id": "cluster_id = ?"}
_EXPIRING = "EXISTS (SELECT 1 FROM services WHERE registration_id = registrations.id AND expires_at IS NOT NULL)"
_NOT_EXPIRING = "NOT " + _EXPIRING


def insert(connection: sqlite3.Connection, registration: Registration) -> None:
    """Store a new registration. Raises sqlite3.IntegrityError if its id, or its zone and address, is taken."""
    insert_document(connection, to_document(registration))


def insert_document(connection: sqlite3.Connection, document: Document) -> None:
    """Store a new document, also one of another program. Raises sqlite3.IntegrityError as `insert` does."""
    registration = to_registration(document)
    connection.execute(
        "INSERT INTO registrations (id, zone, address, duplicate, ip_family, secret, state, due_at, document)"
        " VALUES (:id, :zone, :address, :duplicate, :ip_family, :secret, :state, :due_at, :document)",
        _row(registration, document),
    )
    _insert_services(connection, registration)


def insert_apart(connection: sqlite3.Connection, document: Document) -> None:
    """Store a document of a database without the unique index. If another document has its zone and address, the one
    with the higher id is marked as a duplicate (see `Store.prepare`).

    Raises sqlite3.IntegrityError if the id is taken.
    """
    registration = to_registration(document)
    row = connection.execute(
        "SELECT document FROM registrations WHERE address = ? AND zone = ? AND duplicate = ''",
        (registration.address, registration.zone),
    ).fetchone()
    if row is not None and not registration.duplicate:
        other = sqlite_json.load(row[0])
        if other["_id"] < document["_id"]:
            document = mark_duplicate(document)
        elif other["_id"] > document["_id"]:
            _update(connection, mark_duplicate(other))
    insert_document(connection, document)


def replace(connection: sqlite3.Connection, old: Registration, new: Registration) -> bool:
    """See `Store.replace`. The caller has begun a transaction. Raises sqlite3.IntegrityError if the address is
    taken."""
    stored = _stored(connection, old)
    if stored is None:
        return False
    _update(connection, change(old, new, stored.get("services")).apply(stored))
    if old.services != new.services:
        connection.execute("DELETE FROM services WHERE registration_id = ?", (old.id,))
        _insert_services(connection, new)
    return True


def delete(connection: sqlite3.Connection, old: Registration) -> bool:
    """See `Store.delete`. The caller has begun a transaction."""
    if _stored(connection, old) is None:
        return False
    connection.execute("DELETE FROM services WHERE registration_id = ?", (old.id,))
    connection.execute("DELETE FROM registrations WHERE id = ?", (old.id,))
    return True


def by_ids(registration_ids: Sequence[str]) -> Query:
    """The query of `Store.get_many`."""
    return _BY_IDS, (_list(registration_ids),)


def by_service(secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey) -> Query:
    """The query of `Store.find_service`."""
    key = (service.service_name, service.namespace_id, service.cluster_id)
    return _BY_SERVICE, (*key, zone, ip_family, _list(secrets))


def by_address(zone: str | None, addresses: Sequence[str]) -> Query:
    """The query of `Store.find_address`."""
    if zone is None:
        return _BY_ADDRESS_IN_ANY_ZONE, (_list(addresses),)
    return _BY_ADDRESS, (_list(addresses), zone)


def due(now: datetime, after: str | None, limit: int) -> Query:
    """The query of `Store.find_due`."""
    return _DUE, (sqlite_json.milliseconds(now), after or "", limit)


def undescribed(after: str | None, limit: int) -> Query:
    """The query of `Store.find_undescribed`."""
    return _UNDESCRIBED, (after or "", limit)


def by_states(states: Collection[State], after: str | None, limit: int) -> Query:
    """The query of `Store.find_states`."""
    return _BY_STATES, (_list(states), after or "", limit)


def by_cluster(cluster_ids: Sequence[str], after: str | None, limit: int) -> Query:
    """The query of `Store.find_cluster`."""
    return _BY_CLUSTER, (_list(cluster_ids), after or "", after or "", limit)


def page(wanted: Filter, after: str | None, limit: int) -> Query:
    """The query of `Store.page`."""
    conditions, values = ["id > ?"], [after or ""]
    # An address or a service has an index of its own, which finds fewer rows than the index of the zone.
    found_otherwise = any(getattr(wanted, name) is not None for name in ("address", *_OF_SERVICE))
    for column, condition in _OF_REGISTRATION.items():
        if (value := getattr(wanted, column)) is not None:
            conditions.append(condition.format("+" if found_otherwise else ""))
            values.append(value)
    if wanted.states is not None:
        conditions.append("state IN (SELECT value FROM json_each(?))")
        values.append(_list(wanted.states))
    service = {column: getattr(wanted, column) for column in _OF_SERVICE if getattr(wanted, column) is not None}
    if service:
        same = " AND ".join(_OF_SERVICE[column] for column in service)
        conditions.append("".join((_OF_SERVICES, same, ")")))
        values.extend(service.values())
    if wanted.expiring is not None:
        conditions.append(_EXPIRING if wanted.expiring else _NOT_EXPIRING)
    return " ".join((_PAGE, " AND ".join(conditions), _IN_PAGES)), (*values, limit)


def counts(connection: sqlite3.Connection) -> dict[tuple[str, IPFamily], int]:
    """See `Store.counts`."""
    rows = connection.execute("SELECT zone, ip_family, count(*) FROM registrations GROUP BY zone, ip_family")
    return {(zone, ip_family): number for zone, ip_family, number in rows}


def by_owner(owner: QuotaOwner, ids: Sequence[str], zone: str, limit: int) -> Query:
    """The query of `Store.count_owned`."""
    return _COUNT_OF_CLUSTER.replace("cluster_id", f"{owner}_id"), (_list(ids), zone, limit)


def count_owned(connection: sqlite3.Connection, owner: QuotaOwner, ids: Sequence[str], zone: str, limit: int) -> int:
    """See `Store.count_owned`."""
    row = connection.execute(*by_owner(owner, ids, zone, limit)).fetchone()
    number: int = row[0]
    return number


def owned(connection: sqlite3.Connection, owner: QuotaOwner) -> dict[tuple[str, str], int]:
    """See `Store.owned`."""
    rows = connection.execute(_BY_CLUSTERS.replace("cluster_id", f"{owner}_id"))
    return {(zone, owner_id): number for zone, owner_id, number in rows}


def usage(connection: sqlite3.Connection) -> Mapping[tuple[str, IPFamily], Usage]:
    """See `Store.usage`. An index gives the registrations that are not live; the others are live."""
    counting = UsageCounting()
    unfinished: Counter[tuple[str, IPFamily]] = Counter()
    for zone, ip_family, state, number in connection.execute(
        "SELECT zone, ip_family, state, count(*) FROM registrations WHERE state <> 'live'"
        " GROUP BY zone, ip_family, state"
    ):
        unfinished[zone, ip_family] += number
        counting.add(zone, ip_family, state, registrations=number)
    for (zone, ip_family), number in counts(connection).items():
        counting.add(zone, ip_family, None, registrations=number - unfinished[zone, ip_family])
    for zone, ip_family, number, expiring in connection.execute(
        "SELECT zone, ip_family, count(*), count(expires_at) FROM services"
        " CROSS JOIN registrations ON id = registration_id GROUP BY zone, ip_family"
    ):
        counting.add(zone, ip_family, None, services=number, expiring=expiring)
    return counting.result()


def duplicates(connection: sqlite3.Connection) -> list[DuplicateReport]:
    """Every zone and address with registrations that are marked as duplicates."""
    marked: dict[tuple[str, str], list[str]] = {}
    for registration_id, zone, address in sorted(
        connection.execute("SELECT id, zone, address FROM registrations WHERE duplicate > ''")
    ):
        marked.setdefault((zone, address), []).append(registration_id)
    reports = []
    for (zone, address), ids in marked.items():
        kept = connection.execute(
            "SELECT id FROM registrations WHERE zone = ? AND address = ? AND duplicate = ''", (zone, address)
        ).fetchone()
        reports.append(DuplicateReport(zone, address, kept[0] if kept else "", tuple(ids)))
    return reports


def load_document(connection: sqlite3.Connection, name: str) -> dict[str, Any] | None:
    """See `Store.load_document`."""
    row = connection.execute("SELECT content FROM documents WHERE name = ?", (name,)).fetchone()
    return json.loads(row[0]) if row else None


def save_document(connection: sqlite3.Connection, name: str, content: Mapping[str, Any]) -> None:
    """See `Store.save_document`."""
    connection.execute("REPLACE INTO documents (name, content) VALUES (?, ?)", (name, json.dumps(content)))


def _stored(connection: sqlite3.Connection, old: Registration) -> Document | None:
    """The stored document, if it still has `old`'s revision; else None."""
    row = connection.execute("SELECT document FROM registrations WHERE id = ?", (old.id,)).fetchone()
    document = sqlite_json.load(row[0]) if row else None
    return document if document is not None and to_registration(document).revision == old.revision else None


def _update(connection: sqlite3.Connection, document: Document) -> None:
    connection.execute(
        "UPDATE registrations SET zone = :zone, address = :address, duplicate = :duplicate, ip_family = :ip_family,"
        " secret = :secret, state = :state, due_at = :due_at, document = :document WHERE id = :id",
        _row(to_registration(document), document),
    )


def _row(registration: Registration, document: Document) -> dict[str, str | int | None]:
    live = registration.state is State.LIVE
    expirations = [one.expires_at for one in registration.services if one.expires_at is not None]
    due_at = sqlite_json.milliseconds(min(expirations)) if expirations else None
    if registration.departed or not registration.services:
        due_at = 0
    return {
        "id": registration.id,
        "zone": registration.zone,
        "address": registration.address,
        "duplicate": registration.id if registration.duplicate else "",
        "ip_family": registration.ip_family,
        "secret": registration.secret if live else None,
        "state": registration.state.value,
        "due_at": due_at if live else None,
        "document": sqlite_json.dump(document),
    }


def _insert_services(connection: sqlite3.Connection, registration: Registration) -> None:
    connection.executemany(
        "INSERT INTO services (registration_id, position, service_name, namespace_id, cluster_id, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                registration.id,
                position,
                one.key.service_name,
                one.key.namespace_id,
                one.key.cluster_id,
                None if one.expires_at is None else sqlite_json.milliseconds(one.expires_at),
            )
            for position, one in enumerate(registration.services)
        ],
    )


def _list(values: Collection[str]) -> str:
    return json.dumps(sorted(values))
