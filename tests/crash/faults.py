"""Points: every outside call of an instance, where it may fail, lose its reply, hang, be cancelled, or be the last.

What happens at a point is drawn from the schedule's random numbers, so a seed replays exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from ipam_lib.addresses import contains
from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxUnavailable, StorageUnavailable
from ipam_lib.models import Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.netbox.base import Container, NetBox, Occupant, Prefix, PrefixChange
from ipam_lib.netbox.coalesce import Coalescer
from ipam_lib.netbox.container_space import ContainerState
from ipam_lib.netbox.space import AddressSpace
from ipam_lib.netbox.space_create import SpaceCreator
from ipam_lib.storage.base import DuplicateReport, Store
from ipam_lib.storage.usage import Usage
from tests.crash.faulty_history import FaultyHistory
from tests.crash.faulty_pool import FaultyPool
from tests.support.plain_netbox import PlainNetBox

T = TypeVar("T")

STORAGE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Odds:
    """How often each fate befalls an outside call; what is left over of 1 is: it goes well. `latecomers` lets a
    creation that NetBox was slow with land after its caller gave up, and lets a process sleep between its decision
    and its call."""

    fail: float = 0.03
    lose_reply: float = 0.03
    hang: float = 0.015
    die: float = 0.01
    cancel: float = 0.01
    suspend: float = 0.01
    latecomers: bool = False


CALM = Odds(0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Instance:
    """One process of the service: its tasks, which all end when it dies."""

    name: str
    random: Random
    odds: Odds
    log: Callable[[str], None]
    alive: bool = True
    asleep: int = 0
    late: set[asyncio.Task[None]] = field(default_factory=set)
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    def spawn(self, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Run something in this process."""

        async def run() -> T:
            return await work()

        task = asyncio.get_running_loop().create_task(run())
        self.tasks[task] = None  # a dict keeps their order: a schedule replays exactly
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task)
        if not task.cancelled():
            task.exception()  # its client may have hung up: no other caller asks

    def die(self) -> None:
        """Like `kill -9`: nothing of this process does anything any more."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()

    async def point(
        self,
        name: str,
        apply: Callable[[], Awaitable[T]],
        *,
        limit: float,
        write: bool,
        failed: Callable[[bool, bool], Exception],
        netbox: bool,
    ) -> T:
        """One outside call. `failed(applied, timed_out)` makes the error that the caller sees."""
        if not self.alive:
            await asyncio.Event().wait()
        odds = self.odds
        fate = self._draw(odds)
        self.log(f"{self.name} {name} {fate}")
        if odds.latecomers and fate == "suspend" and write and netbox and self.random.random() < 0.5:
            await self._sleep(30, 1800)
        await asyncio.sleep(self.random.choice((0.0, 0.001, 0.01, 0.05, 0.3)) * self.random.random())
        if not self.alive:
            await asyncio.Event().wait()
        before = self.random.random() < 0.5
        if fate == "fail":
            raise failed(self.random.random() < 0.5 and write, False)
        if fate == "hang":
            applied = write and not before
            if odds.latecomers and write and netbox:
                late = asyncio.get_running_loop().create_task(_later(self.random.uniform(limit, 900), apply))
                self.late.add(late)
                late.add_done_callback(self.late.discard)
            elif applied:
                await apply()
            await asyncio.sleep(limit)
            raise failed(write, True)
        if fate in ("die", "cancel") and before:
            await self._stop(fate)
        result = await apply()
        if fate == "lose_reply":
            raise failed(write, False)
        if fate in ("die", "cancel"):
            await self._stop(fate)
        if fate == "suspend":
            await self._sleep(5, 1800)
        return result

    async def _sleep(self, least: float, most: float) -> None:
        """Be suspended for so many seconds."""
        self.asleep += 1
        try:
            await asyncio.sleep(self.random.uniform(least, most))
        finally:
            self.asleep -= 1

    def _draw(self, odds: Odds) -> str:
        number = self.random.random()
        for fate in ("fail", "lose_reply", "hang", "die", "cancel", "suspend"):
            number -= getattr(odds, fate)
            if number < 0:
                return fate
        return "ok"

    async def _stop(self, fate: str) -> None:
        if fate == "die":
            self.die()
        else:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.Event().wait()


async def _later(seconds: float, apply: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.sleep(seconds)
    try:
        await apply()
    except NetBoxUnavailable:
        pass
    except Exception as error:
        if not hasattr(error, "detail"):
            raise


class FaultyStore(FaultyPool, FaultyHistory, Store):
    """A store as one instance reaches it."""

    def __init__(self, inner: Store, instance: Instance) -> None:
        self._inner = inner
        self._instance = instance

    async def _call(self, name: str, apply: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        return await self._instance.point(
            f"store.{name}",
            apply,
            limit=STORAGE_TIMEOUT,
            write=write,
            failed=lambda applied, _: StorageUnavailable(applied=applied),
            netbox=False,
        )

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def ping(self) -> None:
        await self._call("ping", self._inner.ping)

    async def prepare(self) -> list[DuplicateReport]:
        return await self._inner.prepare()

    async def insert(self, registration: Registration) -> None:
        await self._call("insert", lambda: self._inner.insert(registration), write=True)

    async def get(self, registration_id: str) -> Registration | None:
        return await self._call("get", lambda: self._inner.get(registration_id))

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        return await self._call(
            "find_service",
            lambda: self._inner.find_service(secrets=secrets, zone=zone, ip_family=ip_family, service=service),
        )

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return await self._call("find_address", lambda: self._inner.find_address(zone=zone, addresses=addresses))

    async def replace(self, old: Registration, new: Registration) -> bool:
        return await self._call(f"replace {old.state}->{new.state}", lambda: self._inner.replace(old, new), write=True)

    async def delete(self, old: Registration) -> bool:
        return await self._call("delete", lambda: self._inner.delete(old), write=True)

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return await self._call("find_due", lambda: self._inner.find_due(now=now, after=after, limit=limit))

    async def find_undescribed(self, *, after: str | None, limit: int) -> list[Registration]:
        return await self._call("find_undescribed", lambda: self._inner.find_undescribed(after=after, limit=limit))

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return await self._call("find_states", lambda: self._inner.find_states(states, after=after, limit=limit))

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return await self._call("find_cluster", lambda: self._inner.find_cluster(cluster_ids, after=after, limit=limit))

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return await self._call("page", lambda: self._inner.page(wanted, after=after, limit=limit))

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        return await self._call("counts", self._inner.counts)

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        return await self._call("usage", self._inner.usage)

    async def count_owned(self, owner: QuotaOwner, ids: Sequence[str], *, zone: str, limit: int) -> int:
        return await self._call("count_owned", lambda: self._inner.count_owned(owner, ids, zone=zone, limit=limit))

    async def owned(self, owner: QuotaOwner) -> Mapping[tuple[str, str], int]:
        return await self._call("owned", lambda: self._inner.owned(owner))

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return await self._call("get_many", lambda: self._inner.get_many(registration_ids))

    async def load_document(self, name: str) -> dict[str, Any] | None:
        return await self._call("load_document", lambda: self._inner.load_document(name))

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        await self._call("save_document", lambda: self._inner.save_document(name, content), write=True)


class FaultyReader:
    """What takes addresses in NetBox, as one instance reads it: two rows a page, and a fate for each page."""

    def __init__(self, netbox: FaultyNetBox) -> None:
        self._netbox = netbox

    async def container_state(self, container: Container, *, limit: float) -> ContainerState:
        return await self._netbox.read("state", limit, lambda inner: ContainerState(len(inner.children(container))))

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        return await self._netbox.covering(container, address, limit=limit)

    def child_prefixes(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        return self._pages("children", since, limit, lambda inner: inner.children(container))

    def ip_addresses(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        outer = within or container.prefix
        return self._pages(
            "ip_addresses",
            since,
            limit,
            lambda inner: [one for one in inner.ip_addresses.values() if contains(outer, one.text)],
        )

    async def ip_ranges(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        return
        yield

    async def _pages(
        self, name: str, since: datetime | None, limit: float, rows: Callable[[PlainNetBox], list[Occupant]]
    ) -> AsyncIterator[list[Occupant]]:
        after = 0

        def page(inner: PlainNetBox) -> list[Occupant]:
            fitting = [one for one in rows(inner) if one.netbox_id > after]
            return [one for one in fitting if since is None or (one.updated is not None and one.updated >= since)][:2]

        while found := await self._netbox.read(name, limit, page):
            yield found
            after = found[-1].netbox_id


class FaultyNetBox(NetBox):
    """NetBox as one instance reaches it."""

    def __init__(
        self, inner: PlainNetBox, instance: Instance, clock: Clock, *, coalescing: bool = False, picture: bool = False
    ) -> None:
        self._inner = inner
        self._instance = instance
        self._coalescer = Coalescer(self._one, self.create_next_many, clock) if coalescing else None
        self.space = AddressSpace(FaultyReader(self), clock=clock, rng=instance.random) if picture else None
        self._creator = SpaceCreator(self.space, self, clock) if self.space else None

    @property
    def available(self) -> bool:
        return self._inner.available

    async def _call(self, name: str, limit: float, apply: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        return await self._instance.point(
            f"netbox.{name}",
            apply,
            limit=limit,
            write=write,
            failed=lambda applied, timed_out: NetBoxUnavailable(applied=applied, timed_out=timed_out),
            netbox=True,
        )

    async def read(self, name: str, limit: float, look: Callable[[PlainNetBox], T]) -> T:
        """Read something that the registry itself does not ask for."""

        async def apply() -> T:
            return look(self._inner)

        return await self._call(f"read {name}", limit, apply)

    async def create_next(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        create = self._coalescer.create_next if self._coalescer else self._one
        return await create(container, uuid=uuid, limit=limit, description=description)

    async def create_next_many(self, container: Container, uuids: Sequence[str], **options: Any) -> list[Prefix]:
        create = self.create_free if self._creator is None else self._creator.create_next
        return await create(container, uuids, **options)

    async def create_free(self, container: Container, uuids: Sequence[str], **options: Any) -> list[Prefix]:
        self._inner.asked(uuids)
        return await self._call(
            f"create_next_many {uuids}",
            options["limit"],
            lambda: self._inner.create_next_many(container, uuids, **options),
            write=True,
        )

    async def create_given(
        self, container: Container, addresses: Sequence[str], uuids: Sequence[str], **options: Any
    ) -> list[Prefix]:
        self._inner.asked(uuids)
        return await self._call(
            f"create_given {addresses} {uuids}",
            options["limit"],
            lambda: self._inner.create_given(container, addresses, uuids, **options),
            write=True,
        )

    async def conflict(self, container: Container, prefix: Prefix, *, limit: float) -> Occupant | None:
        return None if self.space is None else await self.space.conflict(container, prefix, limit=limit)

    async def _one(self, container: Container, *, uuid: str, limit: float, description: str) -> Prefix:
        if self._creator is not None:
            texts = {uuid: description}
            return (await self._creator.create_next(container, [uuid], limit=limit, descriptions=texts))[0]
        return await self._call(
            f"create_next {uuid}",
            limit,
            lambda: self._inner.create_next(container, uuid=uuid, limit=limit, description=description),
            write=True,
        )

    async def create_exact(self, container: Container, address: str, **options: Any) -> Prefix:
        if self._creator is not None:
            return await self._creator.create_exact(container, address, **options)
        return await self._call(
            f"create_exact {options['uuid']}",
            options["limit"],
            lambda: self._inner.create_exact(container, address, **options),
            write=True,
        )

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        return await self._call("covering", limit, lambda: self._inner.covering(container, address, limit=limit))

    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        return await self._call("find_by_uuid", limit, lambda: self._inner.find_by_uuid(uuids, limit=limit))

    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        return await self._call("get_many", limit, lambda: self._inner.get_many(prefix_ids, limit=limit))

    async def delete_many(self, prefixes: Sequence[Prefix], *, limit: float) -> None:
        await self._call(
            f"delete_many {[one.id for one in prefixes]}",
            limit,
            lambda: self._inner.delete_many(prefixes, limit=limit),
            write=True,
        )
        if self.space is not None:
            self.space.released(prefixes)

    async def assign(self, prefix_id: int, uuid: str, *, limit: float) -> bool:
        return await self._call(
            f"assign {uuid}", limit, lambda: self._inner.assign(prefix_id, uuid, limit=limit), write=True
        )

    async def update_many(self, changes: Sequence[PrefixChange], *, limit: float) -> set[int]:
        return await self._call(
            f"update_many {[one.id for one in changes]}",
            limit,
            lambda: self._inner.update_many(changes, limit=limit),
            write=True,
        )

    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        return await self._call(
            "list_prefixes", limit, lambda: self._inner.list_prefixes(container, after=after, limit=limit)
        )
