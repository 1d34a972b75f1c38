"""Many registrations whose services have all expired, on both sides, and a count of what of them is in memory."""

from __future__ import annotations

import gc
from collections import Counter
from datetime import timedelta
from typing import Any

from ipam_lib.models import Registration, Service
from ipam_lib.netbox.base import Prefix
from ipam_lib.netbox.zones import ZoneCache
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.storage.documents import to_document
from tests.registry.watched import Watched, Work
from tests.registry.world import CIPHER, key
from tests.storage.backends import Backend, MemoryBackend
from tests.support.simulated_netbox import NetBoxServer
from tests.support.virtual_loop import VirtualClock, VirtualLoop

BATCH = 50


class Bulk:
    """Registrations whose services have all expired, on both sides. `most_in_memory`: how many objects of a kind there
    were at the most, when `count` looked."""

    def __init__(self, backend: Backend, loop: VirtualLoop, services: int) -> None:
        self.services = services
        self.backend = backend
        self.clock = VirtualClock(loop)
        self.server = NetBoxServer({"inet": {"ipv4": ["10.0.0.0/16"]}}, self.clock)
        self.store = Watched(backend.store(), loop)
        self.netbox = Watched(self.server.client(self.clock))
        self.zones = ZoneCache(self.netbox.zone_reader, clock=self.clock, load=_nothing, save=_kept_nowhere)
        self.most_in_memory: Counter[type[Any]] = Counter()

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
        settings = RegistrySettings(batch=BATCH)
        self.netbox.forget()
        return Registry(
            Context(
                store=self.store,
                netbox=self.netbox,
                zones=self.zones,
                cipher=CIPHER,
                clock=self.clock,
                new_id=lambda: "f" * 24,
                settings=settings,
            )
        )

    def look_at_memory(self, name: str, *, times: int, every: int) -> None:
        """Count what is in memory at every so many calls of this name to NetBox, so often; what others have left there
        does not count."""
        gc.collect()
        self._before = _living()
        for number in range(times):
            self.netbox.next(name, *[None] * (every - 1 if number else 0), self._count)

    async def _count(self, work: Work) -> Any:
        self.most_in_memory |= _living() - self._before
        return await work()


def _living() -> Counter[type]:
    """How many registrations and prefixes there are in this process."""
    return Counter(kind for one in gc.get_objects() if (kind := type(one)) in (Registration, Prefix))


class Unindexed(MemoryBackend):
    """The double without its unique index, which looks at every document at every write: no two are alike here."""

    def __init__(self) -> None:
        super().__init__()
        self.database.holder = lambda document: None  # type: ignore[method-assign]


async def _nothing() -> None:
    return None


async def _kept_nowhere(_document: dict[str, Any]) -> None:
    return None
