"""Telling systemd how the service is doing: sd_notify(3), over the datagram socket in `$NOTIFY_SOCKET`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from ipam_lib.text import printable

log = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS: Final = 10.0


class Notifier:
    """Sends states. Without an address it sends nothing; whatever goes wrong is no reason to stop serving.

    `address`: path of a socket, or `@` and the name of an abstract one. `watchdog_seconds`: after so long without a
    sign of life systemd ends the service; None when it does not watch.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._failed = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """What systemd set for this very process, taken out of the environment so that no child takes it for its own
        (sd_watchdog_enabled(3))."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", "")
        watched = microseconds.isdecimal() and int(microseconds) > 0 and process in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if watched else None)

    @property
    def listened_to(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service has started, or has done what it was told to reload."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The service reads its files anew; `ready` is to follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", _status("reading the files again"))

    def stopping(self) -> None:
        """The service is about to leave."""
        self._send("STOPPING=1", _status("finishing what is in flight"))

    def status(self, status: str) -> None:
        """How it is doing, in words, for `systemctl status`."""
        self._send(_status(status))

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *states: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # Nothing waits for systemd: a full queue loses a state that comes again.
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send("\n".join(states).encode())
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be told how the service is doing: %s", error)
            self._failed = True
        else:
            self._failed = False


def _status(text: str) -> str:
    return f"STATUS={printable(text)}"


@asynccontextmanager
async def watched(notifier: Notifier, alive: Callable[[], bool]) -> AsyncIterator[None]:
    """While this lasts, systemd gets a sign of life from the event loop twice in the time that it waits for one, as
    long as `alive`. Does nothing where systemd does not watch."""
    if not notifier.listened_to or not notifier.watchdog_seconds:
        yield
        return
    async with _going_on(_beat(notifier, alive, notifier.watchdog_seconds / 2)):
        yield


@asynccontextmanager
async def reported(notifier: Notifier, report: Callable[[], Awaitable[str]] | None) -> AsyncIterator[None]:
    """While this lasts, systemd is told what `report` says, whenever that has changed."""
    if not notifier.listened_to or report is None:
        yield
        return
    async with _going_on(_tell(notifier, report)):
        yield


@asynccontextmanager
async def _going_on(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _beat(notifier: Notifier, alive: Callable[[], bool], seconds: float) -> None:
    was_alive = True
    while True:
        is_alive = alive()
        if is_alive:
            notifier.alive()
        elif was_alive:
            log.critical("what works in the background has died: systemd is left to start the service again")
        was_alive = is_alive
        await asyncio.sleep(seconds)


async def _tell(notifier: Notifier, report: Callable[[], Awaitable[str]]) -> None:
    told = ""
    while True:
        try:
            text = await report()
        except Exception:
            log.exception("a bug: how the service is doing cannot be said")
            return
        if text != told:
            notifier.status(text)
            told = text
        await asyncio.sleep(SECONDS_BETWEEN_REPORTS)
