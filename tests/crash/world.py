"""A small world: some instances of the service over one store and one NetBox, clients that want addresses, and trouble.

The scheduler is the event loop with virtual time; every choice comes from one seeded source. At the end the trouble
stops, the workers go on, and both sides must be equal: nothing leaked, lost, or given twice.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from ipam_lib import addresses
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.description import DEFAULT_DESCRIPTION, DescriptionTemplate
from ipam_lib.errors import (
    AddressHeld,
    AddressTaken,
    IPAMError,
    NotFound,
    StillInFlight,
    Unavailable,
    WrongSecret,
    ZoneFull,
)
from ipam_lib.models import Filter, PoolEntry, PoolState, Registration, Request, ServiceKey, State
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.space import AddressSpace
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.storage.base import Store
from tests.crash.events import EventSource
from tests.crash.faults import CALM, FaultyNetBox, FaultyStore, Instance, Odds
from tests.crash.truth import ClusterDeletions, Truth, everything
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.support.virtual_loop import VirtualClock, VirtualLoop

TEMPLATE = DescriptionTemplate(DEFAULT_DESCRIPTION)
SETTINGS = RegistrySettings(longest_request=25.0, netbox_call=10.0, batch=5)
CIPHER = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
CONTAINERS = (
    Container(1, "10.0.0.0/29", "ipv4", "inet", 1),
    Container(2, "10.0.1.0/30", "ipv4", "inet", 1),
    Container(3, "fd00::/126", "ipv6", "inet", 1),
    Container(4, "10.0.2.0/30", "ipv4", "tiny", None),
)
CLUSTER = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
PATIENCE = 30.0
"""Seconds after which a client of the service hangs up."""


@dataclass(slots=True)
class Summary:
    """What schedules came to. A schedule is good when `problems` is empty."""

    schedules: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Add another summary to this one."""
        self.schedules += other.schedules
        self.answers += other.answers
        self.problems += other.problems

    def report(self, seconds: float, seed: int) -> str:
        """The summary for people."""
        kinds = Counter(problem.split(":")[0] for problem in self.problems)
        named = {"leaked": 0, "twice": 0, "lost": 0, "lies": 0, "wrong answers": 0, "stuck": 0, "other": 0}
        for kind, number in kinds.items():
            key = next((name for name in named if kind.startswith(name.split()[0])), "other")
            named[key] += number
        answers = ", ".join(f"{number} {kind}" for kind, number in self.answers.most_common())
        zeros = ", ".join(f"{number} {kind}" for kind, number in named.items())
        return f"{self.schedules} schedules from seed {seed} in {seconds:.0f} s\nanswers: {answers}\n{zeros}"


@dataclass(slots=True)
class Lane:
    """One service of one client, and what its answers entitle it to. `may_expire` from the moment that a deletion was
    sent until the next registration is acknowledged; an unanswered deletion may still take effect later."""

    key: ServiceKey
    secret: str
    zone: str
    family: str
    asked: str | None
    hurry: bool = False
    granted: str | None = None
    may_expire: bool = False

    def request(self, **changes: Any) -> Request:
        """The lane's request."""
        fields: dict[str, Any] = {
            "zone": self.zone,
            "ip_family": self.family,
            "key": self.key,
            "secret": self.secret,
            "address": self.asked,
        }
        return Request(**(fields | changes))


class World:
    """One schedule."""

    def __init__(
        self,
        seed: int,
        loop: VirtualLoop,
        store: Store,
        *,
        latecomers: bool = False,
        warm: bool = False,
        rush: bool = False,
        calm: bool = False,
        picture: bool = False,
        events: bool = False,
        descriptions: bool = False,
    ) -> None:
        self.random = Random(seed)
        self.loop = loop
        self.store = store
        self.truth = Truth(store, loop)
        self.netbox = PlainNetBox(CONTAINERS)
        self.netbox.checks_uniqueness = self.random.random() < 0.7
        self.netbox.now = VirtualClock(loop).now
        self.zones = PlainZones(CONTAINERS)
        self.picture = picture or events
        self.events = events
        self.intruders = Random(seed + 4)
        self.netbox_events = Random(seed + 5)
        self.editors = Random(seed + 6)
        self.descriptions = descriptions
        self.coalescing = self.random.random() < 0.6 or rush
        scale = 0.0 if calm else self.random.choice((0.3, 1.0, 1.0, 2.5))
        # Drawn last of all, from a source of its own, so that the other choices of a seed stay what they were.
        pools = Random(seed + 1)
        self.readers = Random(seed + 2)
        self.settings = replace(
            SETTINGS,
            warm=pools.choice((1, 2, 4, {"inet": 3})) if warm else 0,
            cooldown=timedelta(minutes=pools.choice((0, 0, 1, 30)) if warm else 0),
            description=TEMPLATE if descriptions else None,
        )
        self.odds = Odds(
            fail=0.03 * scale,
            lose_reply=0.03 * scale,
            hang=0.015 * scale,
            die=0.01 * scale,
            cancel=0.008 * scale,
            suspend=0.015 * scale,
            latecomers=latecomers,
        )
        self.summary = Summary(schedules=1)
        self.history: list[str] = []
        self.instances: list[Instance] = []
        self.registries: dict[str, Registry] = {}
        self.count = 0
        self._ids = 0
        self.over = False
        self.at_rest = False
        self.cluster_deletions = ClusterDeletions(loop)
        self.released: dict[tuple[str, str], float] = {}
        self._watch_cooldowns()
        self.lanes = self._lanes()
        if rush:
            self.lanes += self._rush(Random(seed + 3))
        if descriptions:
            self.lanes += self._sharing(self.editors)
        self.robbed: set[str] = set()
        self.robbed_ids: set[int] = set()
        self.robbed_addresses: set[str] = set()
        self.strangers = self._strangers()

    # -- the parts ---------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Remember what happened, for the printout of a failing seed."""
        self.history.append(f"{self.loop.time():10.3f} {text}")

    def new_id(self) -> str:
        """A fresh id."""
        self._ids += 1
        return f"{self._ids:024x}"

    def _lanes(self) -> list[Lane]:
        pick = self.random.choice
        lanes = []
        for number in range(self.random.randint(2, 7)):
            family = pick(("ipv4", "ipv4", "ipv4", "ipv6"))
            zone = pick(("inet", "inet", "tiny")) if family == "ipv4" else "inet"
            asked = None
            if self.random.random() < 0.35:
                asked = {"inet": pick(("10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32")), "tiny": "10.0.2.0/32"}[zone]
                if family == "ipv6":
                    asked = pick(("fd00::/128", "fd00::1/128"))
            shares = asked is not None and self.random.random() < 0.5
            lanes.append(
                Lane(
                    ServiceKey(f"service-{number}", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", CLUSTER),
                    "SuperSecret" if shares else f"SuperSecret-{number}",
                    zone,
                    family,
                    asked,
                )
            )
        return lanes

    def _rush(self, random: Random) -> list[Lane]:
        """More clients that want the next free address of one zone, and begin at the same moment."""
        return [
            Lane(
                ServiceKey(f"rush-{number}", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", CLUSTER),
                f"SuperSecret-{number}",
                "inet",
                "ipv4",
                None,
                hurry=True,
            )
            for number in range(random.randint(4, 8))
        ]

    def _sharing(self, random: Random) -> list[Lane]:
        """More who share one address: the description of its prefix changes whenever one comes or goes."""
        return [
            Lane(
                ServiceKey(f"shares-{number}", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", CLUSTER),
                "SuperSecret",
                "inet",
                "ipv4",
                "10.0.0.4/32",
            )
            for number in range(random.randint(2, 4))
        ]

    def _strangers(self) -> set[int]:
        """Prefixes of other people inside the containers: single addresses, and a network."""
        strangers = set()
        for address in ("10.0.0.1/32", "10.0.0.2/31", "10.0.1.0/32", "10.0.2.0/32", "fd00::1/128"):
            if self.random.random() < 0.12:
                container = next(one for one in CONTAINERS if addresses.contains(one.prefix, address))
                strangers.add(self.netbox.add(container, address, self.random.choice((None, "", "somebody"))).id)
        return strangers

    async def vandal(self) -> None:
        """Another system deletes a prefix of IPAM-API in NetBox."""
        await asyncio.sleep(self.random.uniform(0, 120))
        live = [one for one in self.netbox.prefixes.values() if one.id not in self.strangers]
        if live:
            victim = self.random.choice(live)
            self.note(f"another system deletes {victim}")
            self.robbed.add(victim.uuid or "")
            self.robbed_ids.add(victim.id)
            self.robbed_addresses.add(victim.prefix)
            del self.netbox.prefixes[victim.id]

    async def intruder(self) -> None:
        """Another system enters IP addresses inside the containers, and prefixes where NetBox's check holds."""
        for _ in range(self.intruders.randint(1, 6)):
            await asyncio.sleep(self.intruders.choice((0.01, 0.5, 10, 60)) * self.intruders.random())
            container = self.intruders.choice(CONTAINERS)
            hosts = [f"{one}/{one.max_prefixlen}" for one in ipaddress.ip_network(container.prefix)]
            address = self.intruders.choice(hosts)
            if any(addresses.contains(one.prefix, address) for one in self.netbox.prefixes.values()):
                continue
            if self.intruders.random() < 0.6:
                self.note(f"another system enters {self.netbox.add_ip_address(address)}")
            elif self.netbox.checks_uniqueness and not any(one.asked == address for one in self.lanes):
                stranger = self.netbox.add(container, address, "somebody")
                self.strangers.add(stranger.id)
                self.note(f"another system creates {stranger}")

    async def editor(self) -> None:
        """Somebody who writes to the descriptions of prefixes."""
        for _ in range(self.editors.randint(0, 4)):
            await asyncio.sleep(self.editors.choice((0.5, 10, 60)) * self.editors.random())
            theirs = [one.id for one in self.netbox.prefixes.values() if one.id not in self.strangers]
            if theirs:
                edited, text = self.editors.choice(theirs), self.editors.choice(("do not touch", "mine", ""))
                self.netbox.edit(edited, text)
                self.note(f"another system describes {edited} as {text!r}")

    def _look_at_the_descriptions(self, stored: Sequence[Registration]) -> None:
        """Each one names the services, unless somebody wrote another one. That one stays, except where it was written
        between a worker's look and its write."""
        for one in stored:
            prefix = self.netbox.prefixes.get(one.netbox_id or 0)
            if one.state is not State.LIVE or prefix is None or prefix.uuid != one.id:
                continue
            _, edited = self.netbox.edited.get(prefix.id, (None, None))
            expected = {edited} if edited else {TEMPLATE.text(one.services), *(() if edited is None else ("",))}
            if one.description_due or prefix.description not in expected:
                self.problem(f"undescribed: {one} has {prefix}")
        for age, text in self.netbox.overwritten:
            if age > timedelta(seconds=16) and not self.odds.latecomers:
                self.problem(f"overwritten: {text!r}, {age} old")

    def _look_for_intruders(self, stored: Sequence[Registration]) -> None:
        """No service that asked for the next free address has one that was taken before its creation was sent."""
        asked = {lane.key: lane.asked for lane in self.lanes}
        for one in stored:
            sent = self.netbox.asked_at.get(one.id)
            if sent is None or any(asked[service.key] is not None for service in one.services):
                continue
            for other in self.netbox.ip_addresses.values():
                if other.covers(one.address) and other.updated is not None and other.updated < sent:
                    self.problem(f"conflict: {one.address} was handed out at {sent}, but is {other}")

    def _watch_cooldowns(self) -> None:
        """Hold every address that becomes a registration's against the moment at which its last service went."""
        put = self.store.replace

        async def replacing(old: Registration, new: Registration) -> bool:
            done = await put(old, new)
            place = (new.zone, new.address)
            if done and new.state is State.RELEASING:
                self.released[place] = self.loop.time()
            elif done and (old.state, new.state) == (State.CREATING, State.LIVE) and place in self.released:
                cool = self.released[place] + self.settings.cooldown.total_seconds()
                # Clocks differ. Where the prefix was stolen there was nothing to hold.
                if self.loop.time() < cool - 5 and new.address not in self.robbed_addresses:
                    self.problem(f"cooldown: {new.address} was released at {self.released[place]:.3f}")
            return done

        vars(self.store).update(replace=replacing)

    def start_instance(self) -> Instance:
        """A new process on the same data, with its workers."""
        self.count += 1
        instance = Instance(f"i{self.count}", self.random, CALM if self.over else self.odds, self.note)
        self.instances.append(instance)
        clock = VirtualClock(self.loop, skew=self.random.uniform(-2, 2))
        netbox = FaultyNetBox(self.netbox, instance, clock, coalescing=self.coalescing, picture=self.picture)
        self.registries[instance.name] = Registry(
            Context(
                store=FaultyStore(self.store, instance),
                netbox=netbox,
                zones=self.zones,
                cipher=CIPHER,
                clock=clock,
                new_id=self.new_id,
                settings=self.settings,
                random=self.random,
            )
        )
        registry = self.registries[instance.name]
        instance.spawn(lambda: self._worker(instance, registry.recover, 60.0))
        instance.spawn(lambda: self._worker(instance, registry.release_expired, 30.0))
        if self.settings.pools:
            instance.spawn(lambda: self._worker(instance, registry.maintain_pool, self.random.choice((1.0, 20.0))))
        if self.descriptions:
            instance.spawn(lambda: self._worker(instance, registry.describe, self.editors.choice((1.0, 10.0))))
        if netbox.space is not None:
            instance.spawn(partial(self._keep_pictures, instance, netbox.space))
        if self.events:
            source = EventSource(netbox, self.netbox, CONTAINERS, self.netbox_events)
            instance.spawn(lambda: self._send_events(instance, source))
            instance.spawn(lambda: self._worker(instance, source.queue.work, 1.0))
        self.note(f"{instance.name} starts")
        return instance

    async def _worker(self, instance: Instance, work: Callable[[], Coroutine[Any, Any, Any]], interval: float) -> None:
        while instance.alive and not self.at_rest:
            task = instance.spawn(work)
            await asyncio.wait([task])
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, IPAMError):
                self.problem(f"worker failed: {error!r}")
            # At the end there is hardly anything to do, for a long time.
            seconds = max(interval, 20.0) if self.over else interval
            await asyncio.sleep(seconds * (0.9 + 0.2 * self.random.random()))

    async def _keep_pictures(self, instance: Instance, space: AddressSpace) -> None:
        seconds = self.intruders.choice((5.0, 30.0, 120.0))
        while instance.alive and not self.over:
            for container in CONTAINERS:
                await space.load(container)
            await asyncio.sleep(seconds * self.intruders.random())

    async def _send_events(self, instance: Instance, source: EventSource) -> None:
        while instance.alive and not self.over:
            await source.send()

    def problem(self, text: str) -> None:
        """Something that must not be."""
        self.note(f"PROBLEM {text}")
        self.summary.problems.append(text)

    # -- clients -----------------------------------------------------------------------------------------------------

    async def call(
        self, lane: Lane, name: str, work: Callable[[Registry], Coroutine[Any, Any, Any]]
    ) -> Any | IPAMError | None:
        """One request to some living instance: its answer, its error, or None when the connection was lost or the
        client hung up; the handler then goes on."""
        instance = self.random.choice([one for one in self.instances if one.alive] or [self.start_instance()])
        task = instance.spawn(lambda: work(self.registries[instance.name]))
        began = self.loop.time()
        self.note(f"{lane.key.service_name} {name} -> {instance.name}")
        await asyncio.wait([task], timeout=PATIENCE)
        answer: Any = None
        if task.done() and not task.cancelled():
            error = task.exception()
            answer = error if error is not None else task.result()
            if error is not None and not isinstance(error, IPAMError):
                self.problem(f"{lane.key.service_name} {name}: a bug: {error!r}")
        elif not instance.alive:
            self.start_instance()
        took = self.loop.time() - began
        kind = type(answer).__name__ if isinstance(answer, BaseException | None) else "ok"
        self.summary.answers[kind] += 1
        self.note(f"{lane.key.service_name} {name} = {answer!r} after {took:.3f}s")
        return answer

    async def register(self, lane: Lane) -> None:
        """Ask until there is an answer that settles it, now and then several times at once."""
        for _ in range(self.random.choice((1, 1, 3, 8))):
            undisturbed = self.cluster_deletions.mark()
            copies = self.random.choice((1, 1, 1, 2, 4))
            answers = await asyncio.gather(
                *(self.call(lane, "POST", lambda registry: registry.register(lane.request())) for _ in range(copies))
            )
            granted = {one.address for one in answers if one is not None and not isinstance(one, BaseException)}
            for error in (one for one in answers if isinstance(one, IPAMError)):
                self._check_refusal(lane, error)
            if granted:
                if len(granted) > 1 and undisturbed():
                    self.problem(f"twice: {lane.key.service_name}: one request, several addresses: {sorted(granted)}")
                address = granted.pop()
                if lane.granted is not None and not lane.may_expire and lane.granted != address:
                    self.problem(f"lost: {lane.key.service_name} had {lane.granted}, now {address}")
                lane.granted = address
                if undisturbed():
                    lane.may_expire = False
                return
            await asyncio.sleep(self.random.choice((0.1, 5.0, 40.0)))

    def _check_refusal(self, lane: Lane, error: IPAMError) -> None:
        if isinstance(error, Unavailable | StillInFlight):
            return
        if isinstance(error, ZoneFull):
            return
        rivals = [one for one in self.lanes if one is not lane and one.zone == lane.zone and one.family == lane.family]
        if isinstance(error, WrongSecret) and lane.asked and any(one.secret != lane.secret for one in rivals):
            return
        if isinstance(error, AddressHeld) and self.settings.cooldown:
            return
        if isinstance(error, AddressTaken) and (self.odds.latecomers or self._is_a_strangers(lane.asked or "")):
            return
        self.problem(f"wrong answer: {lane.key.service_name}: {error!r}")

    def _is_a_strangers(self, address: str) -> bool:
        prefixes = [self.netbox.prefixes[one].prefix for one in self.strangers]
        return any(addresses.contains(prefix, address) for prefix in prefixes)

    async def expire(self, lane: Lane) -> None:
        """Give the address back; an unanswered one is repeated until it is known."""
        lane.may_expire = True
        for _ in range(20):
            if self.random.random() < 0.15:
                for other in self.lanes:
                    other.may_expire = True
                end = self.cluster_deletions.send()
                answer = await self.call(lane, "DELETE cluster", lambda one: one.expire_cluster(CLUSTER))
                end(answer is not None)
            else:
                answer = await self.call(lane, "DELETE", lambda one: one.expire(lane.request()))
            if isinstance(answer, NotFound) or (answer is not None and not isinstance(answer, BaseException)):
                return
            await asyncio.sleep(1)

    async def client(self, lane: Lane) -> None:
        """The life of one lane."""
        await asyncio.sleep(0 if lane.hurry else self.random.choice((0, 0, 0.05, 3.0)))
        for _ in range(self.random.randint(1, 4)):
            await self.register(lane)
            await asyncio.sleep(self.random.choice((0.01, 1, 31, 70, 200)))
            if self.random.random() < 0.45:
                await self.expire(lane)
                await asyncio.sleep(self.random.choice((0.01, 1, 31, 70)))

    async def reader(self) -> None:
        """A reader asks which services had an address, a moment after a service has left it."""
        while True:
            address = await self.truth.left.get()
            await asyncio.sleep(self.readers.choice((0, 0.1, 0.3, 1, 30)) * self.readers.random())
            instance = self.readers.choice([one for one in self.instances if one.alive] or [self.start_instance()])
            began = self.truth.now()
            task = instance.spawn(partial(everything, self.registries[instance.name].history, address, 1000))
            await asyncio.wait([task], timeout=PATIENCE)
            if not task.done() or task.cancelled() or isinstance(task.exception(), Unavailable):
                continue
            if task.exception() is not None:
                self.problem(f"reading failed: {task.exception()!r}")
                return
            for lie in self.truth.lies(address, task.result(), began):
                self.problem(f"{lie}, read of {address} from {began} on")

    # -- the run -----------------------------------------------------------------------------------------------------

    async def run(self) -> Summary:
        """Live through the schedule, calm down, and look."""
        await self.store.open()
        await self.store.prepare()
        for _ in range(self.random.randint(1, 3)):
            self.start_instance()
        vandals = [self.vandal()] if self.random.random() < 0.25 else []
        if self.picture:
            vandals += [self.intruder() for _ in range(self.intruders.randint(0, 2))]
        if self.descriptions:
            vandals.append(self.editor())
        readers = [self.loop.create_task(self.reader()) for _ in range(self.readers.choice((0, 3)))]
        await asyncio.gather(*(self.client(lane) for lane in self.lanes), *vandals)
        self.over = True
        for instance in self.instances:
            instance.odds = CALM
        while any(one.late or (one.alive and one.asleep) for one in self.instances):  # noqa: ASYNC110 (virtual time)
            await asyncio.sleep(60)
        await asyncio.sleep(60)  # fates already drawn come to pass
        self.start_instance()
        await asyncio.sleep(600)
        for reader in readers:
            reader.cancel()
        if self.odds.latecomers:
            await self.reconcile()
        self.at_rest = True
        await asyncio.sleep(120)  # the workers end their rounds: nothing is under way
        await self.look()
        await self.store.close()
        return self.summary

    async def reconcile(self) -> None:
        """Reconcile until there is no difference. Three rounds repair one, which may bring another one to light: a
        prefix counts as left over only when the registration has its own prefix again."""
        asked_at = dict(self.netbox.asked_at)
        for _ in range(9):
            found = [one async for one in self.registries[self.instances[-1].name].reconcile(fix=True)]
            # A prefix that is created again for a live registration hands nothing out, whatever is on its address now.
            self.netbox.asked_at = dict(asked_at)
            await asyncio.sleep(60)
            if not found:
                return
            for one in found:
                self.note(f"reconcile: {one}")

    async def look(self) -> None:
        """Compare both sides, and both with what was answered."""
        self.over = True
        stored: list[Registration] = []
        after: str | None = None
        while page := await self.store.page(Filter(states=None), after=after, limit=100):
            stored += page
            after = page[-1].id
        pool = await self.store.pool_page(list(PoolState), after=None, limit=1000)
        by_id: dict[str, Registration | PoolEntry] = {one.id: one for one in (*stored, *pool)}
        self._look_at_the_pool(pool)
        self._look_for_intruders([one for one in stored if not one.pending])
        if self.descriptions:
            self._look_at_the_descriptions(stored)
        await self._look_at_the_history()
        for one in stored:
            if one.departed:
                self.problem(f"stuck: {one} has not let go of {one.departed}")
            if one.state is not State.LIVE:
                self.problem(f"stuck: {one}")
            theirs = [prefix for prefix in self.netbox.prefixes.values() if prefix.uuid == one.id]
            robbed = (one.id in self.robbed or one.netbox_id in self.robbed_ids) and not theirs
            expected = [(one.netbox_id, "active")]
            if one.state is State.LIVE and not robbed and [(each.id, each.status) for each in theirs] != expected:
                self.problem(f"lost: registration {one.id} of {one.address} (NetBox id {one.netbox_id}) has {theirs}")
        for prefix in (one for one in self.netbox.prefixes.values() if one.id not in self.strangers):
            holder = by_id.get(prefix.uuid or "")
            if holder is None or holder.address != prefix.prefix:
                self.problem(f"leaked: {prefix}")
        for what, counted in (
            ("registered", Counter((one.zone, one.address) for one in stored)),
            ("in NetBox", Counter((one.vrf_id, one.prefix) for one in self.netbox.prefixes.values())),
        ):
            for address, times in counted.items():
                if times > 1:
                    self.problem(f"twice {what}: {address}")
        for lane in self.lanes:
            holding = [one for one in stored if one.service(lane.key) is not None]
            if len({one.address for one in holding}) > 1:
                self.problem(f"twice: {lane.key.service_name} holds several: {[one.address for one in holding]}")
            if lane.granted and not lane.may_expire and lane.granted not in [one.address for one in holding]:
                self.problem(f"lost: {lane.key.service_name} was answered {lane.granted}, has {holding}")
            for one in holding:
                if CIPHER.unseal(one.secret) != lane.secret:
                    self.problem(f"{lane.key.service_name}: wrong secret on {one.address}")
                if lane.asked is not None and one.address != lane.asked:
                    self.problem(f"{lane.key.service_name} asked for {lane.asked}, holds {one.address}")
                if not one.pending and not any(
                    box.zone == one.zone and addresses.contains(box.prefix, one.address) for box in CONTAINERS
                ):
                    self.problem(f"{one.address} lies outside its zone")

    async def _look_at_the_history(self) -> None:
        """It has every tenure, and no other."""
        registry = self.registries[self.instances[-1].name]
        for address in self.truth.addresses():
            told = await everything(registry.history, address, self.readers.randint(1, 4))
            for lie in self.truth.lies(address, told, self.truth.now()):
                self.problem(lie)

    def _look_at_the_pool(self, entries: Sequence[PoolEntry]) -> None:
        """What the pool holds is ready, or has to cool down, and is reserved in NetBox."""
        for entry in entries:
            prefix = self.netbox.prefixes.get(entry.netbox_id or 0)
            if entry.state not in (PoolState.READY, PoolState.COOLING):
                self.problem(f"stuck: {entry}")
            elif prefix is None and entry.netbox_id in self.robbed_ids:
                continue
            elif prefix is None or (prefix.uuid, prefix.prefix, prefix.status) != (entry.id, entry.address, "reserved"):
                self.problem(f"lost: {entry} has {prefix}")
