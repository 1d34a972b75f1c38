"""The history of an address over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ipam_lib.models import Tenure
from tests.storage.samples import DAY, NOW, key, object_id, service
from tests.web.test_listing import CLUSTER, NAMESPACE, Reading, reading_service, sample

PATH = "/v2/addresses/83.118.168.1/history"


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    async with reading_service() as made:
        yield made


def ended(number: int, **fields: Any) -> Tenure:
    """One that lasted for a day."""
    values: dict[str, Any] = {
        "id": object_id(number),
        "registration_id": object_id(500),
        "zone": "inet",
        "ip_family": "ipv4",
        "address": "83.118.168.1/32",
        "key": key(f"web-{number}", cluster=CLUSTER, namespace=NAMESPACE),
        "since": NOW - (number + 1) * DAY,
        "until": NOW - number * DAY,
    }
    return Tenure(**values | fields)


async def names(reading: Reading, **query: str) -> list[str]:
    """The services that held the address."""
    status, content = await reading.get(PATH, query)
    assert status == 200, content
    return [one["service_name"] for one in content["history"]]


async def test_who_holds_it_and_who_held_it(reading: Reading) -> None:
    services = (service("now", cluster=CLUSTER, namespace=NAMESPACE, since=NOW),)
    await reading.add(sample(1, services=services))
    await reading.store.history_insert([ended(1), ended(2, since=None, zone="lab")])
    place = {"address": "83.118.168.1/32", "zone": "inet", "ip_family": "ipv4"}
    whose = {"namespace_id": NAMESPACE, "cluster_id": CLUSTER}
    assert await reading.get(PATH) == (
        200,
        {
            "history": [
                {
                    **place,
                    "registration_id": object_id(1),
                    "service_name": "now",
                    **whose,
                    "from": "2026-11-25T12:00:00.123Z",
                    "until": None,
                    "ended": None,
                },
                {
                    **place,
                    "registration_id": object_id(500),
                    "service_name": "web-1",
                    **whose,
                    "from": "2026-11-23T12:00:00.123Z",
                    "until": "2026-11-24T12:00:00.123Z",
                    "ended": "expired",
                },
                {
                    **place,
                    "zone": "lab",
                    "registration_id": object_id(500),
                    "service_name": "web-2",
                    **whose,
                    "from": None,
                    "until": "2026-11-23T12:00:00.123Z",
                    "ended": "expired",
                },
            ],
            "cursor": None,
        },
    )


async def test_an_address_that_nobody_held_has_no_history(reading: Reading) -> None:
    assert await reading.get(PATH) == (200, {"history": [], "cursor": None})


async def test_pages_and_zones(reading: Reading) -> None:
    await reading.add(sample(1), sample(2, zone="lab", address="83.118.168.1/32"))
    await reading.store.history_insert([ended(number, zone="lab" if number % 2 else "inet") for number in range(120)])
    assert len(await names(reading)) == 50
    assert len(await names(reading, limit="1000")) == 122
    assert len(await names(reading, limit="1000", zone="lab")) == 61
    assert await names(reading, zone="nowhere") == []
    seen: list[str] = []
    cursor = ""
    while True:
        status, content = await reading.get(PATH, {"zone": "lab", "limit": "7", "cursor": cursor})
        assert status == 200
        seen += [one["service_name"] for one in content["history"]]
        cursor = content["cursor"]
        if cursor is None:
            break
    assert seen == ["web", *(f"web-{number}" for number in range(1, 120, 2))]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/addresses/83.118.168.1%2F32/history",
        "/v2/addresses/83.118.168.1/32/history",
        "/v2/addresses/83.118.168.1/history",
    ],
)
async def test_with_a_mask_or_without(reading: Reading, path: str) -> None:
    await reading.store.history_insert([ended(1)])
    status, content = await reading.get(path)
    assert (status, len(content["history"])) == (200, 1)


@pytest.mark.parametrize("text", ["2001:db8::1", "2001:DB8:0::0001", "2001%3adb8%3a%3a1%2f128"])
async def test_ipv6_in_any_spelling(reading: Reading, text: str) -> None:
    await reading.store.history_insert([ended(1, address="2001:db8::1/128", ip_family="ipv6")])
    status, content = await reading.get(f"/v2/addresses/{text}/history")
    assert (status, [one["ip_family"] for one in content["history"]]) == (200, ["ipv6"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("0", "1001", "x", "9" * 5000)),
        *(("cursor", value) for value in ("x", "A" * 16, "A" * 5000, "\0", "f" + "_" * 37)),
        *(("zone", value) for value in ("\0", "x" * 254)),
    ],
)
async def test_what_cannot_be_understood_is_named(reading: Reading, name: str, value: str) -> None:
    status, content = await reading.get(PATH, {name: value})
    assert (status, list(content["errors"])) == (400, [name])


@pytest.mark.parametrize("text", ["x", "83.118.168.1%2F33", "%00"])
async def test_what_is_no_address_is_400(reading: Reading, text: str) -> None:
    status, content = await reading.get(f"/v2/addresses/{text}/history")
    assert (status, list(content["errors"])) == (400, ["address"])


async def test_a_tenure_of_no_time_at_all(reading: Reading) -> None:
    await reading.store.history_insert([ended(1, since=NOW, until=NOW + timedelta(0))])
    assert await names(reading) == ["web-1"]
