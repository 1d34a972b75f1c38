"""Every use case, broken off at each of its outside calls in turn, in every way in which that can happen.

Afterwards the client repeats its request, or not; then the workers go on for two minutes, and both sides must
be equal: nothing leaked, nothing lost, and what was answered is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from ipam_lib.errors import IPAMError, NotFound
from ipam_lib.models import State
from ipam_lib.registry import Registry
from tests.registry.watched import Died, Plan, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import CIPHER, CLUSTER, FIRST, SECOND, SECRET, THIRD, World, request, world_on
from tests.storage.backends import MemoryBackend
from tests.support.virtual_loop import VirtualLoop, run_virtually

NEW = "NewSecret"


async def nothing(_world: World) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """A use case: what there is before, what is done, and what must hold once it was done in full (`done`), or was
    broken off and not repeated (`undone`; by default anything that leaves both sides equal). `settings`: those of
    every instance, once there is what there is before."""

    act: Callable[[Registry], Awaitable[Any]]
    done: Callable[[World], Awaitable[None]]
    before: Callable[[World], Awaitable[None]] = nothing
    undone: Callable[[World], Awaitable[None]] = nothing
    settings: Mapping[str, Any] = field(default_factory=dict)


async def holds(world: World, **services: str) -> None:
    """Each of these services is on that address, and nothing else is registered."""
    found = {name: address for address, names in (await world.names()).items() for name in names}
    assert found == services


async def one_registered(world: World) -> None:
    await world.register("a")


async def robbed(world: World) -> None:
    await world.register("a")
    world.steal(FIRST)


async def shared(world: World) -> None:
    await world.register("a")
    await world.register("b", address=FIRST)
    await world.register("c", deny_external_cleanup=True)


async def joined(world: World) -> None:
    """Two addresses with a service that NetBox does not show yet."""
    for address, names in ((FIRST, "ab"), (SECOND, "cd")):
        for name in names:
            await world.register(name, address=address)


async def undescribed(world: World) -> None:
    """A prefix without a description."""
    await world.register("a")
    world.server.admin("PATCH", f"/api/ipam/prefixes/{(await world.only()).netbox_id}/", {"description": ""})


async def reconciled(registry: Registry) -> None:
    async for _ in registry.reconcile(fix=True):
        pass


async def expired(world: World) -> None:
    for name in "ab":
        await world.register(name)
        await world.registry.expire(request(name))
    await world.register("c", address=THIRD)
    await world.register("d", address=THIRD)
    await world.registry.expire(request("d", address=THIRD))


async def left_behind(world: World) -> None:
    world.netbox.next("create_next", done_but(Died()))
    with contextlib.suppress(Died):
        await world.register("a")
    await asyncio.sleep(25)


async def old(world: World) -> None:
    await left_behind(world)
    await asyncio.sleep(60)


async def given_away(world: World) -> None:
    """A creation died while it gave its prefix to a registration that had been robbed of its own."""
    await robbed(world)
    world.netbox.next("assign", done_but(Died()))
    with contextlib.suppress(Died):
        await world.register("b")
    await asyncio.sleep(60)


async def being_released(world: World) -> None:
    await world.register("a")
    await world.registry.expire(request("a"))
    world.netbox.next("delete_many", fails(Died()))
    with contextlib.suppress(Died):
        await world.registry.release_expired()


async def expiration_is_set(world: World) -> None:
    services = {one.key.service_name: one.expires_at for each in await world.registrations() for one in each.services}
    assert {name for name, at in services.items() if at is not None and at <= world.now()} <= {"a", "b"}


async def secret_is(world: World, *secrets: str) -> None:
    assert CIPHER.unseal((await world.only()).secret) in secrets


CASES = {
    "next free": Case(
        act=lambda registry: registry.register(request("a")),
        done=lambda world: holds(world, a=FIRST),
    ),
    "describe": Case(
        before=joined,
        act=lambda registry: registry.describe(),
        done=lambda world: holds(world, a=FIRST, b=FIRST, c=SECOND, d=SECOND),
        undone=lambda world: holds(world, a=FIRST, b=FIRST, c=SECOND, d=SECOND),
    ),
    "describe, with reconcile": Case(
        before=undescribed,
        act=reconciled,
        done=lambda world: holds(world, a=FIRST),
        undone=lambda world: reconciled(world.registry),
    ),
    "given": Case(
        act=lambda registry: registry.register(request("a", address=SECOND)),
        done=lambda world: holds(world, a=SECOND),
    ),
    "next free, into the next container": Case(
        before=lambda world: fill(world),
        act=lambda registry: registry.register(request("a")),
        done=lambda world: holds(world, a="198.51.100.0/32"),
    ),
    "next free, over a registration that was robbed": Case(
        before=robbed,
        act=lambda registry: registry.register(request("b")),
        done=lambda world: holds(world, a=FIRST, b=SECOND),
    ),
    "next free, over one that is being released": Case(
        before=being_released,
        act=lambda registry: registry.register(request("b")),
        done=lambda world: one_of(world, b=(FIRST, SECOND)),
    ),
    "given, over one that is being released": Case(
        before=being_released,
        act=lambda registry: registry.register(request("b", address=FIRST)),
        done=lambda world: holds(world, b=FIRST),
    ),
    "taken over": Case(
        before=left_behind,
        act=lambda registry: registry.register(request("a")),
        done=lambda world: holds(world, a=FIRST),
    ),
    "taken over, while it was giving": Case(
        before=given_away,
        act=lambda registry: registry.register(request("b")),
        done=lambda world: holds(world, a=FIRST, b=SECOND),
    ),
    "a further service": Case(
        before=one_registered,
        act=lambda registry: registry.register(request("b", address=FIRST)),
        done=lambda world: holds(world, a=FIRST, b=FIRST),
    ),
    "a new secret": Case(
        before=one_registered,
        act=lambda registry: registry.register(request("a", new_secret=NEW)),
        done=lambda world: secret_is(world, NEW),
        undone=lambda world: secret_is(world, NEW, SECRET),
    ),
    "expire": Case(
        before=shared,
        act=lambda registry: registry.expire(request("a", retention_period_days=30)),
        done=lambda world: holds(world, a=FIRST, b=FIRST, c=SECOND),
    ),
    "expire a cluster": Case(
        before=shared,
        act=lambda registry: registry.expire_cluster(CLUSTER),
        done=lambda world: holds(world, c=SECOND),
        undone=expiration_is_set,
    ),
    "release": Case(
        before=expired,
        act=lambda registry: registry.release_expired(),
        done=lambda world: holds(world, c=THIRD),
        undone=lambda world: holds(world, c=THIRD),
    ),
    "recover": Case(
        before=old,
        act=lambda registry: registry.recover(),
        done=lambda world: world.nothing(),
        undone=lambda world: world.nothing(),
    ),
    "recover one that was giving": Case(
        before=given_away,
        act=lambda registry: registry.recover(),
        done=lambda world: holds(world, a=FIRST),
        undone=lambda world: holds(world, a=FIRST),
    ),
}


async def fill(world: World) -> None:
    for address in ("192.0.2.0/30", "192.0.2.4/30"):
        world.foreign_prefix(address)


async def one_of(world: World, **services: tuple[str, ...]) -> None:
    found = {name: address for address, names in (await world.names()).items() for name in names}
    assert found.keys() == services.keys()
    assert all(found[name] in addresses for name, addresses in services.items())


def cancelled(*, done: bool) -> Plan:
    """The client disconnects, before or after the call is done."""

    async def plan(work: Callable[[], Awaitable[Any]]) -> Any:
        if done:
            await work()
        raise asyncio.CancelledError

    return plan


Lost = Callable[..., Exception]
"""Makes the error of a call whose reply is lost, as the side raises it that was called."""

FATES: dict[str, Callable[[Lost], Plan]] = {
    "dies before": lambda _: fails(Died()),
    "dies after": lambda _: done_but(Died()),
    "is not done, and said so": lambda lost: fails(lost(applied=False)),
    "is not done, and the reply is lost": lambda lost: fails(lost(applied=True)),
    "is done, and the reply is lost": lambda lost: done_but(lost(applied=True)),
    "is cancelled before": lambda _: cancelled(done=False),
    "is cancelled after": lambda _: cancelled(done=True),
}


class Breaking:
    """Lets the outside call with this number have a fate, and the process be dead afterwards if that is what it is."""

    def __init__(self, world: World, number: int, fate: Callable[[Lost], Plan], *, stays: bool) -> None:
        self.number = number
        self.count = 0
        self.broken = ""
        self._fate = fate
        self._stays = stays
        world.store.always = partial(self._meet, storage_lost)
        world.netbox.always = partial(self._meet, netbox_lost)

    def _meet(self, lost: Lost, name: str) -> Plan | None:
        self.count += 1
        if self.broken and self._stays:
            return fails(Died())
        if self.count - 1 != self.number:
            return None
        self.broken = name
        return self._fate(lost)


async def broken_off(loop: VirtualLoop, case: Case, fate: str, number: int, *, repeated: bool) -> str:
    """Live through one of them; the name of the call that was broken off, empty when there were fewer calls."""
    async with world_on(MemoryBackend(), loop) as world:
        await case.before(world)
        world.configure(**case.settings)
        breaking = Breaking(world, number, FATES[fate], stays=fate.startswith("dies"))
        answered: Any = None
        with contextlib.suppress(IPAMError, Died, asyncio.CancelledError):
            answered = await case.act(world.registry)
        world.store.always = world.netbox.always = lambda _name: None
        if not breaking.broken:
            return ""
        if repeated:
            await asyncio.wait_for(until_answered(world, case, answered), 120)
        for _ in range(4):
            await asyncio.sleep(30)
            await world.instance().release_expired()
            await world.instance().recover()
            await world.instance().maintain_pool()
            await world.instance().describe()
        where = f"{breaking.broken} (call {number}) {fate}"
        try:
            assert {one.state for one in await world.registrations()} <= {State.LIVE}
            if repeated:
                await case.done(world)
            else:
                await case.undone(world)
                if answered is not None:
                    await case.done(world)
            if case.before is not robbed or repeated:
                await world.settled()
            else:
                await nearly_settled(world)
            await world.described()
        except AssertionError as error:
            error.add_note(f"after {where}, {'repeated' if repeated else 'not repeated'}")
            raise
        return breaking.broken


async def until_answered(world: World, case: Case, answered: Any) -> None:
    """The client asks until there is an answer, of another instance. What it was answered before stays true."""
    while True:
        try:
            again = await case.act(world.instance())
        except NotFound:
            return  # what was to expire has been released meanwhile
        except IPAMError:
            await asyncio.sleep(1)
        else:
            address = getattr(answered, "address", None)
            assert address in (None, getattr(again, "address", None)), (answered, again)
            return


async def nearly_settled(world: World) -> None:
    """A registration whose prefix was deleted may still be without one; nothing else may be wrong."""
    registrations = {one.id: one for one in await world.registrations()}
    for prefix in world.prefixes:
        assert registrations[prefix.uuid or ""].netbox_id == prefix.id
    for one in registrations.values():
        assert one.address == FIRST or one.netbox_id in world.server.prefixes


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "not repeated"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("name", CASES)
def test_broken_off_at_every_outside_call(name: str, fate: str, repeated: bool) -> None:
    seen = []
    while True:
        loop = VirtualLoop()
        broken = run_virtually(broken_off(loop, CASES[name], fate, len(seen), repeated=repeated), loop)
        if not broken:
            break
        seen.append(broken)
    assert len(seen) >= 2, "a use case without outside calls proves nothing"


def test_the_calls_that_are_broken_off_are_those_of_the_design() -> None:
    """What the tests above go through, for the longest of them: it is not by chance that they are all good."""

    async def calls(loop: VirtualLoop) -> list[str]:
        async with world_on(MemoryBackend(), loop) as world:
            await robbed(world)
            seen: list[str] = []
            world.store.always = world.netbox.always = seen.append
            await world.register("b")
            return seen.copy()

    loop = VirtualLoop()
    assert run_virtually(calls(loop), loop) == [
        *("find_service", "insert", "find_service", "create_next", "conflict", "replace"),
        *("find_address", "get_many", "find_by_uuid", "replace", "assign", "replace", "replace"),
        *("create_next", "conflict", "replace"),
    ]
