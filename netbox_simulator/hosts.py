"""What IP addresses and IP ranges take: as numbers, and the filters of their lists.

`parent` finds what lies inside a prefix, whatever the mask of the address; several values are alternatives.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

from netbox_simulator.kinds import ADDRESS, RANGE
from netbox_simulator.wire import Row

KINDS_OF_HOSTS = (ADDRESS, RANGE)


def ends(row: Row) -> tuple[int, int, int]:
    """The family of an IP address or IP range, and its first and last address as numbers."""
    first = ipaddress.ip_interface(row.get("address") or row["start_address"])
    last = ipaddress.ip_interface(row.get("address") or row["end_address"])
    return first.version, int(first.ip), int(last.ip)


def range_size(row: Row) -> int:
    """How many addresses an IP range has."""
    _, first, last = ends(row)
    return last - first + 1


def range_display(row: Row) -> str:
    """An IP range as NetBox writes it: `83.118.168.20-29/24`."""
    first, last = (ipaddress.ip_interface(row[name]) for name in ("start_address", "end_address"))
    separator = "." if first.version == 4 else ":"
    start, end = (f"{one.ip}".rsplit(separator, 1) for one in (first, last))
    shown = end[1] if start[0] == end[0] else str(last.ip)
    return f"{first.ip}-{shown}/{first.network.prefixlen}"


def passes(row: Row, name: str, values: list[str]) -> bool | None:
    """Whether an IP address or IP range passes a filter; None for a filter that is not one of these."""
    if name == "parent":
        return any(_inside(row, value) for value in values)
    if name == "vrf_id":
        return any(str(row["vrf"]) == value or (row["vrf"] is None and value == "null") for value in values)
    if name == "status":
        return row["status"] in values
    if name == "contains" and "start_address" in row:
        return False  # as observed: NetBox finds no range by an address
    if name == "address" and "address" in row:
        return any(_is_at(row, value) for value in values)
    if name == "id__gte":
        return bool(row["id"] >= int(values[-1]))
    if name == "last_updated__gte":
        moment = datetime.fromisoformat(values[-1])
        return datetime.fromisoformat(row["last_updated"]) >= (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return None


def _inside(row: Row, value: str) -> bool:
    try:
        net = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    family, first, last = ends(row)
    return family == net.version and int(net.network_address) <= first <= last <= int(net.broadcast_address)


def _is_at(row: Row, value: str) -> bool:
    try:
        wanted = ipaddress.ip_interface(value)
    except ValueError:
        return False
    address = ipaddress.ip_interface(row["address"])
    return address == wanted if "/" in value else address.ip == wanted.ip
