"""The cache of zones and containers: loaded at start, refreshed in the background, kept in storage for a start without
NetBox."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxError, NetBoxRejected, NetBoxUnavailable, StorageUnavailable, UnknownZone
from ipam_lib.models import IPFamily
from ipam_lib.netbox.base import Container, Zones
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.snapshot import Snapshot

log = logging.getLogger(__name__)

Load = Callable[[], Awaitable[dict[str, Any] | None]]
Save = Callable[[dict[str, Any]], Awaitable[None]]

# NetBox does not answer, refuses (a token or a right is gone), or answers something that is not understood.
Trouble = Literal["away", "refused", "odd"]

MOST_PROBLEMS_LOGGED = 20


class ZoneSource(Protocol):
    """Where zones come from: NetBox's client."""

    @property
    def url(self) -> str: ...

    async def choices(self, *, limit: float) -> list[str]: ...

    async def containers(self, zone: str | None = None, *, limit: float) -> list[Container]: ...


class ZoneCache(Zones):
    """One immutable snapshot at a time, replaced as a whole.

    A load that fails leaves the snapshot as it is. One that succeeds replaces it whatever it says, also when zones or
    containers are gone, with a warning: NetBox judges every creation in a container anyway, but would accept a given
    address outside of any container, so a container that may be gone must not be believed in. Who loses everything by a
    right taken away gets clear refusals of new addresses; what is registered stays.

    `load`, `save`: the document in storage. `refresh_seconds`: time between refreshes in the background, up to a tenth
    more as jitter. `pause_seconds`: the least time between two loads, whoever asks. `limit`: the longest that NetBox
    may take for each of the two parts, in seconds.

    `source` says where the zones are from, `trouble` why the last load from NetBox failed; None where it did not.
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
        self._told: frozenset[str] = frozenset()
        self._failed = True
        self.source: Literal["netbox", "storage"] | None = None
        self.trouble: Trouble | None = None

    @property
    def loaded(self) -> bool:
        """Whether there are zones to work with."""
        return self._snapshot is not None

    @property
    def loaded_at(self) -> datetime | None:
        """When they were loaded from NetBox, by whichever process."""
        return self._snapshot.loaded_at if self._snapshot else None

    @property
    def age_seconds(self) -> float | None:
        """Seconds since then."""
        return max(0.0, (self._clock.now() - self._snapshot.loaded_at).total_seconds()) if self._snapshot else None

    @property
    def names(self) -> Sequence[str]:
        return self._snapshot.zones if self._snapshot else ()

    async def start(self) -> None:
        """Load from storage, then from NetBox; with zones from storage, NetBox gets two seconds for that. Never fails:
        `loaded` says whether it worked, and `run` goes on trying."""
        await self._load_stored()
        try:
            await self._refresh(min(2.0, self._limit) if self.loaded else self._limit)
        except NetBoxError as error:
            log.warning("zones could not be loaded from NetBox: %s", error.detail or error)
            if self._snapshot is not None:
                log.warning("serving the zones that were loaded from NetBox at %s", self._snapshot.loaded_at)

    async def run(self) -> None:
        """Refresh for ever, at `refresh_seconds`; sooner after a failure."""
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
        """End a load that is under way."""
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
        """As the contract says. Calls while a load is under way wait for that one.

        Raises NetBoxError when it fails; the zones are then as they were.
        """
        return await self._refresh(self._limit)

    async def reload(self) -> None:
        """Load from NetBox now, however short ago that was done.

        Raises NetBoxError when it fails; the zones are then as they were.
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
        # Whoever is cancelled leaves the load to the others.
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
        self._tell(snapshot, before)
        try:
            await self._save(snapshot.document(self._source.url))
        except StorageUnavailable as error:
            log.warning("the zones could not be kept in storage: %s", error)

    async def _load_stored(self) -> None:
        try:
            document = await self._load()
            if document is None:
                return
            self._snapshot = Snapshot.from_document(document, self._source.url)
        except StorageUnavailable as error:
            log.warning("the stored zones could not be read: %s", error)
        except UnexpectedResponse as error:
            log.warning("the stored zones are of no use: %s", error)
        else:
            self.source = "storage"

    def _tell(self, snapshot: Snapshot, before: Snapshot | None) -> None:
        """Log what is odd about the zones, once for as long as it stays so, and what they have lost."""
        if not snapshot.zones:
            log.warning("NetBox has no zones (any more): every new registration will be refused")
        for zone in before.zones if before else ():
            families: tuple[IPFamily, ...] = ("ipv4", "ipv6")
            for family in families:
                if before and before.containers(zone, family) and not snapshot.containers(zone, family):
                    log.warning("zone %r has lost all its container prefixes for %s", zone, family)
        problems = snapshot.problems()
        fresh = sorted((item for item in problems if item[1] not in self._told), key=lambda item: -item[0])
        for level, text in fresh[:MOST_PROBLEMS_LOGGED]:
            log.log(level, "%s", text)
        if len(fresh) > MOST_PROBLEMS_LOGGED:
            log.warning("and %d more such findings about the zones", len(fresh) - MOST_PROBLEMS_LOGGED)
        self._told = frozenset(text for _, text in problems)


def _trouble(error: BaseException | None) -> Trouble | None:
    if error is None:
        return None
    if isinstance(error, NetBoxRejected):
        return "refused"
    return "away" if isinstance(error, NetBoxUnavailable) else "odd"
