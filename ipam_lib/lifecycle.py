"""The lifecycle of the services: open them, prepare the storage, run the background workers, close them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.event_queue import EventQueue
from ipam_lib.netbox.zones import LoadFailure
from ipam_lib.registry import Registry
from ipam_lib.storage.base import Store
from ipam_lib.telemetry.metrics import Metrics
from ipam_lib.workers import Worker, Workers

log = logging.getLogger(__name__)

# How long the start waits for the storage and NetBox before the server listens without them.
SECONDS_OF_GRACE: Final = 2.0
SECONDS_BETWEEN_RECOVERIES: Final = 60.0
SECONDS_BETWEEN_DESCRIPTIONS: Final = 10.0
SECONDS_BETWEEN_PREPARATIONS: Final = 10.0
# A round with nothing to do is one small read.
SECONDS_BETWEEN_POOL_ROUNDS: Final = 1.0
SECONDS_BETWEEN_IDLE_POOL_ROUNDS: Final = 30.0

# A round in which no picture is due reads nothing.
SECONDS_BETWEEN_SPACE_ROUNDS: Final = 1.0

# The events that come in between share the looks at NetBox. What a bulk deletion frees is free within a second.
SECONDS_BETWEEN_EVENT_ROUNDS: Final = 0.5

SECONDS_BETWEEN_COUNTS: Final = 60.0
SHARE_OF_COUNTING: Final = 50.0


class NetBoxConnection(Protocol):
    """The part of the NetBox client that the lifecycle uses."""

    @property
    def available(self) -> bool: ...

    @property
    def away(self) -> bool: ...

    @property
    def refused_field(self) -> str | None: ...

    def set_token(self, token: str) -> None: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class SpaceLoader(Protocol):
    """The pictures of what is taken in the containers, as far as their life goes (see `netbox.space.AddressSpace`)."""

    @property
    def refused(self) -> Mapping[str, str]: ...

    async def load_due(self, containers: Sequence[Container]) -> None: ...


class ZoneLoader(Protocol):
    """The part of the zone cache that the lifecycle and /readyz use (see `netbox.zones.ZoneCache`)."""

    @property
    def loaded(self) -> bool: ...

    @property
    def names(self) -> Sequence[str]: ...

    def all_containers(self) -> Sequence[Container]: ...

    @property
    def source(self) -> str | None: ...

    @property
    def age_seconds(self) -> float | None: ...

    @property
    def trouble(self) -> LoadFailure | None: ...

    @property
    def field_problems(self) -> Sequence[str]: ...

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def reload(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Services:
    """The services of the application.

    - `pools`: whether this instance has a pool.
    - `events`: what NetBox's events ask for; None without a webhook.
    - `prepared`: whether the storage has its indexes. Before that, nothing may be registered.
    - `preparation`: the state of the storage until then, for `/readyz`.
    - `alive`: whether all background workers run.
    """

    store: Store
    netbox: NetBoxConnection
    zones: ZoneLoader
    registry: Registry
    clock: Clock
    cleanup_seconds: float = 30.0
    pools: bool = False
    space: SpaceLoader | None = None
    events: EventQueue | None = None
    metrics: Metrics = field(default_factory=Metrics)
    prepared: bool = field(default=False, init=False)
    preparation: str = field(default="is being prepared", init=False)
    alive: Callable[[], bool] = field(default=lambda: True, init=False)

    def check_prepared(self) -> None:
        """Raise StorageUnavailable if the storage is not prepared yet."""
        if not self.prepared:
            raise StorageUnavailable("the storage is not ready yet; try again", applied=False)


@asynccontextmanager
async def run_services(services: Services, grace: float = SECONDS_OF_GRACE) -> AsyncIterator[None]:
    """Open the services, run the background workers while the context lasts, then close everything. If the storage or
    NetBox is down, the workers try again.

    `grace`: seconds to wait for the storage and NetBox at the start.
    """

    def on_round(name: str, went_well: bool) -> None:
        services.metrics.round_done(name, ok=went_well, at=services.clock.now().timestamp())

    workers = Workers(services.clock, on_round=on_round)
    counting = Worker("count for the metrics", SECONDS_BETWEEN_COUNTS, lambda: count())
    space_loaded = False

    async def prepare() -> bool:
        try:
            duplicates = await services.store.prepare()
        except StorageUnavailable as error:
            services.preparation = f"cannot be prepared: it {error.condition}"
            raise
        except ConfigError as error:
            services.preparation = f"cannot be prepared: {'; '.join(error.problems)}"
            raise
        for duplicate in duplicates:
            log.warning(
                "zone %s holds %s more than once in the storage; the first stays in force",
                duplicate.zone,
                duplicate.address,
                extra={"kept": duplicate.kept, "marked": ", ".join(duplicate.marked)},
            )
        services.prepared = True
        workers.start(Worker("recover", SECONDS_BETWEEN_RECOVERIES, recover))
        workers.start(Worker("cleanup", services.cleanup_seconds, clean_up, at_start=False))
        seconds = SECONDS_BETWEEN_POOL_ROUNDS if services.pools else SECONDS_BETWEEN_IDLE_POOL_ROUNDS
        workers.start(Worker("pool", seconds, maintain_pool))
        workers.start(Worker("descriptions", SECONDS_BETWEEN_DESCRIPTIONS, describe))
        workers.start(counting)
        return True

    async def count() -> bool:
        began = services.clock.monotonic()
        services.metrics.counted(await services.registry.statistics())
        # If counting takes long, count less often.
        counting.interval = max(SECONDS_BETWEEN_COUNTS, SHARE_OF_COUNTING * (services.clock.monotonic() - began))
        return False

    async def recover() -> bool:
        report = await services.registry.recover()
        services.metrics.recovered(report)
        if any(asdict(report).values()):
            log.info("recovered", extra=asdict(report))
        return False

    async def clean_up() -> bool:
        await release_expired()
        if pruned := await services.registry.prune_history():
            log.info("pruned the history", extra={"tenures": pruned})
        return False

    async def release_expired() -> None:
        report = await services.registry.release_expired()
        services.metrics.cleaned_up(report)
        if any(asdict(report).values()):
            log.info("cleaned up", extra=asdict(report))

    async def maintain_pool() -> bool:
        report = await services.registry.maintain_pool()
        services.metrics.pool_kept(report)
        if report.made or report.put_back or report.dropped:
            log.info(
                "kept the pool",
                extra={"made": report.made, "put_back": report.put_back, "dropped": report.dropped},
            )
        if report.error is not None:
            raise report.error
        return False

    async def describe() -> bool:
        report = await services.registry.describe()
        services.metrics.described(report)
        if report.written:
            log.info("wrote descriptions", extra={"written": report.written})
        if report.error is not None:
            raise report.error
        return False

    async def load_space() -> bool:
        nonlocal space_loaded
        if services.space is None:
            return False
        containers = services.zones.all_containers()
        await services.space.load_due(containers)
        if containers and not space_loaded:
            space_loaded = True
            # Otherwise the metrics lack the free addresses until the next count.
            if services.prepared:
                await count()
        return False

    async def keep_zones() -> None:
        # The zones in the storage can be read when it is prepared. If the storage is down, NetBox has them.
        await asyncio.wait((preparing,), timeout=grace / 2)
        await services.zones.start()
        started.set()
        await services.zones.run()

    started = asyncio.Event()
    keeper: asyncio.Task[None] | None = None
    try:
        await services.netbox.open()
        await services.store.open()
        preparing = workers.start(Worker("prepare the storage", SECONDS_BETWEEN_PREPARATIONS, prepare))
        keeper = asyncio.create_task(keep_zones(), name="keep the zones")
        workers.start(Worker("space", SECONDS_BETWEEN_SPACE_ROUNDS, load_space))
        if (events := services.events) is not None:
            workers.start(Worker("webhook", SECONDS_BETWEEN_EVENT_ROUNDS, events.work, wanted=events.wanted))
        zones_started = asyncio.create_task(started.wait())
        await asyncio.wait((preparing, zones_started), timeout=grace)
        zones_started.cancel()
        zones_kept = keeper
        services.alive = lambda: workers.alive() and not zones_kept.done()
        yield
    finally:
        services.alive = lambda: True
        await workers.stop()
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        await services.zones.close()
        await services.netbox.close()
        await services.store.close()
