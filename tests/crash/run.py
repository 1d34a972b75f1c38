"""Run one schedule of the crash machine on a store of a kind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ipam_lib.storage.base import Store
from tests.crash.sqlite import sqlite_on_virtual_time
from tests.crash.world import Summary, World
from tests.support.memory_store import MemoryStore
from tests.support.virtual_loop import VirtualLoop, run_virtually

STORES = ("memory", "sqlite")


def run_schedule(
    seed: int, *, store: str = "memory", latecomers: bool = False, warm: bool = False
) -> tuple[Summary, list[str]]:
    """The summary of the schedule with this seed, and its history, a line for each thing that happened."""
    loop = VirtualLoop()
    if store == "memory":
        return _run(seed, loop, MemoryStore(), latecomers, warm)
    with tempfile.TemporaryDirectory() as directory:
        return _run(seed, loop, sqlite_on_virtual_time(Path(directory) / "crash.sqlite", loop), latecomers, warm)


def _run(seed: int, loop: VirtualLoop, store: Store, latecomers: bool, warm: bool) -> tuple[Summary, list[str]]:
    world = World(seed, loop, store, latecomers=latecomers, warm=warm)
    run_virtually(world.run(), loop)
    return world.summary, world.history
