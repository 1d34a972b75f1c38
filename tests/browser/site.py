"""The service that the browser looks at: the application over a store in memory, in a thread of its own, so that a test
may wait for the browser while it is served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ipam_lib.addresses import contains, network
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.models import Registration
from ipam_lib.netbox.base import Container, SpaceUse
from ipam_lib.registry import Context, Registry
from tests.storage.samples import NOW, object_id
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.web.service import FakeZones, Service, service

T = TypeVar("T")

SECONDS = 60
CONTAINERS = (
    Container(1, "83.118.168.0/24", "ipv4", "inet", 7),
    Container(2, "2001:db8::/64", "ipv6", "inet", 7),
    Container(3, "10.0.0.0/30", "ipv4", "lab", None),
)


class CountedNetBox(PlainNetBox):
    """A NetBox that has a prefix for each registration of the store. `others`: addresses of other systems in a
    container, by its id: in prefixes, and IP addresses (None: not known). `unread`: containers that are not read yet.
    """

    def __init__(self, store: MemoryStore, clock: FakeClock) -> None:
        super().__init__(CONTAINERS)
        self.others: dict[int, tuple[int, int | None]] = {}
        self.unread: set[int] = set()
        self.utilized: set[int] = set()
        self._store = store
        self._clock = clock

    def space_use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        if container.id in self.unread:
            return None
        addresses = (one["address"] for one in self._store.database.registrations.values())
        prefixes, hosts = self.others.get(container.id, (0, 0))
        return SpaceUse(
            network(container.prefix).num_addresses,
            own=sum(contains(container.prefix, one) for one in addresses),
            prefixes=prefixes,
            ip_addresses=hosts or 0,
            utilized=container.id in self.utilized,
            ip_addresses_known=hosts is not None,
            as_of=self._clock.now(),
        )


@dataclass
class Site:
    """The service, and what it works with. `clock` decides whether zones are counted anew."""

    url: str
    running: Service
    store: MemoryStore
    clock: FakeClock
    netbox: CountedNetBox
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it in the loop of the service."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def add(self, *some: Registration) -> None:
        """Let these be registered."""
        for one in some:
            self.do(self.store.insert(one))
        self.clock.advance(60)

    def clear(self) -> None:
        """Let nothing be registered, and everything be well."""
        self.store.database.registrations.clear()
        self.store.database.history.clear()
        self.clock.advance(60)
        self.netbox.others.clear()
        self.netbox.unread.clear()
        self.netbox.utilized.clear()
        self.running.store.trouble = None
        self.running.netbox.away = False
        self.running.zones.trouble, self.running.zones.source = None, "netbox"


@contextmanager
def site(*, bearer: bool = True) -> Iterator[Site]:
    """A service without registrations, gone at the end."""
    made: list[Site] = []
    stop: list[asyncio.Event] = []
    there = threading.Event()

    async def serve() -> None:
        stop.append(asyncio.Event())
        store, clock = MemoryStore(), FakeClock(NOW)
        await store.open()
        cipher = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
        netbox = CountedNetBox(store, clock)
        context = Context(store, netbox, PlainZones(CONTAINERS), cipher, clock, lambda: object_id(1))
        zones = FakeZones(("inet", "lab"))
        async with service(bearer=bearer, real=Registry(context), zones=zones) as running:
            made.append(Site(running.url, running, store, clock, netbox, asyncio.get_running_loop()))
            there.set()
            await stop[0].wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            there.set()

    thread = threading.Thread(target=run, name="site")
    thread.start()
    try:
        assert there.wait(SECONDS)
        assert made, "the service did not start"
        yield made[0]
    finally:
        if made:
            made[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(SECONDS)
        assert not thread.is_alive()
