"""`show-secret` and `replace-secret`: what they show and change, and that the log knows who, but never what."""

from __future__ import annotations

import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.cli import audit
from ipam_lib.config import Settings
from ipam_lib.storage.documents import Document
from tests.cli.installation import Installation, document
from tests.storage.samples import LEGACY, legacy_documents
from tests.support.processes import run, write_config
from tests.support.pseudo_terminal import at_terminal

DOCUMENTS = legacy_documents()
PLAIN: dict[str, str] = {
    one["document"]["_id"]["$oid"]: one["plain_secret"] for one in json.loads(LEGACY.read_text("utf-8"))
}
ADDRESS = ("--zone", "inet", "--address", "83.118.168.1")
FIRST = DOCUMENTS[0]
NEW = "Brand-new-secret-æøå"


def place(one: Document) -> tuple[str, str, str, str]:
    return "--zone", one["zone"], "--address", one["address"]


@pytest.fixture
def with_trouble(installation: Installation) -> Installation:
    """Registrations on one address, of which the first counts; one without a secret; one under a lost key."""
    seal = installation.cipher().seal
    twin = document(2, address="192.0.2.1/32", secret=seal("second-secret"), revision=1)
    installation.seed(
        document(1, secret=seal("first-secret")),
        twin | {"duplicate": twin["_id"]},
        document(3),
        document(4, secret=installation.cipher("new.json").seal("lost")),
        document(5, state="releasing", held_secret=seal("held-secret"), revision=1),
    )
    return installation


# --- show-secret


def test_every_secret_of_the_earlier_service_is_shown(legacy: Installation) -> None:
    for one in DOCUMENTS:
        done = legacy.run("show-secret", *place(one))
        assert (done.status, done.out, done.err) == (0, PLAIN[one["_id"]] + "\n", "")


def test_secret_as_json(legacy: Installation) -> None:
    done = legacy.run("show-secret", *ADDRESS, "--format", "json")
    assert done.json == {
        "registrations": [
            {
                "id": FIRST["_id"],
                "zone": "inet",
                "address": "83.118.168.1/32",
                "ip_family": "ipv4",
                "netbox_id": 20187,
                "state": "live",
                "duplicate": False,
                "secret": "Secret-number-0",
                "scheme": "legacy-ctr",
            }
        ]
    }


def test_secret_under_the_new_scheme_and_the_previous_key(installation: Installation) -> None:
    installation.seed(
        document(1, secret=installation.cipher().seal("of the old key")),
        document(2, secret=installation.cipher("new.json").seal("of the new key")),
    )
    installation.keys(path="new.json", previous_path="secrets.json")
    for number, secret in ((1, "of the old key"), (2, "of the new key")):
        done = installation.run("show-secret", "--zone", "inet", "--address", f"192.0.2.{number}", "--format", "json")
        [shown] = done.json["registrations"]
        assert (shown["secret"], shown["scheme"]) == (secret, "aes-siv")


def test_each_of_several_registrations_has_its_own(with_trouble: Installation) -> None:
    done = with_trouble.run("show-secret", "--zone", "inet", "--address", "192.0.2.1")
    assert done.status == 0
    assert [line.split() for line in done.lines[1:]] == [
        ["first-secret", document(1)["_id"], "live"],
        ["second-secret", document(2)["_id"], "duplicate"],
    ]
    assert [line["registration"] for line in with_trouble.log] == [document(1)["_id"], document(2)["_id"]]


@pytest.mark.parametrize(("number", "why"), [(3, "has no secret"), (4, "was sealed under another key")])
def test_a_secret_that_cannot_be_read_is_1_and_says_why(with_trouble: Installation, number: int, why: str) -> None:
    arguments = ("show-secret", "--zone", "inet", "--address", f"192.0.2.{number}")
    done = with_trouble.run(*arguments)
    assert (done.status, done.out) == (1, "")
    assert why in done.err
    as_json = with_trouble.run(*arguments, "--format", "json")
    assert as_json.status == 1
    assert as_json.json["registrations"][0]["secret"] is None


def test_a_secret_of_what_is_being_released(with_trouble: Installation) -> None:
    done = with_trouble.run("show-secret", "--zone", "inet", "--address", "192.0.2.5", "--format", "json")
    [shown] = done.json["registrations"]
    assert (shown["state"], shown["secret"]) == ("releasing", "held-secret")
    replaced = with_trouble.run("replace-secret", "--zone", "inet", "--address", "192.0.2.5", "--new", NEW)
    assert replaced.status == 1
    assert "is being released" in replaced.err


# --- replace-secret


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("--new", NEW), ""),
        (("--new", "-"), NEW),
        (("--new", "-"), NEW + "\n"),
        ((), NEW + "\r\n"),
        ((), NEW),
        (("--new", NEW, "--yes"), ""),
    ],
)
def test_a_secret_is_replaced(legacy: Installation, arguments: tuple[str, ...], stdin: str) -> None:
    done = legacy.run("replace-secret", *ADDRESS, *arguments, stdin=stdin)
    assert (done.status, done.err) == (0, "")
    assert done.out == "the secret of 83.118.168.1/32 in zone inet was replaced, for 3 services\n"
    assert legacy.run("show-secret", *ADDRESS).out == NEW + "\n"
    # Nothing else of the document has changed, but that its prefix needs a description: the earlier service wrote none.
    added = {"revision": 1, "description_due": True}
    assert legacy.raw(FIRST["_id"]) == FIRST | {"secret": legacy.cipher().seal(NEW)} | added


def test_while_the_earlier_service_runs_it_can_read_what_is_replaced(legacy: Installation) -> None:
    legacy.keys(path="secrets.json", scheme="legacy-ctr")
    assert legacy.run("replace-secret", *ADDRESS, "--new", "Secret-number-1").status == 0
    assert legacy.raw(FIRST["_id"])["secret"] == DOCUMENTS[1]["secret"]


def test_replacing_as_json_and_dry_run(legacy: Installation) -> None:
    dry = legacy.run("replace-secret", *ADDRESS, "--new", NEW, "--dry-run", "--format", "json")
    assert (dry.status, dry.json["dry_run"]) == (0, True)
    assert legacy.raw(FIRST["_id"]) == FIRST
    assert legacy.log == []
    assert "would be replaced" in legacy.run("replace-secret", *ADDRESS, "--dry-run").out
    done = legacy.run("replace-secret", *ADDRESS, "--new", NEW, "--format", "json")
    assert (done.status, done.json["dry_run"]) == (0, False)
    assert done.json["registration"] == dry.json["registration"]
    assert done.json["registration"]["address"] == "83.118.168.1/32"
    assert NEW not in done.out


def test_the_same_secret_again_writes_nothing(legacy: Installation) -> None:
    for _ in range(2):
        assert legacy.run("replace-secret", *ADDRESS, "--new", NEW).status == 0
    assert legacy.raw(FIRST["_id"])["revision"] == 1


def test_of_duplicates_the_one_that_counts_is_changed(with_trouble: Installation) -> None:
    done = with_trouble.run("replace-secret", "--zone", "inet", "--address", "192.0.2.1", "--new", NEW)
    assert done.status == 0
    assert f"the secret of {document(2)['_id']} was left as it is" in done.err
    shown = with_trouble.run("show-secret", "--zone", "inet", "--address", "192.0.2.1", "--format", "json")
    assert [one["secret"] for one in shown.json["registrations"]] == [NEW, "second-secret"]


def test_a_lost_secret_is_replaced(with_trouble: Installation) -> None:
    for number in (3, 4):
        arguments = ("--zone", "inet", "--address", f"192.0.2.{number}")
        assert with_trouble.run("replace-secret", *arguments, "--new", NEW).status == 0
        assert with_trouble.run("show-secret", *arguments).out == NEW + "\n"


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("--new", "short12"), ""),
        (("--new", "x" * 65), ""),
        (("--new", ""), ""),
        (("--new", "-"), "short12"),
        (("--new", "-"), ""),
        ((), ""),
        ((), b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"),
        (("--new", "with\0a-nul-inside"), ""),
        (("--new", "with-\udc80-inside"), ""),
        (("--new",), ""),
    ],
)
def test_a_secret_that_cannot_be_one_is_2(legacy: Installation, arguments: tuple[str, ...], stdin: str | bytes) -> None:
    done = legacy.run("replace-secret", *ADDRESS, *arguments, stdin=stdin)
    assert (done.status, done.out) == (2, "")
    assert "secret" in done.err
    assert legacy.raw(FIRST["_id"]) == FIRST


# --- on a terminal


def test_on_a_terminal_the_new_secret_is_asked_for_twice_and_not_shown(legacy: Installation) -> None:
    arguments = ("--config", str(legacy.config), "replace-secret", *ADDRESS)
    answers = [("new secret: ", NEW + "\n"), ("again: ", NEW + "\n")]
    status, out, shown = at_terminal(*arguments, cwd=legacy.directory, answers=answers)
    assert (status, out) == (0, "the secret of 83.118.168.1/32 in zone inet was replaced, for 3 services\n")
    assert NEW not in shown
    for service in FIRST["services"]:
        assert f"{service['service_name']}, namespace {service['namespace_id']}" in shown
    assert legacy.run("show-secret", *ADDRESS).out == NEW + "\n"
    status, out, shown = at_terminal(
        *arguments, cwd=legacy.directory, answers=[("new secret: ", "One-secret\n"), ("again: ", "Another-one\n")]
    )
    assert (status, out) == (2, "")
    assert "not the same" in shown
    assert legacy.run("show-secret", *ADDRESS).out == NEW + "\n"


@pytest.mark.parametrize(
    ("answer", "status"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1), ("\x03", 1)]
)
def test_on_a_terminal_it_asks(legacy: Installation, answer: str, status: int) -> None:
    arguments = ("--config", str(legacy.config), "replace-secret", *ADDRESS, "--new", NEW)
    done = at_terminal(*arguments, cwd=legacy.directory, answers=[(r"Replace its secret\? \[y/N\] ", answer)])
    assert done[0] == status
    assert (legacy.raw(FIRST["_id"]) == FIRST) == (status == 1)


def test_a_terminal_is_not_handed_what_it_would_obey(installation: Installation) -> None:
    installation.seed(document(1, secret=installation.cipher().seal("escape\x1b[2Jcodes")))
    arguments = ("--config", str(installation.config), "show-secret", "--zone", "inet", "--address", "192.0.2.1")
    status, _, shown = at_terminal(*arguments, cwd=installation.directory, output=True)
    assert (status, shown) == (0, "escape\\x1b[2Jcodes\n")
    # A file gets the very secret.
    assert installation.run(*arguments[2:]).out == "escape\x1b[2Jcodes\n"


# --- the log


def test_the_log_says_who_and_never_what(legacy: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "kari")
    monkeypatch.setenv("SUDO_UID", "4711")
    assert legacy.run("show-secret", *ADDRESS).status == 0
    assert legacy.run("replace-secret", *ADDRESS, "--new", NEW).status == 0
    shown, replaced = legacy.log
    for line, message in ((shown, "show-secret"), (replaced, "replace-secret")):
        assert line["message"].startswith(f"{message}: the secret of an address was ")
        assert line["level"] == "warning"
        assert line["caller"].startswith("ipam_lib.cli.secrets:")
        assert {name: line[name] for name in ("user", "uid", "sudo_user", "sudo_uid")} == {
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "uid": os.getuid(),
            "sudo_user": "kari",
            "sudo_uid": "4711",
        }
        assert (line["zone"], line["address"], line["registration"]) == ("inet", "83.118.168.1/32", FIRST["_id"])
    written = legacy.everything_written()
    assert not [secret for secret in ("Secret-number-0", NEW, FIRST["secret"]) if secret in written]
    assert stat.S_IMODE((legacy.directory / "logs" / "ipam-api.log").stat().st_mode) == 0o640


def test_without_a_log_nothing_is_shown_or_done(legacy: Installation) -> None:
    (legacy.directory / "logs").write_text("a file, where the directory should be")
    for command in (["show-secret", *ADDRESS], ["replace-secret", *ADDRESS, "--new", NEW]):
        done = legacy.run(*command)
        assert (done.status, done.out) == (1, "")
        assert "cannot be written" in done.err
        assert "logging.directory" in done.err
    assert legacy.raw(FIRST["_id"]) == FIRST


def test_a_link_in_place_of_the_log_is_not_followed(legacy: Installation) -> None:
    logs, elsewhere = legacy.directory / "logs", legacy.directory / "elsewhere"
    logs.mkdir()
    elsewhere.write_text("kept")
    (logs / "ipam-api.log").symlink_to(elsewhere)
    assert legacy.run("show-secret", *ADDRESS).status == 1
    assert elsewhere.read_text() == "kept"


def test_a_line_is_added_to_what_the_service_wrote(legacy: Installation) -> None:
    (legacy.directory / "logs").mkdir()
    log = legacy.directory / "logs" / "ipam-api.log"
    log.write_text('{"message": "of the service"}\n')
    assert legacy.run("show-secret", *ADDRESS).status == 0
    assert [line["message"].partition(":")[0] for line in legacy.log] == ["of the service", "show-secret"]


def test_what_root_makes_belongs_to_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, int, int, bool]] = []

    def chown(path: Any, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        given.append((path, uid, gid, follow_symlinks))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    log = tmp_path / "log" / "ipam-api.log"
    os.close(audit._open(log))
    owner = tmp_path.stat()
    assert given == [(path, owner.st_uid, owner.st_gid, False) for path in (log.parent, log)]
    given.clear()
    os.close(audit._open(log))
    assert given == []


def test_the_systems_log_gets_the_line_too(legacy: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    path = legacy.directory / "devlog"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)
        monkeypatch.setattr(audit, "SYSTEM_LOG", path)
        assert legacy.run("show-secret", *ADDRESS).status == 0
        said = listener.recv(65536).decode()
    assert said.startswith("<85>ipam-api: {")
    assert json.loads(said.partition(": ")[2]) == legacy.log[0]


def test_no_secret_stands_in_the_list_of_processes(legacy: Installation) -> None:
    """What a process is called as is what was typed: so it must work without the secret there."""
    status, out, err = run("--config", str(legacy.config), "replace-secret", *ADDRESS, cwd=legacy.directory)
    assert (status, out) == (2, "")
    assert "standard input" in err


def test_the_log_is_that_of_the_unit_and_no_directory_is_made_for_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `logging.directory`, ./logs is the service's only in the working directory of the service."""
    (tmp_path / "unit").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = write_config(tmp_path, "http://127.0.0.1:9", {"storage": {"sqlite": "x"}})
    settings, _ = Settings.load(config, environ={})
    monkeypatch.setattr(audit, "SYSTEM_LOG", tmp_path / "none")

    def record(*, required: bool) -> None:
        with audit.trail(settings, required=required) as trail:
            trail.record("a command ran")

    monkeypatch.setattr(audit, "UNIT_LOG_DIRECTORY", tmp_path / "absent")
    record(required=False)
    assert list((tmp_path / "here").iterdir()) == []
    monkeypatch.setattr(audit, "UNIT_LOG_DIRECTORY", tmp_path / "unit")
    record(required=False)
    record(required=True)
    assert list((tmp_path / "here").iterdir()) == []
    assert (tmp_path / "unit" / "ipam-api.log").read_text().count("a command ran") == 2
    (tmp_path / "here" / "logs").mkdir()
    record(required=False)
    assert (tmp_path / "here" / "logs" / "ipam-api.log").read_text().count("a command ran") == 1
