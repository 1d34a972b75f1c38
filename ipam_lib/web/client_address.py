"""The IP address of the client of a request."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web


def parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    """An address; None for a text that is not one. An IPv4 client of an IPv6 socket has an IPv4 address."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def client_address(request: web.BaseRequest) -> str | None:
    """The address of the peer of the connection; None for a socket in the file system."""
    remote = request.remote
    return str(parsed(remote) or remote) if remote and remote.startswith("::") else remote
