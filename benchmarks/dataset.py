"""Registrations by the million, put into a storage at once. The same number always gives the same registration."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import say
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.models import IPFamily, Registration, Service, ServiceKey
from ipam_lib.storage import sqlite_file, sqlite_rows
from ipam_lib.storage.documents import to_document

KEYS: Final = KeySet(enc_key=b"k" * 32, enc_iv=b"i" * 16)
ZONES: Final = ("stock-1", "stock-2", "stock-3", "stock-4")
FAMILY: Final[IPFamily] = "ipv4"
# Each zone's share of 10.0.0.0/8: far from where the benchmarks register.
_FIRST: Final = {zone: int(IPv4Address(f"10.{number * 64}.0.0")) for number, zone in enumerate(ZONES)}
CONTAINERS: Final = {zone: f"10.{number * 64}.0.0/10" for number, zone in enumerate(ZONES)}
# As many registrations of each cluster and namespace at every size, so that pages of them are as long.
OF_A_CLUSTER: Final = 100
OF_A_NAMESPACE: Final = 60
_LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 10_000


def secret(number: int) -> str:
    """The secret in the clear. A tenth of all share one each with nine others."""
    return f"secret-of-{number // 10 if number % 10 == 0 else number}"


class Dataset:
    """So many registrations. Every tenth has two services, every twentieth one that expires in the year 2100, and
    `due` of them one that has expired."""

    def __init__(self, size: int, due: int = 0) -> None:
        self.size = size
        self.due = due
        self._cipher = Cipher(KEYS)

    def cluster(self, number: int) -> str:
        """The id of a cluster."""
        return f"{number % max(1, self.size // OF_A_CLUSTER):08x}-0000-4000-8000-00000000c105"

    def namespace(self, number: int) -> str:
        """The id of a namespace."""
        return f"{number % max(1, self.size // OF_A_NAMESPACE):08x}-0000-4000-8000-0000000045ce"

    def key(self, number: int) -> ServiceKey:
        """The first service of a registration."""
        return ServiceKey(f"ingress-{number}", self.namespace(number), self.cluster(number))

    def registration(self, number: int) -> Registration:
        """One of them."""
        expired = _LONG_AGO if number < self.due else None
        services = [Service(self.key(number), number % 31, number % 7 == 0, expires_at=expired)]
        if number % 10 == 1 and not expired:
            key = ServiceKey(f"second-{number}", self.namespace(number), self.cluster(number + 1))
            services.append(Service(key))
        if number % 20 == 3 and not expired:
            key = ServiceKey(f"third-{number}", self.namespace(number), self.cluster(number))
            services.append(Service(key, expires_at=_FAR))
        zone = ZONES[number % len(ZONES)]
        return Registration(
            id=f"{0x60000000 + number // 1000:08x}{number:016x}",
            zone=zone,
            ip_family=FAMILY,
            address=f"{IPv4Address(_FIRST[zone] + number // len(ZONES))}/32",
            secret=self._cipher.seal(secret(number)),
            services=tuple(services),
            netbox_id=1_000_000 + number,
            revision=1,
        )

    def __iter__(self) -> Iterator[Registration]:
        return map(self.registration, range(self.size))


def fill_sqlite(path: Path, dataset: Dataset) -> None:
    """Put a dataset into a new file of the embedded database: the rows first, then their indexes."""
    with closing(sqlite_file.connect(path, busy_seconds=5, writable=True)) as connection:
        sqlite_file.make_schema(connection, path)
        indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        for (name,) in indexes.fetchall():
            connection.execute(f"DROP INDEX {name}")
        numbers = iter(dataset)
        for done in itertools.count(_AT_ONCE, _AT_ONCE):
            several = list(itertools.islice(numbers, _AT_ONCE))
            if not several:
                break
            sqlite_file.transaction(connection, partial(_insert, several=several))
            _tell("SQLite", done, dataset.size)
        sqlite_file.make_schema(connection, path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(connection: sqlite3.Connection, several: list[Registration]) -> None:
    for registration in several:
        sqlite_rows.insert(connection, registration)


def fill_mongodb(uri: str, database: str, dataset: Dataset) -> None:
    """Put a dataset into a collection that has its indexes already (`Store.prepare`)."""
    from bson import ObjectId
    from pymongo import MongoClient

    def document(registration: Registration) -> dict[str, Any]:
        content = to_document(registration)
        return content | {"_id": ObjectId(content["_id"])}

    with MongoClient[dict[str, Any]](uri) as client:
        collection = client[database]["addresses"]
        numbers = iter(dataset)
        for done in itertools.count(_AT_ONCE, _AT_ONCE):
            several = [document(one) for one in itertools.islice(numbers, _AT_ONCE)]
            if not several:
                break
            collection.insert_many(several, ordered=False)
            _tell("MongoDB", done, dataset.size)


def _tell(storage: str, done: int, size: int) -> None:
    if done % (10 * _AT_ONCE) == 0 or done >= size > _AT_ONCE:
        say(f"{storage}: {min(done, size):,} of {size:,} registrations")
