"""What is counted for the metrics, out of every store, and how it is shown."""

from __future__ import annotations

from ipam_lib.models import PoolEntry, PoolState, State
from ipam_lib.telemetry.metrics import Metrics
from tests.registry.test_zone_usage import enter
from tests.registry.world import World
from tests.storage.samples import NOW, object_id, registration, service
from tests.telemetry.test_metrics import values


async def test_what_stands_in_the_storage_and_in_the_zones_is_shown(world: World) -> None:
    store = world.store
    await store.insert(
        registration(services=(service("a"), service("b", expires_at=NOW)), address="192.0.2.1/32", zone="inet")
    )
    await store.insert(registration(state=State.CREATING, address="pending:1", zone="inet", services=()))
    await store.insert(registration(address="198.51.100.77/32", zone="of-old", services=()))
    await store.pool_insert([PoolEntry("a" * 24, "inet", "ipv4", "192.0.2.2/32", PoolState.READY, netbox_id=5)])
    metrics = Metrics(world.clock.monotonic)
    metrics.counted(await world.registry.statistics())
    unknown = ("ipam_zone_free", "ipam_zone_other", "ipam_zone_as_of")
    assert not [name for name in values(metrics) if name.startswith(unknown) and "zone=inet" in name]
    for number in (1, 2):
        world.foreign_prefix(f"192.0.2.{number}/32", uuid=object_id(number))
    world.foreign_prefix("192.0.2.4/31")
    enter(world.server, world.vrf("inet"), "192.0.2.7/24")
    await world.see_space()
    metrics.counted(await world.registry.statistics())
    found = values(metrics)
    place = "ip_family=ipv4"
    assert found[f"ipam_registrations{{{place},state=live,zone=inet}}"] == 1
    assert found[f"ipam_registrations{{{place},state=creating,zone=inet}}"] == 1
    assert found[f"ipam_registrations{{{place},state=releasing,zone=inet}}"] == 0
    assert found[f"ipam_services{{{place},zone=inet}}"] == 2
    assert found[f"ipam_expiring_services{{{place},zone=inet}}"] == 1
    assert found[f"ipam_registrations{{{place},state=live,zone=of-old}}"] == 1
    assert found[f"ipam_pool_entries{{{place},state=ready,zone=inet}}"] == 1
    assert found[f"ipam_pool_entries{{{place},state=claimed,zone=inet}}"] == 0
    size = found[f"ipam_zone_size_addresses{{{place},zone=inet}}"]
    assert size > 3
    assert found[f"ipam_zone_used_addresses{{{place},zone=inet}}"] == 2
    assert found[f"ipam_zone_reserved_addresses{{{place},zone=inet}}"] == 1
    assert found[f"ipam_zone_other_addresses{{{place},kind=prefix,zone=inet}}"] == 2
    assert found[f"ipam_zone_other_addresses{{{place},kind=ip_address,zone=inet}}"] == 1
    assert found[f"ipam_zone_free_addresses{{{place},zone=inet}}"] == size - 5
    assert found[f"ipam_zone_as_of_timestamp_seconds{{{place},zone=inet}}"] == world.now().timestamp()
    assert not any("192.0.2" in name for name in found)


async def test_what_is_wanted_in_the_pool_is_shown(world: World) -> None:
    world.configure(warm={"inet": 4})
    metrics = Metrics(world.clock.monotonic)
    metrics.counted(await world.registry.statistics())
    found = values(metrics)
    assert found["ipam_pool_wanted_addresses{ip_family=ipv4,zone=inet}"] == 4
    assert found["ipam_pool_wanted_addresses{ip_family=ipv6,zone=inet}"] == 4
    assert not any(name.startswith("ipam_pool_wanted") and "zone=inet" not in name for name in found)
