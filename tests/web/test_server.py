"""The server around the application: TLS, ports, and leaving gracefully."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipam_lib.errors import ConfigError
from ipam_lib.web import server
from ipam_lib.web.listening_sockets import bind
from ipam_lib.web.server import Listen, connection_limit
from ipam_lib.web.tls import Certificate, tls_context
from tests.web.service import BODY, service, status_of


def write_certificate(directory: Path, name: str, *, password: bytes | None = None) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    cert_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return cert_path, key_path


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path, "server")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Listen:
    return Listen(host="127.0.0.1", port=0, certificate=Certificate(*certificate))


async def test_tls(certificate: tuple[Path, Path], tls: Listen) -> None:
    trusted = ssl.create_default_context(cafile=certificate[0])
    trusted.check_hostname = False
    async with service(listen=tls) as running:
        assert running.url.startswith("https://127.0.0.1:")
        status, content, _ = await running.call("POST", "/", BODY, ssl=trusted)
        assert (status, content["address"]) == (200, "83.118.168.10/32")
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2
        async with aiohttp.ClientSession() as other, other.get(running.url + "/healthz", ssl=trusted) as answer:
            assert answer.status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_refused(tls: Listen) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with service(listen=tls) as running:
        with pytest.raises(aiohttp.ClientConnectorError):
            await running.call("GET", "/healthz", ssl=old)


async def test_plain_http_to_a_tls_port_harms_nobody(certificate: tuple[Path, Path], tls: Listen) -> None:
    trusted = ssl.create_default_context(cafile=certificate[0])
    trusted.check_hostname = False
    async with service(listen=tls) as running:
        assert b"200" not in await running.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await running.call("GET", "/healthz", ssl=trusted))[0] == 200


def test_a_key_and_certificate_in_one_file(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificate[0].read_bytes() + certificate[1].read_bytes())
    assert tls_context(both, None).minimum_version == ssl.TLSVersion.TLSv1_2


def test_what_is_wrong_with_a_certificate_is_said(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    _, other_key = write_certificate(tmp_path, "other")
    _, locked_key = write_certificate(tmp_path, "locked", password=b"password")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    for given, said in (
        ((tmp_path / "none.crt", key), "server.tls_cert: cannot read"),
        ((cert, tmp_path / "none.key"), "server.tls_key: cannot read"),
        ((cert, other_key), "does not belong to the certificate"),
        ((cert, locked_key), "is encrypted"),
        ((garbage, key), "no certificate and key in PEM form"),
        ((cert, garbage), "no certificate and key in PEM form"),
        ((cert, None), "no certificate and key in PEM form"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls_context(*given)
        [problem] = caught.value.problems
        assert said in problem


async def test_a_taken_port_is_one_clear_line_and_nothing_is_started(taken_port: int) -> None:
    with pytest.raises(ConfigError) as caught:
        async with service(listen=Listen(host="127.0.0.1", port=taken_port)) as running:
            raise AssertionError(running.url)
    assert caught.value.problems == [
        f"cannot listen on 127.0.0.1 port {taken_port}: another process listens there already"
    ]


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match="this machine has no such address"):
        async with service(listen=Listen(host="192.0.2.1", port=0)):
            raise AssertionError


async def test_two_processes_may_share_a_port_when_both_want_to() -> None:
    async with (
        service(listen=Listen(host="127.0.0.1", port=0, reuse_port=True)) as first,
        service(listen=Listen(host="127.0.0.1", port=first.port, reuse_port=True)) as second,
    ):
        assert first.url == second.url
        assert (await second.call("GET", "/healthz"))[0] == 200


async def _remote_addresses(url: str, caplog: pytest.LogCaptureFixture, *hosts: str) -> list[object]:
    """The addresses that the HTTP log has for requests to these hosts."""
    before = len(caplog.records)
    async with aiohttp.ClientSession() as client:
        for host in hosts:
            async with client.get(f"http://{host}:{url.rpartition(':')[2]}/healthz") as answer:
                assert answer.status == 200
    return [record.ip for record in caplog.records[before:] if record.name == "ipam_lib.http"]  # type: ignore[attr-defined]


@needs_ipv6
async def test_two_colons_mean_both_families(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with service(listen=Listen(host="::", port=0)) as running:
        assert running.url == f"http://[::]:{running.port}"
        found = await _remote_addresses(running.url, caplog, "127.0.0.1", "[::1]")
    # An IPv4 client has an IPv4 address, also on an IPv6 socket.
    assert found == ["127.0.0.1", "::1"]
    assert f"listening on http://[::]:{running.port}" in caplog.text


@needs_ipv6
async def test_a_list_of_addresses_shares_one_port_and_the_log_names_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with service(listen=Listen(host=("127.0.0.1", "::1"), port=0)) as running:
        found = await _remote_addresses(running.url, caplog, "127.0.0.1", "[::1]")
    assert found == ["127.0.0.1", "::1"]
    assert f"listening on http://127.0.0.1:{running.port}, http://[::1]:{running.port}" in caplog.text


def test_an_address_of_a_list_that_is_taken_is_named_and_the_others_are_released(taken_port: int) -> None:
    with pytest.raises(OSError, match="Address already in use") as caught:
        bind(("127.0.0.2", "127.0.0.1"), taken_port)
    assert caught.value.filename == f"127.0.0.1 port {taken_port}"
    [released] = bind("127.0.0.2", taken_port)
    released.close()


@needs_ipv6
async def test_ipv6_stands_in_brackets() -> None:
    async with service(listen=Listen(host="::1", port=0)) as running:
        assert running.url.startswith("http://[::1]:")
        assert (await running.call("GET", "/healthz"))[0] == 200


async def test_leaving_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        entered.set()
        await leave.wait()

    context = service()
    running = await context.__aenter__()
    running.registry.work = work
    async with aiohttp.ClientSession() as client:
        calling = asyncio.ensure_future(client.post(running.url, json=BODY))
        await entered.wait()
        leaving = asyncio.ensure_future(context.__aexit__(None, None, None))
        # The listening socket is the first that goes.
        async with asyncio.timeout(20):
            while await _accepts(running.port):  # noqa: ASYNC110 - that the socket closes is no event here
                await asyncio.sleep(0)
        assert not leaving.done()
        leave.set()
        async with await calling as answer:
            assert answer.status == 200
        await leaving
    assert running.store.closed


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_an_idle_connection_does_not_hold_up_leaving() -> None:
    async with service() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status_of(await reader.readuntil(b"}\n")) == 200
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_what_does_not_finish_is_left_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "SECONDS_TO_FINISH", 0.05)
    entered = asyncio.Event()

    async def work() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with service(request_timeout_seconds=0.05) as running:
        running.registry.work = work
        status, _, _ = await running.call("POST", "/", BODY)
        assert status == 503
        assert entered.is_set()
    assert "stopping before all requests have finished" in caplog.text
    assert running.registry.finished == 0
    assert running.store.closed


@pytest.mark.parametrize(
    ("soft", "limit"), [(1024, 896), (4096, 1000), (64, 16), (server.resource.RLIM_INFINITY, 1000)]
)
def test_the_connection_limit_leaves_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    monkeypatch.setattr(server.resource, "getrlimit", lambda what: (soft, soft))
    assert connection_limit() == limit
