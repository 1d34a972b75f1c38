"""What logging and metrics cost: register-again, as `serve` does it, against the same without either.

    python3 -m benchmarks.telemetry [--rounds N] [--requests N]

Two processes over one storage, asked in turns by the same clients, which keep each busy. Prints the table; exit status
1 when the target is missed. `python3 -m benchmarks --only telemetry` measures the same on both storages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ipam
from benchmarks import site
from benchmarks.figures import MORE, Figure, in_turns, table
from benchmarks.service import Comparison
from benchmarks.wire import Client, throughput
from ipam_lib.assembly import assemble
from ipam_lib.config import Settings
from ipam_lib.storage.base import Store
from ipam_lib.telemetry.metrics import Metrics
from ipam_lib.web import server

# What is left of the requests per second.
TARGET: Final = 0.85
CLIENTS: Final = 4


class Unmeasured(Metrics):
    """Metrics that nothing is told to."""

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Nothing."""

    def netbox_call(self, operation: str, result: str, seconds: float) -> None:
        """Nothing."""


async def _silent(settings: Settings) -> None:
    """The service without logs and without metrics, until standard input ends; prints its URL."""
    logging.disable(logging.CRITICAL)
    parts = assemble(settings)
    parts.metrics = Unmeasured()
    for name in Store.__abstractmethods__:
        # Without what notes the time of each operation.
        vars(parts.store).pop(name, None)
    app = ipam.create_app(parts, bearer=settings.auth.token)
    async with server.listening(app, server.Listen(host="127.0.0.1", port=0)) as url:
        print(json.dumps(url), flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def _without(config: Path) -> Iterator[str]:
    with site.process("benchmarks.telemetry", config, config.parent / "silent.log") as (_, line):
        url = str(json.loads(line))
        site.ready(url)
        yield url


def measure(directory: Path, storage: Mapping[str, Any], name: str, *, rounds: int, requests: int) -> Figure:
    """The figure, over a storage (the sections of a configuration): requests per second of each, by `rounds` in turns
    of `requests` of each client."""
    zones = {"zones": {"ours": {"ipv4": ["172.16.0.0/16"]}}, "children": {}, "time_scale": 0.0}
    directory.mkdir(parents=True)
    with site.netbox(directory, zones) as netbox:
        heard = site.write_config(directory / "with", netbox, storage)
        awaiting_request = site.write_config(directory / "without", netbox, storage)
        with site.host(heard) as urls, _without(awaiting_request) as silent:
            return _in_turns(urls["ours"], silent, name, rounds, requests)


def _in_turns(ours: str, silent: str, name: str, rounds: int, requests: int) -> Figure:
    body = Comparison.body("ours")
    with Client(ours) as client:
        client.ask("POST", "/", body)
    sides = {url: [Client(url) for _ in range(CLIENTS)] for url in (ours, silent)}

    def asked(url: str) -> list[float]:
        return [throughput(sides[url], lambda client: client.request("POST", "/", body), requests)]

    try:
        turns = in_turns(
            rounds,
            f"{name}: register again, with logs and metrics",
            ours=lambda: asked(ours),
            silent=lambda: asked(silent),
        )
    finally:
        for clients in sides.values():
            for client in clients:
                client.close()
    return Figure(
        "register again, with logs and metrics / without",
        name,
        turns.side("ours", "register again, as serve does it", "requests/s"),
        turns.side("silent", "the same without logs and metrics", "requests/s"),
        TARGET,
        MORE,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.telemetry", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("config", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="how often in turns (12)")
    parser.add_argument("--requests", type=int, default=300, metavar="N", help="of each client in a round (300)")
    options = parser.parse_args(arguments)
    if options.config is not None:
        asyncio.run(_silent(Settings.load(options.config)[0]))
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        section = {"storage": {"sqlite": str(Path(name, "registrations.sqlite"))}}
        figure = measure(Path(name, "site"), section, "sqlite", rounds=options.rounds, requests=options.requests)
    print(table([figure]))
    return int(figure.met is False)


if __name__ == "__main__":
    sys.exit(main())
