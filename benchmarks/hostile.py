"""A hostile client against each limit, beside an owner of a registration that registers again and reads all the time.

    python3 -m benchmarks.hostile [--seconds 60] [--connections 50] [--only LIMIT] [--json PATH]

For each limit: a service of its own over a NetBox simulator and an embedded database. The owner sends the same requests
first without the hostile client, then beside it. docs/performance.md has the figures of a full run. Exit status 1: the
owner was refused or took more than twice the time, an answer was not the one of the limit, or an address was lost.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import hostile_client, memory, site
from benchmarks.figures import say
from benchmarks.hostile_client import NO_ANSWER, UNREAD, Plan
from benchmarks.netbox import TOKEN
from benchmarks.site import BEARER, REPOSITORY
from benchmarks.wire import Client

ZONE: Final = "inet"
PREFIX: Final = "10.0.0.0/24"
QUOTA: Final = 10
SLOWER: Final = 2.0
# Connections that the service takes where their number is the limit; see `web.server.connection_limit`.
FEW_CONNECTIONS: Final = 24
FEW_FILES: Final = 128 + FEW_CONNECTIONS
_PAUSE: Final = 0.01
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_OWNER: Final = {
    "zone": ZONE,
    "ip_family": "ipv4",
    "secret": "the secret of the owner",
    "service": {
        "service_name": "owner",
        "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
        "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
    },
}


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit: the settings that switch it on, and what the hostile client may be answered. `takes`: the most addresses
    that it may get. `few_files`: whether the service may open few files, and so few connections."""

    answers: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes: int = 0
    few_files: bool = False


LIMITS: Final[Mapping[str, Limit]] = {
    "wrong secrets": Limit(["403 wrong_secret", "429 too_many_attempts"]),
    "cluster quota": Limit(["200", "409 quota_exceeded"], {"limits": {"addresses_per_cluster": QUOTA}}, takes=QUOTA),
    "namespace quota": Limit(
        ["200", "409 quota_exceeded"], {"limits": {"addresses_per_namespace": QUOTA}}, takes=QUOTA
    ),
    "network": Limit(["403 network_not_allowed"], {"server": {"allowed_networks": ["127.0.0.1/32"]}}),
    "bearer token": Limit(["401 unauthorized"]),
    "invalid body": Limit(["400 invalid_request"]),
    # The client may still be sending when the service, which has answered, closes the connection.
    "large body": Limit(["413 body_too_large", NO_ANSWER]),
    "slow head": Limit(["408 request_timeout"]),
    "slow body": Limit(["408 request_timeout"]),
    UNREAD: Limit([NO_ANSWER]),
    "connections": Limit(["408 request_timeout", "503 too_many_connections", NO_ANSWER], few_files=True),
}


@dataclass(slots=True)
class Owner:
    """The owner of a registration: milliseconds of its requests, and those that were not answered with 200."""

    url: str
    samples: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _client: Client | None = None

    def run(self, seconds: float) -> list[float]:
        """Register again and read, in turns; the milliseconds of each."""
        body = _OWNER
        end, began = time.monotonic() + seconds, len(self.samples)
        while time.monotonic() < end:
            address = self._timed("POST", "/", body)
            body = _OWNER | ({"address": address["address"]} if address else {})
            if address:
                self._timed("GET", f"/v2/addresses/{address['address'].partition('/')[0]}")
        return self.samples[began:]

    def _timed(self, method: str, path: str, body: Any = None) -> Any:
        time.sleep(_PAUSE)
        began = time.perf_counter()
        try:
            if self._client is None:
                self._client = Client(self.url, {"Authorization": f"Bearer {BEARER}"})
            status, content = self._client.exchange(self._client.request(method, path, body))
        except (OSError, SystemExit):
            # The service closed a connection that waited; a client opens another one.
            self.close()
            return None if self.refused and self.refused[-1] == "hung up" else self._again(method, path, body)
        self.samples.append((time.perf_counter() - began) * 1000)
        if status != 200:
            self.refused.append(f"{method} {path}: {status} {content[:200].decode()}")
            self.close()
            return None
        return json.loads(content)

    def _again(self, method: str, path: str, body: Any) -> Any:
        self.refused.append("hung up")
        answer = self._timed(method, path, body)
        if self.refused[-1] == "hung up" and answer is not None:
            self.refused.pop()
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Times in milliseconds, memory (resident) in MB. `addresses`: in NetBox before and after."""

    limit: str
    alone_p50: float
    alone_p99: float
    beside_p50: float
    beside_p99: float
    owner_requests: int
    owner_refused: Sequence[str]
    answers: Mapping[str, int]
    unexpected: Mapping[str, int]
    memory: tuple[float, float]
    addresses: tuple[int, int]
    may_take: int

    @property
    def kept(self) -> bool:
        """Whether the limit held: right answers, an owner that is served, and no more addresses than allowed."""
        before, after = self.addresses
        return not self.unexpected and not self.owner_refused and before <= after <= before + self.may_take

    @property
    def slower(self) -> float:
        """The owner's median beside the hostile client, by that without it."""
        return self.beside_p50 / self.alone_p50


def measure(name: str, seconds: float, connections: int, directory: Path) -> Outcome:
    """Try one limit."""
    limit = LIMITS[name]
    directory.mkdir()
    with site.netbox(directory, {"zones": {ZONE: {"ipv4": [PREFIX]}}}) as netbox:
        config = site.write_config(directory, netbox, {"storage": {"sqlite": str(directory / "ipam.sqlite")}})
        content = json.loads(config.read_text()) | {"logging": {"directory": str(directory / "logs")}, **limit.settings}
        content["server"] = {"host": "127.0.0.1", "port": 0, **content.get("server", {})}
        config.write_text(json.dumps(content))
        with _files(FEW_FILES if limit.few_files else None), memory.serving(config) as (process_id, url):
            owner = Owner(url)
            owner.run(min(1.0, seconds))  # caches and connections are warm
            alone = owner.run(seconds / 2)
            registered = json.loads(json.dumps(_OWNER)) | {"address": _address(url)}
            before, resident = _children(netbox), _resident_mb(process_id)
            plan = Plan(name, int(url.rpartition(":")[2]), connections, seconds, registered)
            with _attacking(plan, directory / "plan.json") as attack:
                beside = owner.run(seconds)
                answers = json.loads(attack.communicate(timeout=seconds + 60)[0])
            outcome = Outcome(
                name,
                statistics.median(alone),
                _p99(alone),
                statistics.median(beside),
                _p99(beside),
                len(owner.samples),
                owner.refused,
                answers,
                {key: number for key, number in answers.items() if key not in limit.answers},
                (resident, _resident_mb(process_id)),
                (before, _children(netbox)),
                limit.takes,
            )
            owner.close()
    return outcome


@contextmanager
def _files(number: int | None) -> Iterator[None]:
    """Let processes that start in here open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if number is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _attacking(plan: Plan, path: Path) -> Iterator[subprocess.Popen[str]]:
    hostile_client.write(plan, path)
    command = [sys.executable, "-m", "benchmarks.hostile_client", str(path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _address(url: str) -> str:
    with Client(url) as client:
        return str(client.ask("POST", "/", _OWNER)["address"])


def _children(netbox: str) -> int:
    """How many prefixes NetBox has inside the container."""
    with Client(netbox, {"Authorization": f"Token {TOKEN}"}) as client:
        return int(client.ask("GET", f"/api/ipam/prefixes/?within={PREFIX}&limit=1")["count"])


def _resident_mb(process_id: int) -> float:
    match = _RESIDENT.search(Path(f"/proc/{process_id}/status").read_text())
    return int(match[1]) * 1024 / 1e6 if match else 0.0


def _p99(samples: Sequence[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)]


def table(outcomes: Sequence[Outcome]) -> str:
    """All of them, one a line."""
    lines = ["limit            alone: p50     p99   beside: p50     p99  ratio  memory        addresses  answers"]
    for one in outcomes:
        verdict = "" if one.kept else " NOT KEPT"
        verdict += "" if one.slower <= SLOWER else " TOO SLOW"
        answers = ", ".join(f"{number:,} x {key}" for key, number in sorted(one.answers.items()))
        lines.append(
            f"{one.limit:16} {one.alone_p50:8.2f} ms {one.alone_p99:7.2f} {one.beside_p50:10.2f} ms"
            f" {one.beside_p99:7.2f} {one.slower:6.2f}  {one.memory[0]:.0f} to {one.memory[1]:.0f} MB"
            f"  {one.addresses[0]} to {one.addresses[1]}  {answers}{verdict}"
        )
        lines += [f"  the owner: {refusal}" for refusal in one.owner_refused[:3]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.hostile", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long against each limit (60)")
    add("--connections", type=int, default=50, help="connections of the hostile client (50)")
    add("--only", action="append", choices=list(LIMITS), help="only this limit; may be repeated (all)")
    add("--json", type=Path, metavar="PATH", help="write everything here as JSON too")
    options = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        for number, limit in enumerate(options.only or LIMITS):
            say(f"{limit}: {options.connections} connections for {options.seconds:g} s")
            outcomes.append(measure(limit, options.seconds, options.connections, Path(name) / str(number)))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) | {"kept": one.kept} for one in outcomes], indent=2) + "\n")
    print(table(outcomes))
    return int(not all(one.kept and one.slower <= SLOWER for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
