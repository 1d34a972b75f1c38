"""What clients of the earlier service asked it, and were answered: asked again of this one."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.netbox.base import Container
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.storage.documents import Document
from ipam_lib.web.access_control import AccessRules
from ipam_lib.web.connection import Limits
from ipam_lib.web.refusal_throttle import RefusalThrottle
from tests.storage.samples import DAY, NOW, legacy_documents
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.web.service import Service
from tests.web.service import service as served

DATA = Path(__file__).parents[1] / "data" / "legacy"
EXCHANGES: list[dict[str, Any]] = json.loads((DATA / "exchanges.json").read_text("utf-8"))
KEYS = json.loads((DATA / "secrets.json").read_text("utf-8"))
CIPHER = Cipher(KeySet(KEYS["enc_key"].encode(), KEYS["enc_iv"].encode()))
NETWORK = "83.118.168.0/24"

# Where this service answers otherwise, and what: by the number of the exchange.
OTHERWISE = {
    32: (403, "no matching address found with the provided secret, zone and address"),  # was 500
    34: (400, "the requested address 10.0.0.1/32 is not inside any container prefix of zone 'inet'"),  # was 500
    35: (400, "address is not one host address"),  # a network was accepted
}
# Errors whose words are others than before.
WORDS = {
    30: "secret must be 8 to 64 characters long",
    36: "address is not an IP address",
    33: "no matching address found",
    37: "no matching address found",
}

# Container, and how many of its first addresses were taken when the exchanges were recorded.
CONTAINERS = [
    (Container(1, "83.118.168.0/24", "ipv4", "inet", 7), 1),
    (Container(2, "2a0d:a00::/64", "ipv6", "inet", 7), 0),
    (Container(3, "100.64.0.0/24", "ipv4", "hnet-public", 7), 144),
    (Container(4, "2001:db8:1::/64", "ipv6", "hnet-public", 7), 0),
    (Container(5, "10.10.0.0/24", "ipv4", "hnet-private", 7), 31),
    (Container(6, "fd00:10::/64", "ipv6", "hnet-private", 7), 0),
    (Container(7, "10.99.0.0/24", "ipv4", "frag", 7), 0),
]


class Successor:
    """This service where the earlier one was."""

    def __init__(self, running: Service, store: MemoryStore, clock: FakeClock, netbox: PlainNetBox) -> None:
        self.running = running
        self.store = store
        self.clock = clock
        self.netbox = netbox

    async def ask(self, exchange: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body, for the request of an exchange (whose client sends no Content-Type)."""
        status, content, _ = await self.running.call(
            exchange["method"], exchange["path"], exchange["body"], skip_auto_headers=["Content-Type"]
        )
        return status, content

    def documents(self) -> list[Document]:
        """What is stored, as the earlier service would have written it, with secrets in the clear."""
        return [plain(one) for one in self.store.database.registrations.values()]


def plain(document: Document) -> Document:
    """A document without what differs between the two services, and its secret in the clear."""
    services = [
        {name: value for name, value in one.items() if name not in ("since", "expires_at")}
        | {"retention_period_days": one.get("retention_period_days", 0)}
        for one in document["services"]
    ]
    kept = {name: document[name] for name in ("zone", "address", "ip_family")}
    return kept | {"secret": CIPHER.unseal(document["secret"]), "services": services}


@asynccontextmanager
async def successor(*documents: Document, rules: bool = False) -> AsyncIterator[Successor]:
    """The service over what the earlier one has stored. `rules`: with allowed networks, quotas and the throttle for
    refusals."""
    store, clock, netbox = MemoryStore(), FakeClock(NOW), PlainNetBox([one for one, _ in CONTAINERS])
    store.database.registrations.update({one["_id"]: one for one in documents})
    await store.open()
    for container, taken in CONTAINERS:
        base = container.prefix.partition("/")[0].removesuffix("0")
        for last in range(taken):
            netbox.add(container, f"{base}{last}/32")
    zones = PlainZones([one for one, _ in CONTAINERS])
    ids = (f"{n:024x}" for n in itertools.count(1))
    settings = RegistrySettings(quotas={"cluster": 100, "namespace": {"inet": 100}} if rules else {})
    registry = Registry(Context(store, netbox, zones, CIPHER, clock, lambda: next(ids), settings))
    access = AccessRules(allowed_networks=[ip_network("127.0.0.0/8")] if rules else [])
    limits = Limits(refusals=RefusalThrottle(clock.monotonic, 50) if rules else None)
    async with served(real=registry, access=access, limits=limits) as running:
        yield Successor(running, store, clock, netbox)


@pytest.mark.parametrize("rules", [False, True], ids=["without rules", "with networks and quotas"])
async def test_every_exchange_goes_as_it_went_or_better(rules: bool) -> None:
    async with successor(rules=rules) as service:
        for number, exchange in enumerate(EXCHANGES):
            status, content = await service.ask(exchange)
            if number in OTHERWISE:
                expected, words = OTHERWISE[number]
                assert (status, words in content["message"]) == (expected, True), (number, content)
            elif number in WORDS:
                assert (status, WORDS[number] in content["message"]) == (exchange["status"], True), (number, content)
            else:
                assert (status, content["message"]) == (exchange["status"], exchange["answer"]["message"]), number
                assert content.get("address") == exchange["answer"].get("address"), number
        left = service.documents()
    # What is left is what the earlier service left, but for the network.
    there = [plain(one) for one in legacy_documents() if one["address"] != NETWORK]
    assert sorted(left, key=str) == sorted(there, key=str)


async def test_expirations_are_set_as_the_earlier_service_set_them() -> None:
    async with successor() as service:
        for exchange in EXCHANGES:
            await service.ask(exchange)
        expiring = {
            one["address"]: (service_of["expires_at"] - service.clock.now()) / DAY
            for one in service.store.database.registrations.values()
            for service_of in one["services"]
            if isinstance(service_of.get("expires_at"), datetime)
        }
    asked = {each["body"]["address"]: each["body"]["service"]["retention_period_days"] for each in EXCHANGES[26:30]}
    assert {address: round(days) for address, days in expiring.items()} == asked


@pytest.mark.parametrize(
    "number", [n for n, each in enumerate(EXCHANGES) if each["status"] == 200 and n not in (5, 35)]
)
async def test_over_the_earlier_services_database_each_client_keeps_its_address(number: int) -> None:
    exchange = EXCHANGES[number]
    if number == 23:
        # The secret has been replaced; its client, whose answer was lost, asks again.
        assert exchange["body"]["new_secret"] == "Brand-new-secret"
    async with successor(*legacy_documents()) as service:
        before = dict(service.netbox.prefixes)
        status, content = await service.ask(exchange)
        assert service.netbox.prefixes == before
    assert status == 200, content
    assert content["address"] == exchange["answer"]["address"]
    done = "Address updated" if exchange["method"] == "POST" else "Service expiration set"
    assert content["message"] == f"{done} successfully"


async def test_networks_of_the_earlier_service_are_read_and_expired_but_never_handed_out() -> None:
    registered = next(each for each in EXCHANGES if each["body"].get("address") == NETWORK)
    without = registered["body"] | {"address": ""}
    async with successor(*legacy_documents()) as service:
        status, content = await service.ask(registered | {"body": without})
        assert (status, content["message"], content["address"]) == (200, "Address updated successfully", NETWORK)
        status, content = await service.ask({"method": "DELETE", "path": "/", "body": without})
        assert (status, content["address"]) == (200, NETWORK)
