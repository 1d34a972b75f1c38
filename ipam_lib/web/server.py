"""The server around the application: socket, TLS, signals, and leaving without dropping what was begun."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from ipam_lib.errors import ConfigError
from ipam_lib.web.connection import Connection, Limits, factory
from ipam_lib.web.middlewares import INFLIGHT
from ipam_lib.web.notify import Notifier, reported, watched
from ipam_lib.web.signals import reload_signal, stop_signals
from ipam_lib.web.tls import Certificate

log = logging.getLogger(__name__)

SECONDS_TO_FINISH: Final = 15.0
SECONDS_TO_HEAR_OUT: Final = 2.0
SECONDS_BETWEEN_LOOKS: Final = 0.01
SECONDS_TO_CLOSE: Final = 2.0
SECONDS_FOR_HANDSHAKE: Final = 10.0
BACKLOG: Final = 1024
# Kept free for storage, NetBox, logs and the interpreter.
DESCRIPTORS_OF_OURS: Final = 128


def connection_limit() -> int:
    """How many connections to allow: 1,000, or what the process's limit of open files leaves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1000
    return max(16, min(1000, soft - DESCRIPTORS_OF_OURS))


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and how to listen. `port` 0 lets the system choose; TLS when there is a certificate. With `sockets`, which
    listen already, host and port mean nothing."""

    host: str = "0.0.0.0"
    port: int = 3000
    reuse_port: bool = False
    certificate: Certificate | None = None
    sockets: Sequence[socket.socket] = ()
    limits: Limits = field(default_factory=lambda: Limits(connections=connection_limit()))


def _cannot_listen(listen: Listen, error: OSError) -> ConfigError:
    reasons = {
        errno.EADDRINUSE: "something else is listening there already",
        errno.EACCES: "this user may not use that port",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        # Newer versions of asyncio try every address that a name stands for, and have no number when none will do.
        None: "this machine has no such address",
    }
    reason = reasons.get(error.errno) or error.strerror or str(error)
    return ConfigError([f"cannot listen on {listen.host} port {listen.port}: {reason}"])


def url_of(server: asyncio.Server, *, tls: bool) -> str:
    """The address that the server listens on, as a URL without a path."""
    name = server.sockets[0].getsockname()
    scheme = "https" if tls else "http"
    if not isinstance(name, tuple):  # a socket in the file system, or an abstract one
        path = name.decode("utf-8", "replace").replace("\0", "@") if isinstance(name, bytes) else name
        return f"{scheme}+unix://{path}"
    host, port = name[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


async def _stop_accepting(servers: Sequence[asyncio.Server]) -> None:
    """Close the listening sockets, but not between accepting a connection and having it: asyncio would then forget the
    connection, and its client would wait for nothing."""
    loop = asyncio.get_running_loop()
    for listener in (listener for server in servers for listener in server.sockets):
        loop.remove_reader(listener.fileno())
    await _let_the_loop_catch_up()
    for server in servers:
        server.close()


async def _await_pending_requests(server: web.Server) -> None:
    """Give clients that have connected, but not said yet what for, the time to do so. They were accepted, so to hang up
    on them would be to refuse a request that the next process would have served."""
    time = asyncio.get_running_loop().time
    until = time() + SECONDS_TO_HEAR_OUT
    while time() < until:
        if not any(isinstance(one, Connection) and one.awaiting_request for one in server.connections):
            break
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    # Between the last byte of a request's head and its being counted as under way.
    await _let_the_loop_catch_up()


async def _let_the_loop_catch_up() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def _bind(listen: Listen, connected: Callable[[], asyncio.Protocol]) -> list[asyncio.Server]:
    """Servers on every socket, not accepting yet. Raises ConfigError."""
    tls = listen.certificate.context if listen.certificate else None
    handshake = SECONDS_FOR_HANDSHAKE if tls else None
    create = asyncio.get_running_loop().create_server
    if listen.sockets:
        return [
            await create(
                connected,
                sock=one,
                ssl=tls,
                ssl_handshake_timeout=handshake,
                backlog=BACKLOG,
                start_serving=False,
            )
            for one in listen.sockets
        ]
    try:
        server = await create(
            connected,
            listen.host,
            listen.port,
            ssl=tls,
            ssl_handshake_timeout=handshake,
            backlog=BACKLOG,
            reuse_port=listen.reuse_port or None,
            start_serving=False,
        )
    except OSError as error:
        raise _cannot_listen(listen, error) from None
    return [server]


@asynccontextmanager
async def listening(app: web.Application, listen: Listen) -> AsyncIterator[str]:
    """Serve the application while this lasts; gives its URL. On leaving: stop accepting, finish what is in flight (at
    most 15 s), close.

    Raises ConfigError when the socket or the certificate cannot be used; nothing has been started then.
    """
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SECONDS_TO_CLOSE)
    inflight = app[INFLIGHT]
    connect: Callable[[], asyncio.Protocol] | None = None

    def connected() -> asyncio.Protocol:
        assert connect is not None
        return connect()

    # Bound before anything is started, accepting only after everything is.
    servers = await _bind(listen, connected)
    try:
        await runner.setup()
        assert runner.server is not None
        connect = factory(runner.server, listen.limits, inflight)
        try:
            for server in servers:
                await server.start_serving()
        except OSError as error:
            raise _cannot_listen(listen, error) from None
        yield url_of(servers[0], tls=listen.certificate is not None)
    finally:
        await _stop_accepting(servers)
        inflight.stopping = True
        if runner.server is not None:
            await _await_pending_requests(runner.server)
        if left := inflight.count:
            log.info("finishing what is in flight", extra={"in_flight": left})
        if left := await inflight.drain(SECONDS_TO_FINISH):
            log.warning("leaving although not everything has finished", extra={"in_flight": left})
        await inflight.abandon()
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class ServiceManagerHooks:
    """How whoever started the service is kept informed, and what is done when told to reload.

    `alive`: whether what works in the background does. `report`: how the service is doing, in words. `reload`: reads
    the files anew; it raises nothing. Without it, SIGHUP ends the process, as it does by default.
    """

    notifier: Notifier = field(default_factory=Notifier)
    alive: Callable[[], bool] = lambda: True
    report: Callable[[], Awaitable[str]] | None = None
    reload: Callable[[], Awaitable[None]] | None = None


async def serve(
    app: web.Application,
    listen: Listen,
    announce: Callable[[str], None],
    supervision: ServiceManagerHooks | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then leave gracefully; a second signal ends the process at once.

    `announce` is called with the URL once connections are accepted. Raises ConfigError like `listening`.
    """
    told = supervision or ServiceManagerHooks()
    notifier = told.notifier

    with stop_signals() as stop, reload_signal() if told.reload else nullcontext(asyncio.Event()) as wanted:
        async with watched(notifier, told.alive), listening(app, listen) as url:
            announce(url)
            # As soon as it listens: a database that is away at boot must not make systemd start it over and over.
            notifier.ready(f"listening on {url}")
            async with reported(notifier, told.report):
                reloading = asyncio.create_task(_reload(told, wanted), name="reload")
                try:
                    await stop.wait()
                finally:
                    reloading.cancel()
                    await asyncio.wait((reloading,))
            notifier.stopping()
    log.info("stopped")


async def _reload(told: ServiceManagerHooks, wanted: asyncio.Event) -> None:
    """Reload as often as it is wanted, one at a time."""
    while True:
        await wanted.wait()
        wanted.clear()
        told.notifier.reloading()
        status = ""
        try:
            assert told.reload is not None
            await told.reload()
            status = await told.report() if told.report else ""
        except Exception:
            log.exception("a bug: reloading failed in a way that nobody foresaw")
        # Whatever came of it: until it is told, systemd takes the service for one that is still reloading.
        told.notifier.ready(status)
