"""The address space of every container: free addresses are chosen from the picture of the container (see
`container_space`), and a registration goes live only after a look for conflicts.

A worker loads each picture every `refresh_seconds`. A look begins beside each creation, once for all creations of that
container at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from ipam_lib.addresses import contains, is_host, network
from ipam_lib.clock import Clock
from ipam_lib.errors import ContainerFull, NetBoxError, NetBoxUnavailable
from ipam_lib.models import IPAddressPolicy
from ipam_lib.netbox.base import Container, Occupant, Prefix, SpaceUse
from ipam_lib.netbox.container_space import ContainerSpace, SpaceReads, SpaceSource
from ipam_lib.netbox.events import Place
from ipam_lib.netbox.occupancy import Occupancy

log = logging.getLogger(__name__)

# A full load that is asked for because a container seems to be full is not repeated sooner.
RELOAD_PAUSE: Final = 10.0
# The same for one that an event asks for.
EVENT_PAUSE: Final = 1.0
# Up to so many runs of child prefixes, NetBox's own search is the cheaper call (35 ms against 43 for a given prefix;
# in lists 17 against 24 an address). Measured on NetBox 4.6.8; it grows with the number of runs.
CHEAP_FRAGMENTS: Final = 100
MAX_COLLISIONS: Final = 8
MAX_KEPT_LOOKS: Final = 1000


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
        source: SpaceSource,
        *,
        clock: Clock,
        rng: random.Random | None = None,
        policy: IPAddressPolicy = "avoid",
        refresh_seconds: float = 600.0,
        limit: float = 10.0,
    ) -> None:
        self._reads = SpaceReads(source, clock, policy, limit=limit, refresh_seconds=refresh_seconds)
        self._random = rng or random.Random()
        self._spaces: dict[int, ContainerSpace] = {}
        self._looks: dict[int, asyncio.Task[None]] = {}

    @property
    def refused(self) -> Mapping[str, str]:
        """What the token may not view (`IP addresses`, `IP ranges`), and NetBox's words for that."""
        return self._reads.refused

    # -- loading -----------------------------------------------------------------------------------------------------

    async def load_due(self, containers: Sequence[Container]) -> None:
        """One round of the worker: load the pictures of these containers that are due, one after the other."""
        current = {one.id: one for one in containers}
        for gone in self._spaces.keys() - current.keys():
            del self._spaces[gone]
        for container in current.values():
            if self._space(container).due:
                await self.load(container)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for one in self._spaces.values() for task in one.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def load(self, container: Container) -> str | None:
        """Load a picture from nothing; a call while that is under way waits for it. A failure is logged, and leaves the
        picture that there was. Returns why the load made no picture, None if it did."""
        space = self._space(container)
        await asyncio.shield(space.begin_load())
        return space.problem

    async def reload(self, container: Container, limit: float) -> bool:
        """Load a picture again, since its container seems to be full, unless that was done a moment ago (then
        False).

        Raises NetBoxUnavailable when that takes more than `limit` seconds; the load goes on.
        """
        space = self._space(container)
        # A large container is not read again and again on behalf of clients that ask a full zone.
        if not space.loading and space.loaded_within(RELOAD_PAUSE):
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
        if space.loading or space.loaded_within(EVENT_PAUSE):
            return False
        space.begin_load()
        return True

    # -- looking -----------------------------------------------------------------------------------------------------

    def begin_look(self, container: Container) -> asyncio.Task[None]:
        """See `ContainerSpace.begin_look`."""
        return self._space(container).begin_look()

    async def finish(self, look: asyncio.Task[None], limit: float) -> None:
        """Wait for a look. Raises what it raises, and NetBoxUnavailable when it takes more than `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await asyncio.shield(look)
        except TimeoutError:
            raise NetBoxUnavailable(detail=f"a look at NetBox took more than {limit:.3g} s", applied=False) from None

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
                self._space(container).unanswered(addresses)
            else:
                self._end(container, addresses)
            raise
        except NetBoxError:
            self._end(container, addresses)
            raise
        except BaseException:
            self._space(container).unanswered(addresses)
            raise
        else:
            self._end(container, addresses)

    def _end(self, container: Container, addresses: Iterable[str]) -> None:
        """The creations of reserved addresses have ended; what came of them was told to `created`."""
        for address in addresses:
            self._space(container).occupancy.end(address)

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
                container = space.container
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
        if not occupancy.loaded and self._reads.policy == "ignore":
            return None  # NetBox's own search looks at every prefix
        # The picture errs towards "taken", and does not know by what.
        found = await self.occupants(container, prefix.prefix, limit=limit)
        return next((one for one in found if (one.kind, one.netbox_id) != ("prefix", prefix.id)), None)

    async def occupants(self, container: Container, address: str, *, limit: float) -> list[Occupant]:
        """What NetBox says takes an address of the container: prefixes inside the container that are no containers, IP
        addresses and IP ranges."""
        found = [
            occupant_of(one)
            for one in await self._reads.source.covering(container, address, limit=limit)
            if not one.is_container and contains(container.prefix, one.prefix)
        ]
        if self._reads.policy != "ignore":
            found += await self.ip_occupants(container, address, limit=limit)
        return found

    async def ip_occupants(self, container: Container, address: str, *, limit: float) -> list[Occupant]:
        """The IP addresses and IP ranges that take an address of the container."""
        pages = self._reads.address_pages(container, within=address, limit=limit)
        return [row for one in pages async for page in one for row in page if row.covers(address)]

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
            ip_addresses_known=self._reads.policy != "ignore" and not self.refused,
            as_of=max((one for one in (space.loaded_at, space.looked_at) if one is not None), default=None),
        )

    def at(self, place: Place) -> list[Occupancy]:
        """The pictures of the containers that have addresses of this place."""
        return [
            one.occupancy
            for one in self._spaces.values()
            if one.container.vrf_id == place.vrf_id
            and one.container.ip_family == place.ip_family
            and one.occupancy.overlaps(place.first, place.last)
        ]

    def container(self, netbox_id: int) -> Container | None:
        """The container with this NetBox id."""
        space = self._spaces.get(netbox_id)
        return None if space is None else space.container

    @property
    def problems(self) -> dict[str, str]:
        """Why containers have no picture, by their prefixes."""
        return {one.container.prefix: one.problem for one in self._spaces.values() if one.problem is not None}

    def _space(self, container: Container) -> ContainerSpace:
        space = self._spaces.get(container.id)
        if space is None or (space.container.prefix, space.container.vrf_id) != (
            container.prefix,
            container.vrf_id,
        ):
            space = self._spaces[container.id] = ContainerSpace(container, self._reads)
        return space


def occupant_of(prefix: Prefix) -> Occupant:
    """A prefix as an occupant."""
    net = network(prefix.prefix)
    first = int(net.network_address)
    return Occupant(prefix.id, first, first + net.num_addresses - 1, "prefix", prefix.prefix)
