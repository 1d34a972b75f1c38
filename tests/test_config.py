from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipam_lib.config import (
    MongoDBSection,
    Settings,
    SplunkSection,
    SQLitePath,
    inspect,
    read_keys,
    read_secret,
    settings_rows,
    settings_table,
)
from ipam_lib.config.sections import SECTIONS, settings_of
from ipam_lib.crypto import KeySet, Secret
from ipam_lib.errors import ConfigError

# As the earlier service has it (the sample of its documentation, and an older one with `collection`).
EARLIER: dict[str, Any] = {
    "mongodb": {
        "username": "Admin",
        "password_path": "mongodb.secret",
        "host": "localhost",
        "port": 27017,
        "database": "vitistack-ipam-api",
        "collection": "addresses",
    },
    "netbox": {"url": "https://netbox.example.com", "token_path": "netbox.secret", "constraint_tag": "vitistack"},
    "splunk": {
        "enable": True,
        "url": "https://splunk-hec.example.com",
        "token_path": "splunk.secret",
        "index": "vitistack",
        "source": "vitistack:ipam-api",
        "sourcetype_app": "ipam-api:app",
        "sourcetype_http": "ipam-api:http",
    },
    "encryption_secrets": {"path": "secrets.json"},
}
SMALLEST: dict[str, Any] = {
    "storage": {"sqlite": "ipam.db"},
    "netbox": {"url": "https://netbox.example.com", "token_path": "netbox.secret"},
    "encryption_secrets": {"path": "secrets.json"},
}
SECRETS = {
    "mongodb.secret": "hunter2-p@ss/wörd",
    "netbox.secret": "hunter2-netbox",
    "splunk.secret": "hunter2-splunk",
    "auth.secret": "hunter2-auth",
    "secrets.json": '{"enc_key": "hunter2-16-bytes", "enc_iv": "hunter2-16-byte2"}',
    "previous.json": '{"enc_key": "hunter2-16-byteX", "enc_iv": "hunter2-16-byte2"}',
}

Write = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with every secret file."""
    for name, content in SECRETS.items():
        (tmp_path / name).write_text(content + "\n")
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("-----BEGIN\n")
    return tmp_path


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with dotted names set, or taken out (...)."""
    content: dict[str, Any] = json.loads(json.dumps(base))
    for dotted, value in changes.items():
        section, _, key = dotted.partition(".")
        target, name = (content.setdefault(section, {}), key) if key else (content, section)
        if value is ...:
            target.pop(name, None)
        else:
            target[name] = value
    return content


def load(home: Path, content: dict[str, Any], **environ: str) -> tuple[Settings, list[str]]:
    path = home / "config.json"
    path.write_text(json.dumps(content))
    return Settings.load(path, environ=environ)


def problems_of(home: Path, content: dict[str, Any] | str, **environ: str) -> list[str]:
    """What is wrong with a configuration, without the name of the file that each line begins with."""
    path = home / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError) as caught:
        Settings.load(path, environ=environ)
    assert caught.value.__cause__ is None
    for problem in caught.value.problems:
        assert problem.startswith(str(path))
        assert "hunter2" not in problem.replace(str(home), "")
    return [problem.removeprefix(f"{path}: ").removeprefix(f"{path} ") for problem in caught.value.problems]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_file_of_the_earlier_service(home: Path) -> None:
    loaded, warnings = load(home, EARLIER)
    assert warnings == []
    mongodb = loaded.storage
    assert isinstance(mongodb, MongoDBSection)
    assert (mongodb.host, mongodb.port, mongodb.database, mongodb.collection) == (
        "localhost", 27017, "vitistack-ipam-api", "addresses",
    )  # fmt: skip
    assert mongodb.connection_string().reveal() == (
        "mongodb://Admin:hunter2-p%40ss%2Fw%C3%B6rd@localhost:27017/?authSource=admin"
    )
    assert loaded.netbox.url == "https://netbox.example.com"
    assert loaded.netbox.token.reveal() == "hunter2-netbox"
    assert loaded.netbox.constraint_tag == "vitistack"
    assert loaded.splunk.enable is True
    assert loaded.splunk.token is not None
    assert loaded.splunk.token.reveal() == "hunter2-splunk"
    assert loaded.encryption_secrets.keys == KeySet(b"hunter2-16-bytes", b"hunter2-16-byte2")
    assert loaded.encryption_secrets.scheme == "aes-siv"
    assert loaded.auth.token is None
    assert loaded.source == home / "config.json"


def test_older_file_without_splunk_and_tag(home: Path) -> None:
    content = merged(EARLIER, {"splunk": ..., "netbox.constraint_tag": ...})
    loaded, warnings = load(home, content)
    assert warnings == []
    assert loaded.splunk == SplunkSection()
    assert loaded.splunk.enable is False
    assert loaded.netbox.constraint_tag is None


def test_defaults(home: Path) -> None:
    loaded, warnings = load(home, SMALLEST)
    assert warnings == []
    assert loaded.storage == SQLitePath(home / "ipam.db")
    server = loaded.server
    assert (server.host, server.port, server.reuse_port, server.request_timeout_seconds) == ("0.0.0.0", 3000, False, 25)
    assert (server.tls_cert, server.tls_key) == (None, None)
    assert (loaded.netbox.timeout_seconds, loaded.netbox.refresh_seconds) == (10, 600)
    assert (loaded.netbox.custom_fields, loaded.netbox.inherit_custom_fields) == (None, None)
    assert loaded.cleanup.interval_seconds == 30
    assert loaded.history.retention_days == 365
    assert (loaded.logging.directory, loaded.logging.level) == (Path("logs"), "info")


def test_everything_given(home: Path) -> None:
    content = merged(
        EARLIER,
        {
            "storage": "mongodb",
            "server": {
                "host": "::1", "port": 0, "reuse_port": True, "request_timeout_seconds": 12.5,
                "tls_cert": "cert.pem", "tls_key": "key.pem", "tls_client_ca": "ca.pem",
                "tls_client_names": ["operator.example.com"], "allowed_networks": ["10.0.0.0/8", "2001:db8::/32"],
                "trusted_proxies": ["127.0.0.1/32"], "forwarded_header": "Forwarded", "refusals_per_second": 7,
            },
            "auth.token_path": "auth.secret",
            "netbox.timeout_seconds": 6,
            "netbox.ca_file": "ca.pem",
            "netbox.refresh_seconds": 60,
            "netbox.custom_fields": {"domain": "na", "owner": {"id": 3}, "none": None},
            "netbox.inherit_custom_fields": ["infra", "env"],
            "netbox.warm_addresses": 0,
            "netbox.ip_addresses": "refuse",
            "netbox.webhook_secret_path": "auth.secret",
            "netbox.description": "{service_name}",
            "encryption_secrets.scheme": "legacy-ctr",
            "encryption_secrets.previous_path": "previous.json",
            "cleanup.interval_seconds": 5,
            "cleanup.cooldown_minutes": 90,
            "history.retention_days": 30,
            "limits": {"addresses_per_cluster": 50, "addresses_per_namespace": {"inet": 20}},
            "logging": {"directory": "log", "level": "DEBUG"},
        },
    )  # fmt: skip
    # Nothing of the table is left out here, so that a new setting is tried here too.
    for row in settings_rows():
        section, _, key = row.name.partition(".")
        if row.name != "mongodb.uri":
            assert key in content[section] if key else section in content, row.name
    loaded, warnings = load(home, content)
    assert warnings == []
    assert loaded.server.host == "::1"
    assert (loaded.server.port, loaded.server.reuse_port, loaded.server.request_timeout_seconds) == (0, True, 12.5)
    assert loaded.server.tls_client_ca == home / "ca.pem"
    assert loaded.server.tls_client_names == ("operator.example.com",)
    assert loaded.server.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert loaded.server.trusted_proxies == (ip_network("127.0.0.1/32"),)
    assert loaded.server.forwarded_header == "forwarded"
    assert loaded.server.refusals_per_second == 7
    assert (loaded.server.tls_cert, loaded.server.tls_key) == (home / "cert.pem", home / "key.pem")
    assert loaded.auth.token == Secret("hunter2-auth")
    assert loaded.netbox.timeout_seconds == 6
    assert isinstance(loaded.netbox.timeout_seconds, float)
    assert loaded.netbox.ca_file == home / "ca.pem"
    assert loaded.netbox.custom_fields == {"domain": "na", "owner": {"id": 3}, "none": None}
    assert loaded.netbox.inherit_custom_fields == ("infra", "env")
    assert loaded.netbox.description == "{service_name}"
    assert (loaded.limits.addresses_per_cluster, loaded.limits.addresses_per_namespace) == (50, {"inet": 20})
    assert loaded.encryption_secrets.previous == KeySet(b"hunter2-16-byteX", b"hunter2-16-byte2")
    assert (loaded.logging.directory, loaded.logging.level) == (home / "log", "debug")
    cipher = loaded.encryption_secrets.cipher()
    assert cipher.scheme == "legacy-ctr"
    assert len(cipher.candidates("SuperSecret")) == 4


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "an integer from 0 to 10000"),
        (True, "not a boolean"),
        ("50", 'or an object, such as {"inet": 50}'),
        ({"inet": 10_001}, "of zone 'inet' must be an integer from 0 to 10000"),
        ({"inet": None}, "of zone 'inet'"),
    ],
)
def test_warm_addresses_are_numbers(home: Path, value: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, merged(EARLIER, {"netbox.warm_addresses": value}))
    assert words in caught.value.problems[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{service_name.__class__}", "no other fields than {service_name}, {namespace_id}, {cluster_id}"),
        ("{0.__class__}", "no other fields"),
        ("{}", "no other fields"),
        ("{zone}", "no other fields"),
        ("{service_name!r}", "no other fields"),
        ("{service_name:>{cluster_id}}", "no other fields"),
        ("{service_name", "each field in braces; {{ and }} stand for braces"),
        ("service_name}", "each field in braces"),
        ("   ", "must not be empty"),
        ("x" * 201, "1 to 200 characters"),
        ("one\ntwo", "printable characters only"),
        (7, "must be a string"),
        (None, "must be a string"),
    ],
)
def test_a_description_has_known_fields_only(home: Path, value: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, merged(EARLIER, {"netbox.description": value}))
    [problem] = caught.value.problems
    assert "netbox.description must " in problem
    assert words in problem


@pytest.mark.parametrize("value", ["", "{{{service_name}}}", "load balancer"])
def test_a_description_may_be_empty_or_have_braces(home: Path, value: str) -> None:
    loaded, _ = load(home, merged(EARLIER, {"netbox.description": value}))
    assert loaded.netbox.description == value


@pytest.mark.parametrize("value", [1, {"inet": 1}])
def test_the_pool_is_not_for_two_services_side_by_side(home: Path, value: object) -> None:
    content = merged(EARLIER, {"netbox.warm_addresses": value, "encryption_secrets.scheme": "legacy-ctr"})
    with pytest.raises(ConfigError) as caught:
        load(home, content)
    assert "netbox.warm_addresses cannot be used while the earlier service" in caught.value.problems[0]


def test_from_dict_is_like_a_file(home: Path) -> None:
    from_file, _ = load(home, EARLIER)
    assert dataclasses.replace(from_file, source=None) == Settings.from_dict(EARLIER, base_directory=home)
    with pytest.raises(ConfigError) as caught:
        Settings.from_dict({}, base_directory=home)
    assert caught.value.problems[0].startswith("mongodb is missing: ")


def test_from_dict_does_not_keep_what_it_was_given(home: Path) -> None:
    given_: dict[str, Any] = merged(SMALLEST, {"netbox.custom_fields": {"domain": "na"}})
    before = json.dumps(given_)
    Settings.from_dict(given_, base_directory=home)
    assert json.dumps(given_) == before


def test_settings_show_no_secret(home: Path) -> None:
    content = merged(EARLIER, {"auth.token_path": "auth.secret", "mongodb.uri": "mongodb://u:hunter2@h/"})
    loaded, _ = load(home, content)
    shown = repr(loaded) + str(loaded)
    assert "hunter2" not in shown.replace(str(home), "")
    assert "****" in shown


def test_settings_cannot_be_changed(home: Path) -> None:
    loaded, _ = load(home, EARLIER)
    for part in (
        loaded,
        *(getattr(loaded, field.name) for field in dataclasses.fields(loaded) if field.name != "source"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server.port", 65535),
        ("server.request_timeout_seconds", 300),
        ("mongodb.port", 1),
        ("mongodb.port", 65535),
        ("mongodb.database", "d" * 63),
        ("mongodb.collection", "c" * 200),
        ("netbox.timeout_seconds", 0.1),
        ("netbox.timeout_seconds", 12.4),
        ("netbox.refresh_seconds", 1),
        ("netbox.refresh_seconds", 86400),
        ("netbox.warm_addresses", 10_000),
        ("netbox.warm_addresses", {"inet": 10_000, "hnet-public": 0}),
        ("cleanup.interval_seconds", 86400),
        ("cleanup.cooldown_minutes", 43_200),
        ("history.retention_days", 0),
        ("history.retention_days", 36_500),
    ],
)
def test_limits_are_inclusive(home: Path, name: str, value: object) -> None:
    loaded, _ = load(home, merged(EARLIER, {name: value}))
    section, _, key = name.partition(".")
    assert getattr(loaded.storage if section == "mongodb" else getattr(loaded, section), key) == value


# --- where the file is looked for -------------------------------------------------------------------------------------


def test_search_order(home: Path) -> None:
    def place(name: str, port: int) -> Path:
        path = home / name
        path.parent.mkdir(exist_ok=True)
        base = {
            "netbox.token_path": str(home / "netbox.secret"), "encryption_secrets.path": str(home / "secrets.json"),
            "server.port": port,
        }  # fmt: skip
        path.write_text(json.dumps(merged(SMALLEST, base)))
        return path

    given_, named, here, system = (
        place("g/x.json", 1),
        place("n/y.json", 2),
        place("cwd/config.json", 3),
        place("s/c", 4),
    )

    def port(path: Path | str | None = None, **environ: str) -> int:
        return Settings.load(path, environ=environ, cwd=home / "cwd", system=system)[0].server.port

    assert port(given_, IPAM_CONFIG=str(named)) == 1
    assert port(str(given_)) == 1
    assert port("../g/x.json") == 1
    assert port(IPAM_CONFIG=str(named)) == 2
    assert port(IPAM_CONFIG="../n/y.json") == 2
    assert port(IPAM_CONFIG="") == 3
    assert port() == 3
    here.unlink()
    assert port() == 4
    system.unlink()
    with pytest.raises(ConfigError) as caught:
        port()
    assert caught.value.problems == [
        f"there is no configuration: looked for {here} and {system}; give one with --config or $IPAM_CONFIG"
    ]
    # What was asked for by name is not looked for elsewhere.
    place("cwd/config.json", 3)
    for ask in (lambda: port(home / "gone.json"), lambda: port(IPAM_CONFIG=str(home / "gone.json"))):
        with pytest.raises(ConfigError, match=r"gone.json cannot be read: No such file or directory"):
            ask()


def test_the_process_s_own_surroundings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.json").write_text(json.dumps(SMALLEST))
    monkeypatch.chdir(home)
    monkeypatch.delenv("IPAM_CONFIG", raising=False)
    assert Settings.load()[0].source == home / "config.json"
    monkeypatch.setenv("IPAM_CONFIG", str(home / "gone.json"))
    with pytest.raises(ConfigError, match=r"gone\.json"):
        Settings.load()


def test_relative_paths_are_relative_to_the_file_as_it_is_named(home: Path, tmp_path: Path) -> None:
    (home / "real").mkdir()
    (home / "real" / "settings.json").write_text(json.dumps(SMALLEST))
    (home / "config.json").symlink_to("real/settings.json")
    loaded, _ = Settings.load("config.json", environ={}, cwd=home)
    assert loaded.netbox.token_path == home / "netbox.secret"


# --- secret files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secret_files_may_end_in_a_newline(home: Path, ending: str) -> None:
    path = home / "netbox.secret"
    path.write_bytes(b"token-word" + ending.encode())
    assert read_secret(path).reveal() == "token-word"
    assert load(home, SMALLEST)[0].netbox.token.reveal() == "token-word"


def test_secret_is_read_anew(home: Path) -> None:
    path = home / "auth.secret"
    assert read_secret(path).reveal() == "hunter2-auth"
    path.write_text("another\n")
    assert read_secret(path).reveal() == "another"


@pytest.mark.parametrize("password", [" leading and trailing ", "two\nlines", "tab\t", "ünï-çødé", "\ufeffbom"])
def test_a_password_is_taken_as_it_is(home: Path, password: str) -> None:
    path = home / "mongodb.secret"
    path.write_text(password + "\n")
    assert read_secret(path, token=False).reveal() == password


@pytest.mark.parametrize(
    "token", ["hunter2 hunter2", "hunter2\nhunter2", "hunter2\n\n", " hunter2", "hunter2\t", "\ufeffhunter2"]
)
def test_a_token_is_one_word(home: Path, token: str) -> None:
    (home / "netbox.secret").write_text(token + "\n")
    (problem,) = problems_of(home, SMALLEST)
    assert problem == f"netbox.token_path: {home / 'netbox.secret'} must hold one token: a single word, on one line"


@pytest.mark.parametrize("content", ["", "\n", "\r\n", "  \n"])
@pytest.mark.parametrize(
    ("name", "key", "what"),
    [("netbox.secret", "netbox.token_path", "token"), ("mongodb.secret", "mongodb.password_path", "password"),
     ("splunk.secret", "splunk.token_path", "token")],
)  # fmt: skip
def test_empty_secret_file(home: Path, content: str, name: str, key: str, what: str) -> None:
    (home / name).write_bytes(content.encode())
    assert problems_of(home, EARLIER) == [f"{key}: {home / name} is empty; it must hold the {what}"]


def test_unusable_secret_files(home: Path) -> None:
    (home / "mongodb.secret").write_bytes(b"hunter2\xff")
    (home / "netbox.secret").write_bytes(b"x" * 70_000)
    (home / "splunk.secret").unlink()
    (home / "secrets.json").unlink()
    (home / "secrets.json").mkdir()
    assert problems_of(home, EARLIER) == [
        f"mongodb.password_path: {home / 'mongodb.secret'} is not UTF-8 (line 1)",
        f"netbox.token_path: {home / 'netbox.secret'} is larger than 64 KiB",
        "encryption_secrets.path must name a file, not a directory",
        f"splunk.token_path names a file that is not there; looked for {home / 'splunk.secret'}",
    ]


def test_secret_file_that_may_not_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # chmod would not do: root may read every file.
    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError) as caught:
        read_secret(home / "netbox.secret")
    assert caught.value.problems == [f"{home / 'netbox.secret'} cannot be read: Permission denied"]


def test_directory_that_may_not_be_searched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ConfigError) as caught:
        Settings.from_dict(SMALLEST, base_directory=home)
    assert caught.value.problems == [
        "netbox.token_path names a file that cannot be reached (Permission denied)",
        "encryption_secrets.path names a file that cannot be reached (Permission denied)",
    ]


def test_size_of_secret_files(home: Path) -> None:
    path = home / "netbox.secret"
    path.write_text("x" * 65_536)
    assert len(read_secret(path).reveal()) == 65_536
    path.write_text("x" * 65_537)
    with pytest.raises(ConfigError, match="is larger than 64 KiB"):
        read_secret(path)


def test_a_secret_is_a_token_unless_it_is_said_to_be_none(home: Path) -> None:
    (home / "netbox.secret").write_text("two words")
    with pytest.raises(ConfigError, match="a single word"):
        read_secret(home / "netbox.secret")


def test_key_file_problems_are_all_listed(home: Path) -> None:
    (home / "secrets.json").write_text('{"enc_key": "hunter2", "enc_iv": "hunter2"}')
    path = home / "secrets.json"
    assert problems_of(home, SMALLEST) == [
        f"encryption_secrets.path: {path}: enc_key must be 16, 24 or 32 bytes long in UTF-8; it is 7",
        f"encryption_secrets.path: {path}: enc_iv must be 16 bytes long in UTF-8; it is 7",
    ]
    with pytest.raises(ConfigError):
        read_keys(path)
    assert read_keys(home / "previous.json").enc_key == b"hunter2-16-byteX"


def test_credentials_directory(home: Path) -> None:
    credentials = home / "credentials"
    credentials.mkdir()
    for name in ("netbox.secret", "secrets.json", "key.pem"):
        (home / name).rename(credentials / name)
    content = merged(SMALLEST, {"server.tls_cert": "cert.pem", "server.tls_key": "some/where/key.pem"})
    loaded, _ = load(home, content, CREDENTIALS_DIRECTORY=str(credentials))
    assert loaded.netbox.token_path == credentials / "netbox.secret"
    assert loaded.server.tls_cert == home / "cert.pem"
    assert loaded.server.tls_key == credentials / "key.pem"
    # A file at its own place comes first.
    (home / "netbox.secret").write_text("own")
    assert load(home, content, CREDENTIALS_DIRECTORY=str(credentials))[0].netbox.token.reveal() == "own"
    (home / "netbox.secret").unlink()
    (credentials / "netbox.secret").unlink()
    assert problems_of(home, content, CREDENTIALS_DIRECTORY=str(credentials)) == [
        f"netbox.token_path names a file that is not there; looked for {home / name} and {credentials / name}"
        for name in ["netbox.secret"]
    ]
    assert len(problems_of(home, content, CREDENTIALS_DIRECTORY="")) == 3


def test_a_file_that_only_root_may_read_is_taken_from_the_credentials(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may read every file, and runs tests too: what others may, is told here.
    own, passed = home / "netbox.secret", home / "credentials" / "netbox.secret"
    passed.parent.mkdir()
    passed.write_text("passed")
    monkeypatch.setattr("os.access", lambda path, mode: path != own)
    environ = {"CREDENTIALS_DIRECTORY": str(passed.parent)}
    assert load(home, SMALLEST, **environ)[0].netbox.token.reveal() == "passed"
    # Its directory may be closed as well.
    is_dir = Path.is_dir

    def closed(path: Path) -> bool:
        if path == own:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", closed)
    assert load(home, SMALLEST, **environ)[0].netbox.token.reveal() == "passed"
    assert problems_of(home, SMALLEST) == ["netbox.token_path names a file that cannot be reached (Permission denied)"]
    monkeypatch.undo()
    # Where there is no other, the file itself is read, and whatever is wrong with that is said.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    passed.unlink()
    assert load(home, SMALLEST, **environ)[0].netbox.token_path == own


@pytest.mark.parametrize(
    "token",
    [
        "hunter2",
        "hunter2-0123456789abcdef",
        "nbt_hunter2.hunter2HUNTER2",
        "/hunter2+",
        "ab/hunter2==",
        "h" * 5000 + "hunter2",
    ],
)
def test_a_secret_in_place_of_its_file_s_name_is_not_repeated(home: Path, token: str) -> None:
    (problem,) = problems_of(home, merged(SMALLEST, {"netbox.token_path": token}))
    assert problem.startswith(
        ("netbox.token_path must name a file, and there is none", "netbox.token_path names a file")
    )


# --- what is refused --------------------------------------------------------------------------------------------------

HELP = {row.name: row.help for row in settings_rows()}
NO_URI = "must be a connection string: mongodb://host:port/?options or mongodb+srv://host/?options"
NO_URL = "must be an http or https address, such as https://netbox.example.com"
NO_DATABASE = 'must be the name of a database: at most 63 bytes, and none of / \\ . " $ * < > : | ? or spaces'
NO_COLLECTION = "must be the name of a collection: at most 200 bytes, no $, and not one of `system.`"
NO_FIELD = "must hold names of custom fields: lower-case letters, digits and single underscores"
TOO_LONG = (
    "(12.5) must be less than half of server.request_timeout_seconds (25), so that a request has time for a second call"
)
WRONG: list[tuple[str, object, str]] = [
    ("storage", "sqlite", 'must be "mongodb" or {"sqlite": "path of the database file"}'),
    ("storage", {"sqlite": "x", "path": "y"}, 'must be "mongodb" or {"sqlite": "path of the database file"}'),
    ("storage", {"sqlite": 7}, "names a path for sqlite that must be a string, not a number"),
    ("storage", {"sqlite": ""}, "names a path for sqlite that must not be empty"),
    ("storage", None, 'must be "mongodb" or {"sqlite": "path of the database file"}'),
    ("mongodb", [], "must be an object, not an array"),
    ("server", None, "must be an object, not null"),
    ("mongodb.uri", "localhost", NO_URI),
    ("mongodb.uri", "mongodb://", NO_URI),
    ("mongodb.uri", "mongodb://u:p@/x", NO_URI),
    ("mongodb.uri", "mongodb://u:hunter2@x@h",
     "must have the special characters in user and password percent-encoded (@ is %40, / is %2F)"),
    ("mongodb.uri", "mongodb://u:hunter2/x@h/",
     "must have the special characters in user and password percent-encoded (@ is %40, / is %2F)"),
    ("mongodb.host", "", "must not be empty"),
    ("mongodb.host", "a:27017", "must be a host without a port; the port is mongodb.port"),
    ("mongodb.host", "a,b", "must be one host; for several of them, use mongodb.uri"),
    ("mongodb.host", "mongodb://a", "must be a host without a port; the port is mongodb.port"),
    ("mongodb.host", "a/b", "must be a host name or an IP address"),
    ("mongodb.host", "user@host", "must be a host name or an IP address"),
    ("mongodb.port", "27017", "must be an integer from 1 to 65535, not a string"),
    ("mongodb.port", True, "must be an integer from 1 to 65535, not a boolean"),
    ("mongodb.port", 27017.0, "must be an integer from 1 to 65535, not a fraction"),
    ("mongodb.port", 0, "must be an integer from 1 to 65535"),
    ("mongodb.port", 65536, "must be an integer from 1 to 65535"),
    ("mongodb.username", 7, "must be a string, not a number"),
    ("mongodb.username", None, "must be a string, not null"),
    ("mongodb.username", "a\nb", "must hold printable characters only"),
    ("mongodb.database", "a.b", NO_DATABASE),
    ("mongodb.database", "d" * 64, NO_DATABASE),
    ("mongodb.database", "é" * 32, NO_DATABASE),
    ("mongodb.collection", "c" * 201, NO_COLLECTION),
    ("mongodb.collection", "a$b", NO_COLLECTION),
    ("server.request_timeout_seconds", 300.5, "must be from 1 to 300 seconds"),
    ("mongodb.collection", "system.x", NO_COLLECTION),
    ("netbox.url", 7, "must be a string, not a number"),
    ("netbox.url", "netbox.example.com", NO_URL),
    ("netbox.url", "ftp://netbox.example.com", NO_URL),
    ("netbox.url", "https://", NO_URL),
    ("netbox.url", "https://[::1", NO_URL),
    ("netbox.url", "https://h:99999", NO_URL),
    ("netbox.url", "https://h:0", NO_URL),
    ("netbox.url", "https://a b/", NO_URL),
    ("netbox.url", "https://me:hunter2@h", "must not hold a user or password"),
    ("netbox.url", "https://hunter2@h", "must not hold a user or password"),
    ("netbox.url", "https://h/?token=hunter2", "must end with the path: no query, no fragment"),
    ("netbox.url", "https://h/#x", "must end with the path: no query, no fragment"),
    ("netbox.url", "https://h/api", "must not hold /api: the program adds it, as in https://netbox.example.com"),
    ("netbox.url", "https://h/api/", "must not hold /api: the program adds it, as in https://netbox.example.com"),
    ("splunk.url", "https://h/services/collector/event",
     "must not hold /services/collector: the program adds it, as in https://splunk-hec.example.com"),
    ("netbox.timeout_seconds", "10", "must be a number of seconds from 0.1 to 120, not a string"),
    ("netbox.timeout_seconds", True, "must be a number of seconds from 0.1 to 120, not a boolean"),
    ("netbox.timeout_seconds", 0, "must be from 0.1 to 120 seconds"),
    ("netbox.timeout_seconds", 12.5, TOO_LONG),
    ("netbox.custom_fields", [], 'must be an object of names and values, such as {"domain": "na"}'),
    ("netbox.custom_fields", {"Domain": 1}, NO_FIELD),
    ("netbox.custom_fields", {"k8s_uuid": "x"}, "must not hold k8s_uuid or k8s_zone: the program sets them itself"),
    ("netbox.inherit_custom_fields", "infra", 'must be a list of names of custom fields, such as ["infra"]'),
    ("netbox.inherit_custom_fields", [1], 'must be a list of names of custom fields, such as ["infra"]'),
    ("netbox.inherit_custom_fields", ["k8s_zone"], "must not hold k8s_uuid or k8s_zone: the program sets them itself"),
    ("netbox.inherit_custom_fields", ["a", "a"], "must not hold a name twice"),
    ("splunk.enable", "true", "must be true or false, not a string"),
    ("splunk.enable", 1, "must be true or false, not a number"),
    ("encryption_secrets.scheme", "aes", "must be one of: aes-siv, legacy-ctr"),
    ("encryption_secrets.scheme", 1, "must be one of: aes-siv, legacy-ctr"),
    ("server.reuse_port", 0, "must be true or false, not a number"),
    ("server.host", "", "must not be empty"),
    ("server.allowed_networks", "10.0.0.0/8", "must be a list of networks, not a string"),
    ("server.allowed_networks", ["10.0.0.1/8"], "must hold networks without host bits, such as 10.0.0.0/8"),
    ("server.trusted_proxies", [7], "must hold networks without host bits, such as 10.0.0.0/8"),
    ("server.refusals_per_second", -1, "must be an integer from 0 to 100000"),
    ("server.forwarded_header", "x-real-ip", "must be one of: x-forwarded-for, forwarded"),
    ("server.host", [], "must hold at least one address, and none twice"),
    ("server.host", ["::1", "::1"], "must hold at least one address, and none twice"),
    ("server.host", ["::1", 7], "must be a string, not a number"),
    ("server.request_timeout_seconds", 0.5, "must be from 1 to 300 seconds"),
    ("cleanup.interval_seconds", -1, "must be from 1 to 86400 seconds"),
    ("history.retention_days", -1, "must be an integer from 0 to 36500"),
    ("history.retention_days", 1.5, "must be an integer from 0 to 36500, not a fraction"),
    ("logging.level", "loud", "must be one of: debug, info, warning, error, critical"),
    ("logging.directory", "", "must not be empty"),
    ("auth.token_path", "", "must not be empty"),
    ("auth.token_path", "a\0b", "must hold printable characters only"),
    ("auth.token_path", "\ud800", "must hold printable characters only"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_wrong_value(home: Path, name: str, value: object, text: str) -> None:
    assert problems_of(home, merged(EARLIER, {name: value})) == [f"{name} {text}"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"mongodb.host": ...}, ["mongodb.host"]),
        ({"mongodb.password_path": ...}, ["mongodb.password_path"]),
        ({"mongodb.username": ...}, ["mongodb.username"]),
        ({"mongodb": {}, "storage": "mongodb"}, ["mongodb.host"]),
        ({"netbox": ...}, ["netbox.url", "netbox.token_path"]),
        ({"encryption_secrets": ...}, ["encryption_secrets.path"]),
        ({"splunk": {"enable": True}}, ["splunk.url", "splunk.token_path"]),
        ({"server.tls_cert": "cert.pem"}, ["server.tls_key"]),
        ({"server.tls_key": "key.pem"}, ["server.tls_cert"]),
    ],
)
def test_missing(home: Path, changes: dict[str, Any], missing: list[str]) -> None:
    problems = problems_of(home, merged(EARLIER, changes))
    assert [problem.partition(" is missing: ")[0] for problem in problems] == missing
    for problem, name in zip(problems, missing, strict=True):
        # It says what to give, in the words of the table.
        assert problem.partition(": ")[2].lower() == HELP[name].rstrip(".").lower()


def test_every_problem_at_once(home: Path) -> None:
    (home / "netbox.secret").unlink()
    content = merged(
        EARLIER,
        {
            "mongodb.port": "27017",
            "mongodb.hst": "x",
            "mongodb.host": ...,
            "netbox.url": ...,
            "server.port": -1,
            "logs": {},
        },
    )
    assert problems_of(home, content) == [
        "mongodb.host is missing: host of the server",
        "mongodb.port must be an integer from 1 to 65535, not a string",
        "netbox.url is missing: address of NetBox",
        f"netbox.token_path names a file that is not there; looked for {home / 'netbox.secret'}",
        "server.port must be an integer from 0 to 65535",
        # A misspelt name may be why one is missing.
        "'logs' is not a setting",
        "'mongodb.hst' is not a setting; did you mean mongodb.host?",
    ]  # fmt: skip


@pytest.mark.parametrize("storage", [..., "mongodb"])
def test_no_storage_at_all(home: Path, storage: object) -> None:
    assert problems_of(home, merged(EARLIER, {"mongodb": ..., "storage": storage})) == [
        'mongodb is missing: give host, username and password_path; or set storage to {"sqlite": PATH}'
    ]


def test_fields_that_are_both_set_and_inherited(home: Path) -> None:
    content = merged(SMALLEST, {"netbox.custom_fields": {"a": 1, "b": 2}, "netbox.inherit_custom_fields": ["b", "c"]})
    assert problems_of(home, content) == [
        "netbox.inherit_custom_fields and netbox.custom_fields both name b: keep one of them"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not valid JSON: expecting value at line 1, column 1"),
        (
            '{\n  "mongodb": {"password": "hunter2}\n}',
            "is not valid JSON: invalid control character at line 2, column 36",
        ),
        ('{"netbox": {"token": "hunter2"} "x"}', "is not valid JSON: expecting ',' delimiter at line 1, column 33"),
        ("[]", "must hold one JSON object"),
        ('"hunter2"', "must hold one JSON object"),
        ('{"server": {"port": NaN}}', "is not valid JSON: NaN is no JSON number"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"server": {"port": ' + "9" * 5000 + "}}", "holds a number with too many digits"),
    ],
)
def test_bad_json(home: Path, text: str, problem: str) -> None:
    assert problems_of(home, text) == [problem]


def test_names_of_client_certificates_need_their_authority(home: Path) -> None:
    problems = problems_of(home, merged(EARLIER, {"server.tls_client_names": "a"}))
    assert problems[0].startswith("server.tls_client_ca is missing: ")
    assert problems[1] == "server.tls_client_names must be a list of names, not a string"


def test_custom_field_that_json_cannot_hold(home: Path) -> None:
    # 1e999 is JSON, but comes out as infinite.
    text = json.dumps(merged(SMALLEST, {"netbox.custom_fields": {"a": 0.5}})).replace("0.5", "1e999")
    assert problems_of(home, text) == ["netbox.custom_fields must hold JSON values"]
    (problem,) = problems_of(home, text.replace('"custom_fields": {"a": 1e999}', '"timeout_seconds": 1e999'))
    assert problem == "netbox.timeout_seconds must be from 0.1 to 120 seconds"


def test_unreadable_files(home: Path) -> None:
    (home / "latin").write_bytes(b'{\n"a": "\xe9"}')
    (home / "directory").mkdir()
    for name, problem in (
        ("latin", "is not UTF-8 (line 2)"),
        ("directory", "cannot be read: Is a directory"),
        ("gone", "cannot be read: No such file or directory"),
        ("a\0b", "cannot be read: it is no usable path"),
        ("x" * 300, "cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            Settings.load(home / name, environ={})
        assert caught.value.problems == [f"{home / name} {problem}"]


def test_byte_order_mark_is_let_pass(home: Path) -> None:
    path = home / "config.json"
    path.write_text(json.dumps(SMALLEST), encoding="utf-8-sig")
    assert Settings.load(path, environ={})[1] == []


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("netbox.tokn_path", "'netbox.tokn_path' is not a setting; did you mean netbox.token_path?"),
        ("mongodb.password", "'mongodb.password' is not a setting; did you mean mongodb.password_path?"),
        ("netbox.token", "'netbox.token' is not a setting; did you mean netbox.token_path?"),
        ("port", "'port' is not a setting; did you mean mongodb.port or server.port?"),
        ("auth.interval_seconds", "'auth.interval_seconds' is not a setting; did you mean cleanup.interval_seconds?"),
        ("Storage", "'Storage' is not a setting; did you mean storage?"),
        ("entirely.else", "'entirely' is not a setting"),
        ("a\nb", "'a\\nb' is not a setting"),
    ],
)
def test_unknown_names(home: Path, name: str, warning: str) -> None:
    _, warnings = load(home, merged(SMALLEST, {name: "hunter2"}))
    assert warnings == [f"{home / 'config.json'}: {warning}"]


def test_comments_are_ignored(home: Path) -> None:
    """A setting that is commented out is like one that is not there, however often."""
    text = (
        json.dumps(SMALLEST)[:-1] + ', "//": "why", "server": {"//port": 1, "port": 3, "//": []}, "//": {"server": 7}}'
    )
    path = home / "config.json"
    path.write_text(text)
    loaded, warnings = Settings.load(path, environ={})
    assert (loaded.server.port, warnings) == (3, [])


def test_names_that_stand_twice(home: Path) -> None:
    text = json.dumps(SMALLEST)[:-1] + ', "server": {"port": 1, "port": 2}, "server": {"port": 3, "host": "::"}}'
    path = home / "config.json"
    path.write_text(text)
    loaded, warnings = Settings.load(path, environ={})
    assert loaded.server.port == 3
    assert warnings == [
        f"{path}: 'port' stands twice in one object; the last one counts",
        f"{path}: 'server' stands twice in one object; the last one counts",
    ]


def test_what_is_not_used_is_said(home: Path) -> None:
    content = merged(EARLIER, {"mongodb.uri": "mongodb://u:p@h", "encryption_secrets.previous_path": "secrets.json"})
    loaded, warnings = load(home, content)
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "mongodb.username is not used: mongodb.uri names a user itself",
        "encryption_secrets.previous_path holds the same keys as encryption_secrets.path",
    ]
    assert isinstance(loaded.storage, MongoDBSection)
    assert loaded.storage.connection_string().reveal() == "mongodb://u:p@h"


# --- what is left alone -----------------------------------------------------------------------------------------------


def test_splunk_is_not_looked_at_while_it_is_off(home: Path) -> None:
    (home / "splunk.secret").write_text("")
    content = merged(EARLIER, {"splunk.enable": False, "splunk.url": "", "splunk.index": 7})
    loaded, warnings = load(home, content)
    assert loaded.splunk == SplunkSection()
    assert warnings == []
    _, warnings = load(home, merged(content, {"splunk.ural": 1}))
    assert len(warnings) == 1


def test_mongodb_is_not_looked_at_with_sqlite(home: Path) -> None:
    (home / "mongodb.secret").unlink()
    loaded, warnings = load(home, merged(EARLIER, {"storage": {"sqlite": "sub/ipam.db"}, "mongodb.port": "x"}))
    assert loaded.storage == SQLitePath(home / "sub" / "ipam.db")
    assert warnings == []


# --- the connection string --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mongodb.username": ..., "mongodb.password_path": ...}, "mongodb://localhost:27017/"),
        ({"mongodb.host": "::1", "mongodb.port": 1}, "mongodb://Admin:PASSWORD@[::1]:1/?authSource=admin"),
        ({"mongodb.host": "[::1]"}, "mongodb://Admin:PASSWORD@[::1]:27017/?authSource=admin"),
        ({"mongodb.host": "my_mongo.local"}, "mongodb://Admin:PASSWORD@my_mongo.local:27017/?authSource=admin"),
        ({"mongodb.username": "a:b@c/d e"}, "mongodb://a%3Ab%40c%2Fd%20e:PASSWORD@localhost:27017/?authSource=admin"),
        ({"mongodb.uri": "mongodb://a,b:1/?replicaSet=rs"}, "mongodb://Admin:PASSWORD@a,b:1/?replicaSet=rs"),
        ({"mongodb.uri": "mongodb+srv://c.example.com", "mongodb.host": ...}, "mongodb+srv://Admin:PASSWORD@c.example.com"),
        ({"mongodb.uri": "mongodb://h/?appName=a@b", "mongodb.username": ..., "mongodb.password_path": ...},
         "mongodb://h/?appName=a@b"),
        ({"mongodb.uri": "mongodb://x:y@h/db?tls=true", "mongodb.username": ..., "mongodb.password_path": ...},
         "mongodb://x:y@h/db?tls=true"),
    ],
)  # fmt: skip
def test_connection_string(home: Path, changes: dict[str, Any], expected: str) -> None:
    loaded, warnings = load(home, merged(EARLIER, changes))
    assert warnings == []
    assert isinstance(loaded.storage, MongoDBSection)
    made = loaded.storage.connection_string()
    assert made.reveal() == expected.replace("PASSWORD", "hunter2-p%40ss%2Fw%C3%B6rd")
    assert "hunter2" not in repr(made)


def test_connection_string_of_a_section_made_in_code() -> None:
    assert MongoDBSection(username="u").connection_string().reveal() == "mongodb://localhost:27017/"
    assert MongoDBSection(host="h", password=Secret("p")).connection_string().reveal() == "mongodb://h:27017/"


@given(st.text(min_size=1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_driver_reads_back_user_and_password(username: str, password: str) -> None:
    from pymongo.uri_parser import parse_uri

    section = MongoDBSection(username=username, password=Secret(password), host="localhost")
    if not username.isprintable():
        return
    parsed = parse_uri(section.connection_string().reveal())
    assert (parsed["username"], parsed["password"]) == (username, password)
    assert parsed["options"]["authSource"] == "admin"
    assert parsed["nodelist"] == [("localhost", 27017)]


# --- arbitrary input --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70_000)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8)
    | st.sampled_from(["netbox.secret", "secrets.json", "https://h", "mongodb", "mongodb://h", ".", "/", "aes-siv"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sqlite", "enable", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
NAMES = [*SECTIONS, "storage", *(f"{name}.{key}" for name, section in SECTIONS.items() for key in settings_of(section))]


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@example({"storage": {"sqlite": "a\0b"}})
def test_arbitrary_values(home: Path, changes: dict[str, Any]) -> None:
    content = json.loads(json.dumps(EARLIER))
    for dotted, value in sorted(changes.items(), key=lambda item: item[0].count("."), reverse=True):
        section, _, key = dotted.partition(".")
        if key and isinstance(content.setdefault(section, {}), dict):
            content[section][key] = value
        elif not key:
            content[section] = value
    try:
        loaded = Settings.from_dict(content, base_directory=home)
    except ConfigError as caught:
        problems = caught.problems
    else:
        assert "hunter2" not in repr(loaded).replace(str(home), "")
        return
    assert problems
    assert "hunter2" not in "\n".join(problems).replace(str(home), "")
    "\n".join(problems).encode()


@given(st.binary(max_size=300))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_files(home: Path, raw: bytes) -> None:
    path = home / "config.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        Settings.load(path, environ={})


# --- the table --------------------------------------------------------------------------------------------------------


def test_table_has_every_setting_of_every_section() -> None:
    rows = settings_rows()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.help.endswith("."), row.name
        assert len(row.help) > 10
        assert row.kind
    names = {field.name for section in SECTIONS.values() for field in dataclasses.fields(section)}
    # What is not a setting is the content of a file.
    assert names - {row.name.rpartition(".")[2] for row in rows} == {
        *("password", "token", "webhook_secret", "keys", "previous")
    }


def test_sections_are_those_of_the_settings() -> None:
    assert set(SECTIONS) - {"mongodb"} == {field.name for field in dataclasses.fields(Settings)} - {"storage", "source"}


def test_defaults_of_the_table_are_those_that_hold(home: Path) -> None:
    loaded, _ = load(home, SMALLEST)
    for row in settings_rows():
        section, _, key = row.name.partition(".")
        if not row.default or section in ("mongodb", "storage"):
            continue
        value = getattr(getattr(loaded, section), key)
        if isinstance(value, Path):
            value = f"./{value}"
        assert json.loads(row.default) == value, row.name


def test_markdown_table() -> None:
    lines = settings_table().splitlines()
    rows = settings_rows()
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert line.replace("\\|", "").count("|") == 5
    assert "| `server.port` | integer, 0 to 65535 | `3000` | Port to listen on; 0 lets the system choose. |" in lines
    assert any(line.startswith("| `netbox.url` | URL | required |") for line in lines)
    assert any(line.startswith('| `logging.directory` | path | `"./logs"` |') for line in lines)
    kinds = {row.name: row.kind for row in rows}
    assert kinds["logging.level"] == "`debug`, `info`, `warning`, `error` or `critical`"
    assert kinds["encryption_secrets.scheme"] == "`aes-siv` or `legacy-ctr`"
    assert kinds["server.request_timeout_seconds"] == "seconds, 1 to 300"
    assert any("required unless `mongodb.uri` is given" in line for line in lines)


def test_every_section_can_be_inspected_by_itself(tmp_path: Path) -> None:
    """Also one that is added later."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"storage": {"sqlite": "x"}, "splunk": {"enable": True}, "cleenup": {}}))
    found = inspect(config)
    assert found.source == config
    broken = {"netbox", "encryption_secrets", "splunk"}
    for name in SECTIONS:
        if name != "mongodb":
            assert (getattr(found, name) is None) == (name in broken), name
    assert isinstance(found.storage, SQLitePath)
    for setting in ("netbox.url", "netbox.token_path", "encryption_secrets.path", "splunk.url", "splunk.token_path"):
        assert any(problem.startswith(setting) for problem in found.problems), setting
    assert any("cleanup" in warning for warning in found.warnings)
