"""Which clients may call: networks, proxies and client certificates. What is refused reaches no use case."""

from __future__ import annotations

import logging
import ssl
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.errors import WrongSecret
from ipam_lib.web.access_control import AccessControl, AccessRules
from ipam_lib.web.client_address import client_address
from ipam_lib.web.secret_throttle import FREE_TRIES
from ipam_lib.web.server import Listen
from ipam_lib.web.tls import Certificate, tls_context
from tests.support.certificates import Authority
from tests.web.service import BODY, TOKEN, Service, service

ELSEWHERE = AccessRules(allowed_networks=[ip_network("10.0.0.0/8")])
HERE = AccessRules(allowed_networks=[ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")])
LOCAL_PROXY = [ip_network("127.0.0.1/32")]


# -- networks


async def test_a_client_elsewhere_gets_403_on_every_path_but_health(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with service(access=ELSEWHERE) as running:
        for method, path in (
            *(("POST", "/"), ("DELETE", "/v2/service"), ("GET", "/v2/zones"), ("GET", "/"), ("GET", "/metrics")),
            *(("GET", "/openapi.json"), ("GET", "/nowhere"), ("PUT", "/"), ("GET", "/healthz/")),
        ):
            body = BODY if method in ("POST", "DELETE") else None
            status, content, _ = await running.call(method, path, body, headers={"Authorization": f"Bearer {TOKEN}"})
            assert (status, content) == (403, {"message": "requests from this network are not allowed"}), path
        assert (await running.call("GET", "/healthz"))[0] == 200
        assert (await running.call("GET", "/readyz"))[0] == 200
        assert not running.registry.asked
        text = running.services.metrics.text().decode()
    assert 'ipam_refused_requests_total{code="network_not_allowed"} 9.0' in text
    refused = [record for record in caplog.records if record.name == "ipam_lib.http" and "403" in record.getMessage()]
    assert [record.ip for record in refused] == ["127.0.0.1"] * 9  # type: ignore[attr-defined]


async def test_a_client_inside_is_served() -> None:
    async with service(access=HERE) as running:
        assert (await running.call("POST", "/", BODY))[0] == 200


async def test_a_header_is_not_believed_without_a_trusted_proxy() -> None:
    async with service(access=ELSEWHERE) as running:
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
            value = "for=10.0.0.1" if header == "Forwarded" else "10.0.0.1"
            assert (await running.call("POST", "/", BODY, headers={header: value}))[0] == 403
        assert not running.registry.asked


# -- proxies


def seen(peer: str, headers: Any, **rules: Any) -> str | None:
    """The client of a request from this peer with these headers."""
    transport = _Transport(peer)
    request = make_mocked_request("GET", "/", headers=headers, transport=transport)
    control = AccessControl(
        AccessRules(trusted_proxies=[ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")], **rules)
    )
    control.check(request)
    return client_address(request)


class _Transport:
    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._peer, 1) if name == "peername" else default


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("198.51.100.1", [("X-Forwarded-For", "10.0.0.1")], "198.51.100.1"),
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1")], "10.0.0.1"),
        # What the client itself sent stands before the entry of the proxy.
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1, 203.0.113.9")], "203.0.113.9"),
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-For", "203.0.113.9")], "203.0.113.9"),
        # A chain of two trusted proxies.
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1, 203.0.113.9, 192.0.2.2")], "203.0.113.9"),
        ("192.0.2.1", [("X-Forwarded-For", "192.0.2.3, 192.0.2.2")], "192.0.2.3"),
        # An entry that is not an address ends the chain at the proxy that wrote it.
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1, unknown")], "192.0.2.1"),
        ("192.0.2.1", [("X-Forwarded-For", "10.0.0.1, unknown, 192.0.2.2")], "192.0.2.2"),
        ("192.0.2.1", [("X-Forwarded-For", ",")], "192.0.2.1"),
        ("192.0.2.1", [("X-Forwarded-For", "203.0.113.9:4711")], "203.0.113.9"),
        ("2001:db8::1", [("X-Forwarded-For", "[2001:db9::7]:80")], "2001:db9::7"),
        ("::ffff:192.0.2.1", [("X-Forwarded-For", "::ffff:203.0.113.9")], "203.0.113.9"),
        # The other header may come from the client.
        ("192.0.2.1", [("Forwarded", "for=10.0.0.1"), ("X-Forwarded-For", "203.0.113.9")], "203.0.113.9"),
        ("192.0.2.1", [("Forwarded", "for=10.0.0.1")], "192.0.2.1"),
    ],
)
def test_the_client_behind_a_proxy(peer: str, headers: list[tuple[str, str]], client: str) -> None:
    assert seen(peer, headers) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("for=10.0.0.1, For=203.0.113.9;proto=https;by=192.0.2.1", "203.0.113.9"),
        ('proto=https;for="[2001:db9::7]:4711"', "2001:db9::7"),
        ("for=unknown", "192.0.2.1"),
        ("for=_hidden, for=192.0.2.9", "192.0.2.9"),
        ("proto=https", "192.0.2.1"),
    ],
)
def test_the_client_in_forwarded(value: str, client: str) -> None:
    headers = [("Forwarded", value), ("X-Forwarded-For", "10.9.9.9")]
    assert seen("192.0.2.1", headers, forwarded_header="forwarded") == client


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
@settings(deadline=None)
def test_no_header_of_a_client_changes_what_the_proxy_wrote(forged: str) -> None:
    assert seen("192.0.2.1", [("X-Forwarded-For", f"{forged}, 203.0.113.9")]) == "203.0.113.9"


async def test_the_throttle_and_the_networks_count_by_the_client_behind_the_proxy() -> None:
    rules = AccessRules(
        trusted_proxies=LOCAL_PROXY, allowed_networks=[ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")]
    )
    async with service(access=rules) as running:

        async def call(client: str, secret: str = "SuperSecret") -> int:
            body = BODY | {"address": "83.118.168.10", "secret": secret}
            return (await running.call("POST", "/", body, headers={"X-Forwarded-For": client}))[0]

        assert await call("203.0.113.9") == 403
        assert not running.registry.asked
        running.registry.error = WrongSecret()
        for number in range(FREE_TRIES):
            assert await call("10.0.0.1", f"WrongSecret{number}") == 403
        assert await call("10.0.0.1", "AnotherWrong") == 429
        running.registry.error = None
        assert await call("10.0.0.2") == 200


# -- client certificates


class Clients:
    """A service that requires client certificates, and clients with some."""

    def __init__(self, directory: Path) -> None:
        directory.joinpath("other").mkdir()
        self.server_authority = Authority(directory, "servers")
        self.authority = Authority(directory, "clients")
        self.other = Authority(directory / "other", "clients")
        self.server = self.server_authority.issue("localhost")

    def certificate(self) -> Certificate:
        return Certificate(*self.server, self.authority.certificate)

    async def post(self, running: Service, client: tuple[Path, Path] | None, path: str = "/") -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=self.server_authority.certificate)
        if client is not None:
            context.load_cert_chain(*client)
        url = f"https://localhost:{running.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request("POST" if path == "/" else "GET", url, json=BODY, ssl=context) as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path)


def required(*names: str) -> AccessRules:
    return AccessRules(certificate=True, names=names)


async def test_a_good_certificate_registers_and_the_log_names_it(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listen = Listen(host="127.0.0.1", port=0, certificate=clients.certificate())
    async with service(listen=listen, access=required()) as running:
        assert (await clients.post(running, clients.authority.issue("operator.example.com")))[0] == 200
    [line] = [record for record in caplog.records if record.name == "ipam_lib.http"]
    assert line.certificate == "DNS:operator.example.com"  # type: ignore[attr-defined]


async def test_without_a_certificate_only_health_is_answered(clients: Clients) -> None:
    listen = Listen(host="127.0.0.1", port=0, certificate=clients.certificate())
    async with service(listen=listen, access=required()) as running:
        status, content = await clients.post(running, None)
        assert (status, content["code"]) == (403, "certificate_not_allowed")
        assert content["message"] == "a client certificate is required"
        assert (await clients.post(running, None, "/healthz"))[0] == 200
        assert not running.registry.asked
        assert "ipam_refused_requests_total" in running.services.metrics.text().decode()


async def test_another_authority_and_an_expired_certificate_are_refused_and_logged(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    listen = Listen(host="127.0.0.1", port=0, certificate=clients.certificate())
    async with service(listen=listen, access=required()) as running:
        for client, reason in (
            (clients.other.issue("operator.example.com"), "refused a client certificate"),
            (clients.authority.issue("expired.example.com", valid=-timedelta(hours=1)), "certificate has expired"),
        ):
            caplog.clear()
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await clients.post(running, client)
            assert reason in caplog.text
        assert not running.registry.asked


async def test_only_certain_names_are_allowed_and_a_reload_changes_them(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    from ipam_lib.web.access_control import ACCESS_CONTROL

    listen = Listen(host="127.0.0.1", port=0, certificate=clients.certificate())
    good, bad = clients.authority.issue("operator.example.com"), clients.authority.issue("other.example.com")
    async with service(listen=listen, access=required("Operator.Example.com")) as running:
        assert (await clients.post(running, good))[0] == 200
        status, content = await clients.post(running, bad)
        assert (status, content["message"]) == (403, "no name of the client certificate is allowed")
        assert len(running.registry.asked) == 1
        running.app[ACCESS_CONTROL].rules = required("other.example.com")
        assert (await clients.post(running, good))[0] == 403
        assert (await clients.post(running, bad))[0] == 200
    lines = [record.__dict__ for record in caplog.records if record.name == "ipam_lib.http"]
    assert (lines[1]["status"], lines[1]["certificate"], lines[1]["reason"]) == (
        403,
        "DNS:other.example.com",
        "no name of the client certificate is allowed",
    )


async def test_a_replaced_authority_counts_for_new_connections(clients: Clients) -> None:
    certificate = clients.certificate()
    listen = Listen(host="127.0.0.1", port=0, certificate=certificate)
    old, new = clients.authority.issue("operator.example.com"), clients.other.issue("operator.example.com")
    async with service(listen=listen, access=required()) as running:
        assert (await clients.post(running, old))[0] == 200
        certificate.use(tls_context(*clients.server, clients.other.certificate))
        assert (await clients.post(running, new))[0] == 200
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await clients.post(running, old)


def test_a_request_of_a_socket_in_the_file_system_has_no_address() -> None:
    transport = _Transport("")
    request = make_mocked_request("GET", "/", transport=transport)
    assert isinstance(request, web.Request)
    AccessControl(AccessRules()).check(request)
    assert not client_address(request)
