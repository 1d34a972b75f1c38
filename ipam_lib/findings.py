"""What a check found: how it is, and what to do about it. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `check` names what was looked at, and stays from version to version (docs/commands.md lists them);
    `message` says how it is, `advice` what to do about it, empty where there is nothing to do. Neither shows a secret.
    """

    check: str
    status: Status
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str) -> Finding:
    """The service works like this, but less safely or less well than it could."""
    return Finding(check, "warning", message, advice)


def error(check: str, message: str, advice: str) -> Finding:
    """The service does not work like this."""
    return Finding(check, "error", message, advice)


def stays_here(host: str) -> bool:
    """Whether what is sent to this host stays on the machine: a loopback address, its name, or the path of a socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
