"""The processes that a benchmark works with: a NetBox, services, a MongoDB-compatible server; started, found, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.netbox import TOKEN
from benchmarks.wire import Client

REPOSITORY: Final = Path(__file__).resolve().parent.parent
SECONDS_TO_START: Final = 600.0
BEARER: Final = "the-bearer-token-of-the-benchmarks"


@contextmanager
def process(module: str, argument: Path, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m MODULE ARGUMENT`, and the first line that it prints. It ends when its standard input does."""
    with log.open("a") as errors:
        started = subprocess.Popen(
            [sys.executable, "-m", module, str(argument)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        if not line:
            raise SystemExit(f"{module} did not start:\n{log.read_text()[-3000:]}")
        yield started, line.strip()
    finally:
        ended(started)


def ended(started: subprocess.Popen[str]) -> None:
    """End a process of ours by closing its standard input; if that is not enough, at once."""
    if started.stdin is not None:
        started.stdin.close()
    try:
        started.wait(30)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    if started.stdout is not None:
        started.stdout.close()


@contextmanager
def netbox(directory: Path, site: Mapping[str, Any]) -> Iterator[str]:
    """The URL of a NetBox; `site` as in `benchmarks.netbox`."""
    path = directory / "site.json"
    path.write_text(json.dumps({"token": TOKEN, **site}))
    with process("benchmarks.netbox", path, directory / "netbox.log") as (_, url):
        yield url


def write_config(directory: Path, netbox_url: str, storage: Mapping[str, Any], **netbox_settings: Any) -> Path:
    """A configuration, with its secret files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "netbox.secret").write_text(TOKEN)
    (directory / "auth.secret").write_text(BEARER)
    (directory / "secrets.json").write_text(json.dumps({"enc_key": "k" * 32, "enc_iv": "i" * 16}))
    content = {
        **storage,
        "netbox": {
            "url": netbox_url,
            "token_path": "netbox.secret",
            "constraint_tag": "vitistack",
            **netbox_settings,
        },
        "encryption_secrets": {"path": "secrets.json"},
        "auth": {"token_path": "auth.secret"},
        "logging": {"directory": "logs"},
    }
    path = directory / "config.json"
    path.write_text(json.dumps(content))
    return path


@contextmanager
def host(config: Path) -> Iterator[dict[str, str]]:
    """The services of `benchmarks.host` over a configuration, ready; their URLs."""
    with process("benchmarks.host", config, config.parent / "host.log") as (_, line):
        urls: dict[str, str] = json.loads(line)
        ready(urls["ours"])
        yield urls


def ready(url: str) -> None:
    """Wait until a service is ready."""
    with Client(url) as client:
        request = client.request("GET", "/readyz")
        until(lambda: client.exchange(request)[0] == 200, f"{url} to be ready")


def until(seen: Callable[[], bool], what: str, seconds: float = SECONDS_TO_START) -> None:
    """Look until something is so. Ends the program when it is not after so many seconds."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


@contextmanager
def mongodb(directory: Path) -> Iterator[tuple[str, bool] | None]:
    """The URI of a MongoDB-compatible server, found as the tests find theirs, and whether it answers by its indexes;
    None where there is none.

    That of tests/mongo_server knows how to keep an index unique, but looks through the whole collection for nearly
    everything else: what a query costs there among many documents says nothing. It keeps its data in memory.
    """
    from tests.support.mongo import URI_VARIABLE, JavaServer, NoMongoError, own_server

    if given := os.environ.get(URI_VARIABLE):
        yield given, True
        return
    directory.mkdir(parents=True, exist_ok=True)
    server = own_server(directory, keep_data=False, heap="2g")
    try:
        server.start()
    except NoMongoError as error:
        print(f"no MongoDB-compatible server: {error}", file=sys.stderr)
        yield None
        return
    try:
        yield server.uri, not isinstance(server, JavaServer)
    finally:
        server.stop()
