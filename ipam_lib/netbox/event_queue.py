"""What NetBox's events ask for: a bounded queue of hints, and the worker that looks at NetBox because of them.

An event is only believed as far as to say where to look. So one that is forged, repeated, late or out of order does no
harm. The queue holds each container at most once for each kind of look, and the worker makes at most two rounds a
second (see `lifecycle`): events that come between two rounds share the looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ipam_lib.netbox.base import Prefix
from ipam_lib.netbox.events import Event, Place
from ipam_lib.netbox.occupancy import Occupancy
from ipam_lib.netbox.space import AddressSpace

MAX_ADDRESSES: Final = 10
"""So many deleted IP addresses are looked up, each with two requests. For more, their containers are loaded again."""
MAX_DELETED: Final = 200
"""So many deleted prefixes are looked up by their ids, 50 in a request. For more, their containers are loaded again."""


class EventQueue:
    """`space`: the pictures to bring up to date. `refresh_zones`: as `base.Zones.refresh`. `get_many`: those of these
    prefixes that NetBox has. `limit`: the longest time of a look, in seconds. `ip_addresses`: whether IP addresses and
    IP ranges count. `wanted` is set while there is something to do.
    """

    def __init__(
        self,
        space: AddressSpace,
        *,
        refresh_zones: Callable[[], Awaitable[bool]],
        get_many: Callable[[Sequence[int]], Awaitable[list[Prefix]]],
        limit: float = 10.0,
        ip_addresses: bool = True,
    ) -> None:
        self._space = space
        self._refresh_zones = refresh_zones
        self._get_many = get_many
        self._limit = limit
        self._ip_addresses = ip_addresses
        self._zones = False
        # By the NetBox ids of containers.
        self._looks: set[int] = set()
        self._reloads: set[int] = set()
        self._deleted: dict[int, Prefix] = {}
        # The id of a container, and an address as an integer.
        self._addresses: set[tuple[int, int]] = set()
        self.wanted = asyncio.Event()

    def add(self, event: Event) -> bool:
        """Note what the event asks for. False if nothing needs to be looked at: the event concerns no container, or the
        picture has the change already, for example because the service itself has made it."""
        match event.kind:
            case "choice_set":
                noted = self._zones = True
            case "prefix":
                noted = self._add_container(event)
                noted |= self._add_places(event, lambda one, place: one.has_prefix(event.netbox_id, place.first))
            case _:
                noted = self._ip_addresses and self._add_places(event, lambda one, place: one.has_address(place.first))
        if noted:
            self.wanted.set()
        return noted

    async def work(self) -> bool:
        """One round of the worker: look at NetBox for what has been noted. Returns False: the worker goes on.

        Raises NetBoxError; what has not been looked at then stays noted for the next round.
        """
        self.wanted.clear()
        try:
            await self._look_at_zones()
            await self._look_at_deleted()
            await self._look_at_addresses()
            await self._look_at_changed()
            self._reloads -= {one for one in self._reloads if self._reloaded(one)}
        finally:
            if self._zones or self._looks or self._reloads or self._deleted or self._addresses:
                self.wanted.set()
        return False

    def _add_container(self, event: Event) -> bool:
        """A container of a zone may have come, gone or changed."""
        known = self._space.container(event.netbox_id) is not None
        if known:
            # Also whether it is marked as utilized.
            self._reloads.add(event.netbox_id)
        if known or any(place is not None and place.container for place in (event.before, event.after)):
            self._zones = True
            return True
        return False

    def _add_places(self, event: Event, known: Callable[[Occupancy, Place], bool | None]) -> bool:
        """Note the containers that an object has come to or gone from. `known`: whether the picture has it at a place
        of one address; None if that is not certain."""
        before, after = event.before, event.after
        noted = False
        if after is not None and after.taken:
            lacking = [one for one in self._space.at(after) if not (after.single and known(one, after))]
            self._looks |= {one.container.id for one in lacking}
            noted = bool(lacking)
        if before is None or not before.taken or (after is not None and before.position == after.position):
            return noted
        left = [one for one in self._space.at(before) if not (before.single and known(one, before) is False)]
        if event.kind == "prefix" and after is None and before.single and left and len(self._deleted) < MAX_DELETED:
            self._deleted[event.netbox_id] = Prefix(event.netbox_id, left[0].host(before.first), before.vrf_id)
        elif event.kind == "ip_address" and len(self._addresses) < MAX_ADDRESSES:
            self._addresses |= {(one.container.id, before.first) for one in left}
        else:
            self._reloads |= {one.container.id for one in left}
        return noted or bool(left)

    async def _look_at_zones(self) -> None:
        if self._zones:
            # An event that comes during the load is noted for another one.
            self._zones = False
            try:
                self._zones = not await self._refresh_zones()
            except BaseException:
                self._zones = True
                raise

    async def _look_at_deleted(self) -> None:
        """Enter the prefixes that NetBox does not have any more. NetBox uses no id twice, so they stay deleted."""
        if not self._deleted:
            return
        named = dict(self._deleted)
        there = {one.id for one in await self._get_many(list(named))}
        self._space.released(one for netbox_id, one in named.items() if netbox_id not in there)
        for netbox_id in named:
            del self._deleted[netbox_id]

    async def _look_at_addresses(self) -> None:
        for noted in list(self._addresses):
            # An event that comes during the look is noted for another one.
            self._addresses.discard(noted)
            looked = False
            try:
                looked = await self._looked_at_address(*noted)
            finally:
                if not looked:
                    self._addresses.add(noted)

    async def _looked_at_address(self, netbox_id: int, first: int) -> bool:
        container = self._space.container(netbox_id)
        return container is None or await self._space.check_address(container, first, limit=self._limit)

    async def _look_at_changed(self) -> None:
        for netbox_id in list(self._looks):
            self._looks.discard(netbox_id)
            container = self._space.container(netbox_id)
            try:
                if container is not None:
                    await self._space.finish(self._space.begin_look(container), self._limit)
            except BaseException:
                self._looks.add(netbox_id)
                raise

    def _reloaded(self, netbox_id: int) -> bool:
        container = self._space.container(netbox_id)
        return container is None or self._space.begin_reload(container)
