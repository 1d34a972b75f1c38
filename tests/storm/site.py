"""A small installation as real processes: services over one storage, and the NetBox simulator, which may be killed and
started again on their ports."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from ipam_lib.cli.argtypes import NETBOX_VERSIONS
from ipam_lib.lifecycle import SECONDS_BETWEEN_RECOVERIES
from ipam_lib.storage import sqlite_json
from tests.storm.proxy import FaultProxy
from tests.support.mongo import MongoServer
from tests.support.processes import PROGRAM, TOKEN, Process, call, write_config

Document = dict[str, Any]
CONTROL: Final = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}

# The first container of `inet` is small, and the second is of another VRF, tenant and role: creations go on to it.
# `tiny` is too small for all clients.
ZONES: Final[dict[str, dict[str, list[Any]]]] = {
    "inet": {
        "ipv4": [
            "10.1.0.0/28",
            {"prefix": "10.1.1.0/24", "vrf": "other", "tenant": "Another", "role": "Another role"},
        ],
        "ipv6": ["fd00:1::/64"],
    },
    "exact": {"ipv4": ["10.2.0.0/24"], "ipv6": ["fd00:2::/64"]},
    "tiny": {"ipv4": ["10.3.0.0/29"], "ipv6": []},
}
# Prefixes of other systems.
STRANGERS: Final = ("10.1.0.3/32", "10.1.1.4/30", "10.2.0.250/32", "10.2.0.240/29", "fd00:1::2/128")
TAKEN: Final = ("10.2.0.250/32", "10.2.0.241/32")


class Storage(ABC):
    """Where the services store, and a way to look there behind their backs."""

    sections: Mapping[str, Any]
    """The sections of the configuration."""

    @abstractmethod
    def documents(self) -> list[Document]:
        """Every registration as it stands there, with `_id` as 24 hex digits."""

    @abstractmethod
    def entries(self) -> list[Document]:
        """Every entry of the pool, likewise."""


class MongoStorage(Storage):
    """A database on a server; `server` when that may be stopped and started again."""

    def __init__(self, uri: str, database: str | None = None, server: MongoServer | None = None) -> None:
        from pymongo import MongoClient

        self.server = server
        self.database = database or f"ipam_storm_{uuid.uuid4().hex}"
        self.sections = {"mongodb": {"uri": uri, "database": self.database}}
        self.client = MongoClient[Document](uri, timeoutMS=30_000, tz_aware=True)

    def documents(self) -> list[Document]:
        return self._found("addresses")

    def entries(self) -> list[Document]:
        return self._found("addresses_pool")

    def _found(self, collection: str) -> list[Document]:
        found = list(self.client[self.database][collection].find())
        return [document | {"_id": str(document["_id"])} for document in found]

    def close(self, *, drop: bool = True) -> None:
        """Let go of the connection, and of the data."""
        with self.client:
            if drop:
                self.client.drop_database(self.database)


class SQLiteStorage(Storage):
    """A file, shared by all services."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = {"storage": {"sqlite": str(path)}}

    def documents(self) -> list[Document]:
        return self._found("registrations")

    def entries(self) -> list[Document]:
        return self._found("pool")

    def _found(self, table: str) -> list[Document]:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            rows = connection.execute(f"SELECT document FROM {table}").fetchall()
        return [sqlite_json.load(text) for (text,) in rows]


class Server:
    """One process that keeps its port from start to start. `gaps`: when it was away, as pairs of `time.monotonic()`;
    the last one may still be open (infinite)."""

    def __init__(self, name: str, *arguments: str, cwd: Path, script: Sequence[str] = PROGRAM) -> None:
        self.name = name
        self.gaps: list[list[float]] = []
        self.processes: list[Process] = []
        self.url = ""
        self._arguments = arguments
        self._cwd = cwd
        self._script = script
        self._port = 0

    @property
    def process(self) -> Process:
        """The process that runs, or ran last."""
        return self.processes[-1]

    def launch(self) -> None:
        """Start."""
        port = str(self._port)
        self.processes.append(Process(*self._arguments, "--port", port, cwd=self._cwd, script=self._script))

    def start(self) -> None:
        """Start, and return when it listens."""
        self.launch()
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Return when it listens."""
        self.url = self.process.url
        self._port = int(self.url.rpartition(":")[2])
        if self.gaps:
            self.gaps[-1][1] = time.monotonic()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal. Returns the exit status."""
        self.gaps.append([time.monotonic(), float("inf")])
        return self.process.stop(number)

    def restart(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal, and start it again at once."""
        self.stop(number)
        self.start()

    def away(self, since: float) -> bool:
        """Whether it was away at some time since then."""
        return any(end >= since for _, end in self.gaps)

    @property
    def log(self) -> list[str]:
        """What all its processes wrote to standard error."""
        return [line for process in self.processes for line in process.errors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. The defaults are those of the service, except for `cleanup`; with `SHORT`, recovery happens before a
    test's eyes."""

    request: float = 25.0
    netbox: float = 10.0
    cleanup: float = 1.0
    recovery: float = SECONDS_BETWEEN_RECOVERIES

    @property
    def longest_answer(self) -> float:
        """Seconds within which a client must have its answer. The service means its own clock; what a busy machine adds
        on the way is not its fault, and the callers in the field wait for 30 seconds."""
        return max(25.0, self.request) + 4.0

    @property
    def script(self) -> Sequence[str]:
        """What to run as the service, so that recovery comes as often."""
        if self.recovery == SECONDS_BETWEEN_RECOVERIES:
            return PROGRAM
        return (str(Path(__file__).with_name("quick_recovery.py")), str(self.recovery))


SHORT: Final = Timing(request=6.0, netbox=2.0)
# For clients that must see no 503, however slow the machine.
PATIENT: Final = Timing(request=120.0, netbox=50.0)


@dataclass(slots=True)
class Site:
    """Services over one storage and one simulator. With a proxy, the services reach the simulator through that. `warm`:
    how many addresses of each zone and family are kept ready; `cooldown_minutes`: how long released ones cool down."""

    directory: Path
    storage: Storage
    timing: Timing = SHORT
    proxy: FaultProxy | None = None
    latency_ms: float = 20.0
    services: list[Server] = field(default_factory=list)
    count: int = 2
    strangers: set[int] = field(default_factory=set)
    containers: list[Document] = field(default_factory=list)
    token: str = TOKEN
    warm: int = 0
    cooldown_minutes: int = 0
    netbox_version: str = NETBOX_VERSIONS[-1]
    netbox: Server = field(init=False)

    def __post_init__(self) -> None:
        zones = self.directory / "zones.json"
        zones.write_text(json.dumps(ZONES))
        self.netbox = Server(
            "netbox",
            *("simulate-netbox", "--token", TOKEN, "--zones", str(zones), "--latency-ms", str(self.latency_ms)),
            *("--state", str(self.directory / "netbox.state"), "--netbox-version", self.netbox_version),
            cwd=self.directory,
        )
        for number in range(self.count):
            # Each in a directory of its own, for its logs.
            home = self.directory / f"service-{number}"
            home.mkdir()
            config = str(self.directory / "config.json")
            service = Server(f"service {number}", "serve", "--config", config, cwd=home, script=self.timing.script)
            self.services.append(service)

    @property
    def config(self) -> Path:
        """The configuration of the services."""
        return self.directory / "config.json"

    def start_netbox(self) -> None:
        """Start the simulator; the first time, with prefixes of other systems."""
        fresh = not self.netbox.processes
        self.netbox.start()
        if fresh:
            self.containers = self.prefixes()
            for prefix in STRANGERS:
                vrf = self._vrf("other" if prefix.startswith("10.1.1.") else "nhc")
                status, made = self.ask("POST", "/api/ipam/prefixes/", {"prefix": prefix, "vrf": vrf})
                assert status == 201, made
                self.strangers.add(made["id"])

    def _vrf(self, name: str) -> int:
        _, found = self.ask("GET", f"/api/ipam/vrfs/?name={name}")
        [vrf] = [one["id"] for one in found["results"] if one["name"] == name]
        return int(vrf)

    def configure(self, netbox_url: str, **sections: Any) -> None:
        """Write the configuration."""
        timing = self.timing
        write_config(
            self.directory,
            netbox_url,
            self.storage.sections,
            netbox={
                "url": netbox_url,
                "token_path": "netbox.secret",
                "constraint_tag": "vitistack",
                "timeout_seconds": timing.netbox,
                "warm_addresses": self.warm,
            },
            server={"host": "127.0.0.1", "port": 0, "request_timeout_seconds": timing.request},
            cleanup={"interval_seconds": timing.cleanup, "cooldown_minutes": self.cooldown_minutes},
            **sections,
        )
        (self.directory / "netbox.secret").write_text(self.token)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the simulator, as its superuser and past the proxy."""
        return call(method, self.netbox.url + path, body, CONTROL)

    def prefixes(self) -> list[Document]:
        """Every prefix in the simulator, containers and strangers included."""
        status, rows = self.ask("GET", "/simulator/prefixes")
        assert status == 200, rows
        found: list[Document] = rows
        return found

    def ours(self) -> list[Document]:
        """The prefixes that the services made."""
        return [row for row in self.prefixes() if row["status"] != "container" and row["id"] not in self.strangers]

    def container_of(self, prefix: Mapping[str, Any]) -> Document | None:
        """The container of a prefix in its VRF."""
        network: Any = ip_network(prefix["prefix"])
        for row in self.containers:
            container: Any = ip_network(row["prefix"])
            if row["vrf"] == prefix["vrf"] and container.version == network.version and network.subnet_of(container):
                return row
        return None

    def start_services(self) -> None:
        """Start them, at the same time: they prepare one storage together."""
        for service in self.services:
            service.launch()
        for service in self.services:
            service.wait_until_listening()

    def wait_until_ready(self, servers: Sequence[Server] | None = None, seconds: float = 60) -> None:
        """Return when the services say that they are ready."""
        for service in servers or self.services:
            until = time.monotonic() + seconds
            while (answer := call("GET", f"{service.url}/readyz"))[0] != 200:
                assert time.monotonic() < until, answer
                time.sleep(0.05)

    def stop(self) -> None:
        """Make sure that everything has gone."""
        for server in [*self.services, self.netbox]:
            for process in server.processes:
                process.end()

    def logged(self, text: str) -> int:
        """How many lines of the services' logs hold this text."""
        return sum(text in line for service in self.services for line in service.log)

    def complaints(self) -> list[str]:
        """What no log may hold, whatever happens."""
        signs = ("Traceback", "a bug", "ERROR", "CRITICAL", "Warning:", "never awaited", "never retrieved")
        return [
            f"{service.name} logged: {line}"
            for service in self.services
            for line in service.log
            if any(sign in line for sign in signs)
        ]


@asynccontextmanager
async def standing(site: Site) -> AsyncIterator[Site]:
    """The site with everything running, gone at the end. The proxy, if there is one, is calm at first."""
    try:
        await asyncio.to_thread(site.start_netbox)
        if site.proxy is None:
            await asyncio.to_thread(_start, site, site.netbox.url)
            yield site
        else:
            site.proxy.upstream = site.netbox.url
            async with site.proxy.listening():
                await asyncio.to_thread(_start, site, site.proxy.url)
                yield site
    finally:
        await asyncio.to_thread(site.stop)


def _start(site: Site, netbox_url: str) -> None:
    site.configure(netbox_url)
    site.start_services()
    site.wait_until_ready()
