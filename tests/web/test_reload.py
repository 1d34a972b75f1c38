"""SIGHUP: tokens, keys, certificate and zones are read again, all that can be used, or the former ones stay."""

# ruff: noqa: RUF009 - `setting` returns a new field for each call.

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.config import Settings
from ipam_lib.config.sections import SECTIONS, file_content, setting
from ipam_lib.config.setting_types import Integer as SettingInteger
from ipam_lib.config.setting_types import SecretFile
from ipam_lib.crypto import Secret
from ipam_lib.errors import ConfigError
from ipam_lib.web.reload import needs_restart
from tests.netbox.events import event, sign
from tests.support.processes import BEARER, TOKEN, Process, call, ready, running, write_config
from tests.web.service import BODY, SERVICE
from tests.web.test_server import write_certificate

CLUSTER = {"cluster_id": "00000000-0000-4000-8000-000000000000"}
STORAGE = {"storage": {"sqlite": "registrations.sqlite"}}


@pytest.fixture
def netbox(tmp_path: Path) -> Iterator[Process]:
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as process:
        yield process


def reload(service: Process) -> list[str]:
    """Have the service read everything again; the lines that it logged about that."""
    before = len(service.errors)

    def ended() -> bool:
        said = [line for line in service.errors[before:] if "ipam_lib.web.reload: " in line]
        return any("reloaded the zones" in line or "zones could not" in line for line in said)

    service.process.send_signal(signal.SIGHUP)
    service.wait_until(ended)
    return service.errors[before:]


def authorised(url: str, token: str) -> bool:
    """Whether the bearer token opens what needs one."""
    status, _ = call("DELETE", f"{url}/v2/cluster", CLUSTER, {"Authorization": f"Bearer {token}"})
    assert status in (401, 404)
    return status == 404


def change(config: Path, **sections: dict[str, Any]) -> None:
    """Put these settings into the configuration."""
    content = json.loads(config.read_text())
    for name, values in sections.items():
        content[name] = content.get(name, {}) | values
    config.write_text(json.dumps(content))


def test_the_token_of_netbox_and_the_zones(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    (tmp_path / "netbox.secret").write_text("0" * 40)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert call("GET", f"{service.url}/readyz")[0] == 503
        assert any("zones could not be loaded" in line for line in reload(service))
        (tmp_path / "netbox.secret").write_text(TOKEN + "\n")
        said = reload(service)
        assert any("INFO ipam_lib.web.reload: reloaded the zones" in line for line in said)
        # Without waiting for the next round, in ten minutes.
        assert call("GET", f"{service.url}/readyz")[0] == 200
        assert call("POST", service.url, BODY)[0] == 200
        control = {"Authorization": f"Token {TOKEN}"}
        assert call("DELETE", f"{netbox.url}/simulator/counters", headers=control)[0] == 204
        reload(service)
        assert sum(call("GET", f"{netbox.url}/simulator/counters", headers=control)[1].values()) > 0
        assert service.stop() == 0
        said_at_all = "\n".join(service.errors)
        assert TOKEN not in said_at_all
        assert "0" * 40 not in said_at_all


def test_the_bearer_token(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        assert authorised(service.url, BEARER)
        (tmp_path / "auth.secret").write_text("another-bearer-token")
        assert authorised(service.url, BEARER)  # not before it is told so
        assert any("reloaded tokens, keys and certificate" in line for line in reload(service))
        assert authorised(service.url, "another-bearer-token")
        assert not authorised(service.url, BEARER)
        for bad, said in (("two words", "must hold one token"), ("", "is empty")):
            (tmp_path / "auth.secret").write_text(bad)
            lines = reload(service)
            assert any(" ERROR " in line and "auth.token_path" in line and said in line for line in lines)
            assert any("nothing was reloaded; the former settings stay in force" in line for line in lines)
            assert authorised(service.url, "another-bearer-token")
        (tmp_path / "auth.secret").unlink()
        assert any("names a file that is not there" in line for line in reload(service))
        assert authorised(service.url, "another-bearer-token")
        assert service.stop() == 0
        assert not any("Traceback" in line for line in service.errors)


def signed(url: str, secret: str) -> int:
    """The status of an event that is signed with this secret."""
    body = event("created", 5, {"prefix": "192.0.2.0/32"})
    signature = sign(json.dumps(body).encode(), secret)
    return call("POST", f"{url}/netbox/webhook", body, {"X-Hook-Signature": signature})[0]


def test_the_secret_of_the_webhook(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    (tmp_path / "webhook.secret").write_text("first-secret\n")
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        assert signed(service.url, "first-secret") == 404
        change(config, netbox={"webhook_secret_path": "webhook.secret"})
        assert any("need a restart: netbox.webhook_secret_path" in line for line in reload(service))
        assert signed(service.url, "first-secret") == 404
        assert service.stop() == 0
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        assert signed(service.url, "first-secret") == 200
        (tmp_path / "webhook.secret").write_text("second-secret\n")
        assert signed(service.url, "second-secret") == 403, "not before it is told so"
        reload(service)
        assert signed(service.url, "second-secret") == 200
        assert signed(service.url, "first-secret") == 403
        assert service.stop() == 0
        assert not any("first-secret" in line or "second-secret" in line for line in service.errors)


def test_the_keys(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        _, registered = call("POST", service.url, BODY)
        updated = (200, {"message": "Address updated successfully", "address": registered["address"]})

        (tmp_path / "new.json").write_text(json.dumps({"enc_key": "n" * 32, "enc_iv": "j" * 16}))
        change(config, encryption_secrets={"path": "new.json"})
        lines = reload(service)
        assert any(" ERROR " in line and "previous_path does not name the former keys" in line for line in lines)
        assert call("POST", service.url, BODY) == updated

        change(config, encryption_secrets={"previous_path": "secrets.json"})
        assert not any(" ERROR " in line or " WARNING " in line for line in reload(service))
        assert call("POST", service.url, BODY) == updated
        # What is written from now on is under the new key: that alone will do for it.
        other = BODY | {"service": SERVICE | {"service_name": "another"}}
        _, later = call("POST", service.url, other)
        assert service.stop() == 0
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads(config.read_text()) | {"encryption_secrets": {"path": "new.json"}})
    )
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        assert call("POST", service.url, other)[1]["address"] == later["address"]
        assert service.stop() == 0


def shown(port: int) -> tuple[ssl.SSLSocket, bytes]:
    """A connection, and the certificate that it was shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60))
    certificate = connection.getpeercert(binary_form=True)
    assert certificate
    return connection, certificate


def healthy(connection: ssl.SSLSocket) -> bool:
    """Whether a request over this connection is answered."""
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    received = b""
    while not received.endswith(b"}\n"):
        some = connection.recv(4096)
        if not some:
            return False
        received += some
    return received.startswith(b"HTTP/1.1 200 ")


def test_the_certificate_for_new_connections_and_all_or_nothing(tmp_path: Path, netbox: Process) -> None:
    first, second = write_certificate(tmp_path, "first"), write_certificate(tmp_path, "second")
    der = [ssl.PEM_cert_to_DER_cert(cert.read_text()) for cert, _ in (first, second)]
    server = {"host": "127.0.0.1", "port": 0, "tls_cert": "server.crt", "tls_key": "server.key"}

    def put(cert: Path, key: Path) -> None:
        shutil.copy(cert, tmp_path / "server.crt")
        shutil.copy(key, tmp_path / "server.key")

    put(*first)
    config = write_config(tmp_path, netbox.url, STORAGE, server=server)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        port = int(service.url.rpartition(":")[2])
        old, certificate = shown(port)
        with old:
            assert certificate == der[0]
            assert healthy(old)
            # A key that does not belong to the certificate, and a new bearer token: neither is taken.
            put(second[0], first[1])
            (tmp_path / "auth.secret").write_text("another-bearer-token")
            assert any("does not belong to the certificate" in line for line in reload(service))
            with shown(port)[0] as connection:
                assert connection.getpeercert(binary_form=True) == der[0]
                head = f"DELETE /v2/cluster HTTP/1.1\r\nHost: a\r\nAuthorization: {BEARER}\r\nConnection: close\r\n"
                body = json.dumps(CLUSTER)
                connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")  # the former token still opens it
            put(*second)
            assert not any(" ERROR " in line for line in reload(service))
            new, certificate = shown(port)
            with new:
                assert certificate == der[1]
                assert healthy(new)
            assert healthy(old)  # what is open goes on
        assert service.stop() == 0


def test_the_allowed_networks(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        assert call("POST", service.url, BODY)[0] == 200
        change(config, server={"allowed_networks": ["10.0.0.0/8"]})
        assert not any(" ERROR " in line or "need a restart" in line for line in reload(service))
        status, content = call("POST", service.url, BODY)
        assert (status, content["code"]) == (403, "network_not_allowed")
        assert call("GET", f"{service.url}/healthz")[0] == 200
        assert service.stop() == 0


def test_what_takes_a_restart_is_named(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        change(config, server={"port": 1}, cleanup={"interval_seconds": 7}, netbox={"refresh_seconds": 9})
        [line] = [line for line in reload(service) if "need a restart" in line]
        assert line.endswith("need a restart: netbox.refresh_seconds, server.port, cleanup.interval_seconds")
        config.write_text("{")
        assert any(" ERROR " in line and "is not valid JSON" in line for line in reload(service))
        assert call("POST", service.url, BODY)[0] == 200
        assert service.stop() == 0


def test_what_systemd_copied_is_named(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, STORAGE)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("netbox.secret", "secrets.json"):
        (tmp_path / name).rename(credentials / name)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    with running("serve", "--config", str(config), cwd=tmp_path, env=environment) as service:
        assert ready(service.url)
        [line] = [line for line in reload(service) if "systemd copied" in line]
        assert line.endswith("needs a restart: encryption_secrets.path, netbox.token_path")
        assert service.stop() == 0


def test_every_setting_can_be_exchanged_or_is_named(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:9", {})

    def settings(**sections: Any) -> Settings:
        content = json.loads((tmp_path / "config.json").read_text()) | {"mongodb": {"host": "a"}} | sections
        try:
            return Settings.from_dict(content, base_directory=tmp_path)
        except ConfigError as error:
            raise AssertionError(error.problems) from None

    before = settings()
    assert needs_restart(before, settings()) == []
    assert needs_restart(before, settings(mongodb={"host": "b"})) == ["mongodb.host"]
    assert needs_restart(before, settings(storage={"sqlite": "x"})) == ["storage"]
    assert needs_restart(before, settings(auth={})) == ["auth.token_path"]
    assert needs_restart(settings(auth={}), before) == ["auth.token_path"]
    cert, key = write_certificate(tmp_path, "server")
    tls = settings(server={"host": "127.0.0.1", "port": 0, "tls_cert": str(cert), "tls_key": str(key)})
    assert needs_restart(before, tls) == ["server.tls_cert", "server.tls_key"]
    scheme = settings(encryption_secrets={"path": "secrets.json", "scheme": "legacy-ctr"})
    assert needs_restart(before, scheme) == ["encryption_secrets.scheme"]


def test_a_new_section_and_a_new_setting_are_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither redaction nor the report of a reload keeps a list of its own."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class WebhookSection:
        token_path: Path | None = setting(SecretFile("token"), "File with the token of the webhook.")
        retries: int = setting(SettingInteger(0, 9), "Retries.", default=3)
        token: Secret | None = file_content()

    @dataclass(frozen=True, slots=True, kw_only=True)
    class ExtendedSettings(Settings):
        webhook: WebhookSection

    monkeypatch.setitem(SECTIONS, "webhook", WebhookSection)
    monkeypatch.setattr("ipam_lib.config.settings.Settings", ExtendedSettings)
    write_config(tmp_path, "http://127.0.0.1:9", {})
    content = json.loads((tmp_path / "config.json").read_text()) | {"storage": {"sqlite": "x"}}
    (tmp_path / "webhook.secret").write_text("token-of-the-webhook")

    def settings(**values: Any) -> Settings:
        return ExtendedSettings.from_dict(
            content | {"webhook": {"token_path": "webhook.secret", **values}}, base_directory=tmp_path
        )

    before = settings()
    assert "token-of-the-webhook" in list(before.secrets())
    assert needs_restart(before, settings(retries=4)) == ["webhook.retries"]
    (tmp_path / "webhook.secret").write_text("another-token-of-the-webhook")
    assert needs_restart(before, settings()) == ["webhook.token_path"]
