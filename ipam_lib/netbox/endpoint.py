"""How the configuration says to reach NetBox, checked: the URL, the token, the trusted certificate authorities."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yarl import URL

from ipam_lib.errors import ConfigError
from ipam_lib.models import IPAddressPolicy


@dataclass(frozen=True, slots=True)
class NetBoxSettings:
    """The `netbox` section of the configuration, with the content of its files.

    `url`: the address of NetBox, with its path if it has one. `constraint_tag`: the name of the tag of every prefix
    that the service creates; None for no tag. `timeout_seconds`: the longest time for one request, connection
    included. `ca_file`: a PEM file of the authorities to trust instead of the system's. `custom_fields` and
    `inherit_custom_fields`: see `payloads.stamped_fields`. `connections`: the largest number of requests at a time.
    """

    url: str
    token: str = field(repr=False)
    constraint_tag: str | None = None
    timeout_seconds: float = 10.0
    ca_file: str | Path | None = None
    custom_fields: Mapping[str, Any] | None = None
    inherit_custom_fields: Sequence[str] | None = None
    ip_addresses: IPAddressPolicy = "avoid"
    refresh_seconds: float = 600.0
    connections: int = 20
    user_agent: str = "ipam-api"


def usable_token(token: str) -> str:
    """The token without the white space around it. Raises ConfigError, without the token in it, when it is unusable."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(["netbox.token_path: the token is empty, or holds characters that no token has"])
    return token


def base_url(url: str) -> str:
    """The URL, with a slash at its end, that every path is appended to. Raises ConfigError."""
    try:
        parsed = URL(url.strip())
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(["netbox.url: not an http or https address; expected one like https://netbox.example.com"])
    if parsed.user is not None or parsed.password is not None or parsed.query_string or parsed.fragment:
        raise ConfigError(["netbox.url: user, password, query and fragment have no place in it"])
    return str(parsed).rstrip("/") + "/"


def tls(ca_file: str | Path | None) -> ssl.SSLContext | bool:
    """The TLS settings; without a file aiohttp's own, which trust the system's authorities. Raises ConfigError."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"netbox.ca_file: cannot be used: {error.strerror or error}"]) from None
