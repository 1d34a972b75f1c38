"""Every test of the registry runs on virtual time; those that take `world` run once on each store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.registry.world import World, world_on
from tests.storage.backends import Backend, MemoryBackend, MongoBackend, SQLiteBackend
from tests.support.virtual_loop import VirtualLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, type[VirtualLoop]]:
    """The tests under this directory run on this loop."""
    return {"virtual": VirtualLoop}


@pytest.fixture(params=["memory", "sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """A database of each kind."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite":
        return SQLiteBackend(cast(Path, request.getfixturevalue("tmp_path")) / "ipam.sqlite")
    named = ("mongodb_admin", "mongodb_uri", "mongodb_database")
    return MongoBackend(*(request.getfixturevalue(name) for name in named))


@pytest.fixture
async def virtual_loop() -> VirtualLoop:
    """The loop of the test."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


@pytest.fixture
async def world(backend: Backend, virtual_loop: VirtualLoop) -> AsyncIterator[World]:
    """A world of its own for each test."""
    async with world_on(backend, virtual_loop) as made:
        yield made
    virtual_loop.real += 1  # what ends a loop waits for real threads
