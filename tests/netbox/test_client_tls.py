"""The client over TLS: which authorities it trusts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipam_lib.errors import NetBoxUnavailable
from tests.netbox.clients import LIMIT, client_for


def self_signed(directory: Path, address: str) -> tuple[Path, Path]:
    """A certificate for the address, its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "netbox.example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / f"{address}.pem", directory / f"{address}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A server with such a certificate: its URL, and the certificate."""
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def status(_request: web.Request) -> web.Response:
        return web.json_response({"netbox-version": "4.6.8"})

    app = web.Application()
    app.router.add_get("/api/status/", status)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", certificate
    await runner.cleanup()


async def test_an_authority_of_ones_own(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    async with client_for(url, ca_file=certificate) as client:
        assert (await client.status(limit=LIMIT))["netbox-version"] == "4.6.8"


@pytest.mark.parametrize("options", [{}, {"ca_file": "other"}])
async def test_a_certificate_that_is_not_trusted(
    secure: tuple[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    url, _ = secure
    if options:
        options = {"ca_file": self_signed(tmp_path, "127.0.0.2")[0]}
    async with client_for(url, **options) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.status(limit=LIMIT)
    assert caught.value.applied is False
    assert "netbox.ca_file" in caught.value.detail


async def test_a_certificate_for_another_name(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    async with client_for(url.replace("127.0.0.1", "localhost"), ca_file=certificate) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.status(limit=LIMIT)
    assert "localhost" in caught.value.detail


async def test_no_tls_where_it_is_expected() -> None:
    async with client_for("https://127.0.0.1:1") as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.status(limit=LIMIT)
    assert caught.value.applied is False
