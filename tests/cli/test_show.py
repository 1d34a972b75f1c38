"""`show-services` and `list-addresses`, on both stores, over what the earlier service wrote and what it got wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ipam_lib.cli import show
from ipam_lib.cli.commands import COMMANDS
from tests.cli.installation import Installation, document
from tests.storage.samples import legacy_documents

LEGACY = legacy_documents()
IPV4 = [one for one in LEGACY if one["ip_family"] == "ipv4"]
CLUSTER = "d23f0824-128b-4f33-8c5c-7fd0a6a3a450"
WEB = {"service_name": "web", "namespace_id": "n" * 36, "cluster_id": CLUSTER}


def moment(value: datetime | None) -> str | None:
    return None if value is None else f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"


def shown(one: dict[str, Any]) -> dict[str, Any]:
    """The JSON that a document of the earlier service becomes."""
    return {
        "id": one["_id"],
        "zone": one["zone"],
        "address": one["address"],
        "ip_family": one["ip_family"],
        "netbox_id": one["netbox_id"],
        "state": "live",
        "duplicate": False,
        "services": [
            {
                "service_name": service["service_name"],
                "namespace_id": service["namespace_id"],
                "cluster_id": service["cluster_id"],
                "retention_period_days": service.get("retention_period_days", 0),
                "deny_external_cleanup": service["deny_external_cleanup"],
                "expires_at": moment(service.get("expires_at")),
            }
            for service in one["services"]
        ],
    }


def test_every_document_of_the_earlier_service_is_shown_as_it_is(legacy: Installation) -> None:
    for one in LEGACY:
        done = legacy.run("show-services", "--zone", one["zone"], "--address", one["address"], "--format", "json")
        assert (done.status, done.err) == (0, "")
        assert done.json == {"registrations": [shown(one)]}


def test_all_of_them_are_listed(legacy: Installation) -> None:
    done = legacy.run("list-addresses", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert done.json == {"registrations": [shown(one) for one in LEGACY], "count": len(LEGACY)}
    text = legacy.run("list-addresses")
    assert (text.status, text.err) == (0, "")
    assert [line.split()[0] for line in text.lines] == ["ADDRESS", *(one["address"] for one in LEGACY)]
    assert not any(one["secret"] in done.out + text.out for one in LEGACY)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("83.118.168.1", "83.118.168.1/32"),
        ("83.118.168.1/32", "83.118.168.1/32"),
        ("2a0d:a00::beef", "2a0d:a00::beef/128"),
        ("2A0D:0A00:0::BEEF/128", "2a0d:a00::beef/128"),
        ("83.118.168.0/24", "83.118.168.0/24"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("2001:db8::a", "2001:DB8::A/128"),
        ("2001:db8::b", "2001:0db8:0000:0000:0000:0000:0000:000b/128"),
    ],
)
def test_an_address_in_any_spelling_is_found(legacy: Installation, given: str, stored: str) -> None:
    legacy.seed(
        document(1, address="192.0.2.1"),
        document(2, address="2001:DB8::A/128", ip_family="ipv6"),
        document(3, address="2001:0db8:0000:0000:0000:0000:0000:000b/128", ip_family="ipv6"),
    )
    done = legacy.run("show-services", "--zone", "inet", "--address", given, "--format", "json")
    assert [one["address"] for one in done.json["registrations"]] == [stored]


def test_services_as_a_table(legacy: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    # Moments that lie behind, and ahead, of every day on which this may run.
    expirations = [datetime(year, 1, 27, 0, 50, 49, tzinfo=UTC) for year in (2000, 9000)]
    denied = WEB | {"deny_external_cleanup": True}
    legacy.seed(document(1, services=[denied | {"expires_at": one} for one in expirations]))
    monkeypatch.setenv("TZ", "Europe/Oslo")
    time.tzset()
    try:
        done = legacy.run("show-services", "--zone", "inet", "--address", "83.118.168.1")
        expiring = legacy.run("show-services", "--zone", "inet", "--address", "192.0.2.1")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (done.status, done.err) == (0, "")
    heading, titles, *rows = done.lines
    assert heading == f"83.118.168.1/32  zone inet, NetBox prefix 20187, id {LEGACY[0]['_id']}"
    assert titles.split("  ")[0] == "SERVICE"
    assert [row.split() for row in rows] == [
        [service["service_name"], service["namespace_id"], service["cluster_id"], "0", "days", allowed, "-"]
        for service, allowed in zip(LEGACY[0]["services"], ("denied", "allowed", "allowed"), strict=True)
    ]
    # Times are the reader's own, and say so.
    assert [line.partition("denied")[2].strip() for line in expiring.lines[2:]] == [
        "2000-01-27 01:50:49+01:00 (over)",
        "9000-01-27 01:50:49+01:00",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], LEGACY),
        (["--zone", "hnet-public"], [one for one in LEGACY if one["zone"] == "hnet-public"]),
        (["--zone", "nowhere"], []),
        (["--ip-family", "ipv4"], IPV4),
        (["--expiring"], [one for one in LEGACY if any("expires_at" in each for each in one["services"])]),
        (
            ["--cluster-id", CLUSTER],
            [one for one in LEGACY if any(each["cluster_id"] == CLUSTER for each in one["services"])],
        ),
        (
            ["--cluster-id", CLUSTER.upper(), "--zone", "inet", "--expiring"],
            [],
        ),
        (
            [
                "--zone",
                "inet",
                "--ip-family",
                "ipv6",
                "--expiring",
                "--cluster-id",
                LEGACY[1]["services"][0]["cluster_id"],
            ],
            [LEGACY[1]],
        ),
    ],
)
def test_filters(legacy: Installation, arguments: list[str], expected: list[dict[str, Any]]) -> None:
    done = legacy.run("list-addresses", "--format", "json", *arguments)
    assert (done.status, done.err) == (0, "")
    assert done.json == {"registrations": [shown(one) for one in expected], "count": len(expected)}
    assert expected or arguments != []
    text = legacy.run("list-addresses", *arguments)
    assert [line.split()[0] for line in text.lines[1:]] == [one["address"] for one in expected]
    assert (text.out == "") == (expected == [])


def test_a_cluster_in_any_case_and_each_registration_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "PAGE", 2)
    lower, upper = WEB, WEB | {"cluster_id": CLUSTER.upper()}
    installation.seed(
        document(1, services=[upper]),
        document(2, services=[lower, upper | {"service_name": "other"}]),
        document(3, services=[WEB | {"cluster_id": "0" * 36}]),
        *(document(number, services=[lower]) for number in range(4, 8)),
    )
    done = installation.run("list-addresses", "--cluster-id", CLUSTER.upper(), "--format", "json")
    found = [one["netbox_id"] for one in done.json["registrations"]]
    assert sorted(found) == [1, 2, 4, 5, 6, 7]
    assert done.json["count"] == 6


def test_more_than_a_page(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "PAGE", 3)
    installation.seed(*(document(number, services=[WEB]) for number in range(1, 11)))
    assert [line.split()[0] for line in installation.run("list-addresses").lines[1:]] == [
        f"192.0.2.{number}/32" for number in range(1, 11)
    ]


def test_duplicates_and_what_is_being_released_are_told_apart(installation: Installation) -> None:
    installation.seed(document(1, services=[WEB], secret="a"))
    twin = document(2, address="192.0.2.1/32", services=[WEB | {"service_name": "twin"}], secret="b")
    installation.seed(twin | {"duplicate": twin["_id"], "revision": 1})
    installation.seed(document(3, state="releasing", revision=2, held_secret="c"))
    installation.seed(document(4, state="creating", revision=1, held_secret="d"))
    done = installation.run("show-services", "--zone", "inet", "--address", "192.0.2.1")
    assert done.status == 0
    assert [line for line in done.lines if line.startswith("192.")] == [
        f"192.0.2.1/32  zone inet, NetBox prefix 1, id {document(1)['_id']}",
        f"192.0.2.1/32  zone inet, NetBox prefix 2, id {twin['_id']}, a duplicate: another registration counts",
    ]
    both = installation.run("show-services", "--zone", "inet", "--address", "192.0.2.1", "--format", "json")
    assert [(one["id"], one["duplicate"]) for one in both.json["registrations"]] == [
        (document(1)["_id"], False),
        (twin["_id"], True),
    ]
    releasing = installation.run("show-services", "--zone", "inet", "--address", "192.0.2.3")
    assert releasing.lines == [
        f"192.0.2.3/32  zone inet, NetBox prefix 3, id {document(3)['_id']}, releasing",
        "no services",
    ]
    creating = installation.run("show-services", "--zone", "inet", "--address", "192.0.2.4")
    assert (creating.status, creating.out) == (1, "")
    assert "just being registered" in creating.err
    listed = installation.run("list-addresses")
    assert [line.split()[0] for line in listed.lines[1:]] == ["192.0.2.1/32", "192.0.2.1/32", "192.0.2.3/32"]
    assert [line.rpartition(" ")[2] for line in listed.lines[2:]] == ["duplicate", "releasing"]


def test_how_much_of_a_registration_expires(installation: Installation) -> None:
    past, later = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
    installation.seed(
        document(1, services=[WEB | {"expires_at": past}, WEB | {"service_name": "b", "expires_at": later}]),
        document(2, services=[WEB | {"expires_at": past}, WEB | {"service_name": "b"}]),
        document(3, services=[WEB]),
    )
    ends = [line.split("  ") for line in installation.run("list-addresses").lines[1:]]
    assert [[cell.strip() for cell in line if cell][2] for line in ends] == [
        later.astimezone().isoformat(sep=" "),
        "1 of 2 services",
        "-",
    ]
    shown_services = installation.run("show-services", "--zone", "inet", "--address", "192.0.2.1").lines
    assert shown_services[2].endswith(f"{past.astimezone().isoformat(sep=' ')} (over)")


def test_names_cannot_drive_the_terminal(installation: Installation) -> None:
    evil = "web\x1b]0;evil\x07\nnext"
    installation.seed(document(1, services=[WEB | {"service_name": evil}]))
    for command in (["show-services", "--zone", "inet", "--address", "192.0.2.1"], ["list-addresses"]):
        done = installation.run(*command)
        assert "\x1b" not in done.out
        assert "web\\x1b]0;evil\\x07\\x0anext" in done.out
    done = installation.run("list-addresses", "--format", "json")
    assert done.json["registrations"][0]["services"][0]["service_name"] == evil


@pytest.mark.parametrize("command", ["show-services", "show-secret", "replace-secret"])
def test_what_is_not_registered_is_1_and_says_what_to_do(legacy: Installation, command: str) -> None:
    for zone, address in (("inet", "83.118.168.77"), ("hnet-public", "83.118.168.1"), ("inet", "83.118.168.0/25")):
        done = legacy.run(command, "--zone", zone, "--address", address, stdin="Brand-new-secret")
        assert (done.status, done.out) == (1, "")
        assert "is not registered in zone" in done.err
        assert f"list-addresses --zone {zone}" in done.err
        assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["show-services"],
        ["show-services", "--zone", "inet"],
        ["show-services", "--address", "192.0.2.1"],
        ["show-services", "--zone", " ", "--address", "192.0.2.1"],
        ["show-services", "--zone", "inet", "--address", "192.0.2"],
        ["show-services", "--zone", "inet", "--address", "192.0.2.1/33"],
        ["show-services", "--zone", "inet", "--address", ""],
        ["show-services", "--zone", "inet", "--address", "192.0.2.1", "--format", "xml"],
        ["show-services", "--zone", "inet", "--address", "192.0.2.1", "extra"],
        ["list-addresses", "--ip-family", "ipv5"],
        ["list-addresses", "--cluster-id", "x"],
        ["list-addresses", "--format"],
        ["list-addresses", "inet"],
    ],
)
def test_wrong_usage_is_2(installation: Installation, arguments: list[str]) -> None:
    done = installation.run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "usage:" in done.err


def test_a_database_that_is_not_there_is_not_made(installation: Installation) -> None:
    if "storage" in installation.storage:
        installation.storage = {"storage": {"sqlite": "nowhere/else.sqlite"}}
        installation.configure()
        done = installation.run("list-addresses")
        assert (done.status, done.out) == (1, "")
        assert "there is no database at" in done.err
        assert not (installation.directory / "nowhere").exists()
    else:
        installation.storage = {"mongodb": {"uri": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100"}}
        installation.configure()
        done = installation.run("list-addresses")
        assert (done.status, done.out) == (1, "")
        assert done.err.endswith("(check-config tells what is wrong)\n")


def test_a_configuration_that_is_wrong_is_1(installation: Installation) -> None:
    installation.config.write_text("{}")
    done = installation.run("list-addresses")
    assert (done.status, done.out) == (1, "")
    assert "netbox.url is missing" in done.err


def test_looking_changes_nothing(legacy: Installation) -> None:
    before = [legacy.raw(one["_id"]) for one in LEGACY]
    for arguments in (["list-addresses"], ["show-services", "--zone", "inet", "--address", "83.118.168.1"]):
        assert legacy.run(*arguments).status == 0
    assert [legacy.raw(one["_id"]) for one in LEGACY] == before == LEGACY
    assert legacy.log == []


def test_the_commands_of_the_contract_are_there() -> None:
    assert COMMANDS.keys() >= {
        "show-services",
        "show-secret",
        "replace-secret",
        "delete-service",
        "delete-cluster",
        "list-addresses",
        "history",
        "reconcile",
        "rotate-key",
    }
