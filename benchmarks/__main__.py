"""Every figure that the service is held to, each a ratio of two things measured in turns in one run.

    python3 -m benchmarks [--quick] [--json PATH]

docs/performance.md says what they mean, and has those of a full run. The table goes to standard output, how far things
are to standard error. Exit status 1: a target was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import memory, service, site, storage, telemetry
from benchmarks.dataset import Dataset, fill_mongodb, fill_sqlite
from benchmarks.figures import Figure, say, table
from benchmarks.service import QUICK, Effort
from ipam_lib.storage.base import Store
from ipam_lib.version import __version__

STORAGES: Final = ("sqlite", "mongodb")
SERVICES: Final = ("service", "storage", "memory", "telemetry")
FEW: Final = 1_000
MOST_TO_SCAN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and how much of it."""

    parts: tuple[str, ...]
    effort: Effort
    size: int
    few: int
    reconcile_size: int
    rounds: int
    operations: int
    telemetry_rounds: int
    telemetry_requests: int


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    began = time.monotonic()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.directory) as name:
        directory = Path(name)
        conditions = _conditions(directory, plan)
        say(f"on {conditions['processors']} processors, {conditions['load_at_start']:.1f} of them busy; in {directory}")
        for which in options.storage or STORAGES:
            with _storage(which, directory / which) as engine:
                if engine is not None:
                    figures += engine.figures(plan)
    conditions |= {"load_at_end": os.getloadavg()[0], "seconds": round(time.monotonic() - began)}
    report = {"conditions": conditions, "figures": [one.as_json() for one in figures]}
    if options.json is not None and str(options.json) != "-":
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if str(options.json) == "-":
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in conditions.items()) + "\n")
        print(table(figures))
    return int(any(one.met is False for one in figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks", description="Measure every figure that the service is held to."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="less of everything: two minutes instead of twenty-five")
    add("--storage", action="append", choices=STORAGES, help="only this one; may be repeated (both)")
    add("--only", action="append", choices=SERVICES, help="only this part; may be repeated (all)")
    add("--size", type=_positive, metavar="N", help="registrations that are many (1,000,000; quick: 5,000)")
    add("--few", type=_positive, metavar="N", default=FEW, help="registrations that are few (1,000)")
    add("--reconcile-size", type=_positive, metavar="N", help="of those, compared with NetBox (100,000; quick: 2,000)")
    add(
        "--children",
        type=_positive,
        metavar="N",
        help="alternating children of the fragmented container (20,000; quick: 5,000)",
    )
    add("--clients", type=_positive, metavar="N", help="clients at once (32)")
    add("--time-scale", type=float, metavar="X", help="what NetBox's durations are multiplied with (1; quick: 0.1)")
    add("--directory", type=Path, metavar="PATH", help="where files may be written meanwhile (the system's choice)")
    add("--json", type=Path, metavar="PATH", help="write everything here as JSON too; - prints it instead of the table")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _plan(options: argparse.Namespace) -> Plan:
    effort = QUICK if options.quick else Effort()
    given = {name: getattr(options, name) for name in ("children", "clients", "time_scale")}
    size = options.size or (5_000 if options.quick else 1_000_000)
    few = min(options.few, size)
    return Plan(
        parts=tuple(options.only or SERVICES),
        effort=replace(effort, **{name: value for name, value in given.items() if value is not None}),
        size=size,
        few=few,
        reconcile_size=min(options.reconcile_size or (2_000 if options.quick else 100_000), size),
        rounds=2 if options.quick else 15,
        operations=20 if options.quick else 100,
        telemetry_rounds=2 if options.quick else 12,
        telemetry_requests=20 if options.quick else 300,
    )


def _conditions(directory: Path, plan: Plan) -> dict[str, Any]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "flush_of_the_disk_ms": _flush_ms(directory),
        "time_scale": plan.effort.time_scale,
        "many": plan.size,
        "few": plan.few,
        "clients": plan.effort.clients,
    }


def _flush_ms(directory: Path) -> float:
    """What it takes to have one page on the disk for sure, in milliseconds, the median of some."""
    samples = []
    with (directory / "flushed").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"\0" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            samples.append((time.perf_counter() - began) * 1000)
            time.sleep(0.01)
    return round(statistics.median(samples), 3)


@dataclass(frozen=True, slots=True)
class _SQLite:
    directory: Path

    def figures(self, plan: Plan) -> Iterator[Figure]:
        if "service" in plan.parts:
            path = self.directory / "service" / "registrations.sqlite"
            section = {"storage": {"sqlite": str(path)}}
            yield from _compared(self.directory / "service", "sqlite", section, plan, lambda: None)
        if "storage" in plan.parts:
            many, few = Dataset(plan.size), Dataset(plan.few)
            place = self.directory / "storage"
            with (
                storage.filled_sqlite(place / "many", many) as among_many,
                storage.filled_sqlite(place / "few", few) as among_few,
            ):
                yield from asyncio.run(_operations("sqlite", (among_many, many), (among_few, few), plan))
        if "memory" in plan.parts:
            yield from _peaks(self, "sqlite", plan)
        if "telemetry" in plan.parts:
            section = {"storage": {"sqlite": str(self.directory / "telemetry.sqlite")}}
            yield _telemetry(self.directory / "telemetry", "sqlite", section, plan)

    @contextmanager
    def filled(self, directory: Path, dataset: Dataset) -> Iterator[Mapping[str, Any]]:
        """The sections of a configuration for a database with this dataset in it."""
        path = directory / "filled.sqlite"
        fill_sqlite(path, dataset)
        yield {"storage": {"sqlite": str(path)}}
        path.unlink()


@dataclass(frozen=True, slots=True)
class _MongoDB:
    directory: Path
    uri: str
    indexed: bool

    def figures(self, plan: Plan) -> Iterator[Figure]:
        if not self.indexed:
            say(f"mongodb: this server does not answer by its indexes; at most {MOST_TO_SCAN:,} registrations")
            plan = replace(plan, size=min(plan.size, MOST_TO_SCAN), reconcile_size=min(plan.reconcile_size, 2_000))
        if "service" in plan.parts:
            section = {"mongodb": {"uri": self.uri, "database": "benchmark_service"}}
            forget = partial(self._empty, "benchmark_service")
            yield from _compared(self.directory / "service", "mongodb", section, plan, forget)
            self._drop("benchmark_service")
        if "storage" in plan.parts and self.indexed:
            yield from asyncio.run(self._storage(plan))
        if "memory" in plan.parts:
            yield from _peaks(self, "mongodb", plan)
        if "telemetry" in plan.parts:
            section = {"mongodb": {"uri": self.uri, "database": "benchmark_telemetry"}}
            yield _telemetry(self.directory / "telemetry", "mongodb", section, plan)
            self._drop("benchmark_telemetry")

    async def _storage(self, plan: Plan) -> list[Figure]:
        many, few = Dataset(plan.size), Dataset(plan.few)
        async with (
            storage.filled_mongodb(self.uri, "many", many) as among_many,
            storage.filled_mongodb(self.uri, "few", few) as among_few,
        ):
            return await _operations("mongodb", (among_many, many), (among_few, few), plan)

    @contextmanager
    def filled(self, directory: Path, dataset: Dataset) -> Iterator[Mapping[str, Any]]:
        """The sections of a configuration for a database with this dataset in it."""
        del directory
        name = "benchmark_memory"
        asyncio.run(storage.prepare_mongodb(self.uri, name))
        fill_mongodb(self.uri, name, dataset)
        yield {"mongodb": {"uri": self.uri, "database": name}}
        self._drop(name)

    def _empty(self, name: str) -> None:
        """Forget what is registered, where queries look through all of it."""
        from pymongo import MongoClient

        if not self.indexed:
            with MongoClient[dict[str, Any]](self.uri) as client:
                client[name]["addresses"].delete_many({})

    def _drop(self, name: str) -> None:
        from pymongo import MongoClient

        with MongoClient[dict[str, Any]](self.uri) as client:
            client.drop_database(name)


@contextmanager
def _storage(which: str, directory: Path) -> Iterator[_SQLite | _MongoDB | None]:
    """An engine to measure on, in a directory of its own; None where it is not to be had."""
    directory.mkdir()
    if which == "sqlite":
        yield _SQLite(directory)
        return
    with site.mongodb(directory / "server") as server:
        yield None if server is None else _MongoDB(directory, *server)


def _compared(
    directory: Path, name: str, section: Mapping[str, Any], plan: Plan, forget: Callable[[], None]
) -> Iterator[Figure]:
    with service.running(directory, section, name, plan.effort, forget) as comparison:
        yield from comparison.figures()


def _telemetry(directory: Path, name: str, section: Mapping[str, Any], plan: Plan) -> Figure:
    return telemetry.measure(directory, section, name, rounds=plan.telemetry_rounds, requests=plan.telemetry_requests)


async def _operations(name: str, many: tuple[Store, Dataset], few: tuple[Store, Dataset], plan: Plan) -> list[Figure]:
    return await storage.figures(name, many, few, plan.rounds, plan.operations)


def _peaks(engine: _SQLite | _MongoDB, name: str, plan: Plan) -> Iterator[Figure]:
    found: list[dict[str, tuple[int, float]]] = []
    for size, reconcile_size in ((plan.few, plan.few), (plan.size, plan.reconcile_size)):
        directory = engine.directory / "memory" / str(size)
        directory.mkdir(parents=True, exist_ok=True)
        dataset = Dataset(size, due=min(10_000, size // 10))
        with engine.filled(directory, dataset) as section:
            backup = directory / "backup.archive.gz"
            peaks = {what: (size, peak) for what, peak in memory.peaks(directory, section, dataset, backup)}
        compared = Dataset(reconcile_size)
        with engine.filled(directory, compared) as section:
            peaks["reconcile"] = (reconcile_size, memory.reconciled(directory, section, compared))
        found.append(peaks)
    few, many = found
    for what in many:
        yield memory.figure(name, what, many[what], few[what])


if __name__ == "__main__":
    sys.exit(main())
