"""The three use cases over HTTP: what reaches the registry, what is answered, and how its errors look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ipam_lib.errors import (
    AddressOutsideZone,
    AddressTaken,
    BadRequest,
    ContainerGone,
    IPAMError,
    NetBoxRejected,
    NetBoxUnavailable,
    NoContainers,
    NotFound,
    SecretShared,
    StillInFlight,
    StorageUnavailable,
    Unavailable,
    UnknownZone,
    WrongSecret,
    ZoneFull,
)
from ipam_lib.models import Request, ServiceKey
from tests.web.service import BODY, SERVICE, TOKEN, Service, service

KEY = ServiceKey(**SERVICE)
BOTH_POST = pytest.mark.parametrize("path", ["/", "/v2/address"])
BOTH_DELETE = pytest.mark.parametrize("path", ["/", "/v2/service"])
FULL: dict[str, Any] = {
    "address": "83.118.168.10",
    "ip_family": "ipv4",
    "zone": "inet",
    "secret": "SuperSecret",
    "new_secret": "SuperSecret2",
    "service": SERVICE
    | {"retention_period_days": 3, "deny_external_cleanup": True, "expires_at": "2026-01-01T00:00:00Z"},
    "unknown": {"is": "ignored"},
}
WANTED = Request(
    zone="inet",
    ip_family="ipv4",
    key=KEY,
    secret="SuperSecret",
    address="83.118.168.10/32",
    spelling="83.118.168.10",
    new_secret="SuperSecret2",
    retention_period_days=3,
    deny_external_cleanup=True,
)


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


@BOTH_POST
@pytest.mark.parametrize(("created", "done"), [(True, "registered"), (False, "updated")])
async def test_register(running: Service, path: str, created: bool, done: str) -> None:
    running.registry.created = created
    status, content, _ = await running.call("POST", path, FULL)
    assert status == 200
    assert content == {"message": f"Address {done} successfully", "address": "83.118.168.10/32"}
    assert running.registry.asked == [("register", WANTED)]


@BOTH_DELETE
async def test_expire(running: Service, path: str) -> None:
    status, content, _ = await running.call("DELETE", path, BODY)
    assert status == 200
    assert content == {"message": "Service expiration set successfully", "address": "83.118.168.10/32"}
    [(what, wanted)] = running.registry.asked
    assert what == "expire"
    assert wanted == Request(zone="inet", ip_family="ipv4", key=KEY, secret="SuperSecret")


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}", TOKEN, f"  {TOKEN}  "]
)
async def test_expire_cluster(running: Service, authorization: str) -> None:
    status, content, _ = await running.call(
        "DELETE", "/v2/cluster", {"cluster_id": SERVICE["cluster_id"]}, headers={"Authorization": authorization}
    )
    assert status == 200
    assert content == {
        "message": "Cluster expiration set successfully",
        "cluster_id": SERVICE["cluster_id"],
        "expired": 3,
        "denied": 1,
    }
    assert running.registry.asked == [("expire_cluster", SERVICE["cluster_id"])]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer Bearer {TOKEN}",
        "Bearer \udcff\udcfe",
        "Bearer é",
    ],
)
@pytest.mark.parametrize("body", [{"cluster_id": SERVICE["cluster_id"]}, b"not json", None, b"x" * 70_000])
async def test_without_the_right_token_nothing_of_the_request_is_looked_at(
    running: Service, authorization: str | None, body: Any
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    status, content, answer = await running.call("DELETE", "/v2/cluster", body, headers=headers)
    assert status == 401
    assert content == {"message": "the bearer token is missing or wrong"}
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not running.registry.asked


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain; charset=utf-16"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "garbage"},
        {"Content-Type": ""},
    ],
)
async def test_the_content_type_is_not_looked_at(running: Service, headers: dict[str, str]) -> None:
    skipped = ["Content-Type"] if not headers else []
    status, _, _ = await running.call("POST", "/", BODY, headers=headers, skip_auto_headers=skipped)
    assert status == 200


@BOTH_POST
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest("no"), 400),
        (UnknownZone("nope", ["inet", "hnet"]), 400),
        (AddressOutsideZone("10.0.0.1/32", "inet"), 400),
        (NoContainers("inet", "ipv6"), 400),
        (WrongSecret(), 403),
        (NotFound("no such registration"), 404),
        (AddressTaken("10.0.0.1/32", "10.0.0.0/30"), 409),
        (SecretShared("10.0.0.1/32"), 409),
        (ZoneFull("inet", "ipv4"), 409),
        (StillInFlight(), 409),
        (StorageUnavailable(), 503),
        (NetBoxUnavailable(detail="secret words of NetBox"), 503),
        (NetBoxRejected("NetBox refused the request", detail="secret words of NetBox"), 503),
        (ContainerGone("the container is gone"), 503),
        (Unavailable("later", retry_after=17), 503),
    ],
)
async def test_errors_of_ours(running: Service, path: str, error: IPAMError, status: int) -> None:
    running.registry.error = error
    got, content, answer = await running.call("POST", path, BODY)
    assert got == status == error.status
    expected: dict[str, Any] = {"message": error.message}
    if isinstance(error, BadRequest) and error.errors:
        expected["errors"] = error.errors
    assert content == expected
    retry = str(error.retry_after) if isinstance(error, Unavailable) else None
    assert answer.headers.get("Retry-After") == retry


@pytest.mark.parametrize("error", [ValueError("SuperSecret is in here"), KeyError("x"), IPAMError("SuperSecret odd")])
async def test_a_bug_is_500_with_the_request_id_and_nothing_else(
    running: Service, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    running.registry.error = error
    status, content, answer = await running.call("POST", "/", BODY)
    assert status == 500
    request_id = answer.headers["X-Request-ID"]
    assert content["request_id"] == request_id
    assert request_id in content["message"]
    assert "SuperSecret" not in str(content)
    assert any(record.exc_info for record in caplog.records)


async def test_a_time_out_inside_is_a_bug_too_and_not_aiohttps_504(running: Service) -> None:
    running.registry.error = TimeoutError()
    status, content, _ = await running.call("POST", "/", BODY)
    assert status == 500
    assert "request_id" in content


async def test_before_the_storage_is_prepared_nothing_is_registered(running: Service) -> None:
    running.services.prepared = False
    for method, path, body in (
        ("POST", "/", BODY),
        ("DELETE", "/", BODY),
        ("DELETE", "/v2/cluster", {"cluster_id": SERVICE["cluster_id"]}),
    ):
        status, content, answer = await running.call(method, path, body, headers={"Authorization": TOKEN})
        assert status == 503
        assert content == {"message": "the storage is not ready yet; try again"}
        assert "Retry-After" in answer.headers
    assert not running.registry.asked
