"""No secret, token, password or key in any output: every path of the service and every command, succeeding and failing.

What may show one is named in `SHOWING`: it is their purpose.
"""

from __future__ import annotations

import ast
import json
import pprint
import ssl
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ipam_lib.cli.commands import COMMANDS
from ipam_lib.cli.exit_codes import FAILED, UNFIT
from ipam_lib.config import Settings
from tests.netbox.events import event, sign
from tests.support.certificates import self_signed
from tests.support.processes import Process, run, running, until
from tests.support.stubs import Stub, serving

# A hundred processes.
pytestmark = pytest.mark.no_cover

NETBOX_TOKEN = "fedcba9876543210fedcba9876543210fedcba98"
BEARER = "bearer/token+of=this-test"
WEBHOOK_SECRET = "webhook-secret-of-this-test"
SPLUNK_TOKEN = "5d0b6f4e-splunk-4f0a-9c7e-token"
PASSWORD = "p@ss/w:rd %& of 'mongo' \"db\" ü"
ENC_KEY = "key-that-nobody-may-see-32-bytes"
ENC_IV = "iv-of-16-bytes--"
NEW_KEY = "new-key-nobody-may-see--32-bytes"
FIRST, SECOND, THIRD, WRONG = 'Gehe1m "eins" \\ü', "Gehe1m&zwei=+/%41", "Geheim'drei", "FalschesGeheim"
SECRETS = (
    NETBOX_TOKEN, BEARER, WEBHOOK_SECRET, SPLUNK_TOKEN, PASSWORD, ENC_KEY, ENC_IV, NEW_KEY, FIRST, SECOND, THIRD, WRONG,
)  # fmt: skip

# What these print on standard output is the secret that was asked for.
SHOWING = {"show-secret", "demo", "simulate-netbox"}

SERVICE = {
    "service_name": "ingress",
    "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
    "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
}
BODY: dict[str, Any] = {"zone": "inet", "ip_family": "ipv4", "secret": FIRST, "service": SERVICE}
AUTHORIZED = {"Authorization": f"Bearer {BEARER}"}


def spelled(secret: str) -> set[str]:
    """The ways in which a text may hold a secret."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    }


@dataclass
class Outputs:
    """Everything that came out, by what it came out of."""

    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        self.texts.append((name, text))

    def add_files(self, directory: Path) -> None:
        """The files that a process wrote."""
        for path in sorted(directory.rglob("*")):
            self.add(str(path), path.read_text("utf-8"))

    def leaks(self) -> list[str]:
        """What shows a secret."""
        return [
            f"{name} shows {secret!r}: {line:.2000}"
            for name, text in self.texts
            for secret in SECRETS
            for line in text.splitlines()
            if any(form in line for form in spelled(secret))
        ]

    def text(self, part: str) -> str:
        """All that came out of what has this in its name."""
        return "\n".join(text for name, text in self.texts if part in name)

    def lines(self, part: str) -> list[dict[str, Any]]:
        """The same, as lines of JSON."""
        return [json.loads(line) for line in self.text(part).splitlines() if line]


@dataclass
class Site:
    """A configuration with secrets everywhere, over a storage that works or does not."""

    directory: Path
    outputs: Outputs = field(default_factory=Outputs)

    def write(self, netbox: str, splunk: str, storage: dict[str, Any], **sections: Any) -> None:
        """The configuration and its files."""
        self.directory.mkdir(exist_ok=True)
        certificate, key = self_signed(self.directory, "127.0.0.1")
        keys = {"enc_key": ENC_KEY, "enc_iv": ENC_IV}
        for name, text in (
            ("netbox.secret", NETBOX_TOKEN),
            ("auth.secret", BEARER),
            ("splunk.secret", SPLUNK_TOKEN),
            ("webhook.secret", WEBHOOK_SECRET),
            ("mongodb.secret", PASSWORD),
            ("secrets.json", json.dumps(keys)),
            ("new.json", json.dumps(keys | {"enc_key": NEW_KEY})),
        ):
            (self.directory / name).write_text(text + "\n", "utf-8")
        content = {
            "netbox": {
                "url": netbox,
                "token_path": "netbox.secret",
                "constraint_tag": "vitistack",
                "webhook_secret_path": "webhook.secret",
            },
            "encryption_secrets": {"path": "secrets.json"},
            "auth": {"token_path": "auth.secret"},
            "splunk": {"enable": True, "url": splunk, "token_path": "splunk.secret", "index": "vitistack"},
            "server": {"host": "127.0.0.1", "port": 0, "tls_cert": certificate.name, "tls_key": key.name},
            "logging": {"directory": "logs", "level": "debug"},
            "cleanup": {"interval_seconds": 1},
            **storage,
            **sections,
        }
        (self.directory / "config.json").write_text(json.dumps(content), "utf-8")

    def command(self, *arguments: str, status: int) -> str:
        """Run a command; its standard output."""
        done, out, err = run("--config", "config.json", *arguments, cwd=self.directory)
        assert done == status, f"{arguments}: {done}, {out}, {err}"
        if arguments[0] not in SHOWING:
            self.outputs.add(f"{arguments} stdout", out)
        self.outputs.add(f"{arguments} stderr", err)
        return out

    def serve(self) -> Process:
        return Process("--config", "config.json", "serve", cwd=self.directory)

    def end(self, service: Process) -> None:
        """Stop the service and keep what it said."""
        assert service.stop() == 0
        self.outputs.add("serve stdout", "\n".join(service.lines))
        self.outputs.add("serve stderr", "\n".join(service.errors))


_ANY = ssl.create_default_context()
_ANY.check_hostname = False
_ANY.verify_mode = ssl.CERT_NONE


def call(site: Site, url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> int:
    """One request; its answer is kept."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60, context=_ANY) as answer:
            status, raw, told = answer.status, answer.read(), str(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            status, raw, told = error.code, error.read(), str(error.headers)
    site.outputs.add(f"answer {status} to {method} {path}", told + raw.decode("utf-8", "replace"))
    return int(status)


def every_request(site: Site, url: str) -> dict[str, int]:
    """Every path, succeeding and failing in every way that a client can bring about; how often each status came."""
    other = BODY | {"service": SERVICE | {"service_name": "other"}}
    statuses: list[int] = []

    def ask(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> None:
        statuses.append(call(site, url, method, path, body, headers))

    for path in ("/", "/v2/address"):
        ask("POST", path, BODY)
        ask("POST", path, BODY | {"new_secret": FIRST})
        ask("POST", path, BODY | {"zone": "nowhere"})
        ask("POST", path, BODY | {"zone": FIRST})
        ask("POST", path, BODY | {"ip_family": SECOND, "new_secret": SECOND})
        ask("POST", path, BODY | {"address": FIRST})
        ask("POST", path, BODY | {"new_secret": [SECOND]})
        ask("POST", path, {"secret": {"nested": [FIRST]}})
        ask("POST", path, ["secret", FIRST])
        ask("POST", path, json.dumps(BODY).encode()[:-2])
        ask("POST", path, json.dumps(BODY, ensure_ascii=False).replace(":", "=").encode())
        ask("POST", path, f"secret={quote_plus(SECOND)}&zone=inet".encode())
        ask("POST", path, json.dumps(BODY).encode("utf-16"))
        ask("POST", path, json.dumps(BODY | {"pad": "x" * 70_000}).encode())
        ask("POST", path, json.dumps(BODY).encode(), {"Content-Encoding": "gzip"})
        ask("POST", path, BODY, {"Expect": "something"})
        ask("POST", path + f"?secret={quote(SECOND)}", BODY)
    ask("POST", "/", other | {"address": "83.118.168.0"})
    ask("POST", "/", BODY | {"secret": WRONG, "address": "83.118.168.0"})
    ask("POST", "/", BODY | {"new_secret": SECOND, "address": "83.118.168.0"})
    ask("POST", "/", BODY | {"secret": THIRD, "service": SERVICE | {"service_name": "third"}})
    ask("POST", "/", BODY | {"secret": THIRD, "new_secret": SECOND, "service": SERVICE | {"service_name": "third"}})
    for path in ("/", "/v2/service"):
        ask("DELETE", path, other | {"address": "83.118.168.0"})
        ask("DELETE", path, BODY | {"secret": WRONG})
        ask("DELETE", path, b'{"secret": "' + FIRST.encode())
    for headers in (
        AUTHORIZED,
        {"Authorization": BEARER},
        {},
        {"Authorization": f"Bearer {BEARER}x"},
        {"Authorization": f"Basic {BEARER}"},
    ):
        for path in ("/v2/addresses", "/v2/addresses/83.118.168.0", "/v2/addresses/83.118.168.0/history", "/v2/zones"):
            ask("GET", path, headers=headers)
            ask("GET", path + f"?token={quote(BEARER)}&zone={quote(FIRST)}", headers=headers)
        ask("DELETE", "/v2/cluster", {"cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b87f"}, headers)
    deleted = json.dumps(event("deleted", 7, {"prefix": "83.118.168.0/32", "comments": FIRST})).encode()
    for signature in (sign(deleted, WEBHOOK_SECRET), sign(deleted, FIRST), WEBHOOK_SECRET):
        ask("POST", "/netbox/webhook", deleted, {"X-Hook-Signature": signature})
    ask("DELETE", "/v2/cluster", {"cluster_id": SERVICE["cluster_id"]}, AUTHORIZED)
    ask("DELETE", "/v2/cluster", {"cluster_id": BEARER}, AUTHORIZED)
    for path in ("/", "/healthz", "/readyz", "/swagger", "/swagger/index.html", "/swagger/doc.json", "/nowhere"):
        ask("GET", path)
        ask("PUT", path, BODY)
    ask("GET", f"/secret={quote(SECOND)}")
    ask("GET", "/healthz", headers={"User-Agent": f"client secret={SECOND}"})
    ask("GET", "/healthz", headers={"X-Request-ID": SECOND})
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Everything was done: see the functions it calls. Nothing was looked at yet."""
    directory = tmp_path_factory.mktemp("site")
    made = Site(directory / "works")
    with (
        serving(Stub()) as splunk,
        running("simulate-netbox", "--port", "0", "--token", NETBOX_TOKEN, cwd=directory) as netbox,
    ):
        made.write(netbox.url, splunk.url, {"storage": {"sqlite": "registrations.sqlite"}})
        _serve_everything(made, netbox, splunk)
        made.outputs.add("simulate-netbox stderr", "\n".join(netbox.errors))
    with (
        serving(Stub()) as splunk,
        running("simulate-netbox", "--port", "0", "--token", NETBOX_TOKEN, cwd=directory) as netbox,
    ):
        made.write(netbox.url, splunk.url, {"storage": {"sqlite": "registrations.sqlite"}})
        _run_every_command(made)
    made.outputs.add_files(made.directory / "logs")
    refusals = '{"detail": "Invalid token {token}", "error": "Token {token}", "token": ["{token}"]}'
    with serving(Stub(403, refusals)) as refusing:
        _fail_everywhere(made, directory, refusing)
    return made


def _serve_everything(site: Site, netbox: Process, splunk: Stub) -> None:
    service = site.serve()
    try:
        assert until(lambda: call(site, service.url, "GET", "/readyz") == 200)
        came = every_request(site, service.url)
        assert {"200", "400", "401", "403", "404", "405", "409", "413", "415", "417"} <= came.keys(), came
        # What has expired is released meanwhile.
        assert until(lambda: "released 83.118.168" in "\n".join(service.errors))
        netbox.stop()
        assert call(site, service.url, "POST", "/", BODY | {"service": SERVICE | {"service_name": "late"}}) == 503
        assert call(site, service.url, "GET", "/metrics") == 200
    finally:
        site.end(service)
    site.outputs.add("splunk", "\n".join(json.dumps(event) for event in splunk.events))
    site.outputs.add("splunk", "\n".join(json.dumps(event, ensure_ascii=False) for event in splunk.events))


ON_FIRST = ("--zone", "inet", "--address", "83.118.168.0")
ON_NONE = ("--zone", "inet", "--address", "83.118.168.250")
SERVICE_OPTIONS = (
    "--service-name", SERVICE["service_name"],
    "--namespace-id", SERVICE["namespace_id"],
    "--cluster-id", SERVICE["cluster_id"],
)  # fmt: skip


def _run_every_command(site: Site) -> None:
    """Each command, succeeding and failing, over a storage that has something in it."""
    service = site.serve()
    try:
        assert until(lambda: call(site, service.url, "GET", "/readyz") == 200)
        assert call(site, service.url, "POST", "/", BODY) == 200
        address = json.loads(site.outputs.texts[-1][1].rpartition("\n\n")[2])["address"]
    finally:
        site.end(service)
    on = ("--zone", "inet", "--address", address)
    for format_ in ("text", "json"):
        site.command("show-services", *on, "--format", format_, status=0)
        # The one that shows it: so this test would notice.
        assert any(form in site.command("show-secret", *on, "--format", format_, status=0) for form in spelled(FIRST))
        site.command("list-addresses", "--format", format_, status=0)
        site.command("list-zones", "--format", format_, status=0)
        site.command("history", "--address", address, "--format", format_, status=0)
        site.command("check-config", "--format", format_, status=0)
    site.command("show-services", *ON_NONE, status=1)
    site.command("show-secret", *ON_NONE, status=1)
    site.command("history", "--address", "83.118.168.250", status=1)
    site.command("replace-secret", *on, "--new", SECOND, "--yes", status=0)
    site.command("replace-secret", *on, "--new", FIRST, "--dry-run", status=0)
    site.command("replace-secret", *ON_NONE, "--new", SECOND, "--yes", status=1)
    site.command("replace-secret", *on, "--new", FIRST + "x" * 80, "--yes", status=2)
    site.command("delete-service", *on, "--secret", WRONG, *SERVICE_OPTIONS, "--yes", status=1)
    site.command("delete-service", *on, "--secret", SECOND, *SERVICE_OPTIONS, "--yes", status=0)
    site.command("delete-cluster", "--cluster-id", SERVICE["cluster_id"], "--yes", status=0)
    site.command("delete-cluster", "--cluster-id", "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b87f", "--yes", status=1)
    site.command("reconcile", status=0)
    site.command("netbox-setup", "--dry-run", status=0)
    site.command("netbox-setup", "--yes", status=0)
    hook = ("netbox-setup", "--webhook", "http://127.0.0.1:9/netbox/webhook", "--yes")
    for format_ in ("text", "json"):
        site.command(*hook, "--format", format_, status=0)
        site.command("check-config", "--format", format_, status=0)
    site.command("rotate-key", "--new-secrets", "new.json", "--dry-run", status=0)
    site.command("rotate-key", "--new-secrets", "secrets.json", "--yes", status=0)
    site.command("rotate-key", "--new-secrets", "missing.json", "--yes", status=1)
    site.command("mongo-backup", "--out", "backup.gz", status=0)
    site.command("mongo-backup", "--out", "missing/backup.gz", status=1)
    site.command("mongo-restore", "--in", "backup.gz", "--drop", "--yes", status=0)
    site.command("mongo-restore", "--in", "config.json", "--yes", status=1)
    site.command("rotate-key", "--new-secrets", "new.json", "--yes", status=0)
    site.command("completion", "bash", status=0)
    site.command("version", status=0)
    site.command("help", "serve", status=0)
    # What ipam.pyz installs, with new keys, is looked at in tests/cli/test_install.py.
    site.command("install", "--root", ".", "--yes", status=1)
    site.command("uninstall", "--root", ".", "--yes", status=2)  # a relative --config


def _fail_everywhere(site: Site, directory: Path, refusing: Stub) -> None:
    """Each command and the service, where nothing that they need answers, or answers with their token."""
    with_uri = Site(directory / "uri", site.outputs)
    user = f"admin:{quote_plus(PASSWORD)}"
    with_uri.write(refusing.url, refusing.url, {"mongodb": {"uri": f"mongodb://{user}@127.0.0.1:9/?authSource=admin"}})
    with_path = Site(directory / "path", site.outputs)
    account = {"username": "admin", "password_path": "mongodb.secret", "host": "127.0.0.1", "port": 9}
    with_path.write(refusing.url, refusing.url, {"mongodb": account})
    broken_uri = Site(directory / "broken", site.outputs)
    broken_uri.write(refusing.url, refusing.url, {"mongodb": {"uri": f"mongodb://admin:{PASSWORD}@127.0.0.1:9/"}})
    odd_files = Site(directory / "odd", site.outputs)
    odd_files.write(refusing.url, refusing.url, {"storage": {"sqlite": "registrations.sqlite"}})
    (odd_files.directory / "netbox.secret").write_text(f"{NETBOX_TOKEN} {BEARER}\n{SPLUNK_TOKEN}\n")
    (odd_files.directory / "secrets.json").write_text(json.dumps({"enc_key": ENC_KEY + "x", "enc_iv": ENC_IV + "y"}))
    commands = (
        ("show-services", *ON_FIRST),
        ("show-secret", *ON_FIRST),
        ("replace-secret", *ON_FIRST, "--new", SECOND, "--yes"),
        ("delete-service", *ON_FIRST, "--secret", FIRST, *SERVICE_OPTIONS, "--yes"),
        ("delete-cluster", "--cluster-id", SERVICE["cluster_id"], "--yes"),
        ("list-addresses",),
        ("list-zones",),
        ("history", "--address", "83.118.168.0"),
        ("reconcile",),
        ("rotate-key", "--new-secrets", "new.json", "--yes"),
        ("mongo-backup", "--out", "backup.gz"),
        ("mongo-restore", "--in", "config.json", "--yes"),
        ("check-config",),
        ("netbox-setup", "--yes"),
    )

    def fail(work: tuple[Site, tuple[str, ...]]) -> None:
        work[0].command(*work[1], status=UNFIT if work[1] == ("serve",) else FAILED)

    def refuse(where: Site) -> None:
        service = where.serve()
        try:
            status = until(lambda: call(where, service.url, "POST", "/", BODY) == 503, 20)
            assert status
        finally:
            where.end(service)

    with ThreadPoolExecutor(4) as pool:
        failing = [
            pool.submit(fail, (one, command)) for one in (with_uri, broken_uri, odd_files) for command in commands
        ]
        failing += [pool.submit(fail, (one, ("serve",))) for one in (broken_uri, odd_files)]
        failing += [pool.submit(refuse, one) for one in (with_uri, with_path)]
        for one in failing:
            one.result()
    site.outputs.add("what was sent", "\n".join(body.decode() for *_, body in refusing.received))
    for one in (with_uri, with_path, odd_files):
        if (one.directory / "logs").exists():
            site.outputs.add_files(one.directory / "logs")


def test_no_output_shows_a_secret(site: Site) -> None:
    assert not site.outputs.leaks(), "\n\n".join(site.outputs.leaks())


def test_a_leak_would_be_noticed(site: Site) -> None:
    for secret in SECRETS:
        for form in (secret, repr({"a": secret}), json.dumps([secret]), f"?x={quote_plus(secret)}"):
            assert Outputs([("anything", f"some {form} text")]).leaks(), form


def test_everything_was_tried(site: Site) -> None:
    spoken = site.outputs.text("serve stderr")
    for part in ("released 83.118.168", "expires for", "NetBox call failed", "POST / 503", "storage is unreachable"):
        assert part in spoken, part
    commands = {ast.literal_eval(name.rpartition(" ")[0])[0] for name, _ in site.outputs.texts if name.startswith("(")}
    assert commands >= COMMANDS.keys() - SHOWING | {"show-secret"}
    metrics = site.outputs.text("answer 200 to GET /metrics")
    asked = {
        (sample.labels["route"], sample.labels["method"])
        for family in text_string_to_metric_families(metrics[metrics.index("# HELP") :])
        for sample in family.samples
        if sample.name == "ipam_http_requests_total"
    }
    documented = {(path.partition("{")[0], method.upper()) for path, item in paths_of(site).items() for method in item}
    assert documented <= {(path.partition("{")[0], method) for path, method in asked}
    assert {event["sourcetype"] for event in site.outputs.lines("splunk")} == {"ipam-api:app", "ipam-api:http"}
    for name in ("ipam-api.log", "http.log", "what was sent"):
        assert len(site.outputs.text(name)) > 1000


def paths_of(site: Site) -> dict[str, Any]:
    """The paths of the specification."""
    answer = site.outputs.text("answer 200 to GET /swagger/doc.json")
    return dict(json.loads(answer[answer.index("{") :])["paths"])


def test_why_a_request_was_refused_stands_in_its_log_line(site: Site) -> None:
    lines = site.outputs.lines("http.log")
    refused = [line for line in lines if line["status"] >= 400]
    assert len(refused) > 30
    reasons = {line["reason"] for line in refused}
    assert "no matching address found with the provided secret, zone and address" in reasons
    assert "NetBox is unavailable; try again" in reasons
    assert not any("reason" in line for line in lines if line["status"] < 400)


def test_settings_show_nothing_in_any_form(site: Site) -> None:
    for name in ("works", "uri", "path"):
        settings, _ = Settings.load(site.directory.parent / name / "config.json")
        parts = [getattr(settings, one.name) for one in fields(settings)]
        text = f"{settings!r} {settings} {parts} {pprint.pformat(settings)}"
        shown = Outputs([("settings", text)])
        assert not shown.leaks(), shown.leaks()
