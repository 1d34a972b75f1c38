"""Clients for the tests: no wait is real, and no jitter is by chance."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.transport import Transport
from tests.support.clock import FakeClock
from tests.support.wire import answer, cut, raw

TOKEN = "0123456789abcdef0123456789abcdef01234567"
UUID = "65f000000000000000000001"
OTHER = "65f000000000000000000002"
LIMIT = 10.0

INET = Container(
    id=1,
    prefix="83.118.168.0/24",
    ip_family="ipv4",
    zone="inet",
    vrf_id=1,
    tenant_id=1,
    role_id=2,
    custom_fields={
        "infra": "prod",
        "site": {"id": 7, "url": "x", "display": "Trondheim"},
        "racks": [{"id": 1}, {"id": 2}],
    },
)
GLOBAL6 = Container(id=6, prefix="2a03:f40:1::/64", ip_family="ipv6", zone="hnet-public")


@dataclass
class Observed:
    """What the client told its observer."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, operation: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, result))


@asynccontextmanager
async def client_for(url: str, *, clock: FakeClock | None = None, **options: Any) -> AsyncIterator[NetBoxClient]:
    """An open client; `options` as in NetBoxSettings, and `observe`."""
    observe = options.pop("observe", None)
    settings = NetBoxSettings(url, options.pop("token", TOKEN), **options)
    transport = Transport(settings, clock=clock or FakeClock(), rng=random.Random(3), observe=observe)
    async with NetBoxClient(transport) as client:
        yield client


def prefix_json(
    prefix_id: int,
    prefix: str,
    *,
    vrf: int | None = 1,
    status: str = "active",
    zone: str | None = "inet",
    uuid: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A prefix in the shape in which NetBox shows it."""
    return {
        "id": prefix_id,
        "url": f"http://netbox.example.com/api/ipam/prefixes/{prefix_id}/",
        "prefix": prefix,
        "vrf": None if vrf is None else {"id": vrf, "name": "nhc", "rd": "65000:1"},
        "tenant": {"id": 1, "name": "NHN"},
        "role": {"id": 2, "name": "Kubernetes LB"},
        "status": {"value": status, "label": status.title()},
        "custom_fields": {"k8s_zone": zone, "k8s_uuid": uuid, "infra": None},
    } | more


def page_json(*results: Any, more: bool = False) -> dict[str, Any]:
    """A page of a listing by id. `next` points where no client should go."""
    following = "http://192.0.2.1/api/ipam/prefixes/?offset=1000" if more else None
    return {"count": len(results) + more, "next": following, "previous": None, "results": list(results)}


async def read(client: NetBoxClient) -> list[Prefix]:
    """A read, repeated while NetBox is unavailable."""
    return await client.get_many([1], limit=LIMIT)


def bare(*prefix_ids: int) -> list[Prefix]:
    """Prefixes of which a deletion needs nothing but the ids."""
    return [Prefix(one, f"192.0.2.{one % 256}/32") for one in prefix_ids]


async def create(client: NetBoxClient) -> Prefix:
    """The creation whose answer `MADE` is."""
    return await client.create_next_one(INET, uuid=UUID, limit=LIMIT)


NONE = answer(200, page_json())
GONE = answer(404, {"detail": "No Prefix matches the given query."})
MADE = answer(201, prefix_json(73, "83.118.168.1/32", uuid=UUID))
TAG = answer(200, {"count": 1, "next": None, "results": [{"id": 5, "name": "vitistack"}]})

HANGING_UP = [raw(b""), cut]
BROKEN = [
    answer(500, {"error": "deadlock detected", "exception": "OperationalError", "netbox_version": "4.6.8"}),
    answer(500, "<html><title>Server Error</title></html>", content_type="text/html; charset=utf-8"),
    answer(502, "<html>Bad Gateway</html>", content_type="text/html"),
    answer(503),
    answer(200, "<html><title>Log in</title></html>", content_type="text/html"),
    answer(201, '{"id": 73, "prefix"', content_type="application/json"),
    answer(201, ""),
    answer(201, "null"),
    answer(200, "[" * 100_000),
    raw(b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": 73'),
    raw(b"HTTP/1.1 201 Created\r\nContent-Length: -7\r\n\r\n"),
    raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    raw(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
    *HANGING_UP,
]
