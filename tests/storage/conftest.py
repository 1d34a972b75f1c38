"""Every test that takes `backend` or `store` runs once on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ipam_lib.storage.base import Store
from tests.storage.backends import Backend, MemoryBackend, MongoBackend, SQLiteBackend

OpenStore = Callable[..., Awaitable[Store]]


@pytest.fixture
def mongodb_backend(request: pytest.FixtureRequest) -> MongoBackend:
    return MongoBackend(
        request.getfixturevalue("mongodb_admin"),
        request.getfixturevalue("mongodb_uri"),
        request.getfixturevalue("mongodb_database"),
    )


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> SQLiteBackend:
    return SQLiteBackend(tmp_path / "ipam.sqlite")


def make_backend(request: pytest.FixtureRequest) -> Backend:
    """The backend that a parametrised fixture asks for."""
    if request.param == "memory":
        return MemoryBackend()
    made: Backend = request.getfixturevalue(f"{request.param}_backend")
    return made


@pytest.fixture(params=["memory", "sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return make_backend(request)


@pytest.fixture
async def open_store(backend: Backend) -> AsyncIterator[OpenStore]:
    """A function that opens one more store on the database of the test."""
    async with AsyncExitStack() as stores:

        async def opened(*, coexist: bool = False) -> Store:
            store = backend.store(coexist=coexist)
            await store.open()
            stores.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """A store that is open and prepared."""
    made = await open_store()
    await made.prepare()
    return made


@pytest.fixture(autouse=True)
def unblocked(loop_guard: None) -> None:
    """Nothing here may make the event loop wait (see `tests.support.loop_guard`)."""
