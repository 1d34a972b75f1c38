"""Fixtures for the tests of the NetBox client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from netbox_simulator import VERSIONS
from tests.netbox.world import World, simulated_world
from tests.support.wire import WireServer, wire_server


@pytest.fixture
async def wire() -> AsyncIterator[WireServer]:
    """A server that plays a script, which must be played to its end."""
    async with wire_server() as server:
        yield server
        assert not server.script, "not everything was asked for"


@pytest.fixture(params=["3.7", "4.6"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A simulated NetBox, of the oldest version and of the newest, and a client of it."""
    async with simulated_world(VERSIONS[request.param]) as made:
        yield made
