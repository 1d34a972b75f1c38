"""Socket activation: listening sockets from systemd (sd_listen_fds(3)), which stay open during a restart."""

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
    """The listening sockets that systemd passed to this process; an empty list for none.

    The variables are removed from the environment, so that no child process uses them. Raises ConfigError for a
    descriptor that is not a listening stream socket.
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
                [f"descriptor {first + number} ({name or 'unnamed'}) from systemd is not a listening stream socket"]
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
