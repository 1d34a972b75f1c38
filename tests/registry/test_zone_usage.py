"""What `Registry.zones` tells of the space in NetBox: what other systems take, and what is free."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.models import PoolEntry, PoolState
from ipam_lib.netbox.base import Container, SpaceUse
from ipam_lib.registry import Context, Registry
from ipam_lib.registry.zone_usage import FamilyUse
from tests.registry.world import CIPHER, SECOND, World, request
from tests.storage.samples import object_id
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.support.simulated_netbox import NetBoxServer

UNKNOWN = (None, None, None)


async def use(registry: Registry, zone: str = "inet", family: str = "ipv4") -> FamilyUse:
    [found] = [
        one for each in await registry.zones() if each.zone == zone for one in each.families if one.ip_family == family
    ]
    return found


def taken(found: FamilyUse | SpaceUse) -> tuple[int | None, int | None, int | None]:
    """In prefixes of others, at IP addresses and ranges, and free."""
    if isinstance(found, SpaceUse):
        return found.prefixes, found.ip_addresses, found.free
    return found.other_prefixes, found.other_addresses, found.free


def enter(server: NetBoxServer, vrf: int | None, address: str, end: str = "", **fields: Any) -> None:
    """Somebody enters an IP address, or an IP range that ends at `end`."""
    kind, names = ("ip-ranges", {"start_address": address, "end_address": end}) if end else ("ip-addresses", {})
    server.admin("POST", f"/api/ipam/{kind}/", {"vrf": vrf, **(names or {"address": address}), **fields})


async def test_before_netbox_is_read_nothing_is_known(world: World) -> None:
    await world.register()
    found = await use(world.registry)
    assert (found.size, found.used, taken(found), found.as_of) == (12, 1, UNKNOWN, None)
    assert [one.space for one in found.containers] == [None, None]
    await world.netbox.space.load(world.zones.containers("inet", "ipv4")[0])
    found = await use(world.registry)
    assert taken(found) == UNKNOWN, "one of two containers is not enough"
    assert [one.space is None for one in found.containers] == [False, True]


async def test_each_address_counts_once(world: World) -> None:
    vrf = world.vrf("inet")
    # 192.0.2.0/29: a prefix in a prefix, an IP address and a range that reach into it, and one of each outside.
    world.foreign_prefix("192.0.2.4/30")
    world.foreign_prefix("192.0.2.5/32")
    enter(world.server, vrf, "192.0.2.6/24")
    enter(world.server, vrf, "192.0.2.3/29", "192.0.2.5/29")
    enter(world.server, vrf, "192.0.2.3/24")
    enter(world.server, vrf, "192.0.2.2/24", status="deprecated")
    enter(world.server, world.vrf("office"), "192.0.2.2/24")  # another VRF
    await world.see_space()
    found = await use(world.registry)
    assert taken(found) == (4, 1, 12 - 5)
    assert [taken(one.space) for one in found.containers if one.space] == [(4, 1, 3), (0, 0, 4)]
    assert found.as_of == world.now()


async def test_ours_are_never_those_of_others(world: World) -> None:
    world.foreign_prefix("192.0.2.0/32")
    await world.see_space()
    world.configure(warm={"inet": 2}, batch=50)
    assert (await world.registry.maintain_pool()).error is None
    assert await world.register() == SECOND, "the lowest of the pool"
    # At once, out of what this instance did itself; then as NetBox shows it to any instance.
    for _ in range(2):
        found = await use(world.registry)
        assert (found.used, found.reserved, taken(found)) == (1, 1, (1, 0, 9))
        assert found.containers[0].space
        assert found.containers[0].space.own == 2
        await world.see_space()
    await world.registry.expire(request())
    await world.registry.release_expired()
    found = await use(world.registry)
    assert taken(found) == (1, 0, 10)


async def test_what_another_instance_registered_is_ours_too(world: World) -> None:
    await world.see_space()
    world.foreign_prefix("192.0.2.1/32", uuid=object_id(77))
    world.foreign_prefix("192.0.2.2/32")
    await world.netbox.space.begin_look(world.zones.containers("inet", "ipv4")[0])
    found = await use(world.registry)
    assert taken(found) == (1, 0, 10)


async def test_a_cooldown_is_no_other_systems(world: World) -> None:
    world.configure(cooldown=world.cooldown(minutes=5))
    await world.see_space()
    await world.register()
    await world.registry.expire(request())
    await world.registry.release_expired()
    [entry] = await world.pool()
    assert entry.state is PoolState.COOLING
    for _ in range(2):
        found = await use(world.registry)
        assert (found.used, found.reserved, taken(found)) == (0, 1, (0, 0, 11))
        await world.see_space()


async def test_a_utilized_container_has_no_free_address(world: World) -> None:
    first = world.zones.containers("inet", "ipv4")[0]
    world.server.admin("PATCH", f"/api/ipam/prefixes/{first.id}/", {"mark_utilized": True})
    world.foreign_prefix("192.0.2.1/32")
    await world.see_space()
    found = await use(world.registry)
    assert taken(found) == (1, 0, 4)
    assert [(one.space.utilized, one.space.free) for one in found.containers if one.space] == [(True, 0), (False, 4)]


async def test_a_token_that_sees_only_its_own_knows_nothing_of_what_is_free(world: World) -> None:
    await world.register()
    world.foreign_prefix("192.0.2.6/32")
    await world.see_space()
    assert taken(await use(world.registry)) == (1, 0, 10)
    user = world.server.admin("POST", "/api/users/users/", {"username": "ipam", "password": "Svc-Passw0rd-123"})
    only_ours = [{"tags__name": "vitistack"}, {"status": "container"}]
    for kinds, constraints in ((["ipam.prefix"], only_ours), (["ipam.ipaddress", "ipam.iprange"], None)):
        right = {"name": kinds[0], "object_types": kinds, "actions": ["view"], "constraints": constraints}
        world.server.admin("POST", "/api/users/permissions/", right | {"users": [user["id"]]})
    world.server.admin("POST", "/api/users/tokens/", {"user": user["id"], "version": 1, "token": "b" * 40})
    world.netbox.set_token("b" * 40)
    await world.see_space()
    found = await use(world.registry)
    assert (found.used, taken(found), found.as_of) == (1, UNKNOWN, None)
    assert [one.space is None for one in found.containers] == [True, False]


async def test_ip_addresses_that_may_not_be_viewed_are_not_called_none(world: World) -> None:
    enter(world.server, world.vrf("inet"), "192.0.2.3/24")
    world.server.fault("status", method="GET", path="*ip-ranges*", status=403, times=50)
    await world.see_space()
    found = await use(world.registry)
    assert taken(found) == (0, None, 11)
    assert [one.space.ip_addresses_known for one in found.containers if one.space] == [False, False]


async def test_what_is_ignored_is_not_called_none(world: World) -> None:
    enter(world.server, world.vrf("inet"), "192.0.2.3/24")
    world.netbox.inner.space._reads.policy = "ignore"
    await world.see_space()
    assert taken(await use(world.registry)) == (0, None, 12)


async def test_ipv6(world: World) -> None:
    vrf = world.zones.containers("inet", "ipv6")[0].vrf_id
    enter(world.server, vrf, "2001:db8::1/64")
    await world.see_space()
    assert await world.register(ip_family="ipv6") == "2001:db8::/128"
    found = await use(world.registry, family="ipv6")
    assert (found.size, found.used, taken(found)) == (4, 1, (0, 1, 2))


async def test_the_time_is_that_of_the_last_look_and_of_the_oldest_container(world: World) -> None:
    first, second = world.zones.containers("inet", "ipv4")
    await world.netbox.space.load(first)
    began = world.now()
    await asyncio.sleep(60)
    await world.netbox.space.load(second)
    assert (await use(world.registry)).as_of == began
    later = world.now()
    await world.netbox.space.begin_look(first)
    found = await use(world.registry)
    assert found.as_of == later


async def test_a_creation_under_way_is_ours(world: World) -> None:
    await world.see_space()
    world.server.simulator.latency_ms = 1000
    task = world.begin(world.register())
    await asyncio.sleep(0.5)
    found = await use(world.registry)
    assert (found.used, taken(found)) == (1, (0, 0, 11))
    await task


async def test_the_pool_that_another_zone_holds_is_not_reserved_here(world: World) -> None:
    await world.store.pool_insert([PoolEntry("a" * 24, "office", "ipv4", "10.0.0.2/32", PoolState.READY, netbox_id=5)])
    await world.see_space()
    assert [(await use(world.registry, zone)).reserved for zone in ("inet", "office")] == [0, 1]


class Twice(PlainNetBox):
    """Two equal containers, of which one is marked as utilized."""

    def space_use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        assert not inner
        return SpaceUse(256, own=5, prefixes=7, ip_addresses=0, utilized=container.id == 1)


async def test_a_prefix_that_netbox_has_twice_counts_once() -> None:
    containers = [Container(one, "10.0.0.0/24", "ipv4", "inet") for one in (1, 2)]
    store = MemoryStore()
    await store.open()
    registry = Registry(
        Context(store, Twice(containers), PlainZones(containers), CIPHER, FakeClock(), lambda: object_id(1))
    )
    found = await use(registry)
    assert (found.size, taken(found)) == (256, (7, 0, 244))


# -- against a count of every address ----------------------------------------------------------------------------------

NET = ipaddress.ip_network("10.0.0.0/28")
HOSTS = list(NET)
SUBNETS = [one for length in (29, 30, 31, 32) for one in NET.subnets(new_prefix=length)]
IDS = st.sampled_from([None, object_id(1)])


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """A container, up to two more inside it, and what else is in there."""
    inner = draw(st.lists(st.sampled_from([one for one in SUBNETS if one.prefixlen < 32]), max_size=2, unique=True))
    rest = [one for one in SUBNETS if one not in inner]
    return {
        "containers": [(NET, "inet"), *((one, draw(st.sampled_from(["inet", "office"]))) for one in inner)],
        "utilized": draw(st.sets(st.integers(0, len(inner)))),
        "prefixes": [
            (one, draw(IDS) if one.prefixlen == 32 else None, draw(st.sampled_from(["active", "container"])))
            for one in draw(st.lists(st.sampled_from(rest), max_size=8, unique=True))
        ],
        "addresses": draw(st.lists(st.tuples(st.sampled_from(HOSTS), st.booleans()), max_size=4, unique=True)),
        "ranges": draw(st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(1, 5)), max_size=2, unique=True)),
    }


def counted(layout: dict[str, Any], zone: str) -> tuple[int, int, int, int]:
    """Size, in prefixes of others, at IP addresses and ranges, free: address by address."""
    size = prefixes = addresses = free = 0
    for host in HOSTS:
        around = [(net, of, at) for at, (net, of) in enumerate(layout["containers"]) if host in net]
        if not any(of == zone for _, of, _ in around):
            continue
        size += 1
        net, of, at = max(around, key=lambda one: one[0].prefixlen)
        inside = [one for one in layout["prefixes"] if host in one[0] and one[0].subnet_of(net)]
        if of != zone or (inside and not any(uuid for _, uuid, _ in inside)):
            prefixes += 1
        elif inside:
            pass  # ours
        elif any(host == one and not deprecated for one, deprecated in layout["addresses"]) or any(
            first <= host < first + length for first, length in layout["ranges"]
        ):
            addresses += 1
        elif at not in layout["utilized"]:
            free += 1
    return size, prefixes, addresses, free


@settings(max_examples=150, deadline=None)
@given(layout=layouts())
def test_the_counts_are_those_of_the_addresses(layout: dict[str, Any]) -> None:
    async def found() -> dict[str, tuple[int, int | None, int | None, int | None]]:
        clock = FakeClock()
        zones: dict[str, dict[str, list[Any]]] = {"inet": {"ipv4": []}, "office": {"ipv4": []}}
        for net, zone in layout["containers"]:
            zones[zone]["ipv4"].append({"prefix": str(net), "vrf": "nhc"})
        server = NetBoxServer(zones, clock)
        by_prefix = {one.prefix: one for one in server.containers}
        for at in layout["utilized"]:
            container = by_prefix[str(layout["containers"][at][0])]
            server.admin("PATCH", f"/api/ipam/prefixes/{container.id}/", {"mark_utilized": True})
        outer = by_prefix[str(NET)]
        for net, uuid, status in layout["prefixes"]:
            fields = {"k8s_uuid": uuid}
            body = {"prefix": str(net), "vrf": outer.vrf_id, "status": status, "custom_fields": fields}
            server.admin("POST", "/api/ipam/prefixes/", body)
        for host, deprecated in layout["addresses"]:
            enter(server, outer.vrf_id, f"{host}/24", status="deprecated" if deprecated else "active")
        for first, length in layout["ranges"]:
            enter(server, outer.vrf_id, f"{first}/24", f"{first + length - 1}/24")
        store = MemoryStore()
        await store.open()
        client = server.client(clock, random.Random(1))
        await client.open()
        await client.space.load_due(list(by_prefix.values()))
        registry = Registry(
            Context(store, client, PlainZones(list(by_prefix.values())), CIPHER, clock, lambda: object_id(1))
        )
        families = {one.zone: one.families[0] for one in await registry.zones() if one.families}
        await client.close()
        return {name: (one.size, *taken(one)) for name, one in families.items()}

    with asyncio.Runner() as runner:
        assert runner.run(found()) == {zone: counted(layout, zone) for zone in {of for _, of in layout["containers"]}}
