"""What the descriptions of the prefixes in NetBox say: which services have the address. What somebody else wrote there
stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from ipam_lib.description import DescriptionTemplate
from ipam_lib.errors import NetBoxUnavailable
from ipam_lib.models import PoolState
from ipam_lib.netbox.base import PrefixChange
from ipam_lib.registry import DriftKind
from tests.registry.test_pool import warmed
from tests.registry.watched import Died, Plan, after, before, done_but, fails, netbox_lost
from tests.registry.world import CLUSTER, FIRST, SECOND, THIRD, World, request

PREFIXES = "/api/ipam/prefixes/"


def text(name: str, more: int = 0) -> str:
    return f"{name} (cluster {CLUSTER})" + (f" and {more} more" if more else "")


def shown(world: World, address: str = FIRST) -> str:
    """The description of the only prefix at an address."""
    [one] = [one for one in world.prefixes if one.prefix == address]
    return one.description


async def edit(world: World, description: str, address: str = FIRST) -> None:
    """Somebody writes a description."""
    [one] = [one for one in world.prefixes if one.prefix == address]
    world.server.admin("PATCH", f"{PREFIXES}{one.id}/", {"description": description})


async def join(world: World, *names: str, address: str = FIRST) -> None:
    """Services that share an address."""
    for name in names:
        await world.register(name, address=address)


async def leave(world: World, *names: str, address: str = FIRST) -> None:
    """Services expire."""
    for name in names:
        await world.registry.expire(request(name, address=address))
    await world.registry.release_expired()


async def test_it_is_in_the_creating_call(world: World) -> None:
    assert await world.register("a") == FIRST
    await world.register("b", address=THIRD)
    assert (shown(world), shown(world, THIRD)) == (text("a"), text("b"))
    answers = await asyncio.gather(*(world.register(f"c{number}") for number in range(4)))
    assert [shown(world, address) for address in answers] == [text(f"c{number}") for number in range(4)]
    world.forget()
    await world.registry.describe()
    assert world.store.calls == ["find_undescribed"], "nothing is left to do"
    assert world.netbox.calls == []


async def test_services_come_and_go(world: World) -> None:
    await join(world, "a", "b", "c")
    assert shown(world) == text("a"), "never in a request"
    assert (await world.registry.describe()).written == 1
    assert shown(world) == text("a", more=2)
    await leave(world, "a")
    await world.registry.describe()
    assert shown(world) == text("b", more=1)
    await leave(world, "c")
    await world.registry.describe()
    assert shown(world) == text("b")
    await world.described()
    await leave(world, "b")
    await world.nothing()


async def test_a_change_that_does_not_concern_it_writes_nothing(world: World) -> None:
    await join(world, "a")
    await world.register("a", retention_period_days=3)
    await world.register("a", new_secret="NewSecret")
    await world.registry.expire(request("a", secret="NewSecret"))
    world.forget()
    assert (await world.registry.describe()).written == 0
    assert world.netbox.calls == []


async def test_descriptions_are_written_in_bulk(world: World) -> None:
    addresses = [await world.register(f"a{number}", zone="office") for number in range(12)]
    for number, address in enumerate(addresses):
        await world.register(f"b{number}", zone="office", address=address)
    world.forget()
    assert (await world.instance(batch=6).describe()).written == 12
    assert world.netbox.calls == ["get_many", "get_many", "update_many"] * 2
    assert world.store.counted == {"find_undescribed": 3, "pool_find_by": 2, "replace": 24}
    assert {shown(world, address) for address in addresses} == {text(f"a{number}", more=1) for number in range(12)}
    await world.described()


async def test_nothing_is_written_without_the_setting(world: World) -> None:
    world.configure(description=None)
    await join(world, "a", "b")
    assert (await world.only()).described == ()
    assert (await world.registry.describe()).written == 0
    assert [one async for one in world.registry.reconcile(fix=True)] == []
    assert shown(world) == ""


# -- what somebody else wrote ------------------------------------------------------------------------------------------


async def test_what_somebody_else_wrote_stays(world: World) -> None:
    await join(world, "a")
    await edit(world, "do not touch")
    await join(world, "b")
    for _ in range(2):
        world.forget()
        assert (await world.registry.describe()).written == 0
        assert [one async for one in world.registry.reconcile(fix=True)] == []
        assert world.netbox.counted["update_many"] == 0
    assert shown(world) == "do not touch"
    world.forget()
    await world.registry.describe()
    assert world.store.calls == ["find_undescribed"], "it is not looked at again before the services change"
    await edit(world, "")
    await join(world, "c")
    await world.registry.describe()
    assert shown(world) == text("a", more=2)


@pytest.mark.parametrize("call", [1, 2])
async def test_what_somebody_writes_meanwhile_stays(world: World, call: int) -> None:
    await join(world, "a", "b")
    reads: list[Plan | None] = [None] * (call - 1)
    world.netbox.next("get_many", *reads, before(lambda: edit(world, "do not touch")))
    assert (await world.registry.describe()).written == 0
    assert shown(world) == "do not touch"
    await world.registry.describe()
    assert shown(world) == "do not touch"
    assert not (await world.only()).description_due


@pytest.mark.parametrize(
    "fields",
    [{"custom_fields": {"k8s_uuid": "somebody"}}, {"prefix": "192.0.2.6/32"}, {"status": "container"}],
    ids=str,
)
async def test_a_prefix_of_another_owner_is_left_alone(world: World, fields: dict[str, Any]) -> None:
    await join(world, "a", "b")
    one = await world.only()
    world.server.admin("PATCH", f"{PREFIXES}{one.netbox_id}/", fields)
    assert (await world.registry.describe()).written == 0
    assert world.server.shown(one.netbox_id or 0)["description"] == text("a")


async def test_a_prefix_that_is_gone_is_described_when_it_is_made_again(world: World) -> None:
    await join(world, "a", "b")
    world.steal(FIRST)
    assert (await world.registry.describe()).written == 0
    for _ in range(3):
        found = [one async for one in world.registry.reconcile(fix=True)]
        await asyncio.sleep(60)
    assert [one.repaired for one in found] == [True]
    assert shown(world) == text("a", more=1)


# -- trouble -----------------------------------------------------------------------------------------------------------


async def test_while_netbox_is_away_it_waits(world: World) -> None:
    await join(world, "a")
    world.server.reachable = False
    await join(world, "b")
    assert isinstance((await world.registry.describe()).error, NetBoxUnavailable)
    await leave(world, "a")
    world.server.reachable = True
    await asyncio.sleep(60)
    assert (await world.registry.describe()).written == 1
    assert shown(world) == text("b")
    await world.described()


@pytest.mark.parametrize("plan", [done_but(netbox_lost()), fails(netbox_lost()), done_but(Died()), fails(Died())])
@pytest.mark.parametrize("change", [join, leave])
async def test_a_lost_reply_or_a_crash_and_then_another_change(
    world: World, plan: Plan, change: Callable[..., Any]
) -> None:
    """What was written may not be known; it is recognized later, although the services have another text by then."""
    await join(world, "a", "b", "c")
    world.netbox.next("update_many", plan)
    with contextlib.suppress(Died):
        assert (await world.registry.describe()).error is not None
    await change(world, *({"join": "de", "leave": "ab"}[change.__name__]))
    await world.registry.describe()
    assert shown(world) == (text("a", more=4) if change is join else text("c"))
    await world.described()


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_service_that_comes_meanwhile_is_not_forgotten(world: World, number: int) -> None:
    await join(world, "a", "b")
    name = ("get_many", "get_many", "update_many")[number]
    world.netbox.next(name, *[None] * (number % 2), after(lambda: join(world, "c")))
    await world.registry.describe()
    assert (await world.only()).description_due
    await world.registry.describe()
    assert shown(world) == text("a", more=2)
    await world.described()


async def test_a_slow_worker_does_not_leave_an_old_text(world: World) -> None:
    """Between its last read and its request, another worker has written a newer text."""
    await join(world, "a", "b")

    async def meanwhile() -> None:
        await join(world, "c")
        await world.instance().describe()
        assert shown(world) == text("a", more=2)

    world.netbox.next("update_many", before(meanwhile))
    await world.registry.describe()
    assert shown(world) == text("a", more=1), "it came too late"
    await world.registry.describe()
    assert shown(world) == text("a", more=2)
    await world.described()


async def test_reconcile_replaces_an_old_text_that_came_late(world: World) -> None:
    await join(world, "a", "b")
    await world.registry.describe()
    await join(world, "c")
    await world.registry.describe()
    one = await world.only()
    await world.netbox.unseen("update_many", [PrefixChange(one.netbox_id or 0, description=text("a", 1))], limit=5)
    [found] = [one async for one in world.registry.reconcile(fix=True)]
    assert (found.drift.kind, found.repaired) == (DriftKind.DESCRIPTION_DIFFERS, True)
    assert shown(world) == text("a", more=2)


async def test_a_page_that_netbox_cannot_carry_out_does_not_stop_the_next_page(world: World) -> None:
    for number in range(6):
        address = await world.register(f"a{number}", zone="office")
        await world.register(f"b{number}", zone="office", address=address)
    world.netbox.next("update_many", fails(netbox_lost()))
    report = await world.registry.describe()
    assert (report.written, report.failed) == (1, 5)
    assert (await world.registry.describe()).written == 5
    await world.described()


async def test_one_that_netbox_refuses_does_not_stop_the_others(world: World) -> None:
    addresses = [await world.register(f"a{number}", zone="office") for number in range(3)]
    for number, address in enumerate(addresses):
        await world.register(f"b{number}", zone="office", address=address)
    world.server.fault("status", method="PATCH", contains="a1", times=2, status=400)
    report = await world.registry.describe()
    assert report.error is not None
    assert report.failed == 3
    assert [shown(world, one) for one in addresses] == [text("a0", 1), text("a1"), text("a2", 1)]
    assert (await world.registry.describe()).error is None
    await world.described()


async def test_several_workers_at_once(world: World) -> None:
    for number in range(6):
        address = await world.register(f"a{number}")
        await world.register(f"b{number}", address=address)
    reports = await asyncio.gather(*(world.instance(seed=seed).describe() for seed in range(3)))
    assert sum(one.written for one in reports) >= 6
    for _ in range(2):
        await world.registry.describe()
    await world.described()


# -- the pool ----------------------------------------------------------------------------------------------------------


async def test_the_hand_over_writes_it(world: World) -> None:
    await warmed(world, 4)
    await world.register("a")
    assert shown(world) == ""
    world.forget()
    await world.registry.maintain_pool()
    assert world.netbox.calls[:2] == ["get_many", "update_many"]
    assert shown(world) == text("a")
    await world.described()


async def test_a_service_that_comes_before_the_hand_over(world: World) -> None:
    await warmed(world, 4)
    await world.register("a")
    await join(world, "b")
    assert (await world.registry.describe()).written == 0, "the hand-over would write an older text afterwards"
    assert (await world.only()).description_due
    await world.registry.maintain_pool()
    assert shown(world) == text("a")
    await world.registry.describe()
    assert shown(world) == text("a", more=1)
    await world.described()


async def test_what_somebody_wrote_on_a_ready_address_stays(world: World) -> None:
    await warmed(world, 4)
    await edit(world, "do not touch")
    await world.register("a")
    await world.registry.maintain_pool()
    assert shown(world) == "do not touch"


async def test_during_the_cooldown_it_names_nobody(world: World) -> None:
    world.configure(cooldown=world.cooldown(minutes=1))
    await join(world, "a")
    await join(world, "b", address=SECOND)
    await edit(world, "do not touch", SECOND)
    world.forget()
    await leave(world, "a")
    await leave(world, "b", address=SECOND)
    assert {one.address for one in await world.pool(PoolState.COOLING)} == {FIRST, SECOND}
    assert (shown(world), shown(world, SECOND)) == ("", "do not touch")
    assert world.netbox.counted["update_many"] == 2, "in the call that reserves the address"
    await asyncio.sleep(60)
    await world.registry.maintain_pool()
    assert await world.register("c") == FIRST
    assert shown(world) == text("c")


# -- other writers -----------------------------------------------------------------------------------------------------


async def earlier(world: World, *services: str) -> None:
    """The earlier service changes the services of the only registration. It keeps fields that it does not know."""
    document = world.backend.raw((await world.only()).id)
    assert document is not None
    document["services"] = [
        {"service_name": name, "namespace_id": request().key.namespace_id, "cluster_id": CLUSTER} for name in services
    ]
    world.loop.real += 1
    await asyncio.to_thread(world.backend.overwrite, document)
    world.loop.real -= 1


async def test_reconcile_fills_the_prefixes_of_the_earlier_service_in_bulk(world: World) -> None:
    world.configure(description=None)
    for number in range(10):
        await world.register(f"a{number}", zone="office")
    first, second = sorted(one.prefix for one in world.prefixes)[:2]
    await edit(world, "do not touch", second)
    world.usual["description"] = DescriptionTemplate("{service_name}")
    world.registry = world.instance()
    assert {(one.drift.kind, one.repaired) async for one in world.registry.reconcile()} == {
        (DriftKind.DESCRIPTION_DIFFERS, False)
    }
    assert shown(world, first) == ""
    world.forget()
    found = [one async for one in world.registry.reconcile(fix=True)]
    assert [(one.drift.kind, one.repaired) for one in found] == [(DriftKind.DESCRIPTION_DIFFERS, True)] * 9
    assert world.netbox.counted["update_many"] == 2
    assert (shown(world, first), shown(world, second)) == ("a0", "do not touch")
    assert [one async for one in world.registry.reconcile(fix=True)] == []


async def test_reconcile_writes_a_new_template(world: World) -> None:
    await join(world, "a", "b")
    await world.registry.describe()
    world.configure(description=DescriptionTemplate("load balancer {service_name}"))
    [found] = [one async for one in world.registry.reconcile(fix=True)]
    assert found.repaired
    assert shown(world) == "load balancer a and 1 more"
    await world.described()


async def test_a_change_of_the_earlier_service_is_seen_by_reconcile_and_by_the_next_change(world: World) -> None:
    await join(world, "a")
    await earlier(world, "a", "b")
    assert (await world.registry.describe()).written == 0, "it sets no mark"
    [found] = [one async for one in world.registry.reconcile(fix=True)]
    assert found.repaired
    assert shown(world) == text("a", more=1)
    await earlier(world, "b")
    await world.registry.expire(request("b", address=FIRST))
    await world.registry.describe()
    assert shown(world) == text("b")


async def test_a_registration_that_was_robbed_gets_a_prefix_with_its_own_description(world: World) -> None:
    await join(world, "a")
    world.steal(FIRST)
    assert await world.register("b") == SECOND
    await world.registry.describe()
    assert (shown(world), shown(world, SECOND)) == (text("a"), text("b"))
    await world.described()


async def test_a_hostile_name_does_no_harm(world: World) -> None:
    names = ["{0.__class__}", "a\x00b\nc", "x" * 253, "\u202etxt"]
    for name in names:
        await world.register(name)
    assert [one.description for one in world.prefixes] == [
        text("{0.__class__}"),
        text("a b c"),
        "x" * 199 + "…",
        text("txt"),
    ]
    await world.described()
