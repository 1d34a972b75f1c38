"""How big the file is, how fast it starts, how much memory it takes.

    python3 build_zipapp.py && python3 -m benchmarks.footprint [--json] [--mongodb-uri URI]

Needs the standard library only. `demo` runs the NetBox simulator in the same process, so its figures are upper bounds
for a service on SQLite. With --mongodb-uri, `serve` is measured on that server as well (Motor and PyMongo take memory
that the embedded database does not), in a database that is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
START_SECONDS = 60
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Figure:
    """One measurement. limit: what it should not exceed, in the same unit; None where nothing is promised."""

    what: str
    value: float
    unit: str
    limit: float | None = None

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"{self.limit:>8.0f} {self.unit}"
        verdict = "" if self.limit is None else "ok" if self.value <= self.limit else "TOO MUCH"
        return f"{self.what:<58} {self.value:>8.1f} {self.unit:<3} {limit:<12} {verdict}".rstrip()


def main() -> int:
    """Measure and print. Returns the exit code: 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(description="Measure the size, the start and the memory of ipam.pyz.")
    parser.add_argument("--pyz", type=Path, default=REPOSITORY / "ipam.pyz", help="the archive (./ipam.pyz)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs it (this one)")
    parser.add_argument("--runs", type=int, default=15, help="how often to start it; the median counts (15)")
    parser.add_argument("--requests", type=int, default=1000, help="how many requests before memory is read again")
    parser.add_argument("--mongodb-uri", metavar="URI", help="measure `serve` on this server too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if not options.pyz.is_file():
        parser.error(f"{options.pyz} is not there; build it: python3 build_zipapp.py")

    with tempfile.TemporaryDirectory(prefix="footprint-") as directory:
        bench = Bench([options.python, str(options.pyz.resolve())], Path(directory))
        figures = [
            Figure("archive", options.pyz.stat().st_size / 1e6, "MB", 15),
            Figure("first `version`, which unpacks", bench.seconds("version") * 1000, "ms"),
            Figure("unpacked files", bench.unpacked_bytes() / 1e6, "MB"),
            Figure("interpreter alone, median", bench.interpreter_seconds(options.python, options.runs) * 1000, "ms"),
            Figure("`version`, median", bench.median_seconds(options.runs, "version") * 1000, "ms", 100),
            Figure("`help`, median", bench.median_seconds(options.runs, "help") * 1000, "ms"),
            *bench.demo(options.runs, options.requests),
            *(
                bench.serve_on_mongodb(options.mongodb_uri, options.runs, options.requests)
                if options.mongodb_uri
                else ()
            ),
        ]
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        print(f"Python {_version_of(options.python)}, {os.cpu_count()} processors, {options.pyz}\n")
        print(f"{'':<58} {'measured':>12} {'limit':>9}")
        print(*figures, sep="\n")
    return int(any(figure.limit is not None and figure.value > figure.limit for figure in figures))


class Bench:
    """Runs the archive with a cache and data of its own below `directory`."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._cache = directory / "cache"
        self._environment = os.environ | {"SHIV_ROOT": str(self._cache)}

    def seconds(self, *arguments: str) -> float:
        """How long a command takes from start to end."""
        return _timed([*self._command, *arguments], self._environment)

    def median_seconds(self, runs: int, *arguments: str) -> float:
        """The same, the median of several runs."""
        return statistics.median(self.seconds(*arguments) for _ in range(runs))

    def interpreter_seconds(self, python: str, runs: int) -> float:
        """What the interpreter takes by itself, the median of several runs."""
        return statistics.median(_timed([python, "-c", "pass"], self._environment) for _ in range(runs))

    def unpacked_bytes(self) -> int:
        """The size of the files below the cache."""
        return sum(path.stat().st_size for path in self._cache.rglob("*") if path.is_file())

    def demo(self, runs: int, requests: int) -> Iterator[Figure]:
        """Start `demo` again and again on the same data; read its memory when ready, and after requests."""
        data = self._directory / "demo"
        arguments = ("demo", "--port", "0", "--data", str(data))
        with self._running(*arguments) as service:
            yield Figure("`demo`, first start until ready", service.ready_seconds * 1000, "ms")
        again = []
        for _ in range(runs):
            with self._running(*arguments) as service:
                again.append(service.ready_seconds)
        yield Figure("`demo`, second start until ready, median", statistics.median(again) * 1000, "ms", 1000)
        with self._running(*arguments) as service:
            yield Figure("`demo`, resident when ready", service.resident_bytes() / 1e6, "MB", 80)
            service.register(requests)
            yield Figure(f"`demo`, resident after {requests} registrations", service.resident_bytes() / 1e6, "MB", 80)

    def serve_on_mongodb(self, uri: str, runs: int, requests: int) -> Iterator[Figure]:
        """The same for `serve` on a MongoDB server, with the simulator in a process of its own."""
        name = "`serve` on MongoDB"
        folder = self._directory / "serve"
        folder.mkdir()
        token = secrets.token_hex(20)
        (folder / "netbox.secret").write_text(token)
        (folder / "secrets.json").write_text(json.dumps({"enc_key": "k" * 32, "enc_iv": "i" * 16}))
        with self._process("simulate-netbox", "--port", "0", "--token", token) as simulator:
            configuration = {
                "mongodb": {"uri": uri, "database": f"footprint_{secrets.token_hex(4)}"},
                "netbox": {
                    "url": self._first_url(simulator),
                    "token_path": "netbox.secret",
                    "constraint_tag": "vitistack",
                },
                "encryption_secrets": {"path": "secrets.json"},
                "logging": {"directory": "logs"},
            }
            (folder / "config.json").write_text(json.dumps(configuration))
            arguments = ("serve", "--config", str(folder / "config.json"), "--host", "127.0.0.1", "--port", "0")
            with self._running(*arguments):
                pass  # Makes the indexes, and the bytecode of what only this storage needs.
            again = []
            for _ in range(runs):
                with self._running(*arguments) as service:
                    again.append(service.ready_seconds)
            yield Figure(f"{name}, second start until ready, median", statistics.median(again) * 1000, "ms", 1000)
            with self._running(*arguments) as service:
                yield Figure(f"{name}, resident when ready", service.resident_bytes() / 1e6, "MB", 80)
                service.register(requests)
                what = f"{name}, resident after {requests} registrations"
                yield Figure(what, service.resident_bytes() / 1e6, "MB", 80)

    @contextmanager
    def _process(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        # To a file, not to a pipe without a reader: a full pipe would halt the service.
        with (self._directory / "log").open("a") as log:
            process = subprocess.Popen(
                [*self._command, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with process:
            try:
                yield process
            finally:
                process.terminate()

    @contextmanager
    def _running(self, *arguments: str) -> Iterator[Service]:
        started = time.perf_counter()
        with self._process(*arguments) as process:
            service = Service(process, self._first_url(process))
            service.wait_until_ready(started)
            yield service

    def _first_url(self, process: subprocess.Popen[str]) -> str:
        """The first address that the process prints."""
        assert process.stdout is not None
        for line in process.stdout:
            match = re.search(r"http://127\.0\.0\.1:\d+", line)
            if match is not None:
                return match[0]
        raise SystemExit(f"did not start: {process.args!r}\n{(self._directory / 'log').read_text()}")


class Service:
    """A running service.

    ready_seconds: from the start of the process to the first good answer of /readyz.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._url = url
        self.ready_seconds = 0.0

    def wait_until_ready(self, started: float) -> None:
        """Poll /readyz. started: when the process was started, by time.perf_counter."""
        while time.perf_counter() < started + START_SECONDS:
            try:
                self._ask("GET", "/readyz")
            except urllib.error.URLError:
                time.sleep(POLL_SECONDS)
            else:
                self.ready_seconds = time.perf_counter() - started
                return
        raise SystemExit(f"not ready within {START_SECONDS} s: {self._process.args!r}")

    def register(self, requests: int) -> None:
        """Register services that are new, and the same ones again, alternately."""
        for number in range(requests):
            service = {
                "service_name": f"service-{number // 2}",
                "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
                "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
            }
            body = {"ip_family": "ipv6", "zone": "inet", "secret": "SuperSecret", "service": service}
            self._ask("POST", "/", body)

    def resident_bytes(self) -> int:
        """Physical memory of the process (VmRSS in proc(5))."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        match = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=content, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _version_of(python: str) -> str:
    asked = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
