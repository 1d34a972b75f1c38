"""Notifications for systemd: sd_notify(3), over the datagram socket in `$NOTIFY_SOCKET`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from ipam_lib.text import printable

log = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS: Final = 10.0


class Notifier:
    """Sends notifications. Without an address it sends nothing. Errors are logged, never raised.

    `address`: path of a socket, or `@` and the name of an abstract one. `watchdog_seconds`: systemd ends the service
    after this time without a watchdog notification; None without a watchdog.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._failed = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """The notifier for the variables that systemd set for this process (sd_watchdog_enabled(3)).

        They are removed from the environment, so that no child process uses them.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", "")
        watched = microseconds.isdecimal() and int(microseconds) > 0 and process in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if watched else None)

    @property
    def enabled(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service has started, or has reloaded its configuration."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The service reloads its configuration; `ready` follows."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", _status("reloading the configuration")
        )

    def stopping(self) -> None:
        """The service is stopping."""
        self._send("STOPPING=1", _status("finishing the requests in progress"))

    def failed(self, problems: Sequence[str]) -> None:
        """The service cannot start: the first problem, and how many more the journal has."""
        more = len(problems) - 1
        self._send(_status(problems[0] + (f" (and {more} more: see journalctl)" if more else "")))

    def status(self, status: str) -> None:
        """The state of the service, in words, for `systemctl status`."""
        self._send(_status(status))

    def alive(self) -> None:
        """The watchdog notification."""
        self._send("WATCHDOG=1")

    def _send(self, *states: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # Never wait for systemd: a status that a full queue loses is sent again.
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send("\n".join(states).encode())
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be notified: %s", error)
            self._failed = True
        else:
            self._failed = False


def _status(text: str) -> str:
    return f"STATUS={printable(text)}"


@asynccontextmanager
async def watched(notifier: Notifier, alive: Callable[[], bool]) -> AsyncIterator[None]:
    """Within the context, send the watchdog notification twice in each watchdog time, as long as `alive` is true.

    Does nothing without a watchdog.
    """
    if not notifier.enabled or not notifier.watchdog_seconds:
        yield
        return
    async with _background(_watchdog(notifier, alive, notifier.watchdog_seconds / 2)):
        yield


@asynccontextmanager
async def reported(notifier: Notifier, report: Callable[[], Awaitable[str]] | None) -> AsyncIterator[None]:
    """Within the context, send each new text of `report` to systemd."""
    if not notifier.enabled or report is None:
        yield
        return
    async with _background(_report(notifier, report)):
        yield


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _watchdog(notifier: Notifier, alive: Callable[[], bool], seconds: float) -> None:
    was_alive = True
    while True:
        is_alive = alive()
        if is_alive:
            notifier.alive()
        elif was_alive:
            log.critical("a worker has died: the watchdog of systemd will restart the service")
        was_alive = is_alive
        await asyncio.sleep(seconds)


async def _report(notifier: Notifier, report: Callable[[], Awaitable[str]]) -> None:
    last = ""
    while True:
        try:
            text = await report()
        except Exception:
            # One failure must not end the reports.
            log.exception("a bug: the state of the service cannot be reported")
        else:
            if text != last:
                notifier.status(text)
                last = text
        await asyncio.sleep(SECONDS_BETWEEN_REPORTS)
