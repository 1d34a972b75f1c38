"""The client over TLS: which authorities it trusts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ipam_lib.errors import NetBoxUnavailable
from tests.netbox.clients import client_for, page_json, read
from tests.support.certificates import self_signed


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A server with such a certificate: its URL, and the certificate."""
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def prefixes(_request: web.Request) -> web.Response:
        return web.json_response(page_json())

    app = web.Application()
    app.router.add_get("/api/ipam/prefixes/", prefixes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", certificate
    await runner.cleanup()


async def test_an_authority_of_ones_own(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    async with client_for(url, ca_file=certificate) as client:
        assert await read(client) == []


@pytest.mark.parametrize("options", [{}, {"ca_file": "other"}])
async def test_a_certificate_that_is_not_trusted(
    secure: tuple[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    url, _ = secure
    if options:
        options = {"ca_file": self_signed(tmp_path, "127.0.0.2")[0]}
    async with client_for(url, **options) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await read(client)
    assert caught.value.applied is False
    assert "netbox.ca_file" in caught.value.detail


async def test_a_certificate_for_another_name(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    async with client_for(url.replace("127.0.0.1", "localhost"), ca_file=certificate) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await read(client)
    assert "localhost" in caught.value.detail


async def test_no_tls_where_it_is_expected() -> None:
    async with client_for("https://127.0.0.1:1") as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await read(client)
    assert caught.value.applied is False
