"""What the storms rage over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.storm.site import MongoStorage, SQLiteStorage, Storage
from tests.support.mongo import MongoServer


@pytest.fixture
def mongodb(mongodb_uri: str, mongodb_database: str) -> Iterator[MongoStorage]:
    """A database on the server of the whole run."""
    storage = MongoStorage(mongodb_uri, mongodb_database)
    yield storage
    storage.close(drop=False)


@pytest.fixture
def own_mongodb(start_mongo: Callable[[], MongoServer]) -> Iterator[MongoStorage]:
    """A database on a server of its own, which may be stopped and killed."""
    server = start_mongo()
    storage = MongoStorage(server.uri, server=server)
    yield storage
    storage.close(drop=False)


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLiteStorage:
    """A file."""
    return SQLiteStorage(tmp_path / "registrations.sqlite")


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Each kind of storage in turn."""
    found: Storage = request.getfixturevalue(request.param)
    return found
