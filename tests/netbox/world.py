"""A simulated NetBox over HTTP, with a client of it and an administrator besides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ipam_lib.netbox.base import Container
from ipam_lib.netbox.client import NetBoxClient
from netbox_simulator import NEWEST, SIMULATOR, Simulator, Version, create_app, sample_model, serve
from tests.netbox.clients import LIMIT, TOKEN, client_for
from tests.support.netbox_faults import Faults, add_controls

ZONES: dict[str, dict[str, list[Any]]] = {
    "inet": {"ipv4": ["83.118.168.0/24"], "ipv6": ["2a0d:a00::/64"]},
    "tiny": {"ipv4": [{"prefix": "10.99.0.0/30", "vrf": "other", "tenant": None, "role": None}]},
    "global": {"ipv4": [{"prefix": "198.51.100.0/24", "vrf": None}]},
}


class World:
    """A simulator over HTTP, and a client of it."""

    def __init__(self, simulator: Simulator, faults: Faults, url: str, client: NetBoxClient) -> None:
        self.model = simulator.model
        self.simulator = simulator
        self.faults = faults
        self.url = url
        self.client = client

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Somebody else's request to NetBox."""
        answer = self.model.handle(method, path, headers={"Authorization": f"Token {TOKEN}"}, body=body)
        assert answer.status < 300, answer.body
        return answer.json() if answer.body else None

    def stored(self, prefix_id: int) -> Any:
        return self.admin("GET", f"/api/ipam/prefixes/{prefix_id}/")

    async def container(self, zone: str, family: str = "ipv4") -> Container:
        found = await self.client.zone_reader.containers(limit=LIMIT)
        return next(one for one in found if (one.zone, one.ip_family) == (zone, family))

    def count(self) -> int:
        return len(self.model.state.prefixes.rows)


def numbered(number: int) -> str:
    return f"65f0{number:020x}"


@asynccontextmanager
async def simulated_world(version: Version = NEWEST) -> AsyncIterator[World]:
    """One with the zones above, served while the context lasts."""
    model = sample_model(ZONES, version=version)
    faults = Faults()
    app = add_controls(create_app(model, tokens=[TOKEN]), faults)
    async with serve(app) as url, client_for(url, constraint_tag="vitistack") as client:
        yield World(app[SIMULATOR], faults, url, client)
