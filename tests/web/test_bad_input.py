"""Bad input on both versions of every path: a 4xx that says what is wrong, and nothing reaches the registry."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ipam_lib.telemetry import logs
from tests.web.service import BODY, SERVICE, Service, service

PLACES = [("POST", "/"), ("POST", "/v2/address"), ("DELETE", "/"), ("DELETE", "/v2/service")]
UUID = SERVICE["cluster_id"]


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


def changed(**changes: Any) -> dict[str, Any]:
    """The good body with other values; those for `service__x` go into the service, `...` leaves a field out."""
    body: dict[str, Any] = json.loads(json.dumps(BODY))
    for name, value in changes.items():
        target, key = (body["service"], name[9:]) if name.startswith("service__") else (body, name)
        if value is ...:
            del target[key]
        else:
            target[key] = value
    return body


FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("zone", changed(zone=...)),
    ("zone", changed(zone=7)),
    ("zone", changed(zone="")),
    ("zone", changed(zone=None)),
    ("zone", changed(zone=["inet"])),
    ("zone", changed(zone="in\0et")),
    ("ip_family", changed(ip_family=...)),
    ("ip_family", changed(ip_family="ipv5")),
    ("ip_family", changed(ip_family="IPv4")),
    ("ip_family", changed(ip_family=4)),
    ("secret", changed(secret=...)),
    ("secret", changed(secret="1234567")),
    ("secret", changed(secret="x" * 65)),
    ("secret", changed(secret=12345678)),
    ("secret", changed(secret="Super\0Secret")),
    ("secret", changed(secret="Super\ud800Secret")),
    ("secret", changed(secret={"a": "SuperSecret"})),
    ("address", changed(address="83.118.168.0/24")),
    ("address", changed(address="83.118.168.10/33")),
    ("address", changed(address="010.0.0.1")),
    ("address", changed(address="10.1")),
    ("address", changed(address="2001:db8::1")),
    ("address", changed(address="::ffff:83.118.168.10", ip_family="ipv6")),
    ("address", changed(address="fe80::1%eth0", ip_family="ipv6")),
    ("address", changed(address="83.118.168.10/32 ")),
    ("address", changed(address="83.118.168.10\0")),
    ("address", changed(address="\uff18\uff13.118.168.10")),
    ("address", changed(address=1393994762)),
    ("address", changed(address="garbage")),
    ("service", changed(service=...)),
    ("service", changed(service=None)),
    ("service", changed(service=[SERVICE])),
    ("service", changed(service="ingress")),
    ("service.service_name", changed(service__service_name=...)),
    ("service.service_name", changed(service__service_name="")),
    ("service.service_name", changed(service__service_name="x" * 254)),
    ("service.service_name", changed(service__service_name=7)),
    ("service.service_name", changed(service__service_name="\udcff")),
    ("service.namespace_id", changed(service__namespace_id=...)),
    ("service.namespace_id", changed(service__namespace_id="not-a-uuid")),
    ("service.namespace_id", changed(service__namespace_id="{" + UUID + "}")),
    ("service.cluster_id", changed(service__cluster_id=UUID.replace("-", ""))),
    ("service.cluster_id", changed(service__cluster_id=UUID + "\n")),
    ("service.cluster_id", changed(service__cluster_id=1)),
    ("service.retention_period_days", changed(service__retention_period_days="7")),
    ("service.retention_period_days", changed(service__retention_period_days=7.5)),
    ("service.retention_period_days", changed(service__retention_period_days=-1)),
    ("service.retention_period_days", changed(service__retention_period_days=31)),
    ("service.retention_period_days", changed(service__retention_period_days=True)),
    ("service.retention_period_days", changed(service__retention_period_days=10**400)),
    ("service.deny_external_cleanup", changed(service__deny_external_cleanup=1)),
    ("service.deny_external_cleanup", changed(service__deny_external_cleanup="true")),
    ("service.deny_external_cleanup", changed(service__deny_external_cleanup=[])),
]

GOOD = json.dumps(BODY)
BODIES: list[bytes] = [
    b"",
    b" \n",
    b"null",
    b"[]",
    b'"text"',
    b"7",
    b"true",
    b"NaN",
    f"[{GOOD}]".encode(),
    GOOD[:-1].encode(),
    (GOOD + ",").encode(),
    (GOOD[:-1] + ",,}").encode(),
    (GOOD + GOOD).encode(),
    (GOOD + "\0").encode(),
    GOOD.replace('"', "'").encode(),
    GOOD.encode("utf-16"),
    GOOD.encode("utf-16-le"),
    b"\xef\xbb\xbf" + GOOD.encode(),
    GOOD.replace("SuperSecret", "Süper Secret").encode("latin-1"),
    GOOD.replace("SuperSecret", "Super\x01Secret").encode(),
    (GOOD[:-1] + ', "secret": "AnotherSecret"}').encode(),
    (GOOD[:-1] + ', "x": ' + "9" * 5000 + "}").encode(),
    (GOOD[:-1] + ', "x": NaN}').encode(),
    (GOOD[:-1] + ', "x": -Infinity}').encode(),
    (GOOD[:-1] + ', "x": ' + "[" * 20_000 + "]" * 20_000 + "}").encode(),
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"zone=inet&secret=SuperSecret",
    b"\xff\xfe\x00\x00",
]


@pytest.mark.parametrize(("method", "path"), PLACES)
@pytest.mark.parametrize(("field", "body"), FIELDS, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_bad_field_is_named(running: Service, method: str, path: str, field: str, body: dict[str, Any]) -> None:
    status, content, _ = await running.call(method, path, body)
    assert status == 400
    assert list(content["errors"]) == [field]
    assert content["message"].startswith(f"invalid request: {field} ")
    assert not running.registry.asked


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_the_example_of_the_earlier_documentation_is_accepted_as_printed(
    running: Service, method: str, path: str
) -> None:
    """It ends in two trailing commas; the log masks its secret too."""
    body = json.dumps(BODY | {"service": SERVICE | {"deny_external_cleanup": False}}, indent=2)
    body = body.replace("false\n  }\n}", "false\n},\n}")
    assert body.endswith("},\n}")
    status, _, _ = await running.call(method, path, body.encode())
    assert status == 200


@pytest.mark.parametrize(("method", "path"), PLACES)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:24]))
async def test_a_bad_body_is_400(running: Service, method: str, path: str, body: bytes) -> None:
    status, content, _ = await running.call(method, path, body)
    assert status == 400
    assert content.keys() <= {"message", "errors"}
    assert "body" in content["message"] or "secret" in content["message"]
    assert "SuperSecret" not in content["message"]
    assert not running.registry.asked


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_every_bad_field_at_once(running: Service, method: str, path: str) -> None:
    status, content, _ = await running.call(method, path, {"service": {}})
    assert status == 400
    assert set(content["errors"]) == {
        "zone",
        "ip_family",
        "secret",
        "service.service_name",
        "service.namespace_id",
        "service.cluster_id",
    }


@pytest.mark.parametrize("new_secret", ["1234567", "x" * 65, 7, "Super\0Secret"])
async def test_a_bad_new_secret_is_refused_by_post_and_ignored_by_delete(running: Service, new_secret: Any) -> None:
    status, content, _ = await running.call("POST", "/", BODY | {"new_secret": new_secret})
    assert (status, list(content["errors"])) == (400, ["new_secret"])
    status, _, _ = await running.call("DELETE", "/", BODY | {"new_secret": new_secret})
    assert status == 200


@pytest.mark.parametrize("body", [{}, {"cluster_id": None}, {"cluster_id": "x"}, {"cluster_id": 7}, [], None, b"{"])
async def test_a_bad_cluster(running: Service, body: Any) -> None:
    status, content, _ = await running.call(
        "DELETE", "/v2/cluster", body, headers={"Authorization": "a-bearer-token-of-the-tests"}
    )
    assert status == 400
    assert content["message"]
    assert not running.registry.asked


@pytest.mark.parametrize(("method", "path"), PLACES)
@pytest.mark.parametrize("size", [65_537, 100 * 1024, 900_000])
async def test_a_body_over_64_kib_is_413(running: Service, method: str, path: str, size: int) -> None:
    status, content, answer = await running.call(method, path, b" " * size)
    assert status == 413
    assert content == {"message": "the body is larger than 64 KiB"}
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_a_body_of_64_kib_is_taken(running: Service, method: str, path: str) -> None:
    status, _, _ = await running.call(method, path, GOOD.encode().ljust(65_536))
    assert status == 200


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
async def test_a_compressed_body_is_415(running: Service, encoding: str, compress: Any) -> None:
    for body in (compress(GOOD.encode()), compress(b"0" * 10_000_000)):
        status, content, _ = await running.call("POST", "/", body, headers={"Content-Encoding": encoding})
        assert status == 415
        assert content == {"message": "the body must not be compressed"}


async def test_an_identity_encoding_is_none(running: Service) -> None:
    status, _, _ = await running.call("POST", "/", BODY, headers={"Content-Encoding": "Identity"})
    assert status == 200


@pytest.mark.parametrize("field", ["zone", "address", "ip_family"])
async def test_a_secret_in_another_field_is_masked_in_the_log(field: str, caplog: pytest.LogCaptureFixture) -> None:
    """The handler and the access log are different tasks of the request."""
    caplog.set_level(logging.INFO, "ipam_lib")
    stream = io.StringIO()
    handler = logs.TextHandler(stream)
    logger = logging.getLogger("ipam_lib")
    logger.addHandler(handler)
    try:
        async with service() as running:
            await running.call("POST", "/", BODY | {field: BODY["secret"]})
            await running.call("GET", f"/{BODY['secret']}")
    finally:
        logger.removeHandler(handler)
    with_secret, next_request = [line for line in stream.getvalue().splitlines() if "ipam_lib.http" in line]
    assert "POST / " in with_secret
    assert BODY["secret"] not in with_secret
    # The next request on the connection has secrets of its own.
    assert BODY["secret"] in next_request
