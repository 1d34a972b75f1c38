"""What commands print as JSON is what docs/commands.md says: the same fields, of the same types. On both stores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.cli.commands import COMMANDS, FORMAT
from tests.cli.installation import Installation, document
from tests.cli.remote_netbox import RemoteNetBox
from tests.test_commands import assert_documented

CLUSTER = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
NAMESPACE = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"
SERVICE = {
    "service_name": "web",
    "namespace_id": NAMESPACE,
    "cluster_id": CLUSTER,
    "retention_period_days": 7,
    "deny_external_cleanup": False,
}
ON_FIRST = ("--zone", "inet", "--address", "192.0.2.1")


@pytest.fixture
def filled(installation: Installation, netbox: RemoteNetBox) -> Installation:
    """Registrations of every sort, and a NetBox that knows none of them."""
    installation.configure(netbox.url)
    seal = installation.cipher().seal
    installation.seed(
        document(1, secret=seal("first-secret"), services=[SERVICE]),
        document(2, secret=seal("second-secret"), services=[SERVICE | {"deny_external_cleanup": True}]),
        document(3),
        document(4, secret=installation.cipher("new.json").seal("lost-secret")),
        document(5, state="releasing", held_secret=seal("held-secret"), revision=1),
    )
    return installation


def json_of(installation: Installation, *arguments: str, status: int = 0, stdin: str = "") -> Any:
    done = installation.run(*arguments, "--format", "json", stdin=stdin)
    assert done.status == status, done.err
    return done.json


def test_every_command_that_prints_json_is_tried_here() -> None:
    source = Path(__file__).read_text("utf-8")
    for name, command in COMMANDS.items():
        if FORMAT in command.arguments:
            assert f'assert_documented("{name}"' in source, name


def test_show_services_and_list_addresses(filled: Installation) -> None:
    assert_documented("show-services", json_of(filled, "show-services", *ON_FIRST))
    assert_documented("list-addresses", json_of(filled, "list-addresses"))


def test_list_zones(filled: Installation, netbox: RemoteNetBox) -> None:
    filled.configure(netbox.url, limits={"addresses_per_cluster": 5})
    assert_documented("list-zones", json_of(filled, "list-zones"))


def test_history(filled: Installation) -> None:
    left = {**SERVICE, "id": "65f000000000000000000009", "until": datetime(2026, 11, 24, tzinfo=UTC)}
    filled.seed(document(9, services=[SERVICE | {"since": datetime(2026, 11, 23, tzinfo=UTC)}], departed=[left]))
    assert_documented("history", json_of(filled, "history", "--address", "192.0.2.9"))


def test_secrets(filled: Installation) -> None:
    unreadable = json_of(filled, "show-secret", "--zone", "inet", "--address", "192.0.2.4", status=1)
    none = json_of(filled, "show-secret", "--zone", "inet", "--address", "192.0.2.3", status=1)
    assert_documented("show-secret", json_of(filled, "show-secret", *ON_FIRST), unreadable, none)
    assert_documented("replace-secret", json_of(filled, "replace-secret", *ON_FIRST, "--dry-run"))


def test_deletions(filled: Installation) -> None:
    names = ("--service-name", "web", "--namespace-id", NAMESPACE, "--cluster-id", CLUSTER)
    deleted = json_of(filled, "delete-service", *ON_FIRST, *names, "--yes", stdin="first-secret")
    assert_documented("delete-service", deleted)
    assert_documented("delete-cluster", json_of(filled, "delete-cluster", "--cluster-id", CLUSTER, "--dry-run"))


def test_reconcile(filled: Installation) -> None:
    assert_documented("reconcile", json_of(filled, "reconcile", status=1))


def test_rotate_key(filled: Installation) -> None:
    filled.keys(path="new.json", previous_path="secrets.json")
    filled.seed(document(7, secret="not base64"))
    done = json_of(filled, "rotate-key", "--new-secrets", str(filled.directory / "new.json"), "--yes", status=1)
    # What is pending is waited for, and so tried in test_rotate.py; here only that the field is spelled so.
    assert done["pending"] == []
    assert_documented("rotate-key", done, {"pending": ["65f000000000000000000001"]})


def test_check_config_and_netbox_setup(filled: Installation) -> None:
    assert_documented("check-config", json_of(filled, "check-config", status=0))
    assert_documented("netbox-setup", json_of(filled, "netbox-setup", "--zone", "new", "--yes"))


def test_archives(filled: Installation) -> None:
    twice = [document(number, address="192.0.2.8/32", secret=filled.cipher().seal("twice")) for number in (8, 9)]
    filled.seed(twice[0], twice[1] | {"duplicate": twice[1]["_id"]})
    archive = str(filled.directory / "backup.archive.gz")
    assert_documented("mongo-backup", json_of(filled, "mongo-backup", "--out", archive))
    ours = json_of(filled, "mongo-restore", "--in", archive, "--drop", "--yes")
    # An archive of several collections is tried in test_restore.py; here only that the field is spelled so.
    assert ours["not_restored"] == []
    assert_documented("mongo-restore", ours, {"not_restored": ["other.collection"]})
