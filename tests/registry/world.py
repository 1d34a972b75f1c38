"""Instances of the registry over one store and one simulated NetBox, on virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.description import DEFAULT_DESCRIPTION, DescriptionTemplate
from ipam_lib.models import Filter, PoolEntry, PoolState, Registration, Request, ServiceKey, State
from ipam_lib.netbox.base import Prefix
from ipam_lib.netbox.zones import ZoneCache
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.storage.base import Store
from ipam_lib.storage.documents import Document
from ipam_lib.storage.pool_store import order
from netbox_simulator import NEWEST, VERSIONS
from tests.registry.watched import Watched
from tests.storage.backends import Backend, SQLiteBackend
from tests.support.simulated_netbox import NetBoxServer
from tests.support.virtual_loop import VirtualClock, VirtualLoop

NAMESPACE = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"
CLUSTER = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
OTHER_CLUSTER = "6513270e-269e-4d37-b2a7-4de452e6b438"
SECRET = "SuperSecret"
KEYS = KeySet(b"0123456789abcdef", b"fedcba9876543210")
CIPHER = Cipher(KEYS)
OLD_CIPHER = Cipher(KEYS, scheme="legacy-ctr")
DAY = 86_400.0
MILLISECOND = 0.001

LONGEST_REQUEST = 25.0
NETBOX_CALL = 10.0

ZONES: dict[str, dict[str, list[Any]]] = {
    "inet": {"ipv4": ["192.0.2.0/29", "198.51.100.0/30"], "ipv6": ["2001:db8::/126"]},
    "office": {
        "ipv4": [
            {"prefix": "10.0.0.0/29", "vrf": "office", "tenant": "Acme", "role": "Servers"},
            {"prefix": "10.0.1.0/29", "vrf": None, "tenant": None, "role": None},
        ]
    },
    "tiny": {"ipv4": ["203.0.113.0/31"]},
    "bare": {},
}
FIRST = "192.0.2.0/32"
SECOND = "192.0.2.1/32"
THIRD = "192.0.2.2/32"


def key(name: str = "web", *, cluster: str = CLUSTER, namespace: str = NAMESPACE) -> ServiceKey:
    """The key of a service."""
    return ServiceKey(name, namespace, cluster)


def request(name: str = "web", *, cluster: str = CLUSTER, **fields: Any) -> Request:
    """A request of that service; by default for the next free IPv4 address of inet."""
    values: dict[str, Any] = {
        "zone": "inet",
        "ip_family": "ipv4",
        "key": key(name, cluster=cluster),
        "secret": SECRET,
        "retention_period_days": 0,
    }
    return Request(**values | fields)


class World:
    """See the module. `registry` is one instance; `instance` makes more."""

    def __init__(self, loop: VirtualLoop, backend: Backend, store: Store, server: NetBoxServer) -> None:
        self.loop = loop
        self.backend = backend
        self.store = Watched(store, loop)
        self.server = server
        self.clock = VirtualClock(loop)
        self.netbox = Watched(server.client(self.clock))
        self.usual: dict[str, Any] = {
            "longest_request": LONGEST_REQUEST,
            "netbox_call": NETBOX_CALL,
            "batch": 5,
            "description": DescriptionTemplate(DEFAULT_DESCRIPTION),
        }
        self.zones = ZoneCache(
            self.netbox.zone_reader, clock=self.clock, load=_nothing, save=_kept_nowhere, rng=Random(0)
        )
        self.registry = self.instance()
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """A fresh id, greater than those before."""
        return f"{0x6B000000_00000000_00000000 + next(self._numbers):024x}"

    def instance(self, *, skew: float = 0.0, seed: int = 0, cipher: Cipher = CIPHER, **settings: Any) -> Registry:
        """One more instance on the same data, whose wall clock is `skew` seconds ahead."""
        return Registry(
            Context(
                store=self.store,
                netbox=self.netbox,
                zones=self.zones,
                cipher=cipher,
                clock=VirtualClock(self.loop, skew) if skew else self.clock,
                new_id=self.new_id,
                settings=RegistrySettings(**self.usual | settings),
                random=Random(seed),
            )
        )

    def configure(self, **settings: Any) -> None:
        """From here on every instance has these settings; `registry` is a new one."""
        self.usual |= settings
        self.registry = self.instance()

    def forget(self) -> None:
        """Count calls from here."""
        self.store.forget()
        self.netbox.forget()

    # -- what there is -----------------------------------------------------------------------------------------------

    async def registrations(self) -> list[Registration]:
        """Every registration, in whatever state."""
        found: list[Registration] = []
        after = None
        while page := await self.store.unseen("page", Filter(states=None), after=after, limit=100):
            found += page
            after = page[-1].id
        return found

    async def pool(self, *states: PoolState) -> list[PoolEntry]:
        """The pool's entries in these states (in any, when none is given), by id."""
        found: list[PoolEntry] = []
        after = None
        while page := await self.store.unseen("pool_page", states or list(PoolState), after=after, limit=100):
            found += page
            after = page[-1].id
        return found

    async def ready(self) -> list[str]:
        """The addresses that the pool has ready, lowest first."""
        return [one.address for one in sorted(await self.pool(PoolState.READY), key=lambda one: order(one.address))]

    async def only(self) -> Registration:
        """The only registration there is."""
        [one] = await self.registrations()
        return one

    async def on(self, address: str) -> Registration:
        """The only registration on this address."""
        [one] = [one for one in await self.registrations() if one.address == address]
        return one

    async def names(self) -> dict[str, list[str]]:
        """The names of the services on each address."""
        return {one.address: [each.key.service_name for each in one.services] for one in await self.registrations()}

    @property
    def prefixes(self) -> list[Prefix]:
        """What is in NetBox besides the containers, by address."""
        return sorted(self.server.prefixes.values(), key=lambda one: (one.prefix, one.id))

    async def settled(self) -> None:
        """Nothing is under way, and both sides are equal: each registration is live and has its own prefix, so has each
        entry of the pool, which is ready or has to cool down, and no other prefix carries an id of ours."""
        registrations = await self.registrations()
        assert [one.state for one in registrations] == [State.LIVE] * len(registrations)
        entries = await self.pool()
        assert {one.state for one in entries} <= {PoolState.READY, PoolState.COOLING}, entries
        marked = [one for one in self.server.prefixes.values() if one.uuid is not None]
        assert {(one.address, one.netbox_id, one.id) for one in (*registrations, *entries)} == {
            (one.prefix, one.id, one.uuid) for one in marked
        }
        assert {one.uuid for one in marked if one.status == "reserved"} == {one.id for one in entries}
        assert len({(one.zone, one.address) for one in registrations}) == len(registrations)

    async def described(self) -> None:
        """The description of each registration's prefix names its services, and none is due."""
        template = self.usual["description"]
        shown = {one.id: one.description for one in self.server.prefixes.values()}
        for one in await self.registrations():
            assert one.netbox_id is not None
            assert shown.get(one.netbox_id) in (None, template.text(one.services)), one
            assert not one.description_due, one

    async def settled_after_keeping(self) -> None:
        """As `settled`, once the pool has been looked after."""
        assert (await self.registry.maintain_pool()).error is None
        await self.settled()

    async def nothing(self) -> None:
        """Neither a registration nor a prefix is left, nor anything in the pool."""
        assert await self.registrations() == []
        assert await self.pool() == []
        assert self.prefixes == []

    # -- what happens ------------------------------------------------------------------------------------------------

    async def register(self, name: str = "web", **fields: Any) -> str:
        """Register, and return the address."""
        return (await self.registry.register(request(name, **fields))).address

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let something go on beside the test."""
        return self.loop.create_task(work)

    async def seed(self, *documents: Document) -> None:
        """Put documents into the store as another program would."""
        self.loop.real += 1
        await asyncio.to_thread(self.backend.seed, documents)
        self.loop.real -= 1

    @staticmethod
    def cooldown(**long: float) -> timedelta:
        """How long released addresses must cool down (as timedelta takes it); a setting."""
        return timedelta(**long)

    def now(self, **later: float) -> datetime:
        """The moment, or another (as timedelta takes it)."""
        return self.clock.now() + timedelta(**later)

    def foreign_prefix(
        self,
        prefix: str,
        zone: str = "inet",
        uuid: str | None = None,
        status: str = "active",
        description: str = "",
    ) -> Prefix:
        """A prefix of another user in NetBox, in the VRF of the zone's container that holds or lies in it."""
        box = self.zones.container_of(zone, prefix) or self.zones.containers(zone, "ipv4")[0]
        return self.server.add(box, prefix, uuid, status, description)

    async def see_space(self) -> None:
        """Load the pictures of all containers."""
        for container in self.zones.all_containers():
            await self.netbox.space.load(container)

    def vrf(self, zone: str) -> int | None:
        """The VRF of a zone's containers."""
        return self.zones.containers(zone, "ipv4")[0].vrf_id

    def steal(self, address: str) -> None:
        """Another user deletes the prefix in NetBox."""
        [one] = [one for one in self.prefixes if one.prefix == address]
        self.server.remove(one.id)


async def _nothing() -> None:
    return None


async def _kept_nowhere(_document: dict[str, Any]) -> None:
    return None


@asynccontextmanager
async def world_on(backend: Backend, loop: VirtualLoop, *, reachable: bool = True) -> AsyncIterator[World]:
    """A world over a store of this backend, its zones loaded if NetBox can be reached.

    The tests run over each backend: with SQLite over the oldest NetBox, with the others over the newest one.
    """
    store = backend.store()
    version = VERSIONS["3.7"] if isinstance(backend, SQLiteBackend) else NEWEST
    server = NetBoxServer(ZONES, VirtualClock(loop), version=version, reachable=reachable)
    world = World(loop, backend, store, server)
    await world.store.open()
    await world.store.prepare()
    await world.netbox.open()
    await world.zones.start()
    assert world.zones.loaded == reachable
    world.forget()
    try:
        yield world
    finally:
        await world.zones.close()
        await world.netbox.close()
        await world.store.close()
