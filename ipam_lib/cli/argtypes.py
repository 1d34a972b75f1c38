"""Types of argument values for argparse: each function turns text into a value. Standard library only."""

from __future__ import annotations

import argparse
import ipaddress
import re
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from ipam_lib.models import UUID_PATTERN

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

COST_MODELS: Final = ("netbox-4.6",)
"""The values of `simulate-netbox --cost-model`; `netbox_simulator` has their durations."""
NETBOX_VERSIONS: Final = ("3.7", "4.2", "4.4", "4.5", "4.6")
"""The values of `--netbox-version`: the keys of `netbox_simulator.VERSIONS`."""


def port(text: str) -> int:
    """A TCP port, 0 to 65535 (0 lets the system choose). Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: expected a number from 0 to 65535")
    return int(text)


def milliseconds(text: str) -> float:
    """A duration in milliseconds, 0 or more. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of milliseconds")
    return value


def scale(text: str) -> float:
    """A factor above 0. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no factor above 0")
    return value


def nonempty(text: str) -> str:
    """Text that is not empty. Raises ArgumentTypeError."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def moments(text: str) -> tuple[datetime, datetime]:
    """The first and the last moment of a time. For a date alone these are the bounds of the day; for a date with a time
    of day they are the same. Local time, unless the text has an offset (`Z`, `+02:00`). Raises ArgumentTypeError."""
    try:
        first = datetime.fromisoformat(text).astimezone()
        if _DATE.fullmatch(text):
            # A day may have 23 or 25 hours.
            following = datetime.fromisoformat(text) + timedelta(days=1)
            return first, following.astimezone() - timedelta(milliseconds=1)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: expected something like 2026-11-24, 2026-11-24T13:30 or 2026-11-24T12:30:00Z"
        ) from None
    return first, first


def address(text: str) -> str:
    """An IP address or network, with or without a mask, unchanged: `addresses.spellings` adds /32 or /128.

    Raises ArgumentTypeError.
    """
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no IP address: expected A, A/32 or A/128, or a network that is registered"
        ) from None
    return text


def uuid(text: str) -> str:
    """A UUID in upper or lower case, unchanged. Raises ArgumentTypeError."""
    if re.fullmatch(UUID_PATTERN, text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no UUID: expected something like 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
        )
    return text


def positive(text: str) -> int:
    """A whole number from 1 to 1000. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


def zone(text: str) -> str:
    """The name of a zone: at most 100 printable characters, NetBox's limit for a choice. Raises ArgumentTypeError."""
    if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a zone: expected 1 to 100 printable characters")
    return text


def webhook_url(text: str) -> str:
    """The URL of the webhook of an instance. Raises ArgumentTypeError."""
    expected = "expected an http or https URL of the path /netbox/webhook: https://ipam.example.com/netbox/webhook"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise argparse.ArgumentTypeError(expected) from None
    # NetBox takes 500 characters, and replaces what stands in braces.
    plain = text.isascii() and text.isprintable() and not set(text) & set(" {}?#@") and len(text) <= 500
    if not usable or not plain or not parts.path.endswith("/netbox/webhook"):
        raise argparse.ArgumentTypeError(expected)
    return text


def namespace(text: str) -> tuple[str, str]:
    """A database and a collection of MongoDB, as `DATABASE.COLLECTION`. Raises ArgumentTypeError."""
    database, _, collection = text.partition(".")
    if not database or not collection:
        raise argparse.ArgumentTypeError(f"{text!r} names no collection: expected DATABASE.COLLECTION")
    return database, collection
