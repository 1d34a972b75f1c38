"""The server: listening sockets, TLS, signals, and a stop that finishes all requests."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from ipam_lib.web import listening_sockets
from ipam_lib.web.connection import Connection, Limits, factory
from ipam_lib.web.middlewares import INFLIGHT
from ipam_lib.web.notify import Notifier, reported, watched
from ipam_lib.web.signals import reload_signal, stop_signals
from ipam_lib.web.tls import Certificate

log = logging.getLogger(__name__)

SECONDS_TO_FINISH: Final = 15.0
SECONDS_FOR_PENDING_REQUESTS: Final = 2.0
SECONDS_BETWEEN_CHECKS: Final = 0.01
SECONDS_TO_CLOSE: Final = 2.0
SECONDS_FOR_HANDSHAKE: Final = 10.0
BACKLOG: Final = 1024
# For storage, NetBox, logs and the interpreter.
RESERVED_DESCRIPTORS: Final = 128


def connection_limit() -> int:
    """The limit of connections: 1,000, or fewer if the process may not open so many files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1000
    return max(16, min(1000, soft - RESERVED_DESCRIPTORS))


@dataclass(frozen=True, slots=True)
class Listen:
    """The parameters of the listening sockets.

    `host`: as for `listening_sockets.bind`. `port`: 0 lets the system choose. `certificate`: for TLS. `sockets`:
    listening sockets to use instead of `host` and `port`.
    """

    host: str | Sequence[str] = "0.0.0.0"
    port: int = 3000
    reuse_port: bool = False
    certificate: Certificate | None = None
    sockets: Sequence[socket.socket] = ()
    limits: Limits = field(default_factory=lambda: Limits(connections=connection_limit()))


async def _stop_accepting(servers: Sequence[asyncio.Server]) -> None:
    """Close the listening sockets, but not while asyncio sets up an accepted connection.

    It would forget the connection, and the client would wait without an answer.
    """
    loop = asyncio.get_running_loop()
    for listener in (listener for server in servers for listener in server.sockets):
        loop.remove_reader(listener.fileno())
    await _run_ready_callbacks()
    for server in servers:
        server.close()


async def _await_pending_requests(server: web.Server) -> None:
    """Give clients that have connected the time to send their request.

    Their connections are accepted, so the next process cannot serve them.
    """
    time = asyncio.get_running_loop().time
    until = time() + SECONDS_FOR_PENDING_REQUESTS
    while time() < until:
        if not any(isinstance(one, Connection) and one.awaiting_request for one in server.connections):
            break
        await asyncio.sleep(SECONDS_BETWEEN_CHECKS)
    # Between the last byte of a request's head and its task in `InFlight`.
    await _run_ready_callbacks()


async def _run_ready_callbacks() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def _bind(listen: Listen, connected: Callable[[], asyncio.Protocol]) -> list[asyncio.Server]:
    """Servers on every socket, which do not accept connections yet. Raises ConfigError."""
    tls = listen.certificate.context if listen.certificate else None
    try:
        sockets = listen.sockets or await asyncio.to_thread(
            listening_sockets.bind, listen.host, listen.port, reuse_port=listen.reuse_port
        )
    except OSError as error:
        raise listening_sockets.cannot_listen(error) from None
    return [
        await asyncio.get_running_loop().create_server(
            connected,
            sock=one,
            ssl=tls,
            ssl_handshake_timeout=SECONDS_FOR_HANDSHAKE if tls else None,
            backlog=BACKLOG,
            start_serving=False,
        )
        for one in sockets
    ]


@asynccontextmanager
async def listening(app: web.Application, listen: Listen) -> AsyncIterator[str]:
    """Serve the application within the context, which gives its first URL.

    At its end: stop accepting, finish the requests in progress (at most 15 s), close. Raises ConfigError when the
    socket or the certificate cannot be used, before anything starts.
    """
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SECONDS_TO_CLOSE)
    inflight = app[INFLIGHT]
    connect: Callable[[], asyncio.Protocol] | None = None

    def connected() -> asyncio.Protocol:
        assert connect is not None
        return connect()

    # Bind before the services start; accept after they have started.
    servers = await _bind(listen, connected)
    try:
        await runner.setup()
        assert runner.server is not None
        connect = factory(runner.server, listen.limits, inflight)
        try:
            for server in servers:
                await server.start_serving()
        except OSError as error:
            # Another process began to listen there after `_bind`.
            error.filename = f"{listen.host} port {listen.port}"
            raise listening_sockets.cannot_listen(error) from None
        sockets = [one for server in servers for one in server.sockets]
        urls = listening_sockets.urls(sockets, tls=listen.certificate is not None)
        log.info("listening on %s", ", ".join(urls))
        yield urls[0]
    finally:
        await _stop_accepting(servers)
        inflight.stopping.set()
        if runner.server is not None:
            await _await_pending_requests(runner.server)
        if left := inflight.count:
            log.info("finishing the requests in progress", extra={"in_flight": left})
        if left := await inflight.drain(SECONDS_TO_FINISH):
            log.warning("stopping before all requests have finished", extra={"in_flight": left})
        await inflight.abandon()
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class ServiceManagerHooks:
    """The connection to the service manager (systemd).

    `alive`: whether all workers run. `report`: the state of the service in words. `reload`: reloads the configuration
    and raises nothing; without it, SIGHUP ends the process, as by default.
    """

    notifier: Notifier = field(default_factory=Notifier)
    alive: Callable[[], bool] = lambda: True
    report: Callable[[], Awaitable[str]] | None = None
    reload: Callable[[], Awaitable[None]] | None = None


async def serve(
    app: web.Application,
    listen: Listen,
    announce: Callable[[str], None],
    hooks: ServiceManagerHooks | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully; a second signal ends the process at once.

    `announce` gets the URL once connections are accepted. Raises ConfigError like `listening`.
    """
    hooks = hooks or ServiceManagerHooks()
    notifier = hooks.notifier

    with stop_signals() as stop, reload_signal() if hooks.reload else nullcontext(asyncio.Event()) as wanted:
        async with watched(notifier, hooks.alive), listening(app, listen) as url:
            announce(url)
            # Ready as soon as it listens: systemd must not restart it again and again while a database boots.
            notifier.ready(f"listening on {url}")
            async with reported(notifier, hooks.report):
                reloading = asyncio.create_task(_reload(hooks, wanted), name="reload")
                try:
                    await stop.wait()
                finally:
                    reloading.cancel()
                    await asyncio.wait((reloading,))
            notifier.stopping()
    log.info("stopped")


async def _reload(hooks: ServiceManagerHooks, wanted: asyncio.Event) -> None:
    """Reload after each signal, one reload at a time."""
    while True:
        await wanted.wait()
        wanted.clear()
        hooks.notifier.reloading()
        status = ""
        try:
            assert hooks.reload is not None
            await hooks.reload()
            status = await hooks.report() if hooks.report else ""
        except Exception:
            log.exception("a bug: the reload failed with an unexpected error")
        # In any case: until then the service counts as reloading for systemd.
        hooks.notifier.ready(status)
