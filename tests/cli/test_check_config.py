"""`check-config`: what is in order, what is not, and that one fault does not hide another. On both stores."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from ipam_lib.cli.checks import config_files
from ipam_lib.cli.exit_codes import FAILED, UNFIT
from ipam_lib.config import ServerSection
from ipam_lib.findings import Finding
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.probe import NetBoxProbe, probe_transport
from ipam_lib.storage import mongo_probe, sqlite_file, sqlite_probe
from ipam_lib.storage.mongo_probe import MongoProbe
from ipam_lib.telemetry import splunk_probe
from tests.cli.archives import REAL
from tests.cli.installation import Installation, document
from tests.cli.remote_netbox import RIGHTS, RemoteNetBox
from tests.storage.backends import SQLiteBackend
from tests.storage.samples import legacy_documents
from tests.storage.scripted_mongo import Command, Instead, ScriptedMongo
from tests.support.certificates import self_signed
from tests.support.processes import TOKEN
from tests.support.wire import Act, answer, wire_server

Check = dict[str, Any]


def looked(installation: Installation) -> tuple[int, list[Check]]:
    done = installation.run("check-config", "--format", "json")
    assert done.err == ""
    return done.status, done.json["checks"]


def certificate(directory: Path, *, begin: datetime, days: int) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = directory / "server.crt", directory / "server.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_path.write_bytes(key.private_bytes(pem, pkcs8, plain))
    return cert_path, key_path


def of(checks: list[Check], name: str) -> list[Check]:
    return [one for one in checks if one["check"] == name]


def errors(checks: list[Check]) -> list[str]:
    return [one["check"] for one in checks if one["status"] == "error"]


@pytest.fixture
def ready(installation: Installation, netbox: RemoteNetBox) -> Installation:
    """A configuration in which nothing is wrong."""
    installation.configure(netbox.url)
    for path in installation.directory.glob("*.*"):
        if path.suffix in (".secret", ".json"):
            path.chmod(0o600)
    return installation


def test_what_is_in_order_is_said_to_be(ready: Installation, netbox: RemoteNetBox) -> None:
    before = netbox.everything()
    status, checks = looked(ready)
    assert (status, errors(checks)) == (0, [])
    for name in (
        *("settings", "secret_files", "server.port", "logging.directory", "netbox.tls", "netbox.version"),
        *("netbox.rights", "netbox.choice_set", "netbox.custom_fields", "netbox.tag", "netbox.containers"),
        *("netbox.vrf", "netbox.ip_addresses", "storage.secrets"),
    ):
        assert of(checks, name), name
    # Nothing was changed by looking.
    assert netbox.everything() == before
    assert not (ready.directory / "logs").exists()


def test_the_shape_of_the_json(ready: Installation) -> None:
    done = ready.run("check-config", "--format", "json")
    assert done.json.keys() == {"config", "checks", "summary"}
    assert done.json["config"] == str(ready.config)
    statuses = [one["status"] for one in done.json["checks"]]
    assert done.json["summary"] == {status: statuses.count(status) for status in ("ok", "warning", "error")}
    for one in done.json["checks"]:
        assert one.keys() == {"check", "status", "message", "advice"}
        assert (one["advice"] is None) == (one["status"] == "ok")


def test_text_is_a_list_and_ends_with_the_numbers(ready: Installation) -> None:
    done = ready.run("check-config")
    assert done.status == 0
    assert done.err == ""
    for line in done.lines[:-2]:
        assert line.split()[0] in ("ok", "warning", "error", "->")
    assert done.lines[-1].endswith(" 0 errors")
    assert "ok       netbox.version: NetBox 4.6.8 " in done.out


# -- settings and files ------------------------------------------------------------------------------------------------


def test_every_wrong_setting_is_told_and_the_rest_is_looked_at(ready: Installation) -> None:
    content = json.loads(ready.config.read_text())
    content["server"] = {"port": "3000", "tls_cert": "nowhere.pem", "tls_key": "nowhere.pem"}
    content["splunk"] = {"enable": True}
    content["clenup"] = {}
    ready.config.write_text(json.dumps(content))
    status, checks = looked(ready)
    assert status == 1
    told = " ".join(one["message"] for one in of(checks, "settings") if one["status"] == "error")
    for setting in ("server.port", "server.tls_cert", "server.tls_key", "splunk.url", "splunk.token_path"):
        assert setting in told
    [unknown] = [one for one in of(checks, "settings") if one["status"] == "warning"]
    assert "cleanup" in unknown["message"]
    assert of(checks, "netbox.version")[0]["status"] == "ok"
    assert of(checks, "storage.secrets")[0]["status"] == "ok"


def test_without_the_settings_of_one_side_the_other_is_looked_at(ready: Installation) -> None:
    content = json.loads(ready.config.read_text())
    del content["netbox"]["url"]
    ready.config.write_text(json.dumps(content))
    status, checks = looked(ready)
    assert status == 1
    assert of(checks, "storage.secrets")
    assert any("not looked at" in one["message"] and "netbox" in one["message"] for one in checks)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_configuration_that_is_none(installation: Installation, content: str | None) -> None:
    if content is None:
        installation.config.unlink()
    else:
        installation.config.write_text(content)
    status, checks = looked(installation)
    assert status == 1
    assert [one["check"] for one in checks] == ["settings"]
    assert installation.run("check-config").status == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("netbox.secret", None, "netbox.token_path"),
        ("netbox.secret", "", "is empty"),
        ("secrets.json", '{"enc_key": "short", "enc_iv": "iiiiiiiiiiiiiiii"}', "enc_key"),
        ("secrets.json", '{"enc_key": "kkkkkkkkkkkkkkkk", "enc_iv": "short"}', "enc_iv"),
        ("secrets.json", "{", "is not valid JSON"),
        ("auth.secret", "two words", "must hold one token"),
    ],
)
def test_a_secret_file_that_will_not_do(ready: Installation, name: str, content: str | None, told: str) -> None:
    path = ready.directory / name
    path.unlink() if content is None else path.write_text(content)
    done = ready.run("check-config", "--format", "json")
    assert done.status == 1
    assert any(told in one["message"] for one in of(done.json["checks"], "settings") if one["status"] == "error")
    assert "short" not in done.out
    assert "two words" not in done.out


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o640, "ok"), (0o644, "warning"), (0o660, "warning")])
@pytest.mark.parametrize("name", ["netbox.secret", "secrets.json", "auth.secret"])
def test_a_secret_file_that_others_may_read(ready: Installation, name: str, mode: int, status: str) -> None:
    (ready.directory / name).chmod(mode)
    outcome, checks = looked(ready)
    assert outcome == 0
    [one] = [one for one in of(checks, "secret_files") if name in one["message"]]
    assert one["status"] == status
    if status == "warning":
        assert one["advice"] == f"chmod 600 {ready.directory / name}"


def test_a_bearer_token_that_can_be_guessed(ready: Installation) -> None:
    (ready.directory / "auth.secret").write_text("letmein")
    status, checks = looked(ready)
    assert status == 0
    assert any("can be guessed" in one["message"] for one in of(checks, "secret_files"))
    assert "letmein" not in str(checks)


def test_a_webhook_that_can_be_forged_or_is_shut_out(ready: Installation) -> None:
    (ready.directory / "webhook.secret").write_text("letmein")
    content = json.loads(ready.config.read_text())
    content["netbox"]["webhook_secret_path"] = "webhook.secret"
    certificate, key = self_signed(ready.directory, "127.0.0.1")
    server = {"tls_cert": certificate.name, "tls_key": key.name, "tls_client_ca": certificate.name}
    content["server"] = content.get("server", {}) | server
    ready.config.write_text(json.dumps(content))
    status, checks = looked(ready)
    assert status == 0
    assert any("webhook_secret_path is shorter than 16" in one["message"] for one in of(checks, "secret_files"))
    assert any("no client certificate" in one["message"] for one in of(checks, "netbox.webhook"))
    assert "letmein" not in str(checks)


def test_what_is_left_of_a_migration_and_a_rotation(ready: Installation) -> None:
    ready.keys(path="new.json", previous_path="secrets.json", scheme="legacy-ctr")
    told = " ".join(one["message"] for one in of(looked(ready)[1], "settings"))
    assert "earlier service's scheme" in told
    assert "a rotation has not ended" in told


# -- the server --------------------------------------------------------------------------------------------------------


def test_a_port_that_is_in_use_is_a_warning(ready: Installation, netbox: RemoteNetBox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ready.configure(netbox.url, server={"host": "127.0.0.1", "port": other.getsockname()[1]})
        status, checks = looked(ready)
    assert status == 0
    assert of(checks, "server.port")[0]["status"] == "warning"


def test_an_address_of_another_machine_is_an_error(ready: Installation, netbox: RemoteNetBox) -> None:
    ready.configure(netbox.url, server={"host": "192.0.2.1", "port": 3000})
    assert "server.port" in errors(looked(ready)[1])


def test_certificate_and_key(ready: Installation, netbox: RemoteNetBox) -> None:
    crt, key = certificate(ready.directory, begin=datetime.now(UTC), days=100)
    key.chmod(0o604)
    section = {"host": "127.0.0.1", "port": 0, "tls_cert": crt.name, "tls_key": key.name}
    ready.configure(netbox.url, server=section)
    _, checks = looked(ready)
    assert of(checks, "server.tls")[0]["status"] == "ok"
    assert any("server.tls_key" in one["message"] and one["status"] == "warning" for one in of(checks, "secret_files"))
    other = ready.directory / "other"
    other.mkdir()
    key.write_bytes(certificate(other, begin=datetime.now(UTC), days=100)[1].read_bytes())
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, ["server.tls"])
    assert "does not belong" in of(checks, "server.tls")[0]["message"]


@pytest.mark.parametrize(
    ("day", "status", "told"),
    [(-1, "error", "valid from"), (1, "ok", "until"), (87, "warning", "expires on"), (100, "error", "expired on")],
)
def test_when_a_certificate_is_valid(tmp_path: Path, day: int, status: str, told: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    crt, key = certificate(tmp_path, begin=begin, days=100)
    section = ServerSection(host="127.0.0.1", port=0, tls_cert=crt, tls_key=key)
    found = config_files.server(section, begin + timedelta(days=day))
    finding = next(one for one in found if one.check == "server.tls")
    assert (finding.check, finding.status) == ("server.tls", status)
    assert told in finding.message


@pytest.mark.parametrize(
    ("settings", "status", "told"),
    [
        ({}, "warning", "listens on all interfaces without TLS, and every client may register"),
        ({"host": "::"}, "warning", "all interfaces without TLS"),
        ({"tls_cert": Path("a.pem")}, "warning", "it listens on all interfaces, and every client"),
        ({"host": ("127.0.0.1", "::1")}, "ok", "all clients that reach 127.0.0.1, ::1"),
        ({"allowed_networks": (ip_network("10.0.0.0/8"),)}, "ok", "networks 10.0.0.0/8"),
        (
            {"tls_client_ca": Path("ca.pem"), "tls_client_names": ("a.example",)},
            "ok",
            "ca.pem with the names a.example",
        ),
    ],
)
def test_how_open_the_service_is(settings: dict[str, Any], status: str, told: str) -> None:
    finding = next(config_files.server(ServerSection(port=0, **settings)))
    assert (finding.check, finding.status) == ("server.access", status)
    assert told in finding.message


def test_a_log_that_cannot_be_written(ready: Installation, netbox: RemoteNetBox) -> None:
    (ready.directory / "file").touch()
    ready.configure(netbox.url, logging={"directory": "file"})
    assert errors(looked(ready)[1]) == ["logging.directory"]


# -- the storage -------------------------------------------------------------------------------------------------------


def test_the_keys_are_tried_on_what_is_stored(ready: Installation) -> None:
    cipher = ready.cipher()
    ready.seed(*(document(number, secret=cipher.seal(f"SuperSecret{number}")) for number in (1, 2)))
    status, checks = looked(ready)
    assert (status, of(checks, "storage.secrets")[0]["status"]) == (0, "ok")
    ready.keys(path="new.json")
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, ["storage.secrets"])
    assert "SuperSecret" not in str(checks)
    ready.seed(document(3, secret=ready.cipher("new.json").seal("SuperSecret3")))
    status, checks = looked(ready)
    assert (status, of(checks, "storage.secrets")[0]["status"]) == (0, "warning")


def sqlite(installation: Installation, path: str) -> list[Check]:
    content = json.loads(installation.config.read_text())
    content["storage"] = {"sqlite": path}
    content.pop("mongodb", None)
    installation.config.write_text(json.dumps(content))
    return looked(installation)[1]


def test_a_database_that_is_to_be_made(ready: Installation) -> None:
    checks = sqlite(ready, "deep/er/new.sqlite")
    assert errors(checks) == []
    assert of(checks, "sqlite.write_ahead")[0]["status"] == "ok"
    assert not (ready.directory / "deep").exists()
    assert not list(ready.directory.glob(".ipam-check-*"))


def test_files_that_are_no_database_of_ours(ready: Installation) -> None:
    (ready.directory / "text.sqlite").write_text("this is no database, by any means\n" * 100)
    assert errors(sqlite(ready, "text.sqlite")) == ["sqlite.file"]
    with closing(sqlite3.connect(ready.directory / "other.sqlite")) as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    assert errors(sqlite(ready, "other.sqlite")) == ["sqlite.file"]
    (ready.directory / "directory").mkdir()
    assert errors(sqlite(ready, "directory")) == ["sqlite.file"]
    (ready.directory / "empty.sqlite").touch()
    assert errors(sqlite(ready, "empty.sqlite")) == []
    assert errors(sqlite(ready, "text.sqlite/new.sqlite")) == ["sqlite.directory"]


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "newer.sqlite"
    with closing(sqlite_file.connect(path, busy_seconds=1, writable=True)) as database:
        sqlite_file.make_schema(database, path)
        database.execute(f"PRAGMA user_version = {sqlite_file.SCHEMA_VERSION + 1}")
    assert any("newer version" in one.message for one in sqlite_probe.probe(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may use a directory of another user")
def test_root_is_told_which_user_the_service_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may use any directory: that says nothing of the service."""
    parents = {*tmp_path.parents, Path("/")}
    look = sqlite_probe._open_to_others
    monkeypatch.setattr(sqlite_probe, "_open_to_others", lambda one, right: one in parents or look(one, right))
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    path = inside / "new.sqlite"

    def told() -> tuple[str, str]:
        found = sqlite_probe.probe(path)[0]
        return found.status, found.message

    closed.chmod(0o755)
    inside.chmod(0o755)
    assert told()[0] == "warning"
    assert told()[1].startswith(f"only root may write in {inside}")
    os.chown(inside, 12345, 12345)
    assert told() == ("ok", f"{inside} can be written by the user with the id 12345: the service must run as that user")
    closed.chmod(0o700)
    assert told()[1].startswith(f"only root may enter {closed}")
    # systemd makes its state directory the service's own at every start.
    monkeypatch.setattr(sqlite_probe, "STATE_DIRECTORY", inside)
    assert told() == ("ok", f"{inside} can be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(ready: Installation) -> None:
    (ready.directory / "closed").mkdir(mode=0o500)
    assert errors(sqlite(ready, "closed/new.sqlite")) == ["sqlite.directory"]


# -- NetBox ------------------------------------------------------------------------------------------------------------


def use(installation: Installation, token: str) -> None:
    (installation.directory / "netbox.secret").write_text(token)


def test_the_documented_rights_are_all_it_takes(ready: Installation, netbox: RemoteNetBox) -> None:
    use(ready, netbox.user_with(RIGHTS))
    status, checks = looked(ready)
    assert (status, errors(checks)) == (0, [])
    fields = [one["message"] for one in of(checks, "netbox.custom_fields")]
    assert any("k8s_zone" in one for one in fields)
    assert any("k8s_uuid" in one for one in fields)


@pytest.mark.parametrize("missing", ["view", "add", "change", "delete"])
def test_each_right_on_prefixes_is_missed(ready: Installation, netbox: RemoteNetBox, missing: str) -> None:
    rest = [action for action in RIGHTS["ipam.prefix"] if action != missing]
    use(ready, netbox.user_with(RIGHTS | {"ipam.prefix": rest}))
    before = netbox.prefixes()
    status, checks = looked(ready)
    assert status == 1
    [rights] = of(checks, "netbox.rights")
    assert (rights["status"], rights["message"]) == ("error", f"the token may not {missing} prefixes")
    assert missing in rights["advice"]
    assert of(checks, "netbox.tag")[0]["status"] == "ok"
    assert netbox.prefixes() == before


@pytest.mark.parametrize(
    ("object_type", "check"),
    [("extras.customfieldchoiceset", "netbox.choice_set"), ("extras.tag", "netbox.tag")],
)
def test_each_right_to_look_up_is_missed(
    ready: Installation, netbox: RemoteNetBox, object_type: str, check: str
) -> None:
    use(ready, netbox.user_with({name: actions for name, actions in RIGHTS.items() if name != object_type}))
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, [check])
    assert object_type in of(checks, check)[0]["advice"]


@pytest.mark.parametrize("missing", ["ipam.ipaddress", "ipam.iprange"])
def test_a_token_that_cannot_see_what_is_in_use(ready: Installation, netbox: RemoteNetBox, missing: str) -> None:
    use(ready, netbox.user_with({name: actions for name, actions in RIGHTS.items() if name != missing}))
    status, checks = looked(ready)
    assert (status, errors(checks)) == (0, [])
    [found] = of(checks, "netbox.ip_addresses")
    assert found["status"] == "warning"
    assert found["advice"] == f"give the token's user view on {missing}, or set netbox.ip_addresses to ignore"


def test_a_token_that_may_only_read(ready: Installation, netbox: RemoteNetBox) -> None:
    use(ready, netbox.user_with(RIGHTS, write_enabled=False))
    [rights] = of(looked(ready)[1], "netbox.rights")
    assert rights["status"] == "error"
    assert "one that may write" in rights["advice"]


@pytest.mark.parametrize("token", ["0" * 40, "nbt_abcdefghijkl." + "A" * 40])
def test_a_token_that_is_none(ready: Installation, token: str) -> None:
    use(ready, token)
    done = ready.run("check-config", "--format", "json")
    assert (done.status, errors(done.json["checks"])) == (1, ["netbox.token"])
    assert token not in done.out


@pytest.mark.parametrize(
    ("kind", "name", "change", "status", "told"),
    [
        ("custom-fields", "k8s_zone", {"type": "text"}, "error", "its type is text"),
        ("custom-fields", "k8s_uuid", {"type": "boolean"}, "error", "its type is boolean"),
        ("custom-fields", "k8s_uuid", {"object_types": ["dcim.device"]}, "error", "prefixes do not have it"),
        ("custom-fields", "k8s_uuid", {"unique": True}, "error", "must be unique"),
        ("custom-fields", "k8s_uuid", {"filter_logic": "disabled"}, "warning", "filter logic is disabled"),
        ("custom-fields", "k8s_uuid", {"name": "uuid"}, "error", "there is no custom field k8s_uuid"),
        ("custom-field-choice-sets", "k8s_zone_choices", {"extra_choices": []}, "error", "has no zones"),
        ("custom-field-choice-sets", "k8s_zone_choices", {"name": "zones"}, "error", "there is no choice set"),
        ("tags", "vitistack", {"name": "Vitistack"}, "error", "there is no tag"),
    ],
)
def test_what_is_not_as_it_should_be_in_netbox(
    ready: Installation, netbox: RemoteNetBox, kind: str, name: str, change: Any, status: str, told: str
) -> None:
    netbox.admin("PATCH", f"/api/extras/{kind}/{netbox.definition(kind, name)['id']}/", change)
    outcome, checks = looked(ready)
    assert any(told in one["message"] and one["status"] == status for one in checks), checks
    assert outcome == (1 if errors(checks) else 0)
    assert of(checks, "netbox.rights")[0]["status"] == "ok"


def test_custom_fields_that_the_configuration_names(ready: Installation, netbox: RemoteNetBox) -> None:
    section = {"url": netbox.url, "token_path": "netbox.secret", "constraint_tag": "vitistack"}
    ready.configure(
        netbox.url, netbox=section | {"custom_fields": {"domain": "na"}, "inherit_custom_fields": ["infra"]}
    )
    assert any("domain, infra" in one["message"] for one in of(looked(ready)[1], "netbox.custom_fields"))
    ready.configure(netbox.url, netbox=section | {"custom_fields": {"nosuch": "na"}})
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, ["netbox.custom_fields"])
    use(ready, netbox.user_with(RIGHTS))
    assert errors(looked(ready)[1]) == ["netbox.custom_fields"]


def test_zones_and_containers(ready: Installation, netbox: RemoteNetBox) -> None:
    netbox.admin("PATCH", "/api/ipam/vrfs/1/", {"enforce_unique": False})
    choices = netbox.definition("custom-field-choice-sets", "k8s_zone_choices")
    added = {"extra_choices": [*choices["extra_choices"], ["bare", "bare"]]}
    netbox.admin("PATCH", f"/api/extras/custom-field-choice-sets/{choices['id']}/", added)
    inside = {
        "prefix": "83.118.168.0/26",
        "vrf": 1,
        "status": "container",
        "custom_fields": {"k8s_zone": "hnet-public"},
    }
    netbox.admin("POST", "/api/ipam/prefixes/", inside)
    section = {"url": netbox.url, "token_path": "netbox.secret", "warm_addresses": {"inet": 1, "nosuch": 1}}
    ready.configure(netbox.url, netbox=section)
    status, checks = looked(ready)
    assert status == 0
    warnings = [one["message"] for one in checks if one["status"] == "warning"]
    for told in ("'bare' has no container prefixes", "lies inside", "takes the same prefix twice", "nosuch"):
        assert any(told in one for one in warnings), told
    assert any("2 ipv4, 2 ipv6" in one["message"] for one in of(checks, "netbox.containers"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"action": "html"}, "HTTP 500"),
        ({"action": "html", "status": 503}, "HTTP 503"),
        ({"action": "html", "status": 404}, "HTTP 404"),
        ({"action": "garbage"}, "where JSON was expected"),
        ({"action": "disconnect"}, "Disconnected"),
        ({"action": "delay", "seconds": 5}, "no answer within"),
    ],
    ids=str,
)
def test_a_netbox_that_is_broken(ready: Installation, netbox: RemoteNetBox, fault: Any, told: str) -> None:
    section = {"url": netbox.url, "token_path": "netbox.secret", "timeout_seconds": 0.3}
    ready.configure(netbox.url, netbox=section)
    netbox.fault(path="/api/*", **fault)
    status, checks = looked(ready)
    # One line for all of it, and the rest was looked at.
    assert (status, errors(checks)) == (1, ["netbox.connection"])
    assert told in of(checks, "netbox.connection")[0]["message"]
    assert of(checks, "storage.secrets")[0]["status"] == "ok"
    assert TOKEN not in str(checks)


def test_one_request_that_fails_does_not_hide_the_rest(ready: Installation, netbox: RemoteNetBox) -> None:
    netbox.fault("html", path="/api/extras/tags/")
    netbox.fault("html", method="PATCH", path="*/prefixes/*")
    status, checks = looked(ready)
    assert status == 1
    assert sorted(set(errors(checks))) == ["netbox.rights", "netbox.tag"]
    assert of(checks, "netbox.containers")[0]["status"] == "ok"


def test_a_netbox_that_is_away(installation: Installation) -> None:
    status, checks = looked(installation)
    assert (status, errors(checks)) == (1, ["netbox.connection"])


@pytest.mark.parametrize(
    ("version", "status"),
    [("3.6.9", "error"), ("4.6.8-Docker-3.2", "ok"), ("4.7.0", "warning"), ("5.0.0", "warning"), ("none", "error")],
)
async def test_versions(version: str, status: str) -> None:
    async with wire_server() as wire:
        wire.then(answer(200, {"netbox-version": version}))
        async with probe_transport(NetBoxSettings(wire.url, TOKEN)) as transport:
            found = [one async for one in NetBoxProbe(transport).findings()]
    [one] = [one for one in found if one.check == "netbox.version"]
    assert one.status == status


# -- MongoDB as only some servers are ----------------------------------------------------------------------------------


async def mongo(script: Callable[[Command], Command | Instead]) -> list[Finding]:
    """What is found with a server that follows a script where it does not simply agree."""
    async with ScriptedMongo().running() as server:
        server.script = script
        probe = MongoProbe(server.uri, "ipam")
        await probe.open()
        try:
            return await probe.findings()
        finally:
            await probe.close()


def script(**replies: Command) -> Callable[[Command], Command]:
    empty = {"ok": 1, "cursor": {"id": 0, "ns": "ipam.addresses", "firstBatch": []}, "n": 0}
    usual = {"buildInfo": {"ok": 1, "version": "7.0.2"}, "connectionStatus": {"ok": 1, "authInfo": USER}}
    return lambda command: (usual | replies).get(next(iter(command)), empty)


ALL = ["find", "insert", "update", "remove", "createIndex", "listIndexes"]
USER: Command = {
    "authenticatedUsers": [{"user": "Admin", "db": "admin"}],
    "authenticatedUserPrivileges": [{"resource": {"db": "ipam", "collection": ""}, "actions": ALL}],
}
REFUSED: Command = {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not allowed"}
UNKNOWN: Command = {"ok": 0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command"}


@pytest.mark.parametrize(
    ("about", "status", "told"),
    [
        ({"version": "7.0.2"}, "ok", "MongoDB 7.0.2"),
        ({"version": "4.4.0"}, "ok", "MongoDB 4.4.0"),
        ({"version": "4.2.9"}, "error", "too old"),
        ({"version": "7.0.42", "ferretdbVersion": "v1.24.0"}, "warning", "not atomic"),
        ({"version": "7.0.77", "ferretdb": {"version": "v2.5.0"}}, "warning", "the square of the documents"),
    ],
)
async def test_which_server_it_is(about: Command, status: str, told: str) -> None:
    [one] = [one for one in await mongo(script(buildInfo={"ok": 1, **about})) if one.check == "mongodb.version"]
    assert one.status == status
    assert told in one.message


async def test_rights_that_the_server_tells() -> None:
    found = await mongo(script())
    assert [one.check for one in found if one.status != "ok"] == []
    few = USER | {
        "authenticatedUserPrivileges": [
            {"resource": {"db": "ipam", "collection": ""}, "actions": ["find", "listIndexes"]},
            {"resource": {"db": "other", "collection": ""}, "actions": ALL},
            {"resource": {"db": "ipam", "collection": "addresses"}, "actions": ["insert", "update"]},
            {"resource": {"cluster": True}, "actions": ["anyAction"]},
        ]
    }
    [rights] = [
        one for one in await mongo(script(connectionStatus={"ok": 1, "authInfo": few})) if one.check == "mongodb.rights"
    ]
    assert rights.status == "error"
    assert "remove, createIndex on addresses;" in rights.message
    assert "insert, update, remove, createIndex on addresses_pool" in rights.message


async def test_a_superuser_may_everything() -> None:
    root = USER | {"authenticatedUserPrivileges": [{"resource": {"anyResource": True}, "actions": ["anyAction"]}]}
    found = await mongo(script(connectionStatus={"ok": 1, "authInfo": root}))
    assert [one.check for one in found if one.status != "ok"] == []


async def test_rights_that_have_to_be_tried() -> None:
    found = await mongo(script(connectionStatus=UNKNOWN))
    [rights] = [one for one in found if one.check == "mongodb.rights"]
    assert (rights.status, "does not say" in rights.message) == ("ok", True)
    found = await mongo(script(connectionStatus=UNKNOWN, update=REFUSED, delete=REFUSED))
    [rights] = [one for one in found if one.check == "mongodb.rights"]
    assert rights.status == "error"
    assert rights.message.startswith("the user may not update, remove on addresses;")


@pytest.mark.parametrize(
    "command",
    [
        ("check-config",),
        ("serve",),
        ("list-addresses",),
        ("list-zones",),
        ("reconcile",),
        ("mongo-backup", "--out", "backup.archive.gz"),
        ("mongo-restore", "--in", str(REAL)),
    ],
    ids=lambda command: command[0],
)
def test_every_command_names_a_tls_file_that_cannot_be_used(ready: Installation, command: tuple[str, ...]) -> None:
    uri = "mongodb://user:SuperSecret@127.0.0.1:9/?tlsCAFile=/nowhere/ca.pem"
    ready.storage = {"mongodb": {"uri": uri}}
    ready.configure("http://127.0.0.1:9", server={"port": 0})
    done = ready.run(*command)
    assert done.status == (UNFIT if command[0] == "serve" else FAILED)
    assert "mongodb.uri: tlsCAFile: /nowhere/ca.pem cannot be read: No such file or directory" in done.out + done.err
    assert "Traceback" not in done.err
    assert "SuperSecret" not in done.out + done.err
    assert not (ready.directory / "backup.archive.gz").exists()


ANONYMOUS: Command = {"ok": 1, "authInfo": {"authenticatedUsers": [], "authenticatedUserPrivileges": []}}


async def test_access_control_without_a_user() -> None:
    """The server lets everybody ask which user they are, and nothing else."""
    refused = dict.fromkeys(("find", "update", "delete", "listIndexes", "count", "aggregate"), REFUSED)
    found = await mongo(script(connectionStatus=ANONYMOUS, **refused))
    [wrong] = [one for one in found if one.status != "ok"]
    assert (wrong.check, wrong.status) == ("mongodb.rights", "error")
    assert "the configuration names no user" in wrong.message
    assert "find, update, remove, listIndexes on addresses;" in wrong.message
    assert "mongodb.username" in wrong.advice
    assert not any("may read" in one.message for one in found)


async def test_no_access_control_is_a_warning_where_others_can_reach_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = await mongo(script(connectionStatus=ANONYMOUS))
    [rights] = [one for one in found if one.check == "mongodb.rights"]
    assert (rights.status, "the service may read, write and make indexes" in rights.message) == ("ok", True)
    monkeypatch.setattr(mongo_probe, "stays_here", lambda host: False)
    found = await mongo(script(connectionStatus=ANONYMOUS))
    rights, _ = [one for one in found if one.check == "mongodb.rights"]
    assert (rights.status, "no access control" in rights.message) == ("warning", True)


async def test_a_server_that_refuses_to_list_indexes() -> None:
    found = await mongo(script(listIndexes=REFUSED))
    assert [(one.check, one.status) for one in found if one.status != "ok"] == [("mongodb.indexes", "error")]


async def test_a_user_that_the_server_does_not_know() -> None:
    def refuse(command: Command) -> Command:
        return {"ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "no"}

    [_, one] = await mongo(refuse)
    assert (one.check, one.status) == ("mongodb.connection", "error")
    assert "refuses the user or the password" in one.message


async def test_no_server_at_all() -> None:
    probe = MongoProbe("mongodb://Admin:SuperSecret@127.0.0.1:9/?authSource=admin", "ipam", timeout_seconds=1)
    await probe.open()
    try:
        found = await probe.findings()
    finally:
        await probe.close()
    assert [(one.check, one.status) for one in found] == [("mongodb.tls", "ok"), ("mongodb.connection", "error")]
    assert "refused" in found[1].message
    assert "SuperSecret" not in str(found)


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("mongodb://localhost:27017/", "ok"),
        ("mongodb://[::1]:27017,127.0.0.1/", "ok"),
        ("mongodb://%2Frun%2Fmongodb.sock/", "ok"),
        ("mongodb://u:p@db.example.com/?tls=true", "ok"),
        ("mongodb+srv://db.example.com/", "ok"),
        ("mongodb+srv://db.example.com/?tls=false", "warning"),
        ("mongodb://db.example.com/", "warning"),
        ("mongodb://localhost,db.example.com/?ssl=false", "warning"),
    ],
)
def test_whether_what_is_stored_can_be_read_on_its_way(uri: str, status: str) -> None:
    assert MongoProbe(uri, "ipam")._transport_security().status == status


@pytest.mark.mongodb
def test_indexes_and_duplicates(ready: Installation, netbox: RemoteNetBox, mongodb_admin: MongoClient[Any]) -> None:
    if isinstance(ready.backend, SQLiteBackend):
        return
    ready.seed(*legacy_documents())
    ready.seed(document(1), document(2, address="192.0.2.1/32"))
    status, checks = looked(ready)
    assert status == 0
    [indexes] = of(checks, "mongodb.indexes")
    assert (indexes["status"], "ipam_address" in indexes["message"]) == ("warning", True)
    assert "192.0.2.1/32 in inet" in of(checks, "mongodb.duplicates")[0]["message"]
    assert set(mongodb_admin[ready.storage["mongodb"]["database"]]["addresses"].index_information()) == {"_id_"}
    mongodb_admin[ready.storage["mongodb"]["database"]]["addresses"].create_index(
        [("state", 1), ("_id", 1)], name="ipam_state", sparse=True
    )
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, ["mongodb.indexes"])


# -- Splunk ------------------------------------------------------------------------------------------------------------

WELL = answer(200, {"text": "HEC is healthy", "code": 17})


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ([WELL, answer(400, {"text": "No data", "code": 5})], ["ok", "ok", "ok"]),
        ([WELL, answer(403, {"text": "Invalid token", "code": 4})], ["ok", "ok", "error"]),
        ([WELL, answer(401, {"text": "Token is required", "code": 2})], ["ok", "ok", "error"]),
        ([WELL, answer(503, "busy")], ["ok", "ok", "warning"]),
        ([answer(503, {"text": "queues are full", "code": 18}), answer(400, {"code": 5})], ["ok", "warning", "ok"]),
        ([answer(404, "no such page"), answer(404, "no such page")], ["ok", "error", "warning"]),
    ],
)
async def test_the_collector(acts: list[Act], expected: list[str]) -> None:
    async with wire_server() as server:
        server.then(*acts)
        found = await splunk_probe.probe(server.url, "hec-token")
    assert [one.status for one in found] == expected
    assert [one.check for one in found] == ["splunk.tls", "splunk.health", "splunk.token"]
    assert [one.path for one in server.received] == ["/services/collector/health", "/services/collector/event"]
    # No event was sent.
    assert server.received[1].body == b""
    assert server.received[1].headers["authorization"] == "Splunk hec-token"
    assert "hec-token" not in str(found)


async def test_a_collector_that_is_away() -> None:
    found = await splunk_probe.probe("http://127.0.0.1:9", "hec-token")
    assert [one.status for one in found] == ["ok", "error"]


def test_splunk_is_looked_at_when_it_is_enabled(ready: Installation, netbox: RemoteNetBox) -> None:
    assert not [one for one in looked(ready)[1] if one["check"].startswith("splunk")]
    (ready.directory / "splunk.secret").write_text("hec-token")
    section = {"enable": True, "url": "http://127.0.0.1:9", "token_path": "splunk.secret"}
    ready.configure(netbox.url, splunk=section)
    status, checks = looked(ready)
    assert (status, errors(checks)) == (1, ["splunk.health"])
    assert any("splunk.token_path" in one["message"] for one in of(checks, "secret_files"))
