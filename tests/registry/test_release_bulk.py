"""Ten thousand services that expired at once: in bulk, in bounded memory, and one of them that cannot be released."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.models import Registration, Service, State
from ipam_lib.netbox.zones import ZoneCache
from ipam_lib.registry import Context, Registry, RegistrySettings, ReleaseReport
from ipam_lib.storage.documents import to_document
from tests.registry.watched import Watched, Work
from tests.registry.world import CIPHER, key
from tests.storage.backends import Backend, MemoryBackend, SQLiteBackend
from tests.support.simulated_netbox import NetBoxServer
from tests.support.virtual_loop import VirtualClock, VirtualLoop

BATCH = 50
# What a page costs in NetBox: prefixes by their ids, by their k8s_uuid, the deletion, and what that has left.
CALLS_OF_A_PAGE = 4


class Bulk:
    """Registrations whose services have all expired, on both sides; every look at NetBox counts what is in memory."""

    def __init__(self, backend: Backend, loop: VirtualLoop, services: int) -> None:
        self.services = services
        self.backend = backend
        self.clock = VirtualClock(loop)
        self.server = NetBoxServer({"inet": {"ipv4": ["10.0.0.0/16"]}}, self.clock)
        self.store = Watched(backend.store(), loop)
        self.netbox = Watched(self.server.client(self.clock))
        self.most_in_memory = 0

    def registration(self, number: int) -> Registration:
        """The one with this number, as it is stored."""
        address = f"10.0.{number >> 8}.{number & 255}/32"
        own_id = f"{0x6B000000_00000000_00000000 + number:024x}"
        prefix = self.server.add(self.server.containers[0], address, own_id)
        expired = self.clock.now() - timedelta(seconds=1 + number % 1000)
        return Registration(
            id=own_id,
            zone="inet",
            ip_family="ipv4",
            address=address,
            secret=CIPHER.seal("SuperSecret"),
            services=(Service(key(f"service-{number}"), expires_at=expired),),
            netbox_id=prefix.id,
            revision=1,
        )

    async def registry(self) -> Registry:
        """An instance on all this."""
        await self.store.open()
        await self.store.prepare()
        self.backend.seed(to_document(self.registration(number)) for number in range(self.services))
        await self.netbox.open()
        zones = ZoneCache(self.netbox, clock=self.clock, load=_nothing, save=_kept_nowhere)
        settings = RegistrySettings(batch=BATCH)
        self.netbox.forget()
        for number in range(0, self.services // BATCH, 20):
            self.netbox.next("delete_many", *[None] * (19 if number else 0), self._count)
        return Registry(
            Context(
                store=self.store,
                netbox=self.netbox,
                zones=zones,
                cipher=CIPHER,
                clock=self.clock,
                new_id=lambda: "f" * 24,
                settings=settings,
            )
        )

    async def _count(self, work: Work) -> Any:
        registrations = sum(1 for one in gc.get_objects() if type(one) is Registration)
        self.most_in_memory = max(self.most_in_memory, registrations)
        return await work()


class Unindexed(MemoryBackend):
    """The double without its unique index, which looks at every document at every write. No two are alike here."""

    def __init__(self) -> None:
        super().__init__()
        self.database.holder = lambda document: None  # type: ignore[method-assign]


async def _nothing() -> None:
    return None


async def _kept_nowhere(_document: dict[str, Any]) -> None:
    return None


@pytest.fixture(params=[("memory", 10_000), ("sqlite", 1_000)], ids=lambda param: f"{param[1]} in {param[0]}")
async def bulk(request: pytest.FixtureRequest, tmp_path: Path, virtual_loop: VirtualLoop) -> AsyncIterator[Bulk]:
    """Fewer in SQLite, which waits for the disk at every step."""
    kind, services = request.param
    backend = Unindexed() if kind == "memory" else SQLiteBackend(tmp_path / "ipam.sqlite")
    made = Bulk(backend, virtual_loop, services)
    yield made
    await made.netbox.close()
    virtual_loop.real += 1  # for good: what ends a loop waits for real threads, too
    await made.store.close()


async def test_all_but_the_one_that_cannot_be_deleted(bulk: Bulk) -> None:
    registry = await bulk.registry()
    [stuck] = [one for one in bulk.server.prefixes.values() if one.prefix == "10.0.1.77/32"]
    for options in ({"contains": f'"id": {stuck.id},'}, {"path": f"/api/ipam/prefixes/{stuck.id}/"}):
        bulk.server.fault("status", method="DELETE", status=403, times=1000, **options)
    calls_before = sum(bulk.server.calls.values()) + bulk.server.simulator.faults.hit

    report = await registry.release_expired()

    assert report == ReleaseReport(expired_services=bulk.services, released=bulk.services - 1, failed=1)
    assert list(bulk.server.prefixes.values()) == [stuck]
    [left] = await bulk.store.unseen("find_states", {State.RELEASING}, after=None, limit=10)
    assert left.address == stuck.prefix
    # The page with the stuck one: its bulk fails, each prefix goes by itself, then each registration is looked at.
    calls = sum(bulk.server.calls.values()) + bulk.server.simulator.faults.hit - calls_before
    assert calls <= CALLS_OF_A_PAGE * (bulk.services // BATCH) + BATCH + CALLS_OF_A_PAGE * BATCH
    # The page that was read, and those that come of it by compare-and-set; not those before.
    assert 0 < bulk.most_in_memory <= 3 * BATCH
    assert await registry.release_expired() == ReleaseReport(failed=1)

    bulk.server.simulator.faults.clear()
    assert await registry.release_expired() == ReleaseReport(released=1)
    assert bulk.server.prefixes == {}
