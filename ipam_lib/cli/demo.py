"""`demo`: run the whole service on one machine, with nothing to set up. Registrations stay until the next run.

Its directory holds an ordinary configuration, so that every other command works on it too (`--config`).
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web

import netbox_simulator
from ipam_lib.cli.exit_codes import DONE, CommandError
from ipam_lib.config import Settings
from ipam_lib.schemas import CLUSTER_EXAMPLE, EXPIRE_EXAMPLE, REGISTER_EXAMPLE
from ipam_lib.version import __version__
from netbox_simulator.sample import TAG_NAME

Serve = Callable[[Settings, Callable[[str], None]], Coroutine[Any, Any, None]]

CONFIG: Final = "config.json"
DATABASE: Final = "registrations.sqlite"
STATE: Final = "netbox.state"
LOCK: Final = "demo.lock"
# Files, and the content of a new one.
SECRETS: Final[dict[str, Callable[[], str]]] = {
    "netbox.secret": lambda: secrets.token_hex(20),
    "webhook.secret": lambda: secrets.token_hex(32),
    "auth.secret": lambda: secrets.token_urlsafe(24),
    "secrets.json": lambda: json.dumps({"enc_key": secrets.token_hex(16), "enc_iv": secrets.token_hex(8)}),
}
# The files that --reset removes. The demo made all of them.
OURS: Final = (CONFIG, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", STATE, f"{STATE}.new", *SECRETS)


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The default directory of the demo's data (https://specifications.freedesktop.org/basedir-spec/).

    Raises CommandError if the user has no home directory.
    """
    given = Path(environ.get("XDG_DATA_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:
        raise CommandError("this user has no home directory: say with --data where to keep the data") from None
    return base / "ipam-api" / "demo"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Lock the directory for this process; create it if it is missing. Raises CommandError."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory / LOCK).open("a")
    except OSError as error:
        raise CommandError(f"cannot keep data in {directory}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandError(f"another demo uses {directory} already; stop it, or choose another --data") from None
        yield


def write_private(path: Path, content: str) -> None:
    """Write a file that only this user may read, as a whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def reset(directory: Path) -> None:
    """Remove the files of earlier runs, and nothing else."""
    for name in OURS:
        (directory / name).unlink(missing_ok=True)


def prepare(directory: Path) -> None:
    """Make the missing keys and tokens."""
    for name, make in SECRETS.items():
        if not (directory / name).exists():
            write_private(directory / name, make())


def write_config(directory: Path, netbox_url: str, port: int) -> Settings:
    """Write the configuration and load it. Raises ConfigError."""
    content = {
        "storage": {"sqlite": DATABASE},
        "netbox": {
            "url": netbox_url,
            "token_path": "netbox.secret",
            "constraint_tag": TAG_NAME,
            "webhook_secret_path": "webhook.secret",
        },
        "encryption_secrets": {"path": "secrets.json"},
        "auth": {"token_path": "auth.secret"},
        # Without the limit of refusals: tools that try an interface send many wrong requests.
        "server": {"host": "127.0.0.1", "port": port, "refusals_per_second": 0},
        "logging": {"directory": "logs"},
    }
    write_private(directory / CONFIG, json.dumps(content, indent=2))
    return Settings.load(directory / CONFIG)[0]


def last_port(directory: Path) -> int:
    """The port of the simulator in the last run; 0 if there was none. The zones cached in the storage belong to an
    address of NetBox, so the port should stay the same."""
    try:
        return int(json.loads((directory / CONFIG).read_text("utf-8"))["netbox"]["url"].rpartition(":")[2])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def banner(url: str, token: str, directory: Path) -> str:
    """What to do next, with commands to paste."""

    def curl(method: str, path: str, body: dict[str, Any], *headers: str) -> str:
        words = ["curl", "-X", method, url + path]
        for header in headers:
            words += ["-H", header]
        return "  " + shlex.join([*words, "-d", json.dumps(body)])

    return "\n".join(
        [
            f"IPAM-API {__version__}, demo: listening on {url}",
            f"Try it in a browser: {url}/swagger/index.html",
            f"Bearer token: {token}",
            f"Data is kept in: {directory}",
            "",
            "Register an address:",
            curl("POST", "/", REGISTER_EXAMPLE),
            "Let it expire:",
            curl("DELETE", "/", EXPIRE_EXAMPLE),
            "Let everything of a cluster expire:",
            curl("DELETE", "/v2/cluster", CLUSTER_EXAMPLE, f"Authorization: Bearer {token}"),
            "",
            "Stop with Ctrl-C.",
        ]
    )


async def _run(directory: Path, port: int, version: str | None, serve: Serve) -> None:
    model, journal = netbox_simulator.open_sample(
        directory / STATE, version=netbox_simulator.VERSIONS.get(version or "")
    )
    try:
        token = (directory / "netbox.secret").read_text("utf-8").strip()
        async with _simulator(
            lambda: netbox_simulator.create_app(model, tokens=[token]), last_port(directory)
        ) as netbox_url:
            settings = write_config(directory, netbox_url, port)
            assert settings.auth.token is not None
            bearer = settings.auth.token.reveal()
            await serve(settings, lambda url: print(banner(url, bearer, directory), flush=True))
    finally:
        journal.close()


@asynccontextmanager
async def _simulator(make: Callable[[], web.Application], port: int) -> AsyncIterator[str]:
    """Serve the simulator on an event loop of its own, and give its URL. The simulator flushes each change to the disk
    before it answers, and the service's loop must not wait for that."""
    started: Future[tuple[str, Callable[[], object]]] = Future()
    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, _serve_simulator(make, port, started)))
    await asyncio.wait((thread, asyncio.wrap_future(started)), return_when=asyncio.FIRST_COMPLETED)
    if thread.done():
        await thread
    url, stop = started.result()
    try:
        yield url
    finally:
        stop()
        await thread


async def _serve_simulator(
    make: Callable[[], web.Application], port: int, started: Future[tuple[str, Callable[[], object]]]
) -> None:
    """Serve the simulator on this port of the loopback interface, or on any other if that is taken. `started` gets the
    URL and a function that stops it."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    app = make()
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(netbox_simulator.serve(app, port=port))
        except OSError:
            url = await stack.enter_async_context(netbox_simulator.serve(app))
        started.set_result((url, lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()


def run(arguments: argparse.Namespace, serve: Serve) -> int:
    """Run the demo until a signal stops it. `serve` runs the service with given settings, and passes on its URL.

    Raises CommandError if the directory cannot be used, ConfigError if the port is taken.
    """
    directory = (arguments.data or default_directory()).absolute()
    with held(directory):
        try:
            if arguments.reset:
                reset(directory)
            prepare(directory)
            asyncio.run(_run(directory, arguments.port, arguments.netbox_version, serve))
        except (OSError, ValueError, netbox_simulator.StateInUseError) as error:
            raise CommandError(f"cannot use the data in {directory}: {error}; --reset starts anew") from None
    return DONE
