"""The IP address of the client of a request."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from aiohttp import web

IPAddress = IPv4Address | IPv6Address

# Set by `access_control`, which knows the trusted proxies.
CLIENT_ADDRESS: Final = web.RequestKey("client_address", str)


def parsed(address: str | None) -> IPAddress | None:
    """An address; None for a text that is not one. An IPv4 client of an IPv6 socket has an IPv4 address."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def peer_address(request: web.BaseRequest) -> str | None:
    """The address of the peer of the connection; None for a socket in the file system."""
    remote = request.remote
    return str(parsed(remote) or remote) if remote and remote.startswith("::") else remote


def client_address(request: web.BaseRequest) -> str | None:
    """The address of the client; of the peer as long as nothing else is known."""
    return request.get(CLIENT_ADDRESS) or peer_address(request)


@lru_cache(maxsize=4096)
def source_of(remote: str | None) -> str:
    """The source of an address, for the throttles. An IPv6 client has at least a /64, so a /64 is one source."""
    address = parsed(remote)
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address or remote or "")
