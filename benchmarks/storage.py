"""What each operation of the storage costs among many registrations, against what it costs among few."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.dataset import FAMILY, OF_A_CLUSTER, ZONES, Dataset, fill_mongodb, fill_sqlite, secret
from benchmarks.figures import Figure, Turns, in_turns_async, say
from ipam_lib.crypto import Cipher
from ipam_lib.ids import object_ids, uuid_spellings
from ipam_lib.models import Filter, Registration, Service, ServiceKey, State
from ipam_lib.storage.base import Store
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.sqlite import SQLiteStore

PAGE: Final = 50
LIMIT: Final = 1.3
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


@contextmanager
def filled_sqlite(directory: Path, dataset: Dataset) -> Iterator[SQLiteStore]:
    """A store in a file with a dataset in it, not open."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{dataset.size}.sqlite"
    fill_sqlite(path, dataset)
    yield SQLiteStore(path)
    path.unlink()


async def prepare_mongodb(uri: str, name: str) -> None:
    """Make a database with its indexes, and nothing in it."""
    store = MongoStore(uri, name)
    await store.open()
    try:
        await store.prepare()
    finally:
        await store.close()


@asynccontextmanager
async def filled_mongodb(uri: str, which: str, dataset: Dataset) -> AsyncIterator[MongoStore]:
    """A store in a database with a dataset in it, not open."""
    from pymongo import MongoClient

    name = f"benchmark_{which}"
    try:
        await prepare_mongodb(uri, name)
        fill_mongodb(uri, name, dataset)
        yield MongoStore(uri, name)
    finally:
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(name)


@dataclass(slots=True)
class Operations:
    """The operations over one store with a dataset in it, each on a registration drawn anew."""

    store: Store
    dataset: Dataset
    number: int
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    _cipher: Cipher = field(init=False)
    _new_id: Callable[[], str] = field(default_factory=object_ids)
    _own: list[Registration] = field(default_factory=list)
    _made: int = 0

    def __post_init__(self) -> None:
        from benchmarks.dataset import KEYS

        self._cipher = Cipher(KEYS)

    def _any(self) -> int:
        return self.rng.randrange(self.dataset.size)

    async def _timed(self, calls: Sequence[Callable[[], Awaitable[object]]]) -> list[float]:
        samples = []
        for call in calls:
            began = time.perf_counter()
            found = await call()
            samples.append((time.perf_counter() - began) * 1000)
            if found in (False, []):
                raise SystemExit(f"an operation of the storage found nothing: {call}")
        return samples

    def _times(self, make: Callable[[], Callable[[], Awaitable[object]]]) -> list[Callable[[], Awaitable[object]]]:
        return [make() for _ in range(self.number)]

    # -- reads -----------------------------------------------------------------------------------------------------

    async def find_service(self) -> list[float]:
        """The read of registering again."""

        def make() -> Callable[[], Awaitable[object]]:
            number = self._any()
            return partial(
                self.store.find_service,
                secrets=self._cipher.candidates(secret(number)),
                zone=ZONES[number % len(ZONES)],
                ip_family=FAMILY,
                service=self.dataset.key(number),
            )

        return await self._timed(self._times(make))

    async def find_address(self) -> list[float]:
        """Who holds an address."""

        def make() -> Callable[[], Awaitable[object]]:
            one = self.dataset.registration(self._any())
            return partial(self.store.find_address, zone=one.zone, addresses=[one.address])

        return await self._timed(self._times(make))

    async def find_cluster(self) -> list[float]:
        """A page of what a cluster has."""
        return await self._timed(
            self._times(
                lambda: partial(self.store.find_cluster, [self.dataset.cluster(self._any())], after=None, limit=PAGE)
            )
        )

    async def quota(self) -> list[float]:
        """The count for a quota, half of what a cluster has: as many rows among few as among many."""

        def make() -> Callable[[], Awaitable[object]]:
            number = self._any()
            ids, zone = uuid_spellings(self.dataset.cluster(number)), ZONES[number % len(ZONES)]
            return partial(self.store.count_owned, "cluster", ids, zone=zone, limit=OF_A_CLUSTER // 2)

        return await self._timed(self._times(make))

    async def find_due(self) -> list[float]:
        """What cleanup asks, where nothing is due."""
        return await self._idle(lambda: self.store.find_due(now=_LONG_AGO, after=None, limit=PAGE))

    async def find_states(self) -> list[float]:
        """What recovery asks, where nothing is half done."""
        return await self._idle(
            lambda: self.store.find_states({State.CREATING, State.ABORTING}, after=None, limit=PAGE)
        )

    async def _idle(self, call: Callable[[], Awaitable[Sequence[object]]]) -> list[float]:
        async def found_nothing() -> object:
            return not await call()

        return await self._timed([found_nothing] * self.number)

    async def page(self, wanted: Callable[[], Filter]) -> list[float]:
        """A page of the read interface, from anywhere."""

        def make() -> Callable[[], Awaitable[object]]:
            given = wanted()
            # Pages of a cluster or namespace are asked from their beginning: most lie behind any id.
            somewhere = any(value is not None for value in (given.cluster_id, given.namespace_id, given.service_name))
            after = None if somewhere else self.dataset.registration(self._any() // 2).id
            return partial(self.store.page, given, after=after, limit=PAGE)

        return await self._timed(self._times(make))

    def pages(self) -> dict[str, Callable[[], Filter]]:
        """The filters of the read interface."""
        return {
            "page of all": Filter,
            "page of a zone": lambda: Filter(zone=self.rng.choice(ZONES)),
            "page of a zone and family": lambda: Filter(zone=self.rng.choice(ZONES), ip_family=FAMILY),
            "page of a cluster": lambda: Filter(cluster_id=self.dataset.cluster(self._any())),
            "page of a namespace": lambda: Filter(namespace_id=self.dataset.namespace(self._any())),
            "page of a service name": lambda: Filter(service_name=f"ingress-{self._any()}"),
            "page of what expires": lambda: Filter(expiring=True),
        }

    # -- writes ----------------------------------------------------------------------------------------------------

    async def insert(self) -> list[float]:
        """A new registration, as registering begins with it."""

        def make() -> Callable[[], Awaitable[object]]:
            self._made += 1
            key = ServiceKey(f"new-{self._made}", self.dataset.namespace(1), self.dataset.cluster(1))
            one = Registration(
                id=self._new_id(),
                zone=ZONES[0],
                ip_family=FAMILY,
                address=f"172.16.{self._made // 256 % 256}.{self._made % 256}/32",
                secret=self._cipher.seal("a new secret"),
                services=(Service(key),),
                state=State.CREATING,
                revision=1,
                lease_until=datetime.now(UTC).replace(microsecond=0),
            )
            self._own.append(one)
            return partial(self.store.insert, one)

        return await self._timed(self._times(make))

    async def replace(self) -> list[float]:
        """A compare-and-set, as registering ends with it. Of those that `insert` has put in."""

        def make() -> Callable[[], Awaitable[object]]:
            old = self._own[self._replaced]
            self._own[self._replaced] = new = old.changed(state=State.LIVE, netbox_id=7, lease_until=None)
            self._replaced += 1
            return partial(self.store.replace, old, new)

        self._replaced = 0
        return await self._timed(self._times(make))

    _replaced: int = 0

    async def delete(self) -> list[float]:
        """Of all that `insert` has put in."""
        calls = [partial(self.store.delete, one) for one in self._own]
        self._own.clear()
        return await self._timed(calls)


async def figures(
    name: str, many: tuple[Store, Dataset], few: tuple[Store, Dataset], rounds: int, number: int
) -> list[Figure]:
    """Every operation, in turns over the two stores, which are not open."""
    for store, _ in (many, few):
        await store.open()
        await store.prepare()
    try:
        return await _figures(name, Operations(*many, number), Operations(*few, number), rounds)
    finally:
        for store, _ in (many, few):
            await store.close()


async def _figures(name: str, many: Operations, few: Operations, rounds: int) -> list[Figure]:
    sizes = f"{many.dataset.size:,} and {few.dataset.size:,}"
    found: list[Figure] = []

    def add(what: str, turns: Turns) -> None:
        found.append(
            Figure(
                f"storage: {what}",
                name,
                turns.side("many", f"{what} among {many.dataset.size:,}", "ms"),
                turns.side("few", f"{what} among {few.dataset.size:,}", "ms"),
                LIMIT,
            )
        )

    for what in ("find_service", "find_address", "find_cluster", "quota", "find_due", "find_states"):
        progress = f"{name}: {what} among {sizes}"
        add(what, await in_turns_async(rounds, progress, many=getattr(many, what), few=getattr(few, what)))
    add_writes = {"insert": Turns(("many", "few")), "replace": Turns(("many", "few")), "delete": Turns(("many", "few"))}
    for turns in add_writes.values():
        turns.rounds.update(many=[], few=[])
    for number in range(rounds + 1):
        say(f"{name}: writes among {sizes}: round {number} of {rounds}")
        for side, operations in (("many", many), ("few", few)):
            for what, turns in add_writes.items():
                samples = await getattr(operations, what)()
                if number:
                    turns.rounds[side].append(samples)
    for what, turns in add_writes.items():
        add(what, turns)
    for what in many.pages():
        add(
            what,
            await in_turns_async(
                rounds,
                f"{name}: {what} among {sizes}",
                many=partial(many.page, many.pages()[what]),
                few=partial(few.page, few.pages()[what]),
            ),
        )
    return found
