"""The address space of every container: its picture (see `occupancy`), kept up to date, and asked for free addresses.

The picture is loaded in the background, page by page, and from nothing every `refresh_seconds`. In between, a *look*
reads what was created or changed in NetBox since the look before; it begins beside each creation, once for all
creations of that container at that moment, and the registration goes live only after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from ipam_lib.addresses import contains, is_host, network
from ipam_lib.clock import Clock
from ipam_lib.errors import ContainerFull, NetBoxError, NetBoxRejected, NetBoxUnavailable
from ipam_lib.models import IPAddressPolicy
from ipam_lib.netbox.base import Container, Occupant, Prefix, SpaceUse
from ipam_lib.netbox.events import Place
from ipam_lib.netbox.occupancy import Occupancy
from ipam_lib.netbox.picture import MAX_ROWS

log = logging.getLogger(__name__)

# NetBox stamps a row before its transaction is committed, so a row may show up with a stamp that is older than one
# that was read already.
STAMP_SLACK: Final = timedelta(seconds=60)
# By how much the clocks of this machine and of NetBox may differ.
CLOCK_SLACK: Final = timedelta(minutes=5)
# A full load that is asked for because a container seems to be full is not repeated sooner.
RELOAD_PAUSE: Final = 10.0
# Full loads of a container begin at intervals of at least 20 times their duration: they take 5 % of the time.
RELOAD_SHARE: Final = 20.0
# The same for one that an event asks for.
EVENT_PAUSE: Final = 1.0
# Up to so many runs of child prefixes, NetBox's own search is the cheaper call (35 ms against 43 for a given prefix;
# in lists 17 against 24 an address). Measured on NetBox 4.6.8; it grows with the number of runs.
CHEAP_FRAGMENTS: Final = 100
# A creation whose reply was lost has been carried out by then, or never will be.
UNANSWERED_SECONDS: Final = 120.0
MAX_COLLISIONS: Final = 8
MAX_KEPT_LOOKS: Final = 1000


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

    def child_prefixes(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]: ...

    def ip_addresses(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]: ...

    def ip_ranges(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]: ...


@dataclass(slots=True)
class _ContainerSpace:
    """The picture of one container, and how current it is.

    `tried_at`: the monotonic time of the last full load, `load_seconds` how long it took, `unreadable` whether it broke
    off; `loaded_at`: the wall clock's when the one that made the picture began, `looked_at`: when the last look began.
    `since`: the stamp from which on a look reads. `hidden`: how many child prefixes the token cannot see. `problem`:
    why there is no picture. `unanswered`: addresses of creations whose reply was lost, and when (monotonic).
    `next_look` has not begun to read, `running_look` has.
    """

    occupancy: Occupancy
    tried_at: float | None = None
    load_seconds: float = 0.0
    unreadable: bool = False
    loaded_at: datetime | None = None
    looked_at: datetime | None = None
    since: datetime | None = None
    hidden: int = 0
    utilized: bool = False
    problem: str | None = None
    collisions: int = 0
    unanswered: list[tuple[str, float]] = field(default_factory=list)
    load: asyncio.Task[None] | None = None
    next_look: asyncio.Task[None] | None = None
    running_look: asyncio.Task[None] | None = None

    def seen(self, rows: Iterable[Occupant]) -> None:
        """Let the next look read from the newest of these rows on."""
        newest = max((row.updated for row in rows if row.updated is not None), default=None)
        if newest is not None and (self.since is None or newest - STAMP_SLACK > self.since):
            self.since = newest - STAMP_SLACK


@dataclass(frozen=True, slots=True)
class Choice:
    """Addresses for creations of one container, reserved in its picture. `by_netbox`: NetBox's own search comes to the
    same addresses, and is the cheaper call."""

    addresses: Sequence[str]
    by_netbox: bool


class AddressSpace:
    """The pictures of all containers. `policy`: what IP addresses and IP ranges count for (`netbox.ip_addresses`).
    `refresh_seconds`: the time between two full loads of a container. `limit`: the longest that a look may take, in
    seconds."""

    def __init__(
        self,
        reader: SpaceSource,
        *,
        clock: Clock,
        rng: random.Random | None = None,
        policy: IPAddressPolicy = "avoid",
        refresh_seconds: float = 600.0,
        limit: float = 10.0,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._random = rng or random.Random()
        self._policy = policy
        self._refresh_seconds = refresh_seconds
        self._limit = limit
        self._spaces: dict[int, _ContainerSpace] = {}
        self._looks: dict[int, asyncio.Task[None]] = {}
        self.refused: dict[str, str] = {}
        """What the token may not view, and NetBox's words for that: `IP addresses`, `IP ranges`."""

    # -- loading -----------------------------------------------------------------------------------------------------

    async def load_due(self, containers: Sequence[Container]) -> None:
        """One round of the worker: load the pictures of these containers that are due, one after the other."""
        current = {one.id: one for one in containers}
        for gone in self._spaces.keys() - current.keys():
            del self._spaces[gone]
        for container in current.values():
            if self._is_due(self._space(container)):
                await self.load(container)

    async def close(self) -> None:
        """End what is under way."""
        spaces = self._spaces.values()
        tasks = [task for one in spaces for task in (one.load, one.next_look, one.running_look) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_due(self, space: _ContainerSpace) -> bool:
        seconds = self._refresh_seconds if space.problem is None else min(self._refresh_seconds, 3 * RELOAD_PAUSE)
        # Also where a container that was read whole has no picture. One that could not be read may be tried sooner.
        seconds = max(seconds, space.load_seconds * (2.0 if space.unreadable else RELOAD_SHARE))
        return space.tried_at is None or self._clock.monotonic() - space.tried_at >= seconds

    async def load(self, container: Container) -> str | None:
        """Load a picture from nothing; a call while that is under way waits for it. A failure is logged, and leaves the
        picture that there was. Returns why the load made no picture, None if it did."""
        space = self._space(container)
        await asyncio.shield(self._begin_load(space))
        return space.problem

    def _begin_load(self, space: _ContainerSpace) -> asyncio.Task[None]:
        if space.load is None:
            space.load = asyncio.create_task(self._load(space))
        return space.load

    async def reload(self, container: Container, limit: float) -> bool:
        """Load a picture again, since its container seems to be full, unless that was done a moment ago (then
        False).

        Raises NetBoxUnavailable when that takes more than `limit` seconds; the load goes on.
        """
        space = self._space(container)
        # A large container is not read again and again on behalf of clients that ask a full zone.
        pause = max(RELOAD_PAUSE, RELOAD_SHARE * space.load_seconds)
        if space.load is None and space.tried_at is not None and self._clock.monotonic() - space.tried_at < pause:
            return False
        try:
            async with asyncio.timeout(limit):
                await self.load(container)
        except TimeoutError:
            detail = f"container {container.prefix} seems to be full, and is being read again"
            raise NetBoxUnavailable(detail=detail, applied=False) from None
        return True

    def begin_reload(self, container: Container) -> bool:
        """Begin to load a picture again, since something was deleted inside the container. False, without a load, if
        one is under way, or the last one was a moment ago."""
        space = self._space(container)
        pause = max(EVENT_PAUSE, RELOAD_SHARE * space.load_seconds)
        if space.tried_at is not None and (space.load or self._clock.monotonic() - space.tried_at < pause):
            return False
        self._begin_load(space)
        return True

    async def _load(self, space: _ContainerSpace) -> None:
        container = space.occupancy.container
        space.tried_at = self._clock.monotonic()
        began = self._clock.now()
        space.unreadable = False
        try:
            problem = await self._read_whole(space, began)
        except NetBoxError as error:
            space.unreadable = True
            problem = f"it could not be read: {error.detail or error}"
        finally:
            space.load = None
            space.load_seconds = self._clock.monotonic() - space.tried_at
        if problem is not None and problem != space.problem:
            log.warning("no picture of what is taken in container %s: %s", container.prefix, problem)
        space.problem = problem

    async def _read_whole(self, space: _ContainerSpace, began: datetime) -> str | None:
        """Read everything inside the container; why that makes no picture, None when it does."""
        container, limit = space.occupancy.container, max(self._limit, self._refresh_seconds)
        before = await self._reader.container_state(container, limit=self._limit)
        loading = space.occupancy.load()
        newest: datetime | None = None
        async for page in self._reader.child_prefixes(container, limit=limit):
            loading.add_prefixes(page)
            newest = _newest(newest, page)
            if loading.too_large:
                break
        for name, read in self._address_listings():
            try:
                async for page in read(container, limit=limit):
                    loading.add_addresses(page)
                    newest = _newest(newest, page)
                    if loading.too_large:
                        break
                self.refused.pop(name, None)
            except NetBoxRejected as error:
                self._note_refused(name, error)
        after = await self._reader.container_state(container, limit=self._limit)
        if before is None or after is None:
            space.occupancy.forget()
            return "NetBox has no such prefix any more"
        space.utilized = after.utilized
        if loading.too_large:
            space.occupancy.forget()
            return f"there are more than {MAX_ROWS:,} objects in it; NetBox chooses"
        space.hidden = max(0, min(before.children, after.children) - loading.prefix_rows)
        if space.hidden:
            space.occupancy.forget()
            return f"the token cannot see {space.hidden} of its {after.children} child prefixes; NetBox chooses"
        for _ in loading.build():
            await asyncio.sleep(0)
        space.occupancy.replace(loading)
        space.loaded_at = began
        # Whatever came of a creation whose reply was lost long before this listing began, the listing shows it.
        began_at = space.tried_at or 0.0
        for address, at in space.unanswered:
            if at + UNANSWERED_SECONDS < began_at:
                space.occupancy.end(address)
        space.unanswered = [one for one in space.unanswered if one[1] + UNANSWERED_SECONDS >= began_at]
        # By NetBox's clock where a row tells it, and never later than the load began by ours.
        space.since = min(began - CLOCK_SLACK, newest or began) - STAMP_SLACK
        return None

    def _address_listings(self) -> list[tuple[str, Callable[..., AsyncIterator[list[Occupant]]]]]:
        if self._policy == "ignore":
            return []
        return [("IP addresses", self._reader.ip_addresses), ("IP ranges", self._reader.ip_ranges)]

    def _note_refused(self, name: str, error: NetBoxRejected) -> None:
        if name not in self.refused:
            log.warning("the token may not view %s, so they are not avoided: %s", name, error.detail)
        self.refused[name] = error.detail

    # -- looking -----------------------------------------------------------------------------------------------------

    def begin_look(self, container: Container) -> asyncio.Task[None]:
        """A look that begins to read now, or, where one is reading already, after it: so that it sees whatever came
        before this call. All callers that ask before it begins share it."""
        space = self._space(container)
        if space.next_look is None:
            space.next_look = asyncio.create_task(self._look(space, space.running_look))
            space.next_look.add_done_callback(_retrieve)
        return space.next_look

    async def finish(self, look: asyncio.Task[None], limit: float) -> None:
        """Wait for a look. Raises what it raises, and NetBoxUnavailable when it takes more than `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await asyncio.shield(look)
        except TimeoutError:
            raise NetBoxUnavailable(detail=f"a look at NetBox took more than {limit:.3g} s", applied=False) from None

    async def _look(self, space: _ContainerSpace, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        space.running_look, space.next_look = space.next_look, None
        if not space.occupancy.loaded:
            return
        container, since, limit = space.occupancy.container, space.since, self._limit
        began = self._clock.now()
        rows: list[Occupant] = []

        async def read(name: str, pages: AsyncIterator[list[Occupant]], enter: Callable[..., None]) -> None:
            try:
                async for page in pages:
                    enter(page)
                    rows.extend(page)
                self.refused.pop(name, None)
            except NetBoxRejected as error:
                if name == "prefixes":
                    raise
                self._note_refused(name, error)

        reads = [
            read(
                "prefixes",
                self._reader.child_prefixes(container, since=since, limit=limit),
                space.occupancy.enter_prefixes,
            ),
            *(
                read(name, listing(container, since=since, limit=limit), space.occupancy.enter_addresses)
                for name, listing in self._address_listings()
            ),
        ]
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        # Only now: a listing that failed may have rows that are older than the newest row of another one.
        space.seen(rows)
        space.looked_at = began

    # -- choosing ----------------------------------------------------------------------------------------------------

    def choose(self, container: Container, count: int) -> Choice | None:
        """Reserve the lowest free addresses; None where there is no picture, so that NetBox chooses.

        Raises ContainerFull when there are fewer, or the container is marked as utilized.
        """
        space = self._space(container)
        if space.utilized:
            raise ContainerFull("the container is marked as utilized in NetBox")
        if not space.occupancy.loaded:
            return None
        expected = space.occupancy.netbox_next(count) if space.occupancy.fragments <= CHEAP_FRAGMENTS else []
        skip = self._random.randrange(2**space.collisions)
        chosen: list[str] = []
        while len(chosen) < count and (address := space.occupancy.reserve(skip=skip)) is not None:
            chosen.append(address)
        if len(chosen) < count:
            self._end(container, chosen)
            raise ContainerFull("no free address left in the container, as far as is known")
        return Choice(chosen, by_netbox=chosen == expected)

    def reserve_exactly(self, container: Container, address: str) -> None:
        """Enter an address that a request names, before its creation is sent; `creating` ends that."""
        self._space(container).occupancy.reserve_exactly(address)

    def created(self, container: Container, prefix: Prefix, look: asyncio.Task[None] | None = None) -> None:
        """NetBox has created a prefix for this instance. `look`: the one that ran beside the creation."""
        space = self._space(container)
        space.occupancy.created(prefix.id, prefix.prefix)
        space.collisions = max(0, space.collisions - 1)
        if look is not None:
            self._looks[prefix.id] = look
            if len(self._looks) > MAX_KEPT_LOOKS:
                del self._looks[next(iter(self._looks))]

    @contextmanager
    def creating(self, container: Container, addresses: Sequence[str]) -> Iterator[None]:
        """Creations of reserved addresses are under way: what comes of them is told to `created` within this context.
        Where the reply is lost, the addresses stay taken until a later load shows the truth."""
        try:
            yield
        except NetBoxUnavailable as error:
            if error.applied:
                self._unanswered(container, addresses)
            else:
                self._end(container, addresses)
            raise
        except NetBoxError:
            self._end(container, addresses)
            raise
        except BaseException:
            self._unanswered(container, addresses)
            raise
        else:
            self._end(container, addresses)

    def _end(self, container: Container, addresses: Iterable[str]) -> None:
        """The creations of reserved addresses have ended; what came of them was told to `created`."""
        for address in addresses:
            self._space(container).occupancy.end(address)

    def _unanswered(self, container: Container, addresses: Iterable[str]) -> None:
        """The reply to the creations of reserved addresses was lost, so they may be in NetBox, or may be yet."""
        space = self._space(container)
        space.unanswered += [(address, self._clock.monotonic()) for address in addresses]

    def collided(self, container: Container) -> None:
        """Another instance was faster at an address: choose farther apart from now on."""
        space = self._space(container)
        space.collisions = min(space.collisions + 1, MAX_COLLISIONS)

    def released(self, prefixes: Iterable[Prefix]) -> None:
        """NetBox has deleted these prefixes."""
        for prefix in prefixes:
            self._looks.pop(prefix.id, None)
            if not is_host(prefix.prefix):
                continue  # a network of the earlier service: the next load shows that it is gone
            for space in self._spaces.values():
                container = space.occupancy.container
                if container.vrf_id == prefix.vrf_id and contains(container.prefix, prefix.prefix):
                    space.occupancy.released(prefix.id, prefix.prefix)

    # -- checking ----------------------------------------------------------------------------------------------------

    async def conflict(self, container: Container, prefix: Prefix, *, limit: float) -> Occupant | None:
        """What else takes the address of a prefix that was created or adopted, after a look that began beside its
        creation or begins now; None when nothing does.

        Raises NetBoxUnavailable, NetBoxRejected, when the look fails.
        """
        look = self._looks.pop(prefix.id) if prefix.id in self._looks else self.begin_look(container)
        await self.finish(look, limit)
        occupancy = self._space(container).occupancy
        if occupancy.loaded and not occupancy.shared(prefix.prefix, prefix.id):
            return None
        if not occupancy.loaded and self._policy == "ignore":
            return None  # NetBox's own search looks at every prefix
        # The picture errs towards "taken", and does not know by what.
        found = await self.occupants(container, prefix.prefix, limit=limit)
        return next((one for one in found if (one.kind, one.netbox_id) != ("prefix", prefix.id)), None)

    async def occupants(self, container: Container, address: str, *, limit: float) -> list[Occupant]:
        """What NetBox says takes an address of the container: prefixes inside the container that are no containers, IP
        addresses and IP ranges."""
        found = [
            occupant_of(one)
            for one in await self._reader.covering(container, address, limit=limit)
            if not one.is_container and contains(container.prefix, one.prefix)
        ]
        if self._policy != "ignore":
            found += await self.ip_occupants(container, address, limit=limit)
        return found

    async def ip_occupants(self, container: Container, address: str, *, limit: float) -> list[Occupant]:
        """The IP addresses and IP ranges that take an address of the container."""
        found: list[Occupant] = []
        for name, listing in self._address_listings():
            options = {"within": address} if name == "IP addresses" else {}
            try:
                async for page in listing(container, **options, limit=limit):
                    found += [row for row in page if row.covers(address)]
            except NetBoxRejected as error:
                self._note_refused(name, error)
        return found

    async def check_address(self, container: Container, first: int, *, limit: float) -> bool:
        """Ask NetBox whether an IP address or IP range still takes this address, an integer, and enter that none does.
        False if that has to be asked again, because the container is being loaded or has changed meanwhile.

        Raises NetBoxUnavailable.
        """
        occupancy = self._space(container).occupancy
        if (known := occupancy.has_address(first)) is not True:
            return known is False
        occupancy.check_address(first)
        found = await self.ip_occupants(container, occupancy.host(first), limit=limit)
        return bool(found or self.refused) or occupancy.address_gone(first)

    # -- use ---------------------------------------------------------------------------------------------------------

    def use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        """See `NetBox.space_use`. None where there is no picture."""
        space = self._space(container)
        use = space.occupancy.use(inner)
        if use is None:
            return None
        return replace(
            use,
            utilized=space.utilized,
            ip_addresses_known=self._policy != "ignore" and not self.refused,
            as_of=max((one for one in (space.loaded_at, space.looked_at) if one is not None), default=None),
        )

    def at(self, place: Place) -> list[Occupancy]:
        """The pictures of the containers that have addresses of this place."""
        return [
            one.occupancy
            for one in self._spaces.values()
            if one.occupancy.container.vrf_id == place.vrf_id
            and one.occupancy.container.ip_family == place.ip_family
            and one.occupancy.overlaps(place.first, place.last)
        ]

    def container(self, netbox_id: int) -> Container | None:
        """The container with this NetBox id."""
        space = self._spaces.get(netbox_id)
        return None if space is None else space.occupancy.container

    @property
    def problems(self) -> dict[str, str]:
        """Why containers have no picture, by their prefixes."""
        return {one.occupancy.container.prefix: one.problem for one in self._spaces.values() if one.problem is not None}

    def _space(self, container: Container) -> _ContainerSpace:
        space = self._spaces.get(container.id)
        if space is None or (space.occupancy.container.prefix, space.occupancy.container.vrf_id) != (
            container.prefix,
            container.vrf_id,
        ):
            space = self._spaces[container.id] = _ContainerSpace(Occupancy(container))
        return space


def occupant_of(prefix: Prefix) -> Occupant:
    """A prefix as an occupant."""
    net = network(prefix.prefix)
    first = int(net.network_address)
    return Occupant(prefix.id, first, first + net.num_addresses - 1, "prefix", prefix.prefix)


def _newest(known: datetime | None, rows: Iterable[Occupant]) -> datetime | None:
    return max((one for one in (known, *(row.updated for row in rows)) if one is not None), default=None)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the exception of a task that no caller may wait for any more."""
    if not task.cancelled():
        task.exception()
