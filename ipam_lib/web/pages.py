"""The pages for people, and their assets: out of the package itself, also when that is inside a zip."""

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
from aiohttp_apispec import docs

from ipam_lib.errors import Unavailable
from ipam_lib.version import __version__
from ipam_lib.web.spec import SERVICE

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

# No script and no style but our own; nothing may frame the page, and no form of it may lead elsewhere.
_LOCKED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
# Nor may text become markup or code: what the page shows was chosen by strangers.
_POLICY = _LOCKED + (
    "script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# Swagger UI sets style attributes, draws with data: images, and calls this service.
_SWAGGER_POLICY = (
    _LOCKED
    + "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src 'self'"
)

PAGE_ASSETS: Final = ("base.css", "style.css", "page.js", "view.js", "api.js", "swagger.css", "swagger-init.js")
SWAGGER_ASSETS: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served: plain, compressed, and with the tag that says whether a browser has it already."""

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


class Assets:
    """Files of the package, read when first asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Asset] = {}

    async def answer(self, request: web.Request, folder: str, name: str, policy: str | None = None) -> web.Response:
        """The answer with this file; 304 where the browser has it.

        Raises Unavailable when the file is not there: Swagger UI is fetched when the program is built.
        """
        asset = self._known.get((folder, name))
        if asset is None:
            try:
                asset = await asyncio.to_thread(_load, folder, name)
            except FileNotFoundError:
                raise Unavailable(
                    f"{name} is not part of this copy of the program; `python3 build_zipapp.py --assets` fetches it",
                    retry_after=3600,
                ) from None
            self._known[folder, name] = asset
        # Asked again each time, answered 304: a new version of the program is never mixed with the old one's files.
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING, "Referrer-Policy": "no-referrer"}
        if policy is not None:
            headers["Content-Security-Policy"] = policy
        if any(tag.value in {asset.etag, "*"} for tag in request.if_none_match or ()):
            answer = web.Response(status=304, headers=headers)
        elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            answer = web.Response(body=asset.compressed, headers=headers)
        else:
            answer = web.Response(body=asset.plain, headers=headers)
        if answer.status == 200:
            answer.content_type = asset.content_type
            answer.charset = "utf-8"
        answer.etag = asset.etag
        return answer


ASSETS = web.AppKey("assets", Assets)


async def index(request: web.Request) -> web.Response:
    """What this is."""
    return await request.app[ASSETS].answer(request, "pages", "index.html", _POLICY)


# Leaves its notes on the function itself.
docs(
    operationId="index",
    tags=[SERVICE],
    summary="The page for people",
    description="What this is, its version, and where to go on.",
    produces=["text/html"],
    responses={"200": {"description": "The page"}, "304": {"description": "The browser has it already"}},
)(index)


async def swagger(request: web.Request) -> web.Response:
    """Swagger UI."""
    return await request.app[ASSETS].answer(request, "pages", "swagger.html", _SWAGGER_POLICY)


async def swagger_asset(request: web.Request) -> web.Response:
    """A file of Swagger UI."""
    return await request.app[ASSETS].answer(request, "swagger", request.match_info["name"])


async def page_asset(request: web.Request) -> web.Response:
    """A file of our own pages."""
    return await request.app[ASSETS].answer(request, "pages", request.match_info["name"])


async def to_swagger(request: web.Request) -> web.Response:
    """Send the browser to Swagger UI; never with the query that it came with."""
    del request
    return web.Response(status=301, headers={hdrs.LOCATION: "/swagger/index.html"})


def add_routes(app: web.Application) -> None:
    """Put the pages and their files into the application."""
    app[ASSETS] = Assets()
    app.router.add_get("/", index)
    app.router.add_get("/swagger", to_swagger)
    app.router.add_get("/swagger/", to_swagger)
    app.router.add_get("/swagger/index.html", swagger)
    app.router.add_get("/swagger/{name:swagger-ui-bundle\\.js|swagger-ui\\.css}", swagger_asset)
    names = "|".join(re.escape(name) for name in PAGE_ASSETS)
    app.router.add_get(f"/assets/{{name:{names}}}", page_asset)
