"""Registrations to store, and the documents that the earlier service wrote."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ipam_lib.models import Filter, Registration, Service, ServiceKey
from ipam_lib.storage.documents import Document

NOW = datetime(2026, 11, 25, 12, 0, 0, 123_000, tzinfo=UTC)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
LEGACY = Path(__file__).parents[1] / "data" / "legacy" / "documents.json"

_numbers = itertools.count(1)


def object_id(number: int) -> str:
    """An id of a registration; those of greater numbers are greater."""
    return f"{0x6B000000_00000000_00000000 + number:024x}"


def filter_id(value: object) -> str:
    """The name of a parametrised test of a filter: the same in every process, unlike the order of a set and the address
    of a function."""
    if not isinstance(value, Filter):
        return "wanted"
    chosen = {name: getattr(value, name) for name in value.__slots__}
    chosen["states"] = "any" if value.states is None else sorted(value.states)
    return ",".join(f"{name}={one}" for name, one in chosen.items() if one is not None)


def key(name: str = "web", *, cluster: str = "cluster", namespace: str = "namespace") -> ServiceKey:
    """The key of a service."""
    return ServiceKey(name, namespace, cluster)


def service(name: str = "web", *, cluster: str = "cluster", namespace: str = "namespace", **fields: Any) -> Service:
    """A service."""
    return Service(key(name, cluster=cluster, namespace=namespace), **fields)


def registration(number: int | None = None, **fields: Any) -> Registration:
    """A live registration that differs from every other in id and address."""
    number = next(_numbers) if number is None else number
    values: dict[str, Any] = {
        "id": object_id(number),
        "zone": "inet",
        "ip_family": "ipv4",
        "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/32",
        "secret": "sealed",
        "services": (service(),),
        "netbox_id": number,
        "revision": 1,
    }
    return Registration(**values | fields)


def legacy_documents() -> list[Document]:
    """What the earlier service wrote, field for field in its order."""

    def plain(value: dict[str, Any]) -> Any:
        if value.keys() == {"$oid"}:
            return value["$oid"]
        if value.keys() == {"$date"}:
            return datetime.fromisoformat(value["$date"])
        return value

    return [one["document"] for one in json.loads(LEGACY.read_text(encoding="utf-8"), object_hook=plain)]
