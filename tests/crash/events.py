"""Events of NetBox for one instance of a schedule: true ones, late, lost, repeated and out of order, and lies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from random import Random

from ipam_lib.netbox.base import Container, Occupant
from ipam_lib.netbox.event_queue import EventQueue
from ipam_lib.netbox.events import Event, Place
from tests.crash.faults import FaultyNetBox
from tests.support.plain_netbox import PlainNetBox, PlainZones


class EventSource:
    """Sends what an instance may get. `queue` is where the events arrive."""

    def __init__(
        self, netbox: FaultyNetBox, truth: PlainNetBox, containers: Sequence[Container], random: Random
    ) -> None:
        assert netbox.space is not None
        self.queue = EventQueue(
            netbox.space,
            refresh_zones=PlainZones(containers).refresh,
            get_many=partial(netbox.get_many, limit=10.0),
        )
        self._truth = truth
        self._containers = containers
        self._random = random
        # Every object that was ever there, and where.
        self._known: dict[int, tuple[Occupant, Place]] = {}

    async def send(self) -> None:
        """Send some events after a while."""
        pick = self._random.choice
        await asyncio.sleep(pick((0.1, 0.3, 3.0, 30.0)) * self._random.random())
        for container in self._containers:
            for one in (*self._truth.children(container), *self._truth.ip_addresses.values()):
                place = Place(container.vrf_id, container.ip_family, one.first, one.last)
                self._known.setdefault(one.netbox_id, (one, place))
        for _ in range(pick((1, 1, 3, 30)) if self._known else 0):
            one, place = pick(list(self._known.values()))
            if self._random.random() < 0.3:
                _, place = pick(list(self._known.values()))
            action = pick(("created", "updated", "moved", "deleted", "deleted"))
            _, elsewhere = pick(list(self._known.values()))
            before = {"created": None, "moved": elsewhere}.get(action, place)
            after = None if action == "deleted" else place
            self.queue.add(Event("prefix" if one.kind == "prefix" else "ip_address", one.netbox_id, before, after))
