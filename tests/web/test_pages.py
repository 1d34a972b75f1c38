"""The pages: everything from this server, nothing inline, compressed and tagged."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ipam_lib
from ipam_lib.version import __version__
from ipam_lib.web import pages
from tests.web.service import Service, service

STATIC = Path(ipam_lib.__file__).parent / "static"
OUTSIDE = re.compile(rb"(?:https?:)?//(?!www\.w3\.org)[a-z]", re.IGNORECASE)


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


class Links(HTMLParser):
    """What a page refers to, and whether it has anything inline."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside = tag if tag in {"script", "style"} else None
        for name, value in values.items():
            if name in {"href", "src"} and value:
                self.found.append(value)
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.inline.append(f"{self._inside}: {data}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None


async def _page(running: Service, path: str) -> tuple[str, str]:
    async with running.client.get(running.url + path, headers={"Accept-Encoding": "identity"}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return await answer.text(), answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/swagger/index.html"])
async def test_a_page_refers_to_this_server_only_and_has_nothing_inline(running: Service, path: str) -> None:
    page, policy = await _page(running, path)
    assert '<html lang="en">' in page
    assert "<title>" in page
    links = Links(page)
    assert not links.inline
    for link in links.found:
        if link.startswith("data:image/") or link == "#main":
            continue
        assert link.startswith("/")
        async with running.client.get(running.url + link) as answer:
            assert answer.status == 200 or (answer.status == 503 and "swagger-ui" in link)
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self'" in policy


async def test_the_first_page_tells_the_version_and_takes_text_for_text(running: Service) -> None:
    page, policy = await _page(running, "/")
    assert f">{__version__}<" in page
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy


async def test_swagger_ui_ignores_what_the_address_says(running: Service) -> None:
    plain, _ = await _page(running, "/swagger/index.html")
    evil, _ = await _page(running, "/swagger/index.html?url=https://evil.example/doc.json&configUrl=//evil.example")
    assert plain == evil
    script = (STATIC / "pages" / "swagger-init.js").read_text()
    assert 'url: "/openapi.json"' in script
    assert "queryConfigEnabled: false" in script
    assert "validatorUrl: null" in script


@pytest.mark.parametrize("path", ["/swagger", "/swagger/", "/swagger/?url=https://evil.example"])
async def test_swagger_redirects(running: Service, path: str) -> None:
    async with running.client.get(running.url + path, allow_redirects=False) as answer:
        assert answer.status == 301
        assert answer.headers["Location"] == "/swagger/index.html"


def _type(name: str) -> str:
    return f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/", "text/html; charset=utf-8"), *((f"/assets/{name}", _type(name)) for name in pages.PAGE_ASSETS)],
)
async def test_an_asset_is_tagged_and_compressed(running: Service, path: str, content_type: str) -> None:
    async with running.client.get(running.url + path, headers={"Accept-Encoding": "identity"}) as answer:
        plain = await answer.read()
        assert answer.headers["Content-Type"] == content_type
        assert "Content-Encoding" not in answer.headers
        etag = answer.headers["ETag"]
    async with running.client.get(running.url + path, headers={"Accept-Encoding": "br, gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(await answer.read()) == plain
    for known in (etag, f'"other", {etag}', "*"):
        async with running.client.get(running.url + path, headers={"If-None-Match": known}) as answer:
            assert answer.status == 304
            assert answer.headers["ETag"] == etag
            assert await answer.read() == b""
    async with running.client.get(running.url + path, headers={"If-None-Match": '"other"'}) as answer:
        assert answer.status == 200


async def test_an_asset_is_read_once_for_all_who_ask_at_once(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = pages._load

    def noted(folder: str, name: str) -> pages.Asset:
        read.append(name)
        return load(folder, name)

    monkeypatch.setattr(pages, "_load", noted)
    answers = await asyncio.gather(*(running.call("GET", "/assets/page.js") for _ in range(10)))
    assert {status for status, _, _ in answers} == {200}
    assert read == ["page.js"]


async def test_a_missing_asset_is_503_and_says_what_to_do(
    running: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pages.resources, "files", lambda package: tmp_path)
    status, content, _ = await running.call("GET", "/swagger/swagger-ui-bundle.js")
    assert status == 503
    assert "build_zipapp.py --assets" in content["message"]


def test_our_own_pages_name_no_other_host() -> None:
    files = list((STATIC / "pages").iterdir())
    assert {file.name for file in files} == {"index.html", "swagger.html", *pages.PAGE_ASSETS}
    for file in files:
        assert not OUTSIDE.search(file.read_bytes()), file.name
