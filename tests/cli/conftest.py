"""Every test that takes `installation` runs once on each store of the program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import Installation
from tests.cli.remote_netbox import RemoteNetBox, remote_netbox
from tests.storage.backends import Backend, MongoBackend, SQLiteBackend
from tests.storage.samples import legacy_documents


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def installation(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Installation:
    """A configuration over an empty database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IPAM_CONFIG", raising=False)
    backend: Backend
    storage: dict[str, Any]
    if request.param == "sqlite":
        storage = {"storage": {"sqlite": "registrations.sqlite"}}
        backend = SQLiteBackend(tmp_path / "registrations.sqlite")
        backend.seed([])
    else:
        uri: str = request.getfixturevalue("mongodb_uri")
        database: str = request.getfixturevalue("mongodb_database")
        storage = {"mongodb": {"uri": uri, "database": database}}
        backend = MongoBackend(request.getfixturevalue("mongodb_admin"), uri, database)
    return Installation(tmp_path, backend, storage, monkeypatch, capsys)


@pytest.fixture
def legacy(installation: Installation) -> Installation:
    """A configuration over the database that the earlier service left."""
    installation.seed(*legacy_documents())
    return installation


@pytest.fixture(scope="session")
def _netbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteNetBox]:
    with remote_netbox(tmp_path_factory.mktemp("netbox")) as running:
        yield running


@pytest.fixture
def netbox(_netbox: RemoteNetBox) -> RemoteNetBox:
    """A NetBox with the sample zones, as it was when it was started."""
    _netbox.reset()
    return _netbox


@pytest.fixture(scope="session")
def _empty_netbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteNetBox]:
    with remote_netbox(tmp_path_factory.mktemp("netbox"), "--empty") as running:
        yield running


@pytest.fixture
def empty_netbox(_empty_netbox: RemoteNetBox) -> RemoteNetBox:
    """A NetBox as it is when it is new."""
    _empty_netbox.reset()
    return _empty_netbox
