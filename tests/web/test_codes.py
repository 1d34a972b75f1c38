"""Every code of the table is answered where its meaning says, and no error is answered without one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ipam_lib import errors
from ipam_lib.errors import CODES, IPAMError
from ipam_lib.web.connection import Limits
from tests.web.service import BODY, TOKEN, FakeStore, Service, service, status_of

MOMENT = datetime(2026, 11, 25, tzinfo=UTC)
# What the use cases raise.
RAISED: dict[str, IPAMError] = {
    "unknown_zone": errors.UnknownZone("x", ["inet"]),
    "address_outside_zone": errors.AddressOutsideZone("10.0.0.1/32", "inet"),
    "no_containers": errors.NoContainers("inet", "ipv6"),
    "wrong_secret": errors.WrongSecret(),
    "not_registered": errors.AnotherSecret(),
    "network_not_allowed": errors.NetworkNotAllowed(),
    "certificate_not_allowed": errors.CertificateNotAllowed("a client certificate is required"),
    "address_taken": errors.AddressTaken("10.0.0.1/32", "something"),
    "address_cooling_down": errors.AddressHeld("10.0.0.1/32", MOMENT),
    "secret_shared": errors.SecretShared("10.0.0.1/32"),
    "zone_full": errors.ZoneFull("inet", "ipv4"),
    "quota_exceeded": errors.QuotaExceeded("cluster", "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878", "inet", 5),
    "in_flight": errors.StillInFlight(),
    "storage_unavailable": errors.StorageUnavailable(),
    "netbox_unavailable": errors.NetBoxUnavailable(),
    "netbox_refused": errors.NetBoxRejected("NetBox refused it"),
    "too_many_attempts": errors.TooManyAttempts(retry_after=7),
    "try_again": errors.Unavailable("the registration changed; try again"),
    "time_limit": errors.TimeLimitReached(),
}


async def _answer(running: Service, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    async with running.client.request(method, running.url + path, data=data, headers=headers) as answer:
        return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize("code", RAISED)
async def test_an_error_of_a_use_case(code: str) -> None:
    async with service() as running:
        running.registry.error = RAISED[code]
        status, content = await _answer(running, "POST", "/", BODY)
    assert (status, content["code"]) == (CODES[code].status, code)
    assert content["message"] == RAISED[code].message


async def _over_the_wire(running: Service, sent: bytes) -> tuple[int, Any]:
    raw = await running.raw(sent)
    return status_of(raw), json.loads(raw.partition(b"\r\n\r\n")[2])


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
ELSEWHERE: dict[str, Callable[[Service], Awaitable[tuple[int, Any]]]] = {
    "invalid_http": lambda running: _over_the_wire(running, b"GARBAGE\r\n\r\n"),
    "invalid_json": lambda running: _answer(running, "POST", "/", b"{"),
    "invalid_request": lambda running: _answer(running, "POST", "/", {}),
    "wrong_signature": lambda running: _answer(running, "POST", "/netbox/webhook", {}),
    "unauthorized": lambda running: _answer(running, "GET", "/v2/zones"),
    "unknown_path": lambda running: _answer(running, "GET", "/nowhere"),
    "method_not_allowed": lambda running: _answer(running, "PUT", "/"),
    "request_timeout": lambda running: _over_the_wire(running, b"POST / HTTP/1.1\r\n"),
    "body_too_large": lambda running: _answer(running, "POST", "/", b"x" * 70_000),
    "compressed_body": lambda running: _answer(running, "POST", "/", b"x", **{"Content-Encoding": "br"}),
    "expectation_failed": lambda running: _over_the_wire(
        running, HEAD + b"Expect: something\r\nContent-Length: 2\r\n\r\n{}"
    ),
}


@pytest.mark.parametrize("code", ELSEWHERE)
async def test_an_error_before_any_use_case(code: str) -> None:
    async with service(limits=Limits(seconds_for_head=0.2), webhook_secret="s3cret") as running:
        status, content = await ELSEWHERE[code](running)
    assert (status, content["code"]) == (CODES[code].status, code), content
    assert content["message"]


async def test_a_bug() -> None:
    async with service() as running:
        running.registry.error = ValueError("odd")
        assert (await _answer(running, "POST", "/", BODY))[1]["code"] == "internal_error"


async def test_not_ready() -> None:
    async with service(store=FakeStore(trouble=errors.StorageUnavailable())) as running:
        status, content = await _answer(running, "GET", "/readyz")
        assert (status, content["code"]) == (503, "not_ready")
        # The storage has never been prepared.
        status, content = await _answer(running, "GET", "/v2/zones", Authorization=f"Bearer {TOKEN}")
        assert (status, content["code"]) == (503, "storage_unavailable")


async def test_too_many_connections() -> None:
    async with service(limits=Limits(connections=0)) as running:
        status, content = await _over_the_wire(running, b"")
    assert (status, content["code"]) == (503, "too_many_connections")


def test_every_code_is_answered_by_a_test_above() -> None:
    assert {*RAISED, *ELSEWHERE, "internal_error", "not_ready", "too_many_connections"} == CODES.keys()


async def test_the_specification_has_every_code_that_an_operation_may_answer() -> None:
    async with service(webhook_secret="s3cret") as running:
        _, specification, _ = await running.call("GET", "/swagger/doc.json")
    assert specification["definitions"]["Error"]["properties"]["code"]["enum"] == list(CODES)
    described = {
        code
        for item in specification["paths"].values()
        for operation in item.values()
        for status, response in operation["responses"].items()
        for code in CODES
        if f"`{code}`" in response["description"] and int(status) == CODES[code].status
    }
    # These are of no operation.
    assert CODES.keys() - described == {"invalid_http", "unknown_path", "method_not_allowed", "too_many_connections"}
