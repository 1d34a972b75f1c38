"""A NetBox in a process of its own: the simulator, with containers filled in advance and with a cost model if wanted.

    python3 -m benchmarks.netbox SITE.json

SITE.json: `{"token": ..., "zones": {...}, "children": {zone: [number, step]}, "stock": number, "time_scale": ...}`. Of
the children of a zone's first container, each is `step` addresses after the one before it: 2 leaves every other one
free. `stock`: how many registrations of the dataset have their prefix there. `time_scale`: null for no cost model.
Prints its URL.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import netbox_simulator
from benchmarks.dataset import Dataset
from netbox_simulator.kinds import TAG
from netbox_simulator.model import NetBoxModel
from netbox_simulator.state import PREFIX, Prefix
from netbox_simulator.validation import parse_network

TOKEN: Final = "0123456789abcdef0123456789abcdef01234567"
LONG_AGO: Final = datetime(2026, 1, 1, tzinfo=UTC)


def build(site: dict[str, Any]) -> NetBoxModel:
    """The model of a site."""
    model = netbox_simulator.sample_model(site["zones"], tokens=[site["token"]])
    state = model.state
    containers = {row.custom_fields["k8s_zone"]: row for row in reversed(state.prefixes.rows.values())}
    for zone, (number, step) in site.get("children", {}).items():
        container = containers[zone]
        for each in range(number):
            first = container.first + each * step
            row = _child(container, state.next_id(PREFIX), first, container.family, number=each)
            state.put_prefix(row)
    (tag,) = state.rows(TAG)
    for one in Dataset(site.get("stock", 0)):
        network = parse_network(one.address)
        assert network is not None
        assert one.netbox_id is not None
        row = _child(containers[one.zone], one.netbox_id, network[2], network[0])
        state.put_prefix(row.changed(tags=(tag,), custom_fields={"k8s_zone": one.zone, "k8s_uuid": one.id}))
    state.take_changes()
    return model


def _child(container: Prefix, prefix_id: int, first: int, family: int, *, number: int = 0) -> Prefix:
    """A child prefix, made one second after the one of the number before."""
    stamp = (LONG_AGO + timedelta(seconds=number)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Prefix(
        id=prefix_id,
        family=family,
        first=first,
        length=32 if family == 4 else 128,
        vrf=container.vrf,
        tenant=container.tenant,
        role=container.role,
        created=stamp,
        last_updated=stamp,
    )


async def _serve(site: dict[str, Any]) -> None:
    model = build(site)
    scale = site.get("time_scale")
    costs = None if scale is None else netbox_simulator.Costs(model, scale)
    async with netbox_simulator.serve(netbox_simulator.create_app(model, costs=costs)) as url:
        print(url, flush=True)
        # Until whoever started it closes standard input, or dies.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
