"""The HTML pages and their assets, read from the package, which may be inside a zip file."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from ipam_lib.errors import Unavailable
from ipam_lib.version import __version__
from ipam_lib.web.operation import SERVICE, Call, operation

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

# Only own scripts and styles; no framing, no forms to other sites.
_LOCKED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
# Trusted types: text from clients, which the page shows, never becomes markup or code.
_POLICY = _LOCKED + (
    "script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# Swagger UI sets style attributes, shows data: images, and calls this service.
_SWAGGER_POLICY = (
    _LOCKED
    + "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src 'self'"
)

_BYTES_OF_A_PIECE: Final = 64 * 1024

PAGE_ASSETS: Final = ("base.css", "style.css", "page.js", "view.js", "api.js", "swagger.css", "swagger-init.js")
SWAGGER_ASSETS: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file to serve: plain, compressed, and its entity tag."""

    content_type: str
    plain: bytes
    compressed: bytes
    etag: str


def _load(folder: str, name: str) -> Asset:
    plain = resources.files("ipam_lib").joinpath("static", folder, name).read_bytes()
    if name.endswith(".html"):
        plain = plain.replace(b"{{version}}", html.escape(__version__).encode())
    return Asset(
        content_type=_TYPES[name.rpartition(".")[2]],
        plain=plain,
        compressed=gzip.compress(plain, mtime=0),
        etag=hashlib.sha256(plain).hexdigest()[:32],
    )


class _InPieces(Payload):
    """A body that is written piece by piece, so that a client that does not read holds one piece in memory, not all."""

    _value: bytes

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for begin in range(0, len(self._value), _BYTES_OF_A_PIECE):
            await writer.write(self._value[begin : begin + _BYTES_OF_A_PIECE])


class Assets:
    """Files of the package, read at the first request for each."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Asset] = {}
        self._loading = asyncio.Lock()

    async def answer(self, request: web.Request, folder: str, name: str, policy: str | None = None) -> web.Response:
        """The answer with this file; 304 if the browser has the current one.

        Raises Unavailable without the file: the build fetches Swagger UI.
        """
        asset = self._known.get((folder, name)) or await self._load(folder, name)
        # The browser revalidates each time, so that it never mixes the files of two versions of the program.
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING, "Referrer-Policy": "no-referrer"}
        if policy is not None:
            headers["Content-Security-Policy"] = policy
        if any(tag.value in {asset.etag, "*"} for tag in request.if_none_match or ()):
            answer = web.Response(status=304, headers=headers)
        elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            answer = web.Response(body=_InPieces(asset.compressed), headers=headers)
        else:
            answer = web.Response(body=_InPieces(asset.plain), headers=headers)
        if answer.status == 200:
            answer.content_type = asset.content_type
            answer.charset = "utf-8"
        answer.etag = asset.etag
        return answer

    async def _load(self, folder: str, name: str) -> Asset:
        """Read a file, once for all requests that come meanwhile."""
        async with self._loading:
            if (known := self._known.get((folder, name))) is not None:
                return known
            try:
                asset = self._known[folder, name] = await asyncio.to_thread(_load, folder, name)
            except FileNotFoundError:
                raise Unavailable(
                    f"{name} is not part of this copy of the program; `python3 build_zipapp.py --assets` fetches it",
                    retry_after=3600,
                ) from None
        return asset


ASSETS = web.AppKey("assets", Assets)


@operation(
    hdrs.METH_GET,
    "/",
    name="index",
    summary="The HTML page",
    description="What the service is, its version, and links.",
    tag=SERVICE,
    storage=False,
)
async def index(call: Call[None]) -> web.Response:
    """The start page."""
    return await call.request.app[ASSETS].answer(call.request, "pages", "index.html", _POLICY)


async def swagger(request: web.Request) -> web.Response:
    """Swagger UI."""
    return await request.app[ASSETS].answer(request, "pages", "swagger.html", _SWAGGER_POLICY)


async def swagger_asset(request: web.Request) -> web.Response:
    """A file of Swagger UI."""
    return await request.app[ASSETS].answer(request, "swagger", request.match_info["name"])


async def page_asset(request: web.Request) -> web.Response:
    """A file of the start page or of the Swagger page."""
    return await request.app[ASSETS].answer(request, "pages", request.match_info["name"])


async def to_swagger(request: web.Request) -> web.Response:
    """Redirect to Swagger UI, without the query."""
    del request
    return web.Response(status=301, headers={hdrs.LOCATION: "/swagger/index.html"})


def add_routes(app: web.Application) -> None:
    """Add the pages (except `index`) and their files to the application."""
    app[ASSETS] = Assets()
    app.router.add_get("/swagger", to_swagger)
    app.router.add_get("/swagger/", to_swagger)
    app.router.add_get("/swagger/index.html", swagger)
    app.router.add_get("/swagger/{name:swagger-ui-bundle\\.js|swagger-ui\\.css}", swagger_asset)
    names = "|".join(re.escape(name) for name in PAGE_ASSETS)
    app.router.add_get(f"/assets/{{name:{names}}}", page_asset)
