"""The picture of one container (see `occupancy`), and how it is kept up to date.

A *load* reads everything inside the container, page by page. A *look* reads what was created or changed in NetBox since
the look before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import NetBoxError, NetBoxRejected
from ipam_lib.models import IPAddressPolicy
from ipam_lib.netbox.base import Container, Occupant, Prefix
from ipam_lib.netbox.occupancy import Occupancy
from ipam_lib.netbox.picture import MAX_ROWS

log = logging.getLogger(__name__)

Pages = AsyncIterator[list[Occupant]]
Enter = Callable[[list[Occupant]], None]

# NetBox stamps a row before its transaction is committed, so a row may show up with a stamp that is older than one
# that was read already.
STAMP_SLACK: Final = timedelta(seconds=60)
# By how much the clocks of this machine and of NetBox may differ.
CLOCK_SLACK: Final = timedelta(minutes=5)
# A container without a picture is tried again after this time.
RETRY_SECONDS: Final = 30.0
# Full loads of a container begin at intervals of at least 20 times their duration: they take 5 % of the time.
RELOAD_SHARE: Final = 20.0
# A creation whose reply was lost has been carried out by then, or never will be.
UNANSWERED_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What NetBox says of a container itself: how many child prefixes it has, whether the token sees them or not, and
    whether it is marked as utilized."""

    children: int
    utilized: bool = False


class SpaceSource(Protocol):
    """What is read of NetBox. The iterators yield pages of rows by ascending NetBox id, of what lies inside `within`
    (the container when left out) in the container's VRF; with `since`, only rows that were changed at that moment or
    later. `limit`: seconds for the whole listing.

    Each raises NetBoxUnavailable, and NetBoxRejected when the token may not view such objects.
    """

    async def container_state(self, container: Container, *, limit: float) -> ContainerState | None:
        """None when NetBox has no such prefix any more."""

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]: ...

    def child_prefixes(self, container: Container, *, since: datetime | None = None, limit: float) -> Pages: ...

    def ip_addresses(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> Pages: ...

    def ip_ranges(self, container: Container, *, since: datetime | None = None, limit: float) -> Pages: ...


class SpaceReads:
    """The reads of NetBox for all pictures. `policy`: the use of IP addresses and IP ranges (`netbox.ip_addresses`).
    `limit`: the longest time of a look, in seconds. `refresh_seconds`: the time between two full loads of a container.
    `refused`: what the token may not view (`IP addresses`, `IP ranges`), and NetBox's words for that.
    """

    def __init__(
        self, source: SpaceSource, clock: Clock, policy: IPAddressPolicy, *, limit: float, refresh_seconds: float
    ) -> None:
        self.source = source
        self.clock = clock
        self.policy = policy
        self.limit = limit
        self.refresh_seconds = refresh_seconds
        self.refused: dict[str, str] = {}

    def address_pages(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> list[Pages]:
        """Pages of IP addresses (only those inside `within`, if it is given), and pages of IP ranges, as far as they
        count. What the token may not view has no pages, and is noted in `refused`."""
        if self.policy == "ignore":
            return []
        addresses = self.source.ip_addresses(container, within=within, since=since, limit=limit)
        ranges = self.source.ip_ranges(container, since=since, limit=limit)
        return [self._allowed("IP addresses", addresses), self._allowed("IP ranges", ranges)]

    async def _allowed(self, name: str, pages: Pages) -> Pages:
        try:
            async for page in pages:
                yield page
        except NetBoxRejected as error:
            if name not in self.refused:
                log.warning("the token may not view %s, so they are not avoided: %s", name, error.detail)
            self.refused[name] = error.detail
        else:
            self.refused.pop(name, None)


class ContainerSpace:
    """The picture of one container, and how current it is.

    `tried_at`: monotonic time at which the last full load began. `load_seconds`: its duration. `loaded_at`: wall clock
    at the begin of the load that made the picture. `looked_at`: wall clock at the begin of the last look. `problem`:
    why there is no picture. `utilized`: NetBox marks the container as utilized. `collisions`: how often other
    instances were faster.
    """

    def __init__(self, container: Container, reads: SpaceReads) -> None:
        self.occupancy = Occupancy(container)
        self.tried_at: float | None = None
        self.load_seconds = 0.0
        self.loaded_at: datetime | None = None
        self.looked_at: datetime | None = None
        self.utilized = False
        self.problem: str | None = None
        self.collisions = 0
        self._reads = reads
        self._unreadable = False  # the last load broke off
        self._since: datetime | None = None  # the next look reads rows that were changed then or later
        self._unanswered: list[tuple[str, float]] = []  # with the monotonic time
        self._load: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None  # has not begun to read
        self._running_look: asyncio.Task[None] | None = None

    @property
    def container(self) -> Container:
        """The container."""
        return self.occupancy.container

    @property
    def loading(self) -> bool:
        """Whether a full load is under way."""
        return self._load is not None

    @property
    def due(self) -> bool:
        """Whether it is time for a full load."""
        refresh = self._reads.refresh_seconds
        seconds = refresh if self.problem is None else min(refresh, RETRY_SECONDS)
        # Also where a container that was read whole has no picture. One that could not be read may be tried sooner.
        return not self.loaded_within(seconds, share=2.0 if self._unreadable else RELOAD_SHARE)

    def loaded_within(self, seconds: float, share: float = RELOAD_SHARE) -> bool:
        """Whether the last full load began less than `seconds` ago, or less than `share` times its duration."""
        if self.tried_at is None:
            return False
        return self._reads.clock.monotonic() - self.tried_at < max(seconds, share * self.load_seconds)

    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [task for task in (self._load, self._next_look, self._running_look) if task is not None]

    # -- loads -------------------------------------------------------------------------------------------------------

    def begin_load(self) -> asyncio.Task[None]:
        """A full load; the one that is under way, if there is one. A failure is logged, and leaves the picture that
        there was."""
        if self._load is None:
            self._load = asyncio.create_task(self._load_all())
        return self._load

    def unanswered(self, addresses: Iterable[str]) -> None:
        """The reply to the creations of reserved addresses was lost: they may be in NetBox now or later. They stay
        taken until a later load shows the truth."""
        self._unanswered += [(address, self._reads.clock.monotonic()) for address in addresses]

    async def _load_all(self) -> None:
        clock = self._reads.clock
        self.tried_at, began = clock.monotonic(), clock.now()
        self._unreadable = False
        try:
            problem = await self._read_all(began)
        except NetBoxError as error:
            self._unreadable = True
            problem = f"it could not be read: {error.detail or error}"
        finally:
            self._load = None
            self.load_seconds = clock.monotonic() - self.tried_at
        if problem is not None and problem != self.problem:
            log.warning("no picture of what is taken in container %s: %s", self.container.prefix, problem)
        self.problem = problem

    async def _read_all(self, began: datetime) -> str | None:
        """Read everything inside the container; why that makes no picture, None when it does."""
        reads, container = self._reads, self.container
        limit = max(reads.limit, reads.refresh_seconds)
        before = await reads.source.container_state(container, limit=reads.limit)
        loading = self.occupancy.load()
        newest: datetime | None = None
        parts: list[tuple[Pages, Enter]] = [
            (reads.source.child_prefixes(container, limit=limit), loading.add_prefixes),
            *((pages, loading.add_addresses) for pages in reads.address_pages(container, limit=limit)),
        ]
        for pages, add in parts:
            async for page in pages:
                add(page)
                newest = _newest(newest, page)
                if loading.too_large:
                    break
        after = await reads.source.container_state(container, limit=reads.limit)
        if before is None or after is None:
            self.occupancy.forget()
            return "NetBox has no such prefix any more"
        self.utilized = after.utilized
        if loading.too_large:
            self.occupancy.forget()
            return f"there are more than {MAX_ROWS:,} objects in it; NetBox chooses"
        if (hidden := min(before.children, after.children) - loading.prefix_rows) > 0:
            self.occupancy.forget()
            return f"the token cannot see {hidden} of its {after.children} child prefixes; NetBox chooses"
        for _ in loading.build():
            await asyncio.sleep(0)
        self.occupancy.replace(loading)
        self.loaded_at = began
        # Whatever came of a creation whose reply was lost long before this listing began, the listing shows it.
        latest = (self.tried_at or 0.0) - UNANSWERED_SECONDS
        for address, at in self._unanswered:
            if at < latest:
                self.occupancy.end(address)
        self._unanswered = [one for one in self._unanswered if one[1] >= latest]
        # By NetBox's clock where a row tells it, and never later than the load began by ours.
        self._since = min(began - CLOCK_SLACK, newest or began) - STAMP_SLACK
        return None

    # -- looks -------------------------------------------------------------------------------------------------------

    def begin_look(self) -> asyncio.Task[None]:
        """A look that begins to read now, or, where one is reading already, after it: so that it sees whatever came
        before this call. All callers that ask before it begins share it."""
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look(self._running_look))
            self._next_look.add_done_callback(_retrieve)
        return self._next_look

    async def _look(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running_look, self._next_look = self._next_look, None
        if not self.occupancy.loaded:
            return
        reads, began = self._reads, self._reads.clock.now()
        options: dict[str, Any] = {"since": self._since, "limit": reads.limit}
        rows: list[Occupant] = []

        async def read(pages: Pages, enter: Enter) -> None:
            async for page in pages:
                enter(page)
                rows.extend(page)

        outcomes = await asyncio.gather(
            read(reads.source.child_prefixes(self.container, **options), self.occupancy.enter_prefixes),
            *(read(pages, self.occupancy.enter_addresses) for pages in reads.address_pages(self.container, **options)),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        # Only now: a listing that failed may have rows that are older than the newest row of another one.
        newest = _newest(None, rows)
        if newest is not None and (self._since is None or newest - STAMP_SLACK > self._since):
            self._since = newest - STAMP_SLACK
        self.looked_at = began


def _newest(known: datetime | None, rows: Iterable[Occupant]) -> datetime | None:
    return max((one for one in (known, *(row.updated for row in rows)) if one is not None), default=None)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a task that no caller may wait for any more."""
    if not task.cancelled():
        task.exception()
