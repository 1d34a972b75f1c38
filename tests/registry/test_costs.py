"""What each use case costs: calls to storage and to NetBox, exactly."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.registry.world import CLUSTER, FIRST, SECOND, World, request


async def test_register_again_with_nothing_new_is_one_read(world: World) -> None:
    await world.register()
    world.forget()
    await world.register()
    assert world.store.calls == ["find_service"]
    assert world.netbox.calls == []


async def test_register_a_given_address_again_with_nothing_new_is_one_read(world: World) -> None:
    await world.register(address=FIRST)
    world.forget()
    await world.register(address=FIRST)
    assert world.store.calls == ["find_address"]
    assert world.netbox.calls == []


@pytest.mark.parametrize("change", [{"retention_period_days": 3}, {"new_secret": "NewSecret"}], ids=str)
async def test_register_again_with_a_change_is_a_read_and_a_write(world: World, change: dict[str, object]) -> None:
    await world.register()
    world.forget()
    await world.register(**change)
    assert world.store.calls == ["find_service", "replace"]
    assert world.netbox.calls == []


async def test_a_further_service_on_a_shared_address_is_a_read_and_a_write(world: World) -> None:
    await world.register("a")
    world.forget()
    await world.register("b", address=FIRST)
    assert world.store.calls == ["find_address", "replace"]
    assert world.netbox.calls == []


async def test_register_the_next_free_address_is_one_netbox_call(world: World) -> None:
    await world.register()
    assert world.store.calls == ["find_service", "insert", "find_service", "replace"]
    assert world.netbox.calls == ["create_next", "conflict"]


async def test_the_next_free_address_is_one_request_on_the_wire(world: World) -> None:
    await world.register("a")  # which also looks up the tag, once and for all
    before = Counter(world.server.calls)
    await world.register("b")
    # Before the picture of the container is loaded, what NetBox chose is looked at afterwards.
    looks = {"prefixes.list": 1, "ip-addresses.list": 1, "ip-ranges.list": 1}
    assert Counter(world.server.calls) - before == {"prefixes.allocate": 1} | looks


async def test_with_a_picture_the_look_runs_beside_the_creation(world: World) -> None:
    await world.register("a")
    await world.see_space()
    before = Counter(world.server.calls)
    await world.register("b")
    looks = {"prefixes.list": 1, "ip-addresses.list": 1, "ip-ranges.list": 1}
    assert Counter(world.server.calls) - before == {"prefixes.allocate": 1} | looks
    world.foreign_prefix("192.0.2.4/32")
    await world.see_space()
    world.server.admin("POST", "/api/ipam/ip-addresses/", {"address": "192.0.2.2/24", "vrf": world.vrf("inet")})
    await world.see_space()
    before = Counter(world.server.calls)
    assert await world.register("c") == "192.0.2.3/32", "the gateway is passed over"
    assert Counter(world.server.calls) - before == {"prefixes.create": 1} | looks


async def test_register_a_given_address_is_two_netbox_calls(world: World) -> None:
    await world.register(address=FIRST)
    assert world.store.calls == ["find_address", "insert", "replace"]
    assert world.netbox.calls == ["covering", "create_exact", "conflict"]


async def test_services_that_come_at_once_share_a_netbox_call(world: World) -> None:
    """The first goes at once, those that come while it is under way go together as one list."""
    await world.register("tag")
    world.server.simulator.latency_ms = 45
    before = Counter(world.server.calls)
    first = world.begin(world.registry.register(request("first")))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, *(world.registry.register(request(f"service-{number}")) for number in range(6)))
    assert (Counter(world.server.calls) - before)["prefixes.allocate"] == 2
    await world.settled()


async def test_services_that_come_at_once_share_a_look(world: World) -> None:
    await world.register("tag")
    await world.see_space()
    world.server.simulator.latency_ms = 45
    before = Counter(world.server.calls)
    first = world.begin(world.registry.register(request("first")))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, *(world.registry.register(request(f"service-{number}")) for number in range(6)))
    made = Counter(world.server.calls) - before
    assert made["prefixes.allocate"] + made["prefixes.create"] == 2
    assert made["ip-addresses.list"] == 2
    await world.settled()


async def test_register_the_next_free_address_from_the_warm_pool_is_five_storage_calls(world: World) -> None:
    world.configure(warm={"inet": 4})
    await world.registry.maintain_pool()
    world.forget()
    assert await world.register() == FIRST
    assert world.store.calls == ["find_service", "insert", "find_service", "pool_claim", "replace"]
    assert world.netbox.calls == []
    world.forget()
    assert await world.register() == FIRST
    assert world.store.calls == ["find_service"]


async def test_register_a_given_address_from_the_warm_pool_is_five_storage_calls(world: World) -> None:
    world.configure(warm={"inet": 4})
    await world.registry.maintain_pool()
    world.forget()
    assert await world.register(address=SECOND) == SECOND
    assert world.store.calls == ["find_address", "insert", "pool_find_address", "pool_replace", "replace"]
    assert world.netbox.calls == []


async def test_an_empty_pool_costs_one_storage_call_more(world: World) -> None:
    world.configure(warm={"inet": 4})
    await world.register()
    assert world.store.calls == ["find_service", "insert", "find_service", "pool_claim", "replace"]
    assert world.netbox.calls == ["create_next", "conflict"]


async def test_filling_is_one_netbox_call_a_batch_and_handing_over_two(world: World) -> None:
    world.configure(warm={"office": 4}, batch=50)
    await world.registry.maintain_pool()
    assert world.netbox.calls == ["create_next_many"] + ["conflict"] * 4
    for number in range(4):
        await world.register(f"service-{number}", zone="office")
    world.forget()
    await world.registry.maintain_pool()
    assert world.netbox.calls == ["get_many", "update_many", "create_next_many"] + ["conflict"] * 4
    assert (world.store.counted["pool_replace"], world.store.counted["pool_delete"]) == (4 + 4, 4)


async def test_a_round_of_the_pool_with_nothing_to_do_is_one_or_two_reads(world: World) -> None:
    await world.registry.maintain_pool()
    assert world.store.calls == ["pool_counts", "pool_page"]
    world.configure(warm={"inet": 4})
    await world.registry.maintain_pool()
    world.forget()
    await world.registry.maintain_pool()
    assert world.store.calls == ["pool_counts", "pool_page"]
    assert world.netbox.calls == []


async def test_releasing_into_a_cooldown_is_three_netbox_calls_a_batch(world: World) -> None:
    world.configure(cooldown=world.cooldown(minutes=1), batch=50)
    for number in range(6):
        await world.register(f"service-{number}")
    await world.registry.expire_cluster(CLUSTER)
    world.forget()
    assert (await world.registry.release_expired()).released == 6
    assert world.netbox.calls == ["get_many", "find_by_uuid", "update_many"]
    await asyncio.sleep(60)
    world.forget()
    assert (await world.registry.maintain_pool()).dropped == 6
    assert world.netbox.calls == ["find_by_uuid", "get_many", "delete_many"]


async def test_a_refused_secret_asks_netbox_nothing(world: World) -> None:
    await world.register()
    world.forget()
    with pytest.raises(Exception, match="no matching address"):
        await world.register(address=FIRST, secret="WrongSecret")
    assert world.netbox.calls == []


@pytest.mark.parametrize("address", [None, FIRST])
async def test_an_expiration_is_a_read_and_a_write(world: World, address: str | None) -> None:
    await world.register()
    world.forget()
    await world.registry.expire(request(address=address))
    assert world.store.calls == ["find_address" if address else "find_service", "replace"]
    assert world.netbox.calls == []


async def test_a_cluster_expires_without_netbox(world: World) -> None:
    for name in "abc":
        await world.register(name)
    world.forget()
    await world.registry.expire_cluster(CLUSTER)
    assert world.store.counted == {"find_cluster": 2, "replace": 3}
    assert world.netbox.calls == []


async def test_a_release_is_two_writes_each_and_three_netbox_calls_a_batch(world: World) -> None:
    for number in range(12):
        await world.register(f"service-{number}")
    await world.registry.expire_cluster(CLUSTER)
    world.forget()
    assert (await world.instance(batch=6).release_expired()).released == 12
    assert world.netbox.calls == ["get_many", "find_by_uuid", "delete_many"] * 2
    assert (world.store.counted["replace"], world.store.counted["delete"]) == (12, 12)
    # At once for each page of those that expire, and once more before the documents go.
    assert world.store.counted["history_insert"] == 4
    await world.nothing()


async def test_a_departure_is_two_writes_and_a_part_of_a_third(world: World) -> None:
    """Off, and out of the registration again; between the two, one for all of a batch, to the history."""
    for number in range(4):
        await world.register(f"stays-{number}")
        address = (await world.registrations())[-1].address
        await world.register(f"goes-{number}", address=address)
        await world.registry.expire(request(f"goes-{number}", address=address))
    world.forget()
    await world.registry.release_expired()
    assert world.store.counted == {"find_due": 2, "replace": 8, "history_insert": 1, "find_states": 1}
    assert world.netbox.calls == []


async def test_a_round_with_nothing_to_do_is_two_reads(world: World) -> None:
    await world.register("a")
    await world.register("b")
    world.forget()
    await world.registry.release_expired()
    await world.registry.recover()
    assert world.store.calls == ["find_due", "find_states", "find_states"]
    assert world.netbox.calls == []
    assert set(await world.names()) == {FIRST, SECOND}
