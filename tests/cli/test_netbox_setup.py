"""`netbox-setup`: what is missing is created, once; what is there stays as it is; and what NetBox may say to that."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.netbox.setup import slug
from tests.cli.installation import Installation
from tests.cli.remote_netbox import SERVICE_TOKEN, RemoteNetBox
from tests.support.pseudo_terminal import at_terminal

CHOICES = "custom-field-choice-sets"


@pytest.fixture
def fresh(installation: Installation, empty_netbox: RemoteNetBox) -> RemoteNetBox:
    """A new NetBox, which the configuration names."""
    installation.configure(empty_netbox.url)
    return empty_netbox


def actions(outcome: Any) -> dict[str, str]:
    return {item["name"]: item["action"] for item in outcome.json["items"]}


def test_everything_that_is_missing_is_created(installation: Installation, fresh: RemoteNetBox) -> None:
    done = installation.run("netbox-setup", "--zone", "inet", "--zone", "hnet", "--yes")
    assert done.status == 0, done.err
    assert "NetBox has everything that is needed" in done.out
    choices = fresh.definition(CHOICES, "k8s_zone_choices")
    assert choices["extra_choices"] == [["inet", "inet"], ["hnet", "hnet"]]
    zone = fresh.definition("custom-fields", "k8s_zone")
    assert (zone["type"]["value"], zone["choice_set"]["id"], zone["object_types"]) == (
        "select",
        choices["id"],
        ["ipam.prefix"],
    )
    uuid = fresh.definition("custom-fields", "k8s_uuid")
    # Not unique: while one creation swaps its address, two prefixes carry its id.
    assert (uuid["type"]["value"], uuid["filter_logic"]["value"], uuid["unique"]) == ("text", "exact", False)
    assert uuid["object_types"] == ["ipam.prefix"]
    assert fresh.definition("tags", "vitistack")["slug"] == "vitistack"


def test_a_second_run_finds_nothing_to_do(installation: Installation, fresh: RemoteNetBox) -> None:
    arguments = ("netbox-setup", "--zone", "inet", "--format", "json")
    assert installation.run(*arguments, "--yes").status == 0
    before = fresh.everything()
    again = installation.run(*arguments)  # and so there is nothing to agree to
    assert again.status == 0
    assert set(actions(again).values()) == {"present"}
    assert fresh.everything() == before


def test_the_json_says_what_there_is_to_do_and_what_was_done(installation: Installation, fresh: RemoteNetBox) -> None:
    arguments = ("netbox-setup", "--zone", "inet", "--format", "json")
    planned = installation.run(*arguments, "--dry-run")
    assert planned.status == 0
    assert planned.json["dry_run"] is True
    assert planned.json["netbox"] == fresh.url
    assert planned.json["items"][0] == {
        "kind": "choice_set",
        "name": "k8s_zone_choices",
        "action": "create",
        "zones": ["inet"],
        "detail": None,
        "done": False,
        "failure": None,
    }
    assert [(one["kind"], one["name"]) for one in planned.json["items"][1:]] == [
        ("custom_field", "k8s_zone"),
        ("custom_field", "k8s_uuid"),
        ("tag", "vitistack"),
    ]
    assert fresh.admin("GET", "/api/extras/tags/")["count"] == 0
    done = installation.run(*arguments, "--yes")
    assert done.json["items"] == [one | {"done": True} for one in planned.json["items"]]


def test_a_dry_run_changes_nothing(installation: Installation, fresh: RemoteNetBox) -> None:
    before = fresh.everything()
    done = installation.run("netbox-setup", "--zone", "inet", "--dry-run")
    assert (done.status, fresh.everything()) == (0, before)
    assert "create" in done.out
    assert "dry run" in done.err


def test_a_script_has_to_agree(installation: Installation, fresh: RemoteNetBox) -> None:
    before = fresh.everything()
    refused = installation.run("netbox-setup", "--zone", "inet")
    assert refused.status == 2
    assert "--yes" in refused.err
    assert fresh.everything() == before


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_people_are_asked(installation: Installation, fresh: RemoteNetBox, answer: str, status: int) -> None:
    arguments = ("netbox-setup", "--config", str(installation.config), "--zone", "inet")
    answers = [("Write 4 changes to .* \\[y/N\\] ", f"{answer}\n")]
    assert at_terminal(*arguments, cwd=installation.directory, answers=answers)[0] == status
    assert fresh.admin("GET", "/api/extras/tags/")["count"] == (1 if answer == "y" else 0)


def test_zones_are_added_behind_those_that_are_there(installation: Installation, netbox: RemoteNetBox) -> None:
    installation.configure(netbox.url)
    before = netbox.definition(CHOICES, "k8s_zone_choices")["extra_choices"]
    done = installation.run("netbox-setup", "--zone", "new", "--zone", "inet", "--yes", "--format", "json")
    assert done.status == 0
    assert done.json["items"][0]["zones"] == ["new"]
    assert netbox.definition(CHOICES, "k8s_zone_choices")["extra_choices"] == [*before, ["new", "new"]]
    [line] = [line for line in installation.log if line["message"].startswith("netbox-setup")]
    assert (line["kind"], line["zones"]) == ("choice_set", ["new"])


def test_without_zones_there_is_nothing_to_make_a_choice_set_of(
    installation: Installation, fresh: RemoteNetBox
) -> None:
    before = fresh.everything()
    refused = installation.run("netbox-setup", "--yes")
    assert refused.status == 2
    assert "--zone" in refused.err
    assert fresh.everything() == before


@pytest.mark.parametrize(
    ("kind", "name", "change", "told"),
    [
        ("custom-fields", "k8s_zone", {"type": "text"}, "its type is text, not select"),
        ("custom-fields", "k8s_uuid", {"type": "integer"}, "its type is integer, not text"),
        ("custom-fields", "k8s_uuid", {"unique": True}, "must be unique"),
        ("custom-fields", "k8s_uuid", {"object_types": ["dcim.device"]}, "prefixes do not have it"),
        ("tags", "vitistack", {"object_types": ["dcim.device"]}, "it may only be put on dcim.device"),
    ],
)
def test_what_is_there_and_differs_is_told_and_left_alone(
    installation: Installation, netbox: RemoteNetBox, kind: str, name: str, change: dict[str, Any], told: str
) -> None:
    installation.configure(netbox.url)
    netbox.admin("PATCH", f"/api/extras/{kind}/{netbox.definition(kind, name)['id']}/", change)
    before = netbox.everything()
    done = installation.run("netbox-setup", "--zone", "inet", "--yes")
    assert done.status == 1
    assert told in done.out
    assert told in done.err
    assert netbox.everything() == before


def test_a_choice_set_of_another_name_is_not_used(installation: Installation, netbox: RemoteNetBox) -> None:
    installation.configure(netbox.url)
    other = netbox.admin("POST", f"/api/extras/{CHOICES}/", {"name": "other", "extra_choices": [["a", "a"]]})
    field = netbox.definition("custom-fields", "k8s_zone")
    netbox.admin("PATCH", f"/api/extras/custom-fields/{field['id']}/", {"choice_set": other["id"]})
    done = installation.run("netbox-setup", "--yes", "--format", "json")
    assert done.status == 1
    assert actions(done)["k8s_zone"] == "differs"


def test_the_services_own_token_may_not_and_an_administrators_may(
    installation: Installation, fresh: RemoteNetBox
) -> None:
    view = ["extras.customfieldchoiceset", "extras.customfield", "extras.tag"]
    fresh.user_with({kind: ["view"] for kind in view})
    admin = (installation.directory / "netbox.secret").read_text()
    (installation.directory / "netbox.secret").write_text(SERVICE_TOKEN)
    refused = installation.run("netbox-setup", "--zone", "inet", "--yes")
    assert refused.status == 1
    assert refused.err.count("the token may not add to") == 3
    assert "it needs the choice set" in refused.err
    assert "--token-file" in refused.err
    assert installation.run("netbox-setup", "--zone", "inet", "--yes", "--token-file", "-", stdin=admin).status == 0
    assert fresh.definition("tags", "vitistack")
    assert admin.strip() not in installation.everything_written()


def test_one_refusal_does_not_keep_the_rest_from_being_created(installation: Installation, fresh: RemoteNetBox) -> None:
    # Somebody's tag has the slug that ours would have.
    fresh.admin("POST", "/api/extras/tags/", {"name": "Vitistack", "slug": "vitistack"})
    done = installation.run("netbox-setup", "--zone", "inet", "--yes", "--format", "json")
    assert done.status == 1
    assert [item["done"] for item in done.json["items"]] == [True, True, True, False]
    assert "slug already exists" in done.json["items"][3]["failure"]


def test_zones_that_somebody_adds_at_the_same_moment_are_not_lost(
    installation: Installation, netbox: RemoteNetBox
) -> None:
    installation.configure(netbox.url)
    netbox.fault("status", method="PATCH", path="*custom-field-choice-sets*", status=412, times=1)
    done = installation.run("netbox-setup", "--zone", "new", "--yes")
    assert done.status == 1
    assert "run this again" in done.err
    assert installation.run("netbox-setup", "--zone", "new", "--yes").status == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "html"},
        {"action": "html", "status": 503},
        {"action": "status", "status": 403},
        {"action": "garbage"},
        {"action": "disconnect"},
        {"action": "delay", "seconds": 5},
    ],
    ids=str,
)
def test_a_broken_netbox_is_one_line_and_nothing_is_created(
    installation: Installation, fresh: RemoteNetBox, fault: dict[str, Any]
) -> None:
    installation.configure(fresh.url, netbox={"url": fresh.url, "token_path": "netbox.secret", "timeout_seconds": 0.3})
    fresh.fault(path="/api/*", **fault)
    done = installation.run("netbox-setup", "--zone", "inet", "--yes")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "check-config" in done.err
    fresh.admin("DELETE", "/simulator/faults")
    assert fresh.admin("GET", f"/api/extras/{CHOICES}/")["count"] == 0


def test_an_answer_that_got_lost_is_found_by_the_next_run(installation: Installation, fresh: RemoteNetBox) -> None:
    fresh.fault("disconnect", method="POST", path="*choice-sets/", applied="before", times=1)
    arguments = ("netbox-setup", "--zone", "inet", "--yes", "--format", "json")
    lost = installation.run(*arguments)
    assert lost.status == 1
    assert [item["done"] for item in lost.json["items"]] == [False, True, True, True]
    again = installation.run(*arguments)
    assert (again.status, set(actions(again).values())) == (0, {"present"})


@pytest.mark.parametrize("zone", ["", " inet", "a\tb", "z" * 101])
def test_what_is_no_name_of_a_zone_is_refused(installation: Installation, zone: str) -> None:
    assert installation.run("netbox-setup", "--zone", zone).status == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vitistack", "vitistack"), ("Our Tag", "our-tag"), ("Blåbær & co.", "blabr-co"), ("日本", "tag"), ("a_b", "a_b")],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_through_the_one_file(pyz: Path, installation: Installation, fresh: RemoteNetBox, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(pyz), *arguments, "--config", str(installation.config), "--format", "json"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    before = run("check-config")
    assert before.returncode == 1
    done = run("netbox-setup", "--zone", "inet", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(item["done"] for item in json.loads(done.stdout)["items"])
    after = run("check-config")
    assert after.returncode == 0, after.stdout
    assert json.loads(after.stdout)["summary"]["error"] == 0
