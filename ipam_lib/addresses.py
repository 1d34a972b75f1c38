"""Addresses and prefixes: canonical text, spellings, comparison. No input or output."""

from __future__ import annotations

import ipaddress
from typing import cast

from ipam_lib.models import IPFamily

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_LENGTH: dict[IPFamily, int] = {"ipv4": 32, "ipv6": 128}


def host_address(text: str, ip_family: IPFamily | None = None) -> str:
    """The canonical text of one host address, with its mask: `83.118.168.10/32`, `2a0d:a00::1/128`.

    Accepts `A`, `A/32` or `A/128`. IPv6 addresses are returned compressed and in lower case (RFC 5952).

    Raises ValueError, with a text for the client, for a network, a wrong family, a zone index (`fe80::1%eth0`), an
    IPv4-mapped IPv6 address (a second text for an IPv4 host, so it could be registered twice), or a text that is not an
    address. So a network (a /24) that the earlier service registered can be listed, expired and released, but no
    request can name it.
    """
    host, slash, mask = text.partition("/")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("is not an IP address (expected A, A/32 or A/128)") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError("has a zone index (give the address without it)")
        if address.ipv4_mapped is not None:
            raise ValueError("is an IPv4-mapped address (give the IPv4 address itself)")
    family: IPFamily = "ipv4" if address.version == 4 else "ipv6"
    length = HOST_LENGTH[family]
    if slash and mask != str(length):
        raise ValueError(f"is not one host address (the mask must be /{length} or absent)")
    if ip_family is not None and family != ip_family:
        raise ValueError(f"is an {family} address, but ip_family says {ip_family}")
    return f"{address.compressed}/{length}"


def spellings(text: str) -> tuple[str, ...]:
    """The texts under which an address or network may be stored, the canonical one first. The earlier service stored
    what the client wrote: with or without a mask, in upper or lower case, compressed or not.

    Raises ValueError, with a text for the client, for a zone index or a text that is not an address.
    """
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError("is not an IP address (expected A, A/32 or A/128, or a network that is registered)") from None
    if isinstance(interface, ipaddress.IPv6Interface) and interface.scope_id is not None:
        raise ValueError("has a zone index (give the address without it)")
    length = interface.network.prefixlen
    texts = [f"{interface.ip.compressed}/{length}", text, f"{interface.ip.exploded}/{length}"]
    if length == interface.max_prefixlen:
        texts += [interface.ip.compressed, interface.ip.exploded]
    return tuple(dict.fromkeys([*texts, *map(str.upper, texts)]))


def canonical(stored: str) -> str:
    """The canonical text of a stored address or network. A text that is neither is returned unchanged."""
    try:
        return spellings(stored)[0]
    except ValueError:
        return stored


def network(text: str) -> IPNetwork:
    """The network of a text in CIDR notation. Raises ValueError for host bits, or if it is not a network."""
    return ipaddress.ip_network(text)


def family_of(text: str) -> IPFamily:
    """The family of an address or prefix. Raises ValueError if it is neither."""
    return "ipv4" if ipaddress.ip_interface(text).version == 4 else "ipv6"


def same(one: str, other: str) -> bool:
    """Whether two texts are the same prefix, in any spelling: the earlier service stored addresses as clients wrote
    them. Texts that are no prefix are the same only if they are equal."""
    if one == other:
        return True
    try:
        return ipaddress.ip_network(one, strict=False) == ipaddress.ip_network(other, strict=False)
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Whether the prefix is a single address (/32 or /128)."""
    net = ipaddress.ip_network(text, strict=False)
    return net.prefixlen == net.max_prefixlen


def contains(prefix: str | IPNetwork, address: str) -> bool:
    """Whether `prefix` contains `address` (an address or prefix of any family)."""
    outer = network(prefix) if isinstance(prefix, str) else prefix
    inner = ipaddress.ip_network(address, strict=False)
    return outer.version == inner.version and cast(ipaddress.IPv4Network, inner).subnet_of(
        cast(ipaddress.IPv4Network, outer)
    )
