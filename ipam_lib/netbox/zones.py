"""The cache of zones and containers: loaded at start, refreshed in the background, and kept in storage so that the
service can start while NetBox is away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxError, NetBoxRejected, NetBoxUnavailable, StorageUnavailable, UnknownZone
from ipam_lib.models import IPFamily
from ipam_lib.netbox.base import Container, Zones
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.responses import NetBoxUnexpected
from ipam_lib.netbox.snapshot import Snapshot, ZoneProblem

log = logging.getLogger(__name__)

Load = Callable[[], Awaitable[dict[str, Any] | None]]
Save = Callable[[dict[str, Any]], Awaitable[None]]

# NetBox does not answer, refuses (a token, a right or a definition is gone), or its answer is not understood.
LoadFailureKind = Literal["away", "refused", "unexpected"]


class LoadFailure(NamedTuple):
    """Why a load from NetBox failed; `detail` as in the log."""

    kind: LoadFailureKind
    detail: str


MOST_PROBLEMS_LOGGED = 20


class ZoneSource(Protocol):
    """What the cache loads the zones from: `zone_reader.ZoneReader`."""

    @property
    def url(self) -> str: ...

    async def choices(self, *, limit: float) -> list[str]: ...

    async def containers(self, *, limit: float) -> list[Container]: ...

    async def field_problems(self, containers: Sequence[Container], *, limit: float) -> list[str]: ...


class ZoneCache(Zones):
    """Holds one immutable snapshot, which each load replaces as a whole.

    A load that fails leaves the snapshot as it is. A load that succeeds replaces it, also when zones or containers are
    gone, with a warning. A container that may be gone must not stay: NetBox would accept a given address outside of
    any container. If a lost right hides everything, new addresses are refused; what is registered stays.

    `load`, `save`: the document in storage. `refresh_seconds`: time between refreshes in the background, plus a jitter
    of up to a tenth. `pause_seconds`: the shortest time between two loads. `limit`: the longest time for each part of
    a load, in seconds.

    `source` says where the snapshot is from. `trouble` says why the last load from NetBox failed, None if it did not.
    `field_problems` says which custom fields make NetBox refuse new prefixes.
    """

    def __init__(
        self,
        source: ZoneSource,
        *,
        clock: Clock,
        load: Load,
        save: Save,
        rng: random.Random | None = None,
        refresh_seconds: float = 600.0,
        pause_seconds: float = 10.0,
        limit: float = 10.0,
    ) -> None:
        self._source = source
        self._clock = clock
        self._load = load
        self._save = save
        self._random = rng or random.Random()
        self._refresh_seconds = refresh_seconds
        self._pause_seconds = pause_seconds
        self._limit = limit
        self._snapshot: Snapshot | None = None
        self._loading: asyncio.Task[None] | None = None
        self._tried_at: float | None = None
        self._logged: frozenset[str] = frozenset()
        self._failed = True
        self.source: Literal["netbox", "storage"] | None = None
        self.trouble: LoadFailure | None = None
        self.field_problems: Sequence[str] = ()

    @property
    def loaded(self) -> bool:
        """Whether there is a snapshot."""
        return self._snapshot is not None

    @property
    def loaded_at(self) -> datetime | None:
        """When the snapshot was loaded from NetBox, by this process or another."""
        return self._snapshot.loaded_at if self._snapshot else None

    @property
    def age_seconds(self) -> float | None:
        """Seconds since `loaded_at`."""
        return max(0.0, (self._clock.now() - self._snapshot.loaded_at).total_seconds()) if self._snapshot else None

    @property
    def names(self) -> Sequence[str]:
        return self._snapshot.zones if self._snapshot else ()

    async def start(self) -> None:
        """Load from storage, then from NetBox; with zones from storage, NetBox gets two seconds. A failure is logged:
        `loaded` says whether there are zones, and `run` tries again."""
        await self._load_stored()
        try:
            await self._refresh(min(2.0, self._limit) if self.loaded else self._limit)
        except NetBoxError as error:
            log.warning("zones could not be loaded from NetBox: %s", error.detail or error)
            if self._snapshot is not None:
                log.warning("serving the zones that were loaded from NetBox at %s", self._snapshot.loaded_at)

    async def run(self) -> None:
        """Refresh every `refresh_seconds`, sooner after a failure. Never returns."""
        while True:
            soon = self._pause_seconds * (3 if self.loaded else 1)
            seconds = min(soon, self._refresh_seconds) if self._failed else self._refresh_seconds
            await self._clock.sleep(seconds * self._random.uniform(1.0, 1.1))
            try:
                await self.refresh()
            except NetBoxError as error:
                log.warning("zones could not be refreshed: %s", error.detail or error)
            except Exception:
                log.exception("zones could not be refreshed")

    async def close(self) -> None:
        """Cancel a load that is under way."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def check(self, zone: str) -> None:
        if zone in self.names:
            return
        try:
            await self.refresh()
        except NetBoxError as error:
            log.warning("zones could not be refreshed: %s", error.detail or error)
        if self._snapshot is None:
            raise NetBoxUnavailable("the zones have not been loaded from NetBox yet; try again", applied=False)
        if zone not in self.names:
            raise UnknownZone(zone, self.names)

    def containers(self, zone: str, ip_family: IPFamily) -> Sequence[Container]:
        return self._snapshot.containers(zone, ip_family) if self._snapshot else ()

    def all_containers(self) -> Sequence[Container]:
        return self._snapshot.all_containers if self._snapshot else ()

    def container_of(self, zone: str, address: str) -> Container | None:
        return self._snapshot.container_of(zone, address) if self._snapshot else None

    async def refresh(self) -> bool:
        """As the contract says. A call during a load waits for it. A failed load leaves the zones as they were."""
        return await self._refresh(self._limit)

    async def reload(self) -> None:
        """Load from NetBox now, without regard to `pause_seconds`.

        Raises NetBoxError when the load fails; the zones are then as they were.
        """
        if self._loading is None:
            self._tried_at = None
        await self.refresh()

    async def _refresh(self, limit: float) -> bool:
        if self._loading is None:
            now = self._clock.monotonic()
            if self._tried_at is not None and now - self._tried_at < self._pause_seconds:
                return False
            self._tried_at = now
            self._loading = asyncio.create_task(self._load_from_netbox(limit))
            self._loading.add_done_callback(self._ended)
        # A cancelled caller must not cancel the load of the others.
        await asyncio.shield(self._loading)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        self._failed = task.cancelled() or task.exception() is not None
        if not task.cancelled():
            self.trouble = _trouble(task.exception())

    async def _load_from_netbox(self, limit: float) -> None:
        choices = await self._source.choices(limit=limit)
        containers = await self._source.containers(limit=limit)
        before = self._snapshot
        snapshot = Snapshot(choices, containers, self._clock.now())
        self._snapshot = snapshot
        self.source = "netbox"
        try:
            self.field_problems = await self._source.field_problems(containers, limit=limit)
        except NetBoxError as error:
            log.warning("the custom fields of prefixes could not be checked: %s", error.detail or error)
        self._log_problems(snapshot, before)
        try:
            await self._save(snapshot.document(self._source.url))
        except StorageUnavailable as error:
            log.warning("the zones could not be kept in storage: %s", error)

    async def _load_stored(self) -> None:
        try:
            document = await self._load()
            # A request may have loaded the zones from NetBox during the read; those are newer.
            if document is None or self._snapshot is not None:
                return
            self._snapshot = Snapshot.from_document(document, self._source.url)
        except StorageUnavailable as error:
            log.warning("the stored zones could not be read: %s", error)
        except UnexpectedResponse as error:
            log.warning("the stored zones are of no use: %s", error)
        else:
            self.source = "storage"

    def _log_problems(self, snapshot: Snapshot, before: Snapshot | None) -> None:
        """Log the problems of the zones, each once as long as it lasts, and what the zones have lost."""
        if not snapshot.zones:
            log.warning("NetBox has no zones (any more): every new registration will be refused")
        for zone in before.zones if before else ():
            families: tuple[IPFamily, ...] = ("ipv4", "ipv6")
            for family in families:
                if before and before.containers(zone, family) and not snapshot.containers(zone, family):
                    log.warning("zone %r has lost all its container prefixes for %s", zone, family)
        problems = [*(ZoneProblem("custom_field", text) for text in self.field_problems), *snapshot.problems()]
        fresh = sorted((one for one in problems if one.text not in self._logged), key=lambda one: -one.level)
        for one in fresh[:MOST_PROBLEMS_LOGGED]:
            log.log(one.level, "%s", one.text)
        if len(fresh) > MOST_PROBLEMS_LOGGED:
            log.warning("and %d more problems with the zones", len(fresh) - MOST_PROBLEMS_LOGGED)
        self._logged = frozenset(one.text for one in problems)


def _trouble(error: BaseException | None) -> LoadFailure | None:
    if error is None:
        return None
    kind: LoadFailureKind = "unexpected"
    if isinstance(error, NetBoxRejected):
        kind = "refused"
    elif isinstance(error, NetBoxUnavailable) and not isinstance(error, NetBoxUnexpected):
        kind = "away"
    return LoadFailure(kind, error.detail or str(error) if isinstance(error, NetBoxError) else "a bug; see the log")
