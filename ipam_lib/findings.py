"""The results of a check: the state, and what to do about it. No input or output."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    `check`: the stable name of the check (docs/commands.md lists the names). `message`: the state. `advice`: what to do
    about it; empty if there is nothing to do. Neither text contains a secret.
    """

    check: str
    status: Status
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """The state is right."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str) -> Finding:
    """The service works, but less safely or less well than it could."""
    return Finding(check, "warning", message, advice)


def error(check: str, message: str, advice: str) -> Finding:
    """The service does not work in this state."""
    return Finding(check, "error", message, advice)


def stays_here(host: str) -> bool:
    """Whether data for this host stays on the machine: a loopback address, `localhost`, or the path of a socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
