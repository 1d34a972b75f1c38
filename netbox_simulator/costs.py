"""How long NetBox takes to answer: medians measured on NetBox 4.6.8, by operation and number of children.

The cost is interpolated between two measurements. Beyond the last one it grows as between the last two, but it never
falls. The cost in a container lies between two curves: *contiguous*, where each child begins where the one before
ends, and *alternating*, where every other address is free. An operation without a measurement costs what the most
similar one costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from netbox_simulator.model import NetBoxModel
from netbox_simulator.state import Prefix
from netbox_simulator.validation import parse_network
from netbox_simulator.wire import Request

Curve = tuple[tuple[float, float], ...]

# Milliseconds by number of children of the container: contiguous, and alternating.
AVAILABLE: Final[tuple[Curve, Curve]] = (
    ((0, 8), (5_000, 46), (20_000, 136)),
    ((0, 8), (1_000, 876), (5_000, 5_368), (20_000, 21_807)),
)
ALLOCATED: Final[tuple[Curve, Curve]] = (
    ((0, 50), (5_000, 82), (20_000, 181)),
    ((0, 50), (1_000, 64), (5_000, 141), (20_000, 461)),
)
CREATED: Final[tuple[Curve, Curve]] = (
    ((0, 57), (5_000, 62), (20_000, 51)),
    ((0, 57), (1_000, 46), (5_000, 45), (20_000, 51)),
)
# Milliseconds for each address, by the length of the list.
ALLOCATED_IN_LIST: Final[Curve] = ((1, 45), (10, 30), (50, 31))
DELETED_IN_LIST: Final[Curve] = ((1, 69), (50, 22))
# Milliseconds of a page of a list, by how many rows are passed over before it.
LISTED: Final[Curve] = ((0, 51), (40_000, 772))
LISTED_FROM_ID: Final = 112.0
# Milliseconds of a list of what changed since a moment, where nothing did.
CHANGED_SINCE: Final = {"prefixes.list": 41.0, "ip-addresses.list": 40.0, "ip-ranges.list": 31.0}

BY_ID: Final = 42.0
BY_PREFIX: Final = 56.0
BY_UUID: Final = 47.0
CHANGED: Final = 65.0
REPLACED: Final = 86.0
LOOKED_UP: Final = 17.0
"""A choice set by its name, and every other small thing."""

AT_ONCE: Final = 1.27
"""How many requests NetBox works at in the same time: eight clients that each create one prefix after the other, at 47
ms each, get 27 a second together. More than that make each other wait."""


def interpolate(curve: Curve, at: float) -> float:
    """The value of a curve of at least two ascending points."""
    if at <= curve[0][0]:
        return curve[0][1]
    for (x, y), (next_x, next_y) in pairwise(curve):
        if at <= next_x:
            return y + (next_y - y) * (at - x) / (next_x - x)
    (x, y), (last_x, last_y) = curve[-2:]
    return last_y + max(0.0, (last_y - y) / (last_x - x)) * (at - last_x)


def grown(curves: tuple[Curve, Curve], children: int, breaks: int) -> float:
    """The cost in a container with so many children, of which `breaks` do not begin where the one before ends."""
    contiguous, alternating = (interpolate(curve, children) for curve in curves)
    fragmentation = min(1.0, breaks / (children - 1)) if children > 1 else 0.0
    return contiguous + (alternating - contiguous) * fragmentation


@dataclass(slots=True)
class Costs:
    """The cost model over one simulated NetBox. `time_scale`: what every duration is multiplied with."""

    model: NetBoxModel
    time_scale: float = 1.0
    _under_way: int = field(default=0, init=False)

    @contextmanager
    def serving(self, request: Request) -> Iterator[float]:
        """The request is being served as long as this lasts. Gives the seconds that it is to take: longer while NetBox
        works at others too."""
        self._under_way += 1
        try:
            busy = max(1.0, self._under_way / AT_ONCE)
            yield self.milliseconds(request) * busy * self.time_scale / 1000
        finally:
            self._under_way -= 1

    def milliseconds(self, request: Request) -> float:
        """What the request costs when NetBox does nothing else, in NetBox's own time."""
        operation = self.model.operation(request)
        if operation in CHANGED_SINCE and request.value("last_updated__gte"):
            return CHANGED_SINCE[operation]
        match operation:
            case "prefixes.available":
                return grown(AVAILABLE, *self._inside(self._named(request)))
            case "prefixes.allocate":
                return self._allocated(request)
            case "prefixes.create":
                items = _items(request)
                return sum(grown(CREATED, *self._inside(self._around(item))) for item in items)
            case "prefixes.list":
                return _listed(request)
            case "prefixes.get":
                return BY_ID
            case "prefixes.update" | "prefixes.update_many":
                return CHANGED * len(_items(request))
            case "prefixes.replace" | "prefixes.replace_many":
                return REPLACED * len(_items(request))
            case "prefixes.delete" | "prefixes.delete_many":
                length = len(_items(request))
                return interpolate(DELETED_IN_LIST, min(length, 50)) * length
        return LOOKED_UP

    def _allocated(self, request: Request) -> float:
        """NetBox looks for what is free once for a whole list, so that is paid once; what it costs to store one more is
        the same in every container."""
        length = len(_items(request))
        first = grown(ALLOCATED, *self._inside(self._named(request)))
        return first + interpolate(ALLOCATED_IN_LIST, min(length, 50)) * length - ALLOCATED_IN_LIST[0][1]

    def _named(self, request: Request) -> Prefix | None:
        """The container of the id in the path."""
        text = request.path.removesuffix("/available-prefixes/").rpartition("/")[2]
        return self.model.state.prefixes.rows.get(int(text)) if text.isdecimal() else None

    def _around(self, item: Any) -> Prefix | None:
        """The narrowest prefix around the one that is to be created."""
        network = parse_network(item.get("prefix")) if isinstance(item, dict) else None
        if network is None:
            return None
        family, _, first, length = network
        vrf = item.get("vrf")
        space = self.model.state.prefixes.space(vrf if isinstance(vrf, int) else None, family)
        ids = list(space.around(first, length))
        return self.model.state.prefixes.rows[ids[-1]] if ids else None

    def _inside(self, container: Prefix | None) -> tuple[int, int]:
        """How many children a container has, and how many of them do not begin where the one before ends."""
        if container is None:
            return 0, 0
        space = self.model.state.prefixes.space(container.vrf, container.family)
        place = (container.first, container.length)
        return space.count_within(*place), space.breaks_within(*place)


def _listed(request: Request) -> float:
    if request.value("cf_k8s_uuid"):
        return BY_UUID
    if request.value("prefix") or request.value("contains"):
        return BY_PREFIX
    if request.value("start") is not None or request.value("id__gte") is not None:
        return LISTED_FROM_ID
    offset = request.value("offset") or ""
    return interpolate(LISTED, int(offset) if offset.isascii() and offset.isdecimal() else 0)


def _items(request: Request) -> list[Any]:
    """The items of a payload: of a list that many, else one."""
    try:
        payload = json.loads(request.body)
    except ValueError:
        payload = None
    return payload if isinstance(payload, list) and payload else [payload]
