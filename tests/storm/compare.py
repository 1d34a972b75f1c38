"""The final comparison: the documents in storage, the prefixes in NetBox, and what the clients were answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ipam_lib.crypto import Cipher, KeySet
from tests.storm.lanes import Lane
from tests.storm.site import Document, Site

# The keys that tests/support/processes.py writes.
CIPHER = Cipher(KeySet(b"k" * 32, b"i" * 16))


def compare(site: Site, lanes: Sequence[Lane]) -> list[str]:
    """What is wrong, each beginning with its kind. The services should be idle."""
    prefixes = site.prefixes()
    documents = site.storage.documents()
    ours = [row for row in prefixes if row["status"] != "container" and row["id"] not in site.strangers]
    return [
        *_not_alone(site, documents, prefixes),
        *_not_equal(site, documents, site.storage.entries(), ours),
        *_not_as_answered(documents, lanes),
    ]


def _not_alone(site: Site, documents: Sequence[Document], prefixes: Sequence[Document]) -> list[str]:
    """Addresses that are held twice, and strangers that have gone."""
    sides = {
        "in storage": Counter((one["zone"], one["address"]) for one in documents),
        "in NetBox": Counter((one["vrf"], one["prefix"]) for one in prefixes),
        "by their ids in NetBox": Counter(one["custom_fields"]["k8s_uuid"] for one in prefixes),
    }
    problems = [
        f"twice: {what} is there {times} times {where}"
        for where, counted in sides.items()
        for what, times in counted.items()
        if times > 1 and what is not None
    ]
    gone = site.strangers - {one["id"] for one in prefixes}
    return problems + [f"lost: a foreign prefix {one}" for one in gone]


def _not_equal(
    site: Site, documents: Sequence[Document], entries: Sequence[Document], prefixes: Sequence[Document]
) -> list[str]:
    """Where the two sides differ."""
    problems = []
    by_id = {row["id"]: row for row in prefixes}
    for entry in entries:
        if entry["state"] not in ("ready", "cooling"):
            problems.append(f"not settled: {entry['address']} in the pool is {entry['state']}: {entry}")
            continue
        prefix = by_id.pop(entry["netbox_id"], None)
        marks = {"k8s_uuid": entry["_id"], "k8s_zone": entry["zone"]}
        if prefix is None:
            problems.append(f"lost: pool entry without its prefix: {entry}")
        elif (prefix["prefix"], prefix["status"], _marks(prefix)) != (entry["address"], "reserved", marks):
            problems.append(f"wrong prefix: {prefix} of {entry}")
    for document in documents:
        state = document.get("state", "live")
        if state != "live":
            problems.append(f"not settled: {document['address']} is {state}: {document}")
            continue
        prefix = by_id.pop(document["netbox_id"], None)
        if prefix is None:
            problems.append(f"lost: registration without its prefix: {document}")
            continue
        container = site.container_of(prefix)
        expected = {
            "prefix": document["address"],
            "status": "active",
            "tags": ["vitistack"],
            "tenant": container and container["tenant"],
            "role": container and container["role"],
        }
        fields = {"k8s_uuid": document["_id"], "k8s_zone": document["zone"]}
        actual = {name: prefix[name] for name in expected}
        actual_fields = _marks(prefix)
        if container is None or container["custom_fields"]["k8s_zone"] != document["zone"]:
            problems.append(f"wrong prefix: in no container of zone {document['zone']}: {prefix}")
        elif (actual, actual_fields) != (expected, fields):
            problems.append(f"wrong prefix: {prefix} of {document}")
    return problems + [f"leaked: {row}" for row in by_id.values()]


def _marks(prefix: Document) -> Document:
    return {name: prefix["custom_fields"][name] for name in ("k8s_uuid", "k8s_zone")}


def _not_as_answered(documents: Sequence[Document], lanes: Sequence[Lane]) -> list[str]:
    """Where a lane does not hold what it was answered, or holds what it should not."""
    problems = []
    now = datetime.now(UTC)
    holding: dict[tuple[str, ...], list[tuple[Document, Mapping[str, Any]]]] = {}
    for document in documents:
        if document.get("state", "live") != "live":
            continue
        if not document["services"]:
            problems.append(f"not settled: without services: {document}")
        for service in document["services"]:
            key = (service["service_name"], service["namespace_id"], service["cluster_id"])
            holding.setdefault(key, []).append((document, service))
            if "expires_at" in service and service["expires_at"] <= now:
                problems.append(f"not settled: {key[0]} on {document['address']} has expired")
    for lane in lanes:
        held = holding.pop(lane.key, [])
        addresses = [document["address"] for document, _ in held]
        past = "".join(f"\n    {line}" for line in lane.history)
        if len(held) > 1:
            problems.append(f"twice: {lane.name} holds {addresses}{past}")
        if lane.sure and lane.held not in addresses:
            problems.append(f"lost: {lane.name} ({lane.kind}) was answered {lane.held}, holds {addresses}{past}")
        if lane.gone and held:
            problems.append(f"not settled: {lane.name} ({lane.kind}) should hold nothing, holds {addresses}{past}")
        for document, service in held:
            if CIPHER.unseal(document["secret"]) not in lane.secrets:
                problems.append(f"wrong secret: {lane.name} on {document['address']}{past}")
            if lane.sure and lane.retained != ("expires_at" in service):
                problems.append(f"wrong expiration: {lane.name}: {service}{past}")
            if "expires_at" in service and service["expires_at"] > now + timedelta(days=lane.retention):
                problems.append(f"wrong expiration: {lane.name}: {service}{past}")
            if lane.asked is not None and document["address"] != lane.asked:
                problems.append(f"wrong address: {lane.name} asked for {lane.asked}, holds {addresses}{past}")
            stored = (
                (document["zone"], document["ip_family"]),
                (service.get("retention_period_days", 0), service.get("deny_external_cleanup", False)),
            )
            if stored != ((lane.zone, lane.family), (lane.retention, lane.deny)):
                problems.append(f"wrong registration: {lane.name}: {document}{past}")
    return problems + [f"leaked: a service that no client knows: {key} on {held}" for key, held in holding.items()]
