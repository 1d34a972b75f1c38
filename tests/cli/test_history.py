"""`history`, on both stores: who held an address, and who did at a time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ipam_lib.cli.argtypes import moments
from ipam_lib.models import Tenure
from ipam_lib.storage import history_store as storage
from tests.cli.installation import Installation
from tests.storage.backends import MongoBackend, SQLiteBackend
from tests.storage.samples import legacy_documents, object_id

ADDRESS = "10.9.8.7/32"
CLUSTER = "d23f0824-128b-4f33-8c5c-7fd0a6a3a450"
NAMESPACE = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_oslo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "Europe/Oslo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def service(name: str, since: datetime | None = None, **fields: Any) -> dict[str, Any]:
    named = {"service_name": name, "namespace_id": NAMESPACE, "cluster_id": CLUSTER}
    return named | ({} if since is None else {"since": since}) | fields


def ended(number: int, since: datetime | None, until: datetime, **fields: Any) -> Tenure:
    values: dict[str, Any] = {
        "id": object_id(number),
        "registration_id": object_id(900),
        "zone": "inet",
        "ip_family": "ipv4",
        "address": ADDRESS,
        "key": storage.to_key(service(f"old-{number}")),
        "since": since,
        "until": until,
    }
    return Tenure(**values | fields)


def remember(installation: Installation, *tenures: Tenure) -> None:
    """Put tenures into the history of the database."""
    backend = installation.backend
    if isinstance(backend, MongoBackend):
        from bson import ObjectId

        collection = backend.collection.database["addresses_history"]
        collection.insert_many([storage.to_document(one) | {"_id": ObjectId(one.id)} for one in tenures])
    else:
        assert isinstance(backend, SQLiteBackend)
        from contextlib import closing
        from functools import partial

        from ipam_lib.storage import sqlite_file, sqlite_history

        with closing(backend.connect()) as connection:
            sqlite_file.transaction(connection, partial(sqlite_history.insert, tenures=tenures))


@pytest.fixture
def known(installation: Installation) -> Installation:
    """An address with a holder and two earlier holders."""
    whole = legacy_documents()[0] | {"address": ADDRESS, "zone": "inet", "_id": object_id(901), "revision": 3}
    installation.seed(
        whole | {"services": [service("now", MIDNIGHT + timedelta(hours=18)), service("legacy")]},
        whole | {"zone": "lab", "_id": object_id(902), "services": [service("elsewhere", MIDNIGHT)]},
    )
    remember(
        installation,
        ended(1, MIDNIGHT - timedelta(days=2), MIDNIGHT - timedelta(days=1)),
        ended(2, None, MIDNIGHT + timedelta(hours=6)),
        ended(3, MIDNIGHT, MIDNIGHT + timedelta(hours=1), address="10.9.8.70/32"),
    )
    return installation


def names(installation: Installation, *arguments: str, address: str = "10.9.8.7") -> list[str]:
    done = installation.run("history", "--address", address, "--format", "json", *arguments)
    assert (done.status, done.err) == (0, "")
    assert done.json["count"] == len(done.json["history"])
    return [one["service_name"] for one in done.json["history"]]


def test_everybody_who_held_it(known: Installation) -> None:
    assert names(known) == ["now", "elsewhere", "legacy", "old-2", "old-1"]
    assert names(known, "--zone", "lab") == ["elsewhere"]
    assert names(known, address="10.9.8.70/32") == ["old-3"]


def test_the_json_is_that_of_the_service(known: Installation) -> None:
    done = known.run("history", "--address", ADDRESS, "--zone", "inet", "--format", "json")
    place = {"address": ADDRESS, "zone": "inet", "ip_family": "ipv4"}
    whose = {"namespace_id": NAMESPACE, "cluster_id": CLUSTER}
    assert done.json["history"][0] == {
        **place,
        "registration_id": object_id(901),
        "service_name": "now",
        **whose,
        "from": "2026-11-24T18:00:00.000Z",
        "until": None,
        "ended": None,
    }
    assert done.json["history"][-1] == {
        **place,
        "registration_id": object_id(900),
        "service_name": "old-1",
        **whose,
        "from": "2026-11-22T00:00:00.000Z",
        "until": "2026-11-23T00:00:00.000Z",
        "ended": "expired",
    }


def test_for_people(known: Installation) -> None:
    done = known.run("history", "--address", "10.9.8.7", "--zone", "inet")
    assert (done.status, done.err) == (0, "")
    assert done.lines[0] == ADDRESS
    assert done.lines[1].split() == ["FROM", "UNTIL", "ZONE", "SERVICE", "NAMESPACE", "CLUSTER"]
    assert done.lines[2].startswith("2026-11-24 19:00:00+01:00")
    assert "still held" in done.lines[2]
    assert done.lines[3].startswith("not recorded")
    assert done.lines[-1].startswith("2026-11-22 01:00:00+01:00  2026-11-23 01:00:00+01:00  inet  old-1")


@pytest.mark.parametrize(
    ("at", "held"),
    [
        ("2026-11-24T18:00:00Z", ["now", "legacy"]),
        ("2026-11-24T17:59:59.999Z", ["legacy"]),
        ("2026-11-24T19:00", ["now", "legacy"]),  # in Oslo
        ("2026-11-24 18:59", ["legacy"]),
        ("2026-11-24", ["now", "legacy", "old-2"]),
        ("2026-11-24T06:00:00Z", ["legacy"]),
        ("2026-11-24T05:59:59Z", ["legacy", "old-2"]),
        # The day begins, and ends, at midnight in Oslo.
        ("2026-11-23", ["legacy", "old-2", "old-1"]),
        ("2026-11-22T12:00:00+05:00", ["legacy", "old-2", "old-1"]),
        ("2026-11-21", ["legacy", "old-2"]),
    ],
)
def test_who_held_it_at_a_time(known: Installation, at: str, held: list[str]) -> None:
    assert names(known, "--zone", "inet", "--at", at) == held


def test_who_held_it_then_is_found_among_very_many(installation: Installation) -> None:
    days = [MIDNIGHT - timedelta(days=number) for number in range(1200)]
    remember(installation, *(ended(number, day - timedelta(days=1), day) for number, day in enumerate(days)))
    assert names(installation, "--at", (MIDNIGHT - timedelta(days=700, hours=1)).isoformat()) == ["old-700"]
    assert len(names(installation)) == 1200


def test_nobody(known: Installation) -> None:
    for arguments, said in (
        (("--address", "10.9.8.1"), "no holder is known of 10.9.8.1/32;"),
        (("--address", ADDRESS, "--zone", "nowhere"), "no holder is known of 10.9.8.7/32 of zone nowhere;"),
        (("--address", "10.9.8.70", "--at", "2020-01-01"), "no holder is known of 10.9.8.70/32 then;"),
    ):
        done = known.run("history", *arguments)
        assert (done.status, done.out) == (1, "")
        assert said in done.err
        assert "history.retention_days" in done.err


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-24T25:00", "12:30", "99999-01-01", "1", "é"])
def test_what_is_no_time(known: Installation, text: str) -> None:
    done = known.run("history", "--address", ADDRESS, "--at", text)
    assert (done.status, done.out) == (2, "")
    assert "is no time: expected something like 2026-11-24" in done.err


def test_a_day_may_have_23_hours_or_25() -> None:
    for text, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-24", 24)):
        first, last = moments(text)
        assert last - first == timedelta(hours=hours) - timedelta(milliseconds=1)


def test_looking_changes_nothing(legacy: Installation) -> None:
    """Also where the service has never been."""
    one = legacy_documents()[0]
    assert sorted(names(legacy, address=one["address"])) == sorted(each["service_name"] for each in one["services"])
    assert legacy.backend.raw(one["_id"]) == one
