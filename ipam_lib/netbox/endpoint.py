"""What the configuration says about reaching NetBox, checked: its address, the token, whom to trust."""

from __future__ import annotations

import ssl
from pathlib import Path

from yarl import URL

from ipam_lib.errors import ConfigError


def usable_token(token: str) -> str:
    """The token without what surrounds it in its file. Raises ConfigError when it can be no token; never shows it."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(["netbox.token_path: the token is empty, or holds characters that no token has"])
    return token


def base_url(url: str) -> str:
    """The address that every path is added to. Raises ConfigError."""
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
    """The TLS settings: aiohttp's own (the system's authorities) without a file. Raises ConfigError."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"netbox.ca_file: cannot be used: {error.strerror or error}"]) from None
