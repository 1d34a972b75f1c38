"""A storm: many clients over two services, while things are killed and cut; then calm, and the final comparison."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from ipam_lib.assembly import assemble
from ipam_lib.config import Settings
from tests.storm.clients import Clients
from tests.storm.compare import compare
from tests.storm.lanes import Ledger, make_lanes
from tests.storm.proxy import STORMY
from tests.storm.site import MongoStorage, Server, Site

# How long a machine may take for what should take a moment.
SLACK_SECONDS: Final = 60.0
REGISTERED: Final = "200 Address registered successfully"
LEAST_BROKEN: Final = 10
# What a storm must have been answered, or it was none.
ANSWERS: Final = (
    REGISTERED,
    "200 Address updated successfully",
    "200 Service expiration set successfully",
    "200 Cluster expiration set successfully",
)


@dataclass(slots=True, kw_only=True)
class Storm:
    """How bad it gets.

    `clients`: how many lanes; `seconds`: how long, and longer on a machine that is too slow to do enough in that time;
    `least`: how many registrations are enough; `most`: what a lane does at the most. `faults`: whether the proxy (which
    the site must then have) breaks things; `late`: whether it also holds requests back until the caller has given up,
    so that reconciliation is needed. `kill`: whether services and simulator are killed in turn. `database`: whether the
    database is stopped and killed, and started again on its data. `rounds`: how often each of those is killed or
    stopped at least, however long that takes.
    """

    clients: int = 64
    seconds: float = 20.0
    most: int = 1000
    least: int = 15
    seed: int = 1
    faults: bool = False
    late: bool = False
    kill: bool = False
    database: bool = False
    rounds: int = 1
    killed: dict[str, int] = field(default_factory=dict)
    until: float = field(init=False, default=0.0)

    async def run(self, site: Site) -> Ledger:
        """Rage, calm down, compare. The ledger holds what was wrong."""
        random = Random(self.seed)
        lanes, groups = make_lanes(random, self.clients)
        ledger = Ledger(lanes, groups)
        trouble = self.faults or self.late or self.kill or self.database
        # A call to storage may be under way for five seconds when its request's time ends.
        aftermath = site.timing.request + 5.0
        clients = Clients(
            site.services,
            ledger,
            random,
            raging=lambda: not self._over(site, ledger),
            aftermath=aftermath,
            after_death=5.0,
            longest_answer=site.timing.longest_answer,
            trouble=trouble,
            cooldown=site.cooldown_minutes > 0,
        )
        async with clients:
            self.until = time.monotonic() + self.seconds
            havoc = asyncio.create_task(self._havoc(site, Random(self.seed), ledger))
            async with asyncio.TaskGroup() as tasks:
                for lane in tuple(lanes):
                    tasks.create_task(clients.live(lane, self.most))
                for _ in range(max(1, self.clients // 8)):
                    tasks.create_task(clients.visit())
                tasks.create_task(clients.delete_clusters())
            await havoc
            clients.over = True
            if site.proxy is not None:
                await site.proxy.idle()
            await asyncio.to_thread(site.wait_until_ready)
            async with asyncio.TaskGroup() as tasks:
                for lane in lanes:
                    tasks.create_task(clients.finish(lane))
        if self.late:
            await _reconcile_thrice(site)
        ledger.problems += await settled(site, ledger)
        ledger.problems += [f"drift: {one}" for one in await reconcile(site)]
        ledger.problems += site.complaints()
        return ledger

    def enough(self, site: Site, ledger: Ledger) -> bool:
        """Whether enough was done for the storm to mean something."""
        broken = site.proxy.fates.total() - site.proxy.fates["forwarded"] if self.faults and site.proxy else 0
        return (
            all(ledger.answers[answer] for answer in ANSWERS)
            and ledger.answers[REGISTERED] >= self.least
            and (broken > LEAST_BROKEN or not self.faults)
        )

    def _over(self, site: Site, ledger: Ledger) -> bool:
        late = time.monotonic() - self.until
        return late >= SLACK_SECONDS or (late >= 0 and self.enough(site, ledger))

    async def _havoc(self, site: Site, random: Random, ledger: Ledger) -> None:
        """Kill one after the other while the storm rages; everything is up again at the end, and the proxy is calm."""
        if self.faults or self.late:
            assert site.proxy is not None
            site.proxy.odds = (STORMY if self.faults else {}) | ({"late": 0.02} if self.late else {})
            site.proxy.seconds = site.timing.netbox
            site.proxy.late_seconds = 3 * site.timing.request
        victims: list[Callable[[], Awaitable[None]]] = []
        if self.kill:
            victims += [self._killing(one) for one in (site.services[0], site.netbox, *site.services[1:])]
        if self.database:
            assert isinstance(site.storage, MongoStorage)
            victims.append(self._stopping_database(site.storage))
        rounds = 0
        while victims and (rounds < self.rounds or not self._over(site, ledger)):
            for victim in victims:
                await asyncio.sleep(random.uniform(0.5, 2.0))
                await victim()
            rounds += 1
        while not self._over(site, ledger):  # noqa: ASYNC110 (counts change, and the clock)
            await asyncio.sleep(0.1)
        if site.proxy is not None:
            site.proxy.calm()

    def _killing(self, server: Server) -> Callable[[], Awaitable[None]]:
        async def kill() -> None:
            self._count(server.name)
            await asyncio.to_thread(server.restart, signal.SIGKILL)

        return kill

    def _stopping_database(self, storage: MongoStorage) -> Callable[[], Awaitable[None]]:
        server = storage.server
        assert server is not None

        async def stop() -> None:
            how = server.kill if server.data_outlive_kill and self.killed.get("database", 0) % 2 else server.stop
            self._count("database")
            await asyncio.to_thread(how)
            await asyncio.to_thread(server.start)

        return stop

    def _count(self, name: str) -> None:
        self.killed[name] = self.killed.get(name, 0) + 1

    def summary(self, site: Site, ledger: Ledger) -> str:
        """What happened, for people."""
        extra: dict[str, Any] = {
            "released": site.logged("released 1") + site.logged("released f"),
            "creations undone": site.logged("undid the unfinished registration"),
            "rounds of the pool": site.logged("kept the pool"),
        }
        if self.killed:
            extra["killed"] = ", ".join(f"{name} {times} times" for name, times in self.killed.items())
        if site.proxy is not None:
            fates = ", ".join(f"{times} {fate}" for fate, times in site.proxy.fates.most_common())
            extra["requests to NetBox"] = fates
        return ledger.summary(f"storm of {self.clients} clients, seed {self.seed}", extra)


async def settled(site: Site, ledger: Ledger) -> list[str]:
    """Wait until cleanup and recovery have left nothing to complain about. What is still wrong after the longest time
    that they may take."""
    timing = site.timing
    longest = 2 * timing.request + timing.netbox + 1.1 * timing.recovery + 2 * timing.cleanup
    return await without_problems(lambda: compare(site, ledger.lanes), longest + SLACK_SECONDS)


async def without_problems(look: Callable[[], Sequence[str]], seconds: float) -> list[str]:
    """Look until there is nothing wrong, or the time is over: what was wrong at the last look."""
    until = time.monotonic() + seconds
    while True:
        problems = await asyncio.to_thread(look)
        if not problems or time.monotonic() > until:
            return list(problems)
        await asyncio.sleep(0.25)


async def reconcile(site: Site, *, fix: bool = False) -> list[str]:
    """Every drift that a round of reconciliation finds, in a process that serves nothing."""
    parts = assemble(Settings.load(site.config)[0])
    async with parts_open(parts):
        found = [found async for found in parts.registry.reconcile(fix=fix)]
    return [f"{one.drift} ({one.note})" for one in found if not one.repaired]


class parts_open:  # noqa: N801 (reads as what it does)
    """The parts of the service, opened without their workers."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts

    async def __aenter__(self) -> None:
        await self._parts.netbox.open()
        await self._parts.store.open()
        await self._parts.store.prepare()
        await self._parts.zones.start()

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self._parts.zones.close()
        await self._parts.netbox.close()
        await self._parts.store.close()


async def _reconcile_thrice(site: Site) -> None:
    """Three rounds, further apart than the longest request: what came too late for recovery goes with the third."""
    for _ in range(3):
        for drift in await reconcile(site, fix=True):
            logging.getLogger(__name__).info("reconcile: %s", drift)
        await asyncio.sleep(site.timing.request + 1)
