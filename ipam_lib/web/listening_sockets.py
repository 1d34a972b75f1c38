"""The sockets of `server.host` and `server.port`: bound, and described for the log."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from ipam_lib.errors import CannotListen

BOTH_FAMILIES = "::"


def bind(host: str | Sequence[str], port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets on all addresses of `host` (an address, a name, or a list), which do not listen yet.

    `::` accepts IPv4 connections too, as it does for a systemd socket and nginx. `port`: 0 lets the system choose one
    port for all. Raises OSError; its `filename` is the address and the port.
    """
    sockets: list[socket.socket] = []
    name = ""
    try:
        for name in [host] if isinstance(host, str) else host:
            sockets += _bind_one(name, port, reuse_port=reuse_port)
            port = port or sockets[0].getsockname()[1]
    except OSError as error:
        for one in sockets:
            one.close()
        error.filename = f"{name} port {port}"
        raise
    return sockets


def _bind_one(name: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            one = socket.socket(family, kind, protocol)
        except OSError as error:
            problem = error
            continue
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(name != BOTH_FAMILIES))
            one.setblocking(False)
            # A name may stand for several addresses; with port 0 all get the same port.
            one.bind((address[0], sockets[0].getsockname()[1], *address[2:]) if sockets and not port else address)
            sockets.append(one)
        except OSError as error:
            one.close()
            problem = error
            # One address of a name may not exist here: `localhost` is ::1 too, also without IPv6.
            if error.errno != errno.EADDRNOTAVAIL:
                break
    if problem is not None and (not sockets or problem.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
        for one in sockets:
            one.close()
        raise problem
    return sockets


def cannot_listen(error: OSError) -> CannotListen:
    """The error for the administrator."""
    reasons = {
        errno.EADDRINUSE: "another process listens there already",
        errno.EACCES: "this user may not use that port",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EAFNOSUPPORT: "this machine has no IPv6; use 0.0.0.0",
    }
    reason = "this machine has no such address" if isinstance(error, socket.gaierror) else reasons.get(error.errno or 0)
    return CannotListen([f"cannot listen on {error.filename}: {reason or error.strerror or error}"])


def urls(sockets: Sequence[socket.socket], *, tls: bool) -> list[str]:
    """The addresses of listening sockets, as URLs without a path."""
    return [_url(one, "https" if tls else "http") for one in sockets]


def _url(listener: socket.socket, scheme: str) -> str:
    name = listener.getsockname()
    if not isinstance(name, tuple):  # a socket in the file system, or an abstract one
        path = name.decode("utf-8", "replace").replace("\0", "@") if isinstance(name, bytes) else name
        return f"{scheme}+unix://{path}"
    host, port = name[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
