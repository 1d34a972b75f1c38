"""No request makes the event loop wait: what a client may send or ask for at most, in functions called in one turn of
the loop. See `tests.support.blocking_calls.busiest_turn` on why not in seconds."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.netbox.base import Container
from ipam_lib.registry import Context, Registry
from ipam_lib.schemas.list_query import MOST
from ipam_lib.storage.sqlite import SQLiteStore
from ipam_lib.web.request_body import LARGEST_BODY
from tests.storage.samples import NOW, registration, service
from tests.support.blocking_calls import busiest_turn
from tests.support.clock import FakeClock
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.web.service import BODY, SERVICE, TOKEN, Service
from tests.web.service import service as served

# A call takes some 0.1 microseconds of a processor: 20 ms, which 64 KiB of escapes come near to.
MOST_CALLS: Final = 200_000
# A long list is written, and a large cluster expired, in many turns.
MOST_CALLS_OF_MANY: Final = 20_000

CIPHER = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
SEALED: Final = CIPHER.seal("SuperSecret")
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}


def filled(start: str, piece: str, end: str) -> bytes:
    """So many pieces that the body is as large as may be."""
    return (start + piece * ((LARGEST_BODY - len(start) - len(end)) // len(piece.encode())) + end).encode()


BODIES: dict[str, bytes] = {
    "deep": filled("", '{"zone":', ""),
    "lists": filled("", "[", ""),
    "numbers": filled('{"zone":[', "1,", "1]}"),
    "digits": filled('{"zone":', "9", "}"),
    "texts": filled('{"secret":"', "\\u00e9", '"}'),
    "names": b"{" + b",".join(b'"%d":0' % n for n in range(6500)) + b"}",
    "names of a service": b'{"service":{' + b",".join(b'"%d":0' % n for n in range(6500)) + b"}}",
    "names like secrets": b"{" + b",".join(b'"secret%d":0' % n for n in range(4000)) + b"}",
    "nothing": filled("", " ", ""),
    "quotes": filled("", '"', ""),
    "backslashes": filled('{"secret":"', "\\\\", '"}'),
    "an address": filled('{"address":"', "1.", '"}'),
    "an address of many colons": filled('{"address":"', ":", '/128"}'),
    "no text": b"\xff" * LARGEST_BODY,
    "a secret": json.dumps(BODY | {"secret": "s" * (LARGEST_BODY - 400)}).encode(),
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    # The profiler makes everything slow; how slow must not matter.
    store, clock = SQLiteStore(tmp_path / "ipam.db", timeout_seconds=300), FakeClock(NOW, auto=False)
    await store.open()
    await store.prepare()
    zones = PlainZones([Container(1, "10.0.0.0/8", "ipv4", "inet", 7)])
    ids = (f"{n:024x}" for n in itertools.count(1_000_000))
    registry = Registry(Context(store, PlainNetBox(), zones, CIPHER, clock, lambda: next(ids)))
    async with served(real=registry, clock=clock, store=store) as running:
        yield running
    await store.close()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("what", BODIES)
async def test_a_body(running: Service, method: str, what: str) -> None:
    assert len(BODIES[what]) <= LARGEST_BODY
    with busiest_turn() as busiest:
        status, _, _ = await running.call(method, "/", BODIES[what])
    assert status in (200, 400, 404, 422), status
    assert busiest.calls < MOST_CALLS, busiest


async def test_the_longest_page_of_registrations(running: Service) -> None:
    services = tuple(service(f"web-{n}", cluster=SERVICE["cluster_id"], expires_at=NOW) for n in range(30))
    for number in range(MOST):
        address = f"10.0.{number >> 8}.{number & 255}/32"
        await running.services.store.insert(registration(number, secret=SEALED, address=address, services=services))
    with busiest_turn() as busiest:
        status, content, _ = await running.call("GET", f"/v2/addresses?limit={MOST}", headers=BEARER)
    assert status == 200, content
    assert sum(len(one["services"]) for one in content["addresses"]) == MOST * len(services)
    assert busiest.calls < MOST_CALLS_OF_MANY, busiest


async def test_the_longest_page_of_a_history(running: Service) -> None:
    services = tuple(service(f"web-{n}", cluster=SERVICE["cluster_id"]) for n in range(MOST))
    await running.services.store.insert(registration(1, secret=SEALED, address="10.0.0.1/32", services=services))
    with busiest_turn() as busiest:
        status, content, _ = await running.call("GET", f"/v2/addresses/10.0.0.1/history?limit={MOST}", headers=BEARER)
    assert status == 200, content
    assert len(content["history"]) == MOST
    assert busiest.calls < MOST_CALLS, busiest


async def test_a_cluster_of_very_many_registrations(running: Service) -> None:
    one = service("web", cluster=SERVICE["cluster_id"])
    for number in range(1000):
        address = f"10.0.{number >> 8}.{number & 255}/32"
        await running.services.store.insert(registration(number, secret=SEALED, address=address, services=(one,)))
    body = {"cluster_id": SERVICE["cluster_id"]}
    with busiest_turn() as busiest:
        status, content, _ = await running.call("DELETE", "/v2/cluster", body, headers=BEARER)
    assert status == 200, content
    assert content["expired"] == 1000
    assert busiest.calls < MOST_CALLS_OF_MANY, busiest


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/v2/zones", "/swagger/doc.json", "/openapi.json"])
async def test_what_else_is_read(running: Service, path: str) -> None:
    with busiest_turn() as busiest:
        status, _, _ = await running.call("GET", path, headers=BEARER)
    assert status == 200
    assert busiest.calls < MOST_CALLS, busiest


@pytest.mark.parametrize("piece", ["a=b&", "%C3%A9", "limit=1&", "cursor=%00&"])
async def test_a_long_query(running: Service, piece: str) -> None:
    query = piece * (7000 // len(piece))
    with busiest_turn() as busiest:
        status, _, _ = await running.call("GET", f"/v2/addresses?{query}", headers=BEARER)
    assert status in (200, 400)
    assert busiest.calls < MOST_CALLS, busiest
