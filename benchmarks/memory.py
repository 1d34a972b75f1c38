"""How much memory the program takes among many registrations, against few: serving, listing all, cleaning up, comparing
with NetBox, backing up. The most that a process ever had in physical memory (VmHWM in proc(5))."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks import site
from benchmarks.dataset import CONTAINERS, FAMILY, ZONES, Dataset, secret
from benchmarks.figures import Figure, Side, say
from benchmarks.site import BEARER, REPOSITORY
from benchmarks.wire import Client

LIMIT_MB: Final = 120.0
AGAIN: Final = 1_000
"""How many services register again."""
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
# What a storage is, for a dataset that has been put into it: sections of a configuration.
Storage = Mapping[str, Any]


def peak_mb(process_id: int) -> float:
    """The most physical memory that the process has had, in MB; 0 when it has gone."""
    with suppress(OSError):
        match = _PEAK.search(Path(f"/proc/{process_id}/status").read_text())
        if match is not None:
            return int(match[1]) * 1024 / 1e6
    return 0.0


@contextmanager
def serving(config: Path) -> Iterator[tuple[int, str]]:
    """`serve`, ready: its process id and URL."""
    with (config.parent / "serve.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "ipam.py"), "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        match = _URL.search(process.stdout.readline())
        if match is None:
            raise SystemExit(f"serve did not start:\n{(config.parent / 'serve.log').read_text()[-3000:]}")
        site.ready(match[0])
        yield process.pid, match[0]
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def command(config: Path, *arguments: str, good: Collection[int] = (0,)) -> float:
    """Run a subcommand to its end; its peak in MB. What it prints goes nowhere. `good`: how it may exit."""
    with (config.parent / f"{arguments[0]}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "ipam.py"), *arguments, "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    most = 0.0
    while process.poll() is None:
        most = max(most, peak_mb(process.pid))
        time.sleep(0.01)
    if process.returncode not in good:
        raise SystemExit(f"{arguments[0]} failed:\n{(config.parent / f'{arguments[0]}.log').read_text()[-3000:]}")
    return most


def of_service(config: Path, dataset: Dataset) -> Iterator[tuple[str, float]]:
    """The peaks of one `serve` after each thing that it is asked to do. Cleanup runs beside them."""
    with serving(config) as (process_id, url), Client(url, {"Authorization": f"Bearer {BEARER}"}) as client:
        yield "serve, ready", peak_mb(process_id)
        for number in range(dataset.due, min(dataset.size, dataset.due + AGAIN)):
            client.ask("POST", "/", _body(dataset, number))
        yield "serve, register again", peak_mb(process_id)
        page = client.ask("GET", "/v2/addresses?limit=1000")
        while page["cursor"]:
            page = client.ask("GET", f"/v2/addresses?limit=1000&cursor={page['cursor']}")
        client.ask("GET", "/v2/zones")
        yield "serve, list of all", peak_mb(process_id)
        if dataset.due:
            site.until(lambda: _released(client) >= dataset.due, "cleanup to end")
        yield "serve, cleanup", peak_mb(process_id)


def _body(dataset: Dataset, number: int) -> dict[str, Any]:
    one = dataset.registration(number).services[0]
    return {
        "zone": ZONES[number % len(ZONES)],
        "ip_family": FAMILY,
        "secret": secret(number),
        "service": {
            "service_name": one.key.service_name,
            "namespace_id": one.key.namespace_id,
            "cluster_id": one.key.cluster_id,
            "retention_period_days": one.retention_period_days,
            "deny_external_cleanup": one.deny_external_cleanup,
        },
    }


def _released(client: Client) -> float:
    status, text = client.exchange(client.request("GET", "/metrics"))
    match = re.search(rb"^ipam_cleanup_released_addresses_total (\S+)$", text, re.MULTILINE)
    assert status == 200
    return float(match[1]) if match else 0.0


def zones() -> dict[str, Any]:
    """The zones of the dataset, for a NetBox."""
    return {zone: {"ipv4": [CONTAINERS[zone]]} for zone in ZONES}


def peaks(
    directory: Path, storage: Storage, dataset: Dataset, backup: Path, say_more: Callable[[str], None] = say
) -> Iterator[tuple[str, float]]:
    """Everything, over a storage that holds the dataset. `backup`: where to."""
    size = f"{dataset.size:,} registrations"
    with site.netbox(directory, {"zones": zones(), "stock": 0}) as netbox:
        config = site.write_config(directory, netbox, storage)
        content = json.loads(config.read_text())
        content |= {"server": {"host": "127.0.0.1", "port": 0}, "cleanup": {"interval_seconds": 1}}
        config.write_text(json.dumps(content))
        say_more(f"memory: serving {size}")
        yield from of_service(config, dataset)
        say_more(f"memory: list-addresses of {size}")
        yield "list-addresses", command(config, "list-addresses", "--format", "json")
        say_more(f"memory: mongo-backup of {size}")
        yield "mongo-backup", command(config, "mongo-backup", "--out", str(backup))


def reconciled(directory: Path, storage: Storage, dataset: Dataset) -> float:
    """The peak of comparing the storage with a NetBox that has all of its prefixes."""
    say(f"memory: reconcile of {dataset.size:,} registrations")
    with site.netbox(directory, {"zones": zones(), "stock": dataset.size}) as netbox:
        config = site.write_config(directory, netbox, storage)
        return command(config, "reconcile", "--rounds", "1", good=(0, 1))  # 1: it has found something


def figure(storage: str, what: str, many: tuple[int, float], few: tuple[int, float]) -> Figure:
    """A pair of peaks, each with its number of registrations."""
    return Figure(
        f"memory: {what}",
        storage,
        Side(f"among {many[0]:,}", "MB", [[many[1]]]),
        Side(f"among {few[0]:,}", "MB", [[few[1]]]),
        limit_of_ours=LIMIT_MB,
    )
