"""What the pictures of what is taken cost NetBox: requests, and rows that NetBox reads and sends, each minute.

    python3 -m benchmarks.picture [--children 65536 --children 1000000] [--json PATH]

Counted in front of the simulator, so nothing depends on the speed of a machine. Only the interval between full loads of
a large container depends on the time of a page: PAGE_SECONDS, measured on NetBox 4.6.8. docs/performance.md has the
figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

import netbox_simulator
from benchmarks import netbox, site
from benchmarks.figures import say
from ipam_lib.assembly import make_netbox
from ipam_lib.clock import SystemClock
from ipam_lib.config import Settings
from ipam_lib.ids import object_ids
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.container_space import RELOAD_SHARE
from netbox_simulator import NetBoxModel

SIZES: Final = (65_536, 1_000_000)
ZONE: Final = "inet"
# Room for more than a million addresses.
PREFIX: Final = "10.0.0.0/11"
FIRST: Final = "10.31.255.255/32"
PAGE_SECONDS: Final = 0.084
REGISTRATIONS: Final = 60
LIMIT: Final = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests to NetBox, and rows in its answers."""

    requests: float = 0
    rows: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.rows + other.rows)

    def times(self, factor: float) -> Cost:
        """So many of them."""
        return Cost(self.requests * factor, self.rows * factor)


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one container. `load`: a full load; `interval`: the seconds from one to the next. `look`: a look
    that finds nothing new. `registrations`: REGISTRATIONS in a minute, one after the other: creations and looks."""

    children: int
    load: Cost
    interval: float
    look: Cost
    registrations: Cost

    @property
    def idle_minute(self) -> Cost:
        """A minute without registrations: the full loads."""
        return self.load.times(60 / self.interval)

    @property
    def busy_minute(self) -> Cost:
        """A minute with REGISTRATIONS."""
        return self.idle_minute + self.registrations


class Front:
    """Counts what goes to the simulator. Pages of the children of the container come from a sorted list: the simulator
    looks through all of them for each page, so a million would take an hour."""

    def __init__(self, model: NetBoxModel) -> None:
        self._model = model
        self._requests = self._rows = 0
        self._ids: list[int] = []

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware."""
        query = request.query
        listed = request.path == "/api/ipam/prefixes/" and "within" in query and "last_updated__gte" not in query
        answer = self.page(int(query["id__gte"]), int(query["limit"])) if listed else await handler(request)
        self._requests += 1
        if request.method == "GET" and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            content = json.loads(answer.body)
            self._rows += len(content["results"]) if "results" in content else 1
        return answer

    def page(self, first_id: int, limit: int) -> web.Response:
        """A page of the prefixes that are no containers, as the simulator answers it."""
        rows = self._model.state.prefixes.rows
        if not first_id:
            self._ids = sorted(row.id for row in rows.values() if row.status != "container")
        begin = bisect_left(self._ids, first_id)
        results = [
            {"id": row.id, "prefix": row.text, "vrf": row.vrf and {"id": row.vrf}, "last_updated": row.last_updated}
            for row in map(rows.__getitem__, self._ids[begin : begin + limit])
        ]
        left = len(self._ids) - begin
        return web.json_response({"count": left, "next": "more" if left > limit else None, "results": results})

    def taken(self) -> Cost:
        """What there was since the last call."""
        cost = Cost(self._requests, self._rows)
        self._requests = self._rows = 0
        return cost


async def measure(children: int, directory: Path, refresh_seconds: float = 600.0) -> Costs:
    """The costs of a container with so many child prefixes."""
    model = netbox.build(
        {"token": netbox.TOKEN, "zones": {ZONE: {"ipv4": [PREFIX]}}, "children": {ZONE: [children, 1]}}
    )
    counted = Front(model)
    app = netbox_simulator.create_app(model)
    app.middlewares.append(counted.handle)
    async with netbox_simulator.serve(app) as url, _client(directory, url) as client:
        [container] = await client.zone_reader.containers(limit=LIMIT)
        new_id = object_ids()
        # The newest row tells the time by NetBox's clock.
        await client.create_exact(container, FIRST, uuid=new_id(), limit=LIMIT)
        counted.taken()
        if (problem := await client.space.load(container)) is not None:
            raise SystemExit(f"no picture: {problem}")
        load = counted.taken()
        await client.space.begin_look(container)
        look = counted.taken()
        for _ in range(REGISTRATIONS):
            made = await client.create_next(container, uuid=new_id(), limit=LIMIT)
            if (other := await client.conflict(container, made, limit=LIMIT)) is not None:
                raise SystemExit(f"{made.prefix} is taken by {other}")
        return Costs(
            children,
            load,
            max(refresh_seconds, RELOAD_SHARE * PAGE_SECONDS * load.requests),
            look,
            counted.taken(),
        )


@asynccontextmanager
async def _client(directory: Path, url: str) -> AsyncIterator[NetBoxClient]:
    section = {"storage": {"sqlite": str(directory / "unused.sqlite")}}
    config = site.write_config(directory, url, section, timeout_seconds=LIMIT / 5, refresh_seconds=86_400)
    content = json.loads(config.read_text()) | {"server": {"request_timeout_seconds": 300}}
    config.write_text(json.dumps(content))
    settings, _ = Settings.load(config)
    async with make_netbox(settings, SystemClock()) as client:
        yield client


def table(costs: Sequence[Costs]) -> str:
    """All of them, one a line, as in docs/performance.md."""
    names = ("Child prefixes", "Full load", "Interval", "Look without news", "Minute without registrations")
    lines = [f"| {' | '.join(names)} | Minute with {REGISTRATIONS} registrations |", "|---|---|---|---|---|---|"]
    for one in costs:
        cells = (f"{one.children:,}", _shown(one.load), f"{one.interval:,.0f} s", _shown(one.look))
        lines.append(f"| {' | '.join((*cells, _shown(one.idle_minute), _shown(one.busy_minute)))} |")
    return "\n".join(lines)


def _shown(cost: Cost) -> str:
    requests = f"{cost.requests:.1f}" if cost.requests < 10 else f"{cost.requests:,.0f}"
    return f"{requests} requests, {cost.rows:,.0f} rows"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.picture", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--children", type=int, action="append", help="child prefixes; may be repeated (65536, 1000000)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything here as JSON too")
    options = parser.parse_args(arguments)
    found = []
    for children in options.children or SIZES:
        say(f"a container with {children:,} child prefixes")
        with tempfile.TemporaryDirectory(prefix="picture-") as name:
            found.append(asyncio.run(measure(children, Path(name))))
    if options.json:
        content: list[dict[str, Any]] = [asdict(one) for one in found]
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
