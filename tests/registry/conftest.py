"""Every test of the registry runs on virtual time; those that take `world` run once on each store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.registry.bulk import Bulk, Unindexed
from tests.registry.world import World, world_on
from tests.storage.backends import Backend, MemoryBackend, MongoBackend, SQLiteBackend
from tests.support.soak import amount
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
def quiet() -> Iterator[None]:
    """Nothing is logged: the log of thousands of lives and storms is not read."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


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


@pytest.fixture(
    params=[("memory", amount(2_000, 10_000)), ("sqlite", 1_000)], ids=lambda param: f"{param[1]} in {param[0]}"
)
async def bulk(request: pytest.FixtureRequest, tmp_path: Path, virtual_loop: VirtualLoop) -> AsyncIterator[Bulk]:
    """Fewer in SQLite, which waits for the disk at every step."""
    kind, services = request.param
    backend = Unindexed() if kind == "memory" else SQLiteBackend(tmp_path / "ipam.sqlite")
    made = Bulk(backend, virtual_loop, services)
    yield made
    await made.netbox.close()
    virtual_loop.real += 1  # for good: what ends a loop waits for real threads, too
    await made.store.close()
