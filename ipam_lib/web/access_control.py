"""Which clients may send requests: allowed networks, client certificates, and the addresses that proxies forward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from aiohttp import web

from ipam_lib.config import ServerSection
from ipam_lib.errors import CertificateNotAllowed, NetworkNotAllowed
from ipam_lib.web.client_address import CLIENT_ADDRESS, IPAddress, parsed, peer_address

Network = IPv4Network | IPv6Network

# Probes of Kubernetes and load balancers come from anywhere, without a certificate.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})

CERTIFICATE: Final = web.RequestKey("certificate", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """The rules for requests.

    `allowed_networks`: the networks of allowed clients; empty for all. `trusted_proxies`: the proxies whose
    `forwarded_header` names the client. `certificate`: whether a client certificate is required. `names`: the allowed
    subject alternative names of client certificates; empty for all.
    """

    allowed_networks: Sequence[Network] = ()
    trusted_proxies: Sequence[Network] = ()
    forwarded_header: str = "x-forwarded-for"
    certificate: bool = False
    names: Sequence[str] = ()

    @classmethod
    def of(cls, section: ServerSection) -> AccessRules:
        """The rules of the settings."""
        return cls(
            allowed_networks=section.allowed_networks,
            trusted_proxies=section.trusted_proxies,
            forwarded_header=section.forwarded_header,
            certificate=section.tls_client_ca is not None,
            names=section.tls_client_names,
        )


@dataclass(slots=True)
class AccessControl:
    """Checks requests by the rules, which a reload may replace."""

    rules: AccessRules

    def check(self, request: web.Request) -> None:
        """Note address and certificate of the client on the request.

        Raises NetworkNotAllowed, CertificateNotAllowed.
        """
        rules = self.rules
        address = self._client(request)
        if address is not None:
            request[CLIENT_ADDRESS] = address
        certificate: dict[str, Any] = request.get_extra_info("peercert") or {}
        names = [f"{kind}:{name}" for kind, name in certificate.get("subjectAltName", ())]
        if certificate:
            request[CERTIFICATE] = ",".join(names) or f"serial {certificate.get('serialNumber')}"
        if request.path in OPEN_PATHS:
            return
        if rules.allowed_networks and not _inside(parsed(address), rules.allowed_networks):
            raise NetworkNotAllowed
        if rules.certificate and not certificate:
            raise CertificateNotAllowed("a client certificate is required")
        allowed = {name.lower() for name in rules.names}
        if rules.certificate and allowed and allowed.isdisjoint(name.partition(":")[2].lower() for name in names):
            raise CertificateNotAllowed("no name of the client certificate is allowed")

    def _client(self, request: web.Request) -> str | None:
        """The address of the client: of the peer, or the one that the last trusted proxy in the chain has written.

        Each proxy appends the address of its peer, so the header is read from its end: everything before the entry of
        an untrusted address may be forged.
        """
        rules = self.rules
        client = peer_address(request)
        entries = _entries(request, rules.forwarded_header) if rules.trusted_proxies else []
        while entries and _inside(parsed(client), rules.trusted_proxies):
            address = parsed(entries.pop())
            if address is None:
                break
            client = str(address)
        return client


ACCESS_CONTROL: Final = web.AppKey("access_control", AccessControl)


def _inside(address: IPAddress | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _entries(request: web.Request, header: str) -> list[str]:
    """The addresses in `X-Forwarded-For` or `Forwarded` (RFC 7239), the nearest proxy last; `unknown` for others."""
    values = [one.strip() for line in request.headers.getall(header, ()) for one in line.split(",")]
    if header == "forwarded":
        values = [_forwarded_for(value) for value in values]
    return [_without_port(value) for value in values if value]


def _forwarded_for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return value.strip('"')
    return "unknown"


def _without_port(text: str) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80` and `[2001:db8::1]` without brackets and port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
