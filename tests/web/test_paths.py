"""Which paths and methods there are, and the one shape of every other answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import hdrs

from tests.web.service import BODY, SERVICE, TOKEN, Service, service

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = {
    "/": {"GET", "HEAD", "POST", "DELETE"},
    "/v2/address": {"POST"},
    "/v2/service": {"DELETE"},
    "/v2/cluster": {"DELETE"},
    "/v2/addresses": {"GET", "HEAD"},
    "/v2/addresses/{address}": {"GET", "HEAD"},
    "/v2/addresses/{address}/history": {"GET", "HEAD"},
    "/v2/zones": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/swagger": {"GET", "HEAD"},
    "/swagger/": {"GET", "HEAD"},
    "/swagger/index.html": {"GET", "HEAD"},
    "/swagger/doc.json": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
    "/swagger/swagger-ui-bundle.js": {"GET", "HEAD"},
    "/swagger/swagger-ui.css": {"GET", "HEAD"},
    "/assets/style.css": {"GET", "HEAD"},
    "/assets/swagger-init.js": {"GET", "HEAD"},
}


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


def test_every_route_is_listed_here(running: Service) -> None:
    routes: dict[str, set[str]] = {}
    for route in running.app.router.routes():
        assert route.resource is not None
        routes.setdefault(route.resource.canonical, set()).add(route.method)
    listed = {path for path in PATHS if "swagger-ui" not in path and "assets" not in path}
    assert routes.keys() - listed == {"/swagger/{name}", "/assets/{name}"}
    assert {path: routes[path] for path in listed} == {path: PATHS[path] for path in listed}


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_a_path_does_not_take_is_405_with_allow(running: Service, path: str) -> None:
    for method in METHODS:
        if method in PATHS[path]:
            continue
        status, content, answer = await running.call(method, path)
        assert status == 405
        assert set(answer.headers[hdrs.ALLOW].split(",")) == PATHS[path]
        assert content == ({} if method == "HEAD" else {"message": "this path does not take this method"})


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v2",
        "/v2/",
        "/v2/address/",
        "//",
        "/v2/addresses/",
        "/v2/zones/",
        "/swagger/index.htm",
        "/swagger/../ipam.py",
        "/swagger/LICENSE",
        "/assets/..%2fpages%2findex.html",
        "/assets/index.html",
        "/%00",
        "/%ff",
        "/healthz%0aX-Evil:%20yes",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_any_other_path_is_404_in_json(running: Service, method: str, path: str) -> None:
    status, content, answer = await running.call(method, path)
    assert status == 404
    assert content == {"message": "there is nothing at this path"}
    assert answer.headers[hdrs.CONTENT_TYPE] == "application/json; charset=utf-8"
    assert not running.registry.asked


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/swagger/index.html", "/swagger/doc.json"])
async def test_head_is_get_without_the_body(running: Service, path: str) -> None:
    _, _, got = await running.call("GET", path)
    status, _, headed = await running.call("HEAD", path)
    assert status == got.status == 200
    volatile = {"X-Request-ID", "Date"}
    assert {k: v for k, v in headed.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }


async def test_the_cluster_path_is_not_there_without_a_token() -> None:
    async with service(bearer=False) as running:
        for method in METHODS:
            status, _, _ = await running.call(
                method, "/v2/cluster", {"cluster_id": SERVICE["cluster_id"]}, headers={"Authorization": TOKEN}
            )
            assert status == 404
        assert not running.registry.asked


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/healthz", "/readyz", "/swagger/index.html", "/swagger/doc.json", "/assets/style.css"]
)
async def test_what_every_answer_carries(running: Service, path: str) -> None:
    _, _, answer = await running.call("GET", path)
    assert len(answer.headers["X-Request-ID"]) == 16
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in answer.headers["Server"]
    assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}


async def test_request_ids_differ(running: Service) -> None:
    ids = {(await running.call("GET", "/healthz"))[2].headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize("offered", ["a", "x" * 128, "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878", "trace:1/2+3=4@5._"])
async def test_a_safe_request_id_of_the_client_is_kept(running: Service, offered: str) -> None:
    for method, path, body in (("GET", "/healthz", None), ("POST", "/", BODY), ("GET", "/nope", None)):
        _, _, answer = await running.call(method, path, body, headers={"X-Request-ID": offered})
        assert answer.headers["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "x" * 129, "a b", 'a"b', "a\tb", "a;b", "é", "a{b}"])
async def test_an_unsafe_request_id_is_replaced(running: Service, offered: str) -> None:
    _, _, answer = await running.call("GET", "/healthz", headers={"X-Request-ID": offered})
    assert answer.headers["X-Request-ID"] != offered
    assert len(answer.headers["X-Request-ID"]) == 16
