"""Signals: SIGTERM and SIGINT stop the service, SIGHUP reloads its configuration."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once, with status 1."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stop_or_end() -> None:
        if stop.is_set():
            log.warning("second signal to stop: ending at once")
            os._exit(1)
        log.info("received a signal to stop")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_end)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextmanager
def reload_signal() -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets; the caller clears it."""
    loop = asyncio.get_running_loop()
    wanted = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    try:
        yield wanted
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
