"""What takes addresses inside a container: listings of child prefixes, IP addresses and IP ranges (see `space`).

NetBox's available-prefixes looks at child prefixes only. https://netboxlabs.com/docs/netbox/models/ipam/ipaddress/ and
https://netboxlabs.com/docs/netbox/models/ipam/iprange/ describe the other two.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from ipam_lib.addresses import contains, network
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container, Occupant, Prefix
from ipam_lib.netbox.container_space import ContainerState
from ipam_lib.netbox.paging import pages, read_all
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.prefix_reader import PREFIXES, PrefixReader, vrf_filter
from ipam_lib.netbox.transport import Params, Transport

IP_ADDRESSES = "api/ipam/ip-addresses/"
IP_RANGES = "api/ipam/ip-ranges/"


class SpaceReader:
    """Implements `space.SpaceReader` over NetBox's REST API."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._prefixes = PrefixReader(transport)

    async def container_state(self, container: Container, *, limit: float) -> ContainerState | None:
        """What NetBox says of a container itself; None when it is gone."""
        fields = ("fields", "id,children,mark_utilized")
        answer = await self._transport.call(
            "container_state",
            "GET",
            f"{PREFIXES}{container.id}/",
            budget=self._transport.budget(limit),
            params=[fields],
            repeat=True,
            expected=(404,),
        )
        if not answer.ok:
            return None
        return read_all("container_state", [answer.body], _state)[0]

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        """Every prefix in the container's VRF that contains the address or equals it."""
        return await self._prefixes.covering(container, address, self._transport.budget(limit))

    async def child_prefixes(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        """Pages of the prefixes inside a container."""
        params = [("within", container.prefix), ("fields", "id,prefix,vrf,last_updated,custom_fields")]
        async for rows in self._rows("child_prefixes", PREFIXES, container, params, since, limit, _prefix):
            yield [row for row in rows if row.text != container.prefix and contains(container.prefix, row.text)]

    async def ip_addresses(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        """Pages of the IP addresses inside a container, or inside `within`, but for those that are deprecated."""
        outer = network(within or container.prefix)
        params = [("parent", str(outer)), ("fields", "id,address,vrf,status,last_updated")]
        async for rows in self._rows("ip_addresses", IP_ADDRESSES, container, params, since, limit, _ip_address):
            yield [row for row in rows if ipaddress.ip_interface(row.text).ip in outer]

    async def ip_ranges(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        """Pages of the IP ranges in a container's VRF and family, but for those that are deprecated. NetBox's filter
        `parent` does not find a range that is only partly inside the container."""
        params = [("fields", "id,start_address,end_address,vrf,status,last_updated")]
        async for rows in self._rows("ip_ranges", IP_RANGES, container, params, since, limit, _ip_range):
            yield [row for row in rows if (":" in row.text) == (container.ip_family == "ipv6")]

    async def _rows(
        self,
        operation: str,
        path: str,
        container: Container,
        params: Params,
        since: datetime | None,
        limit: float,
        read: Callable[[Any], Occupant | None],
    ) -> AsyncIterator[list[Occupant]]:
        """The rows of a listing that are in the container's VRF; `read` gives None for one that takes nothing."""
        filters = [*params, ("vrf_id", vrf_filter(container))]
        if since is not None:
            filters.append(("last_updated__gte", since.strftime("%Y-%m-%dT%H:%M:%SZ")))

        def row_of(item: Any) -> Occupant | None:
            if payloads.related_id(item, "vrf") != container.vrf_id:
                return None
            return read(item)

        async for items in pages(self._transport, operation, path, filters, self._transport.budget(limit)):
            yield [row for row in read_all(operation, items, row_of) if row is not None]


def _state(item: Any) -> ContainerState:
    children = item.get("children") if isinstance(item, Mapping) else None
    if not isinstance(children, int):
        raise UnexpectedResponse("a prefix without a number of children")
    return ContainerState(children, utilized=item.get("mark_utilized") is True)


def _prefix(item: Any) -> Occupant:
    text = _text(item, "prefix")
    net = network(text)
    fields = item.get("custom_fields")
    own = isinstance(fields, Mapping) and bool(fields.get(payloads.UUID_FIELD))
    return Occupant(payloads.id_of(item), int(net[0]), int(net[-1]), "prefix", str(net), _updated(item), own)


def _ip_address(item: Any) -> Occupant | None:
    if payloads.status_of(item) == payloads.DEPRECATED:
        return None
    text = _text(item, "address")
    number = _number(item, text)
    return Occupant(payloads.id_of(item), number, number, "IP address", text, _updated(item))


def _ip_range(item: Any) -> Occupant | None:
    if payloads.status_of(item) == payloads.DEPRECATED:
        return None
    first, last = _text(item, "start_address"), _text(item, "end_address")
    ends = _number(item, first), _number(item, last)
    if ends[0] > ends[1]:
        raise UnexpectedResponse(f"IP range {payloads.id_of(item)} ends before it begins")
    return Occupant(payloads.id_of(item), *ends, "IP range", f"{first}-{last}", _updated(item))


def _number(item: Any, text: str) -> int:
    try:
        return int(ipaddress.ip_interface(text).ip)
    except ValueError:
        raise UnexpectedResponse(f"object {payloads.id_of(item)} without a proper address") from None


def _text(item: Any, name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise UnexpectedResponse(f"object {payloads.id_of(item)} without {name}")
    return value


def _updated(item: Any) -> datetime | None:
    """When the object was last changed, by NetBox's clock; None where that is not said."""
    value = item.get("last_updated")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
