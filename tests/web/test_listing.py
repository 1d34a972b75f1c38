"""The read paths over HTTP, the registry and all: who may, what is taken, what is answered, and that no secret is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import Registration, State
from ipam_lib.netbox.base import Container, SpaceUse
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.registry.zone_usage import SECONDS_BETWEEN_COUNTS
from tests.storage.samples import DAY, NOW, legacy_documents, object_id, registration, service
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.web.service import SERVICE, TOKEN, FakeZones, Service, status_of
from tests.web.service import service as served

CIPHER = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
CLEAR = "NobodyMayReadThis"
SEALED = CIPHER.seal(CLEAR)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CONTAINERS = (
    Container(1, "83.118.168.0/24", "ipv4", "inet", 7),
    Container(2, "2001:db8::/64", "ipv6", "inet", 7),
    Container(3, "10.0.0.0/30", "ipv4", "lab", None),
)
CLUSTER, NAMESPACE = SERVICE["cluster_id"], SERVICE["namespace_id"]
PATHS = ["/v2/addresses", "/v2/addresses/83.118.168.1", "/v2/addresses/83.118.168.1/history", "/v2/zones"]


class Reading:
    """The service over a store in memory."""

    def __init__(self, running: Service, store: MemoryStore, clock: FakeClock) -> None:
        self.running = running
        self.store = store
        self.clock = clock

    async def get(self, path: str, query: Mapping[str, Any] | str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        text = query if isinstance(query, str) else urlencode(query)
        # As it stands: what is escaped stays so.
        sent = {"Host": "localhost", "Connection": "close", **BEARER, **headers}
        lines = [f"GET {path}{'?' * bool(text)}{text} HTTP/1.1", *(f"{name}: {one}" for name, one in sent.items())]
        raw = await self.running.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))
        assert CLEAR.encode() not in raw
        assert SEALED.encode() not in raw
        assert b"secret" not in raw
        return status_of(raw), json.loads(raw.partition(b"\r\n\r\n")[2])

    async def ids(self, **query: str) -> list[int]:
        """The numbers of the registrations that a listing shows."""
        status, content = await self.get("/v2/addresses", query)
        assert status == 200, content
        return [one["netbox_id"] for one in content["addresses"]]

    async def add(self, *some: Registration) -> None:
        for one in some:
            await self.store.insert(one)


class ReadNetBox(PlainNetBox):
    """A NetBox of which two containers have been read."""

    def space_use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        return {
            1: SpaceUse(256, own=3, prefixes=20, ip_addresses=2, as_of=self.now()),
            2: SpaceUse(2**64, own=0, prefixes=2**63 + 1, ip_addresses=0, ip_addresses_known=False, as_of=self.now()),
        }.get(container.id)


@asynccontextmanager
async def reading_service(*, bearer: bool = True) -> AsyncIterator[Reading]:
    store = MemoryStore()
    await store.open()
    clock = FakeClock(NOW)
    context = Context(store, ReadNetBox(), PlainZones(CONTAINERS), CIPHER, clock, lambda: object_id(1))
    async with served(bearer=bearer, real=Registry(context), zones=FakeZones(("inet", "lab"))) as running:
        yield Reading(running, store, clock)


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    async with reading_service() as made:
        yield made


def sample(number: int, **fields: Any) -> Registration:
    values: dict[str, Any] = {
        "secret": SEALED,
        "address": f"83.118.168.{number}/32",
        "services": (service("web", cluster=CLUSTER, namespace=NAMESPACE),),
    }
    return registration(number, **values | fields)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "Bearer", f"Bearer {TOKEN}x", "Bearer x", f"Basic {TOKEN}"])
async def test_without_the_token_nothing_is_read(reading: Reading, path: str, token: str) -> None:
    await reading.add(sample(1))
    status, content = await reading.get(path, Authorization=token)
    assert (status, content) == (401, {"code": "unauthorized", "message": "the bearer token is missing or wrong"})
    # Not even whether the query could be understood.
    assert (await reading.get(path, {"limit": "x", "zone": "\0"}, Authorization=token))[0] == 401


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_configured_token_there_is_no_such_path(path: str) -> None:
    async with reading_service(bearer=False) as reading:
        assert await reading.get(path) == (404, {"code": "unknown_path", "message": "there is nothing at this path"})


async def test_a_registration_as_it_is_shown(reading: Reading) -> None:
    services = (
        service("a", cluster=CLUSTER, namespace=NAMESPACE, retention_period_days=3, expires_at=NOW),
        service("b", cluster=CLUSTER, namespace=NAMESPACE, deny_external_cleanup=True),
    )
    await reading.add(sample(1, services=services), sample(2, services=(), state=State.RELEASING, netbox_id=None))
    key = {"namespace_id": NAMESPACE, "cluster_id": CLUSTER}
    first = {
        "address": "83.118.168.1/32",
        "zone": "inet",
        "ip_family": "ipv4",
        "state": "live",
        "id": "6b0000000000000000000001",
        "duplicate": False,
        "netbox_id": 1,
        "services": [
            {
                "service_name": "a",
                **key,
                "retention_period_days": 3,
                "deny_external_cleanup": False,
                "expires_at": "2026-11-25T12:00:00.123Z",
            },
            {
                "service_name": "b",
                **key,
                "retention_period_days": 0,
                "deny_external_cleanup": True,
                "expires_at": None,
            },
        ],
    }
    second = {"address": "83.118.168.2/32", "zone": "inet", "ip_family": "ipv4", "state": "releasing"}
    second |= {"id": "6b0000000000000000000002", "duplicate": False, "netbox_id": None, "services": []}
    assert await reading.get("/v2/addresses") == (200, {"addresses": [first, second], "cursor": None})
    assert await reading.get("/v2/addresses/83.118.168.1") == (200, {"addresses": [first]})


async def test_what_is_shown_is_what_is_specified(reading: Reading) -> None:
    await reading.add(sample(1))
    _, spec, _ = await reading.running.call("GET", "/swagger/doc.json")
    definitions = spec["definitions"]

    def check(value: Any, schema: Mapping[str, Any]) -> None:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        if isinstance(value, dict):
            assert value.keys() == schema["properties"].keys()
            assert set(schema["required"]) == value.keys()
            for name, inner in value.items():
                check(inner, schema["properties"][name])
        elif isinstance(value, list):
            assert schema["type"] == "array"
            for inner in value:
                check(inner, schema["items"])
        else:
            kinds: dict[Any, str | None] = {str: "string", bool: "boolean", int: "integer", type(None): None}
            assert kinds[type(value)] in (schema["type"], None)
            assert value is not None or schema.get("x-nullable") or "netbox_id" in str(schema)

    for path in PATHS:
        operation = spec["paths"][path.replace("83.118.168.1", "{address}")]["get"]
        status, content = await reading.get(path)
        assert status == 200
        check(content, operation["responses"]["200"]["schema"])


@pytest.fixture
async def various(reading: Reading) -> Reading:
    other = "6513270e-269e-4d37-b2a7-4de452e6b438"
    await reading.add(
        sample(1),
        sample(2, zone="lab"),
        sample(3, address="2001:db8::3/128", ip_family="ipv6"),
        sample(4, services=(service("web", cluster=other, namespace=NAMESPACE, expires_at=NOW + DAY),)),
        sample(5, services=(service("api", cluster=CLUSTER, namespace=other),)),
        sample(6, services=()),
        sample(7, state=State.CREATING),
        sample(8, services=(service("api", cluster=CLUSTER, namespace=NAMESPACE), service("web", cluster=other))),
    )
    return reading


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 8]),
        ({"zone": "", "limit": "", "cursor": "", "expiring": ""}, [1, 2, 3, 4, 5, 6, 8]),
        ({"unknown": "x", "secret": SEALED}, [1, 2, 3, 4, 5, 6, 8]),
        ({"zone": "inet"}, [1, 3, 4, 5, 6, 8]),
        ({"zone": "INET"}, []),
        ({"zone": "nowhere"}, []),
        ({"zone": "lab"}, [2]),
        ({"ip_family": "ipv6"}, [3]),
        ({"cluster_id": CLUSTER}, [1, 2, 3, 5, 8]),
        ({"cluster_id": CLUSTER.upper()}, [1, 2, 3, 5, 8]),
        ({"namespace_id": NAMESPACE.upper()}, [1, 2, 3, 4, 8]),
        ({"service_name": "api"}, [5, 8]),
        ({"service_name": "web", "cluster_id": CLUSTER}, [1, 2, 3]),
        ({"service_name": "api", "namespace_id": NAMESPACE, "cluster_id": CLUSTER, "zone": "inet"}, [8]),
        ({"expiring": "true"}, [4]),
        ({"expiring": "false"}, [1, 2, 3, 5, 6, 8]),
        ({"limit": "1"}, [1]),
        ({"limit": "0002"}, [1, 2]),
        ({"limit": "1000"}, [1, 2, 3, 4, 5, 6, 8]),
    ],
    ids=str,
)
async def test_filters(various: Reading, query: dict[str, str], expected: list[int]) -> None:
    assert await various.ids(**query) == expected


async def test_fifty_are_shown_when_nobody_says_how_many(reading: Reading) -> None:
    await reading.add(*(sample(number) for number in range(1, 61)))
    status, content = await reading.get("/v2/addresses")
    assert (status, len(content["addresses"])) == (200, 50)
    rest = await reading.ids(cursor=content["cursor"])
    assert rest == list(range(51, 61))


async def test_a_cursor_goes_on_under_the_same_filters(various: Reading) -> None:
    seen: list[int] = []
    cursor = ""
    while True:
        query = {"zone": "inet", "limit": "2", "cursor": cursor}
        status, content = await various.get("/v2/addresses", query)
        assert status == 200
        seen += [one["netbox_id"] for one in content["addresses"]]
        cursor = content["cursor"]
        if cursor is None:
            break
    assert seen == [1, 3, 4, 5, 6, 8]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("0", "-1", "1001", "1e3", "5.0", "x", " 5", "५", "9" * 5000, "true", "0x10")),
        *(("cursor", value) for value in ("x", "null", "AAAA", "A" * 17, "é" * 16, "../../etc", "\0", "A" * 5000)),
        *(("expiring", value) for value in ("1", "yes", "TRUE", "null", "truefalse", "\0")),
        *(("ip_family", value) for value in ("ipv5", "IPV4", "4", "\0\0\0\0", "ipv4 ")),
        *(("zone", value) for value in ("a\0b", "x" * 254, "a\nb", "\u202e", "\x7f")),
        *(("service_name", value) for value in ("\0", "x" * 254, "a\tb")),
        *(("cluster_id", value) for value in ("x", CLUSTER + "0", CLUSTER[:-1] + "g", "{" + CLUSTER[1:], "$ne")),
        *(("namespace_id", value) for value in ("*", "0" * 36, CLUSTER.replace("-", "_"))),
    ],
)
async def test_what_cannot_be_understood_is_named_and_not_repeated(reading: Reading, name: str, value: str) -> None:
    status, content = await reading.get("/v2/addresses", {name: value})
    assert status == 400
    assert list(content["errors"]) == [name]
    assert content["message"].startswith(f"invalid request: {name} ")
    assert len(content["message"]) < 200
    # Of what was sent the name alone comes back.
    assert len(value) < 8 or value not in str(content)


async def test_everything_that_is_wrong_is_named_at_once(reading: Reading) -> None:
    status, content = await reading.get(
        "/v2/addresses", {"limit": "x", "expiring": "x", "zone": "\0", "cluster_id": "x"}
    )
    assert status == 400
    assert content["errors"].keys() == {"limit", "expiring", "zone", "cluster_id"}


@pytest.mark.parametrize("query", ["zone=%ff%fe", "zone=%ed%a0%80", "limit=%", "%00=%00", "&&&=&", "cluster_id[$ne]=x"])
async def test_a_query_string_that_is_broken_is_no_bug(reading: Reading, query: str) -> None:
    status, _ = await reading.get("/v2/addresses", query)
    assert status in {200, 400}


ADDRESSES = {
    1: ("83.118.168.1", "83.118.168.1/32", "83.118.168.1%2F32", "83.118.168.1%2f32", "%38%33.118.168.1"),
    3: (
        "2001:db8::3",
        "2001:db8::3/128",
        "2001:DB8::3",
        "2001:0db8:0000:0000:0000:0000:0000:0003%2F128",
        "2001%3Adb8%3A%3A3",
        "2001:db8:0:0::3",
    ),
}


@pytest.mark.parametrize(("number", "text"), [(number, text) for number, texts in ADDRESSES.items() for text in texts])
async def test_an_address_in_any_spelling(various: Reading, number: int, text: str) -> None:
    status, content = await various.get(f"/v2/addresses/{text}")
    assert status == 200
    assert [one["netbox_id"] for one in content["addresses"]] == [number]
    assert "cursor" not in content


async def test_an_address_of_two_zones(reading: Reading) -> None:
    await reading.add(sample(1), sample(2, zone="lab", address="83.118.168.1/32"), sample(3, zone="closed"))
    status, content = await reading.get("/v2/addresses/83.118.168.1")
    assert (status, [one["zone"] for one in content["addresses"]]) == (200, ["inet", "lab"])
    status, content = await reading.get("/v2/addresses/83.118.168.1", {"zone": "lab"})
    assert (status, [one["netbox_id"] for one in content["addresses"]]) == (200, [2])
    status, content = await reading.get("/v2/addresses/83.118.168.1", {"zone": "nowhere"})
    assert (status, content) == (404, {"code": "not_registered", "message": "83.118.168.1/32 is not registered"})
    # A zone that is none of NetBox's any more is looked through as well.
    assert (await reading.get("/v2/addresses/83.118.168.3"))[0] == 200


async def test_networks_of_the_earlier_service(reading: Reading) -> None:
    reading.store.database.registrations.update({one["_id"]: one for one in legacy_documents()})
    for text in ("83.118.168.0/24", "83.118.168.0%2F24"):
        status, content = await reading.get(f"/v2/addresses/{text}")
        assert (status, [one["address"] for one in content["addresses"]]) == (200, ["83.118.168.0/24"])
    status, content = await reading.get("/v2/addresses", {"limit": "1000"})
    assert len(content["addresses"]) == len(legacy_documents())
    for one in legacy_documents():
        assert one["secret"] not in json.dumps(content)


async def test_what_is_not_registered_is_404(reading: Reading) -> None:
    await reading.add(sample(7, state=State.CREATING), sample(8, state=State.ABORTING))
    for text in ("83.118.168.9", "83.118.168.7", "83.118.168.8"):
        status, content = await reading.get(f"/v2/addresses/{text}")
        assert (status, content) == (404, {"code": "not_registered", "message": f"{text}/32 is not registered"})


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "83.118.168",
        "83.118.168.1/33",
        "83.118.168.01",
        "1",
        "::1%25eth0",
        ":::",
        "%00",
        "%ff",
        "%F0%9F%A6%8A",
        "$ne",
    ],
)
async def test_what_is_no_address_is_400(reading: Reading, text: str) -> None:
    status, content = await reading.get(f"/v2/addresses/{text}")
    assert status == 400
    assert list(content["errors"]) == ["address"]


async def test_a_zone_that_cannot_be_one_is_400_for_an_address_too(reading: Reading) -> None:
    status, content = await reading.get("/v2/addresses/83.118.168.1", {"zone": "\0"})
    assert (status, list(content["errors"])) == (400, ["zone"])


async def test_zones(reading: Reading) -> None:
    await reading.add(*(sample(number) for number in (1, 2, 3)), sample(9, zone="closed", state=State.RELEASING))
    # What was counted for the metrics when the service started is told again for a while.
    reading.clock.advance(SECONDS_BETWEEN_COUNTS)
    status, content = await reading.get("/v2/zones")
    assert status == 200
    inet, lab, closed = content["zones"]
    assert inet == {
        "zone": "inet",
        "families": [
            {
                "ip_family": "ipv4",
                "size": 256,
                "used": 3,
                "reserved": 0,
                "other_prefixes": 20,
                "other_addresses": 2,
                "free": 231,
                "as_of": "2026-01-01T00:00:00.000Z",
                "containers": [
                    {
                        "prefix": "83.118.168.0/24",
                        "size": 256,
                        "netbox_id": 1,
                        "vrf_id": 7,
                        "utilized": False,
                        "own": 3,
                        "other_prefixes": 20,
                        "other_addresses": 2,
                        "free": 231,
                        "as_of": "2026-01-01T00:00:00.000Z",
                    }
                ],
            },
            {
                "ip_family": "ipv6",
                "size": 2**64,
                "used": 0,
                "reserved": 0,
                "other_prefixes": 2**63 + 1,
                "other_addresses": None,
                "free": 2**63 - 1,
                "as_of": "2026-01-01T00:00:00.000Z",
                "containers": [
                    {
                        "prefix": "2001:db8::/64",
                        "size": 2**64,
                        "netbox_id": 2,
                        "vrf_id": 7,
                        "utilized": False,
                        "own": 0,
                        "other_prefixes": 2**63 + 1,
                        "other_addresses": None,
                        "free": 2**63 - 1,
                        "as_of": "2026-01-01T00:00:00.000Z",
                    }
                ],
            },
        ],
        "quotas": [],
    }
    unknown = {"other_prefixes": None, "other_addresses": None, "free": None, "as_of": None}
    [family] = lab["families"]
    [container] = family["containers"]
    assert {name: family[name] for name in unknown} == {name: container[name] for name in unknown} == unknown
    assert (container["utilized"], container["own"]) == (None, None)
    assert lab["families"][0]["containers"][0]["vrf_id"] is None
    assert (closed["zone"], closed["families"][0]["used"], closed["families"][0]["containers"]) == ("closed", 1, [])


async def test_zones_with_quotas(reading: Reading) -> None:
    await reading.add(*(sample(number) for number in (1, 2, 3)))
    registry = cast(Registry, reading.running.services.registry)
    registry.context = replace(
        registry.context, settings=RegistrySettings(quotas={"cluster": {"inet": 4}, "namespace": {"lab": 10}})
    )
    await registry.statistics()
    _, content = await reading.get("/v2/zones")
    assert [one["quotas"] for one in content["zones"]] == [
        [{"owner": "cluster", "limit": 4, "highest": 3, "nearly_used": 0}],
        [{"owner": "namespace", "limit": 10, "highest": 0, "nearly_used": 0}],
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_a_storage_that_is_away_is_503(reading: Reading, path: str) -> None:
    await reading.store.close()
    status, content = await reading.get(path)
    assert (status, content) == (
        503,
        {"code": "storage_unavailable", "message": StorageUnavailable("storage is closed").message},
    )


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_read_before_the_storage_is_prepared(reading: Reading, path: str) -> None:
    reading.running.services.prepared = False
    status, content = await reading.get(path)
    assert (status, content) == (
        503,
        {"code": "storage_unavailable", "message": "the storage is not ready yet; try again"},
    )


async def test_a_slash_too_much_is_another_path(reading: Reading) -> None:
    for path in (
        "/v2/addresses//history",
        "/v2/addresses/a/b/c/history",
        "/v2/addresses/",
        "/v2/addresses/83.118.168.1/32/",
        "/v2/addresses/a/b/c",
        "/v2/addresses//32",
    ):
        assert (await reading.get(path))[0] == 404
    for path in ("/v2/addresses/83.118.168.1%2F32%2F1", f"/v2/addresses/{quote('a/b/c', safe='')}"):
        assert (await reading.get(path))[0] in {400, 404}
