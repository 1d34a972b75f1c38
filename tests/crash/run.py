"""Run one schedule of the crash machine on a store of a kind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.crash.sqlite import sqlite_on_virtual_time
from tests.crash.world import Summary, World
from tests.support.memory_store import MemoryDatabase, MemoryStore
from tests.support.virtual_loop import VirtualLoop, run_virtually

STORES = ("memory", "sqlite")


def run_schedule(seed: int, *, store: str = "memory", **options: bool) -> tuple[Summary, list[str]]:
    """The summary of the schedule with this seed, and its history, a line for each thing that happened. `options`: as
    for World."""
    loop = VirtualLoop()
    if store == "memory":
        memory = MemoryStore(MemoryDatabase(parsed={}))
        return _run(World(seed, loop, memory, **options))
    with tempfile.TemporaryDirectory() as directory:
        embedded = sqlite_on_virtual_time(Path(directory) / "crash.sqlite", loop)
        return _run(World(seed, loop, embedded, **options))


def _run(world: World) -> tuple[Summary, list[str]]:
    run_virtually(world.run(), world.loop)
    return world.summary, world.history
