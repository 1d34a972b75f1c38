"""Sockets that systemd opened and passes on (sd_listen_fds(3)): they stay open while the service is started anew."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

from ipam_lib.errors import ConfigError

log = logging.getLogger(__name__)

FIRST: Final = 3


def passed_sockets(environ: MutableMapping[str, str] = os.environ, first: int = FIRST) -> list[socket.socket]:
    """The listening sockets that were passed to this very process, none when there are none. The variables are taken
    out of the environment, so that no child takes them for its own.

    Raises ConfigError when something else was passed.
    """
    process = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    sockets: list[socket.socket] = []
    for number in range(int(count)):
        name = names[number] if number < len(names) else ""
        one = _listener(first + number)
        if one is None:
            for other in sockets:
                other.close()
            raise ConfigError(
                [f"descriptor {first + number} ({name or 'unnamed'}), passed by systemd, is no listening stream socket"]
            )
        sockets.append(one)
    return sockets


def _listener(descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        one = socket.socket(fileno=descriptor)
        if one.type != socket.SOCK_STREAM or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            one.detach()
            return None
        one.setblocking(False)
    except OSError:
        return None
    return one
