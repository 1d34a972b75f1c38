"""`/api/ipam/prefixes/{id}/available-prefixes/`: what is free in a container, and taking the first that fits.

NetBox holds one advisory lock over these POSTs, whichever container they touch, and nothing else takes it: so they are
distinct among themselves, and race with prefixes that are created by their address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netbox_simulator.access import User, grant
from netbox_simulator.catalog import KINDS
from netbox_simulator.kinds import VRF
from netbox_simulator.prefixes import OBJECT_TYPE, PrefixViews, message_of
from netbox_simulator.render import nested
from netbox_simulator.state import BITS, Prefix, cidr
from netbox_simulator.wire import ApiError, Outcome, Reply, Request, Unhandled

FULL = "Insufficient resources are available to satisfy the request"


class AvailableViews:
    """The views, over those of prefixes."""

    def __init__(self, prefixes: PrefixViews) -> None:
        self.prefixes = prefixes
        self.state = prefixes.state

    def index(self, user: User, request: Request, container_id: int) -> Outcome:
        """GET: the free blocks, in order; never paged."""
        container = self.prefixes.get(user, container_id, "view")
        space = self.state.prefixes.space(container.vrf, container.family)
        vrf = nested(self.state, KINDS[VRF], container.vrf, request.base)
        blocks = space.free_blocks(container.first, container.length)
        family = container.family
        return Reply(200, [{"family": family, "prefix": cidr(family, *block), "vrf": vrf} for block in blocks])

    def allocate(self, user: User, request: Request, data: Any, request_id: str, container_id: int) -> Outcome:
        """POST: the lowest free prefix of the wanted length, or a list of them, all or nothing.

        The order of the checks is NetBox's: lengths, then room, then everything else.
        """
        right = grant(self.state, user, "add", OBJECT_TYPE)
        container = self.prefixes.get(user, container_id, "view")
        several = isinstance(data, list)
        items: list[Any] = data if several else [data]
        lengths = _lengths(items, container.family)
        found = self._fit(container, lengths)
        place = {"vrf": container.vrf}
        payloads = [
            {**item, **place, "prefix": cidr(container.family, first, length)}
            for item, (first, length) in zip(items, found, strict=True)
        ]
        cleaned = self.prefixes.clean_all(user, payloads, several=several)

        def write() -> Reply:
            rows = self.prefixes.insert(user, right, cleaned, request_id, [message_of(item) for item in items])
            # Setting tags makes NetBox read the object back; without them it answers the depth of before the insert.
            shown = [self.prefixes.render(row, request.base, fresh=bool(row.tags)) for row in rows]
            return Reply(201, shown if several else shown[0])

        return write

    def _fit(self, container: Prefix, lengths: list[int]) -> list[tuple[int, int]]:
        """A free block for each length, one after the other. Raises ApiError 409 when one does not fit."""
        space = self.state.prefixes.space(container.vrf, container.family)
        held: list[tuple[int, int]] = []
        try:
            for length in lengths:
                first = space.first_fit(container.first, container.length, length)
                if first is None:
                    raise ApiError(409, {"detail": FULL})
                if len(lengths) > 1:
                    # Keep it from the next item of the list; no other id is 0.
                    space.add(first, length, 0)
                held.append((first, length))
        finally:
            if len(lengths) > 1:
                for first, length in held:
                    space.remove(first, length, 0)
        return held


def _lengths(items: list[Any], family: int) -> list[int]:
    """The wanted lengths. Raises ApiError 400, a list with one dictionary for each item (also for a single object)."""
    lengths: list[int] = []
    errors: list[dict[str, str]] = []
    for item in items:
        if not isinstance(item, Mapping):
            raise Unhandled("AttributeError", f"'{type(item).__name__}' object has no attribute 'get'")
        length = item.get("prefix_length")
        if length is None:
            errors.append({"prefix_length": "this field can not be missing"})
        elif not isinstance(length, int):
            errors.append({"prefix_length": "this field must be int type"})
        elif length > BITS[family]:
            errors.append({"prefix_length": f"Invalid prefix length ({length}) for IPv{family}"})
        else:
            errors.append({})
            # A boolean is an int in Python, and so it is for NetBox.
            lengths.append(int(length))
    if any(errors):
        raise ApiError(400, errors)
    return lengths
