"""`delete-service` and `delete-cluster`, on both stores: what expires, what is asked, and what scripts get."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ipam_lib.cli import terminal
from ipam_lib.cli.commands import COMMANDS
from tests.cli.installation import Installation, document

CLUSTER = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
NAMESPACE = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"
WEB: dict[str, Any] = {
    "service_name": "web",
    "namespace_id": NAMESPACE,
    "cluster_id": CLUSTER,
    "retention_period_days": 7,
    "deny_external_cleanup": False,
}
ON_FIRST = ("--zone", "inet", "--address", "192.0.2.1", "--secret", "first-secret")
NAMES = ("--service-name", "web", "--namespace-id", NAMESPACE, "--cluster-id", CLUSTER)
SERVICE = ("delete-service", *ON_FIRST, *NAMES)
ALL = ("delete-cluster", "--cluster-id", CLUSTER)
NEW_SECRET = ("replace-secret", "--zone", "inet", "--address", "192.0.2.1", "--new", "another-secret")


@pytest.fixture
def filled(installation: Installation) -> Installation:
    seal = installation.cipher().seal
    installation.seed(
        document(1, secret=seal("first-secret"), services=[WEB]),
        document(2, secret=seal("second-secret"), services=[WEB | {"deny_external_cleanup": True}]),
        document(3, secret=seal("third-secret"), services=[WEB | {"cluster_id": CLUSTER.upper()}]),
    )
    return installation


@pytest.fixture
def earlier_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is called as the earlier service's was."""
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/ipam-cli"])


def expiring(installation: Installation) -> list[int]:
    """The numbers of the documents whose service has an expiration."""
    return [number for number in (1, 2, 3) if "expires_at" in installation.raw(document(number)["_id"])["services"][0]]


def test_a_service_expires(filled: Installation) -> None:
    done = filled.run(*SERVICE, "--yes")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"web, namespace {NAMESPACE}, cluster {CLUSTER} on 192.0.2.1/32 expires now; ")
    assert expiring(filled) == [1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SERVICE, "--secret", "second-secret"), "is not registered under this secret"),
        ((*SERVICE, "--service-name", "mail"), "this service is not registered on the address"),
        ((*ALL, "--cluster-id", NAMESPACE), f"no service of cluster {NAMESPACE} is registered"),
    ],
)
def test_what_is_not_there_is_a_failure(filled: Installation, arguments: tuple[str, ...], words: str) -> None:
    done = filled.run(*arguments, "--yes")
    assert (done.status, done.out) == (1, "")
    assert words in done.err
    assert expiring(filled) == []


def test_a_cluster_expires_except_for_services_that_deny_it(filled: Installation) -> None:
    done = filled.run(*ALL, "--yes")
    assert (done.status, done.err) == (0, "")
    assert done.lines[0] == f"2 services of cluster {CLUSTER} set to expire now; 1 denied that, and stay"
    assert "192.0.2.2/32" in done.out
    assert expiring(filled) == [1, 3]


def test_a_cluster_as_json(filled: Installation) -> None:
    done = filled.run(*ALL, "--yes", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert (done.json["expired"], done.json["denied"], done.json["dry_run"]) == (2, 1, False)
    assert [(one["address"], one["outcome"]) for one in done.json["services"]] == [
        ("192.0.2.1/32", "expired"),
        ("192.0.2.2/32", "denied"),
        ("192.0.2.3/32", "expired"),
    ]


@pytest.mark.parametrize("format_", ["text", "json"])
@pytest.mark.parametrize("command", [SERVICE, ALL])
def test_a_dry_run_changes_nothing(
    filled: Installation, earlier_name: None, command: tuple[str, ...], format_: str
) -> None:
    done = filled.run(*command, "--dry-run", "--format", format_)
    assert (done.status, done.err) == (0, "")
    assert done.json["dry_run"] if format_ == "json" else "would expire" in done.out
    assert expiring(filled) == []


@pytest.mark.parametrize("command", [SERVICE, ALL])
def test_without_a_terminal_nothing_happens_unless_told(filled: Installation, command: tuple[str, ...]) -> None:
    done = filled.run(*command)
    assert (done.status, done.out) == (2, "")
    assert "There is no terminal to ask on: add --yes" in done.err
    assert expiring(filled) == []


@pytest.mark.parametrize("format_", ["text", "json"])
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (SERVICE, "on 192.0.2.1/32 expires now; the address is given back by the next cleanup"),
        (ALL, f"2 services of cluster {CLUSTER} set to expire now; 1 denied that, and stay"),
        (NEW_SECRET, "the secret of 192.0.2.1/32 in zone inet was replaced, for 1 service"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_under_its_earlier_name_it_does_not_ask_without_a_terminal(
    filled: Installation, earlier_name: None, command: tuple[str, ...], told: str, format_: str
) -> None:
    done = filled.run(*command, "--format", format_)
    assert done.status == 0
    [line] = done.err.splitlines()
    assert line.endswith(f"{told} (done without a question, because there is no terminal)")
    assert done.json if format_ == "json" else told in done.out
    if command is not NEW_SECRET:
        assert expiring(filled) == ([1] if command is SERVICE else [1, 3])


def test_on_a_terminal_it_asks_under_every_name(
    filled: Installation, earlier_name: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "can_ask", lambda: True)
    done = filled.run(*ALL, stdin="n\n")
    assert done.status == 1
    assert "[y/N]" in done.err
    assert done.err.endswith("ipam-cli: nothing was changed\n")
    assert expiring(filled) == []


def test_only_commands_that_the_earlier_program_had_do_not_ask(filled: Installation, earlier_name: None) -> None:
    assert {name for name, command in COMMANDS.items() if command.unasked} == {
        "replace-secret",
        "delete-service",
        "delete-cluster",
    }
    filled.keys(path="new.json", previous_path="secrets.json")
    done = filled.run("rotate-key", "--new-secrets", str(filled.directory / "new.json"), "--dry-run")
    assert (done.status, done.err) == (0, "")
