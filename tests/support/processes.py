"""The program as processes of its own: started, watched, told to stop, killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.blocking_calls import MARK

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = (str(REPOSITORY / "ipam.py"),)
START_SECONDS = 60
STOP_SECONDS = 60
URL = re.compile(r"https?://[\w.:\[\]-]+:\d+")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
BEARER = "the-bearer-token-of-the-tests"
# Only the process itself can say which one the socket is for.
PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "ipam-api.socket"}
os.execv(sys.argv[2], sys.argv[2:])
"""


# These serve until they are told to stop. (So does the simulator, but what it is told is on the disk when it answers.)
LASTING = {"serve", "demo"}


class Process:
    """One process of the program. One that lasts must not make its event loop wait. Its output is collected as it
    comes; `url` is the first address that it printed.

    `listening`: a socket to pass on as systemd does (sd_listen_fds(3)). `script`: what to run instead of ipam.py, with
    arguments of its own before those of the program.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        listening: socket.socket | None = None,
        script: Sequence[str] = PROGRAM,
    ) -> None:
        watched = ["-m", "tests.support.blocking_calls"] if LASTING.intersection(arguments) else []
        if "simulate-netbox" in arguments:
            watched = ["-m", "tests.support.netbox_faults"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
        environment.pop("IPAM_CONFIG", None) if "IPAM_CONFIG" not in (env or {}) else None
        command = [sys.executable, "-W", "error", *watched, *script, *arguments]
        if listening:
            command = [sys.executable, "-c", PASS_ON, str(listening.fileno()), *command]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            pass_fds=(listening.fileno(),) if listening else (),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, into: list[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    into.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_until(self, seen: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """What `seen` returns once that is true; it is looked at again whenever the process printed something.

        Raises AssertionError when the process has ended, or the time.
        """
        with self._changed:
            self._changed.wait_for(lambda: seen() or not self._open, seconds)
            found = seen()
        assert found, f"not seen; it printed {self.lines} and {self.errors}"
        return found

    @property
    def url(self) -> str:
        """The address that it listens on."""
        found: re.Match[str] = self.wait_until(lambda: URL.search("\n".join(self.lines)))
        return found.group()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait. Returns the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end. Returns the exit status."""
        status = self.process.wait(STOP_SECONDS)
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        waits = [line for line in self.errors if line.startswith(MARK)]
        assert not waits, "\n".join(waits)
        return status

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


@contextmanager
def running(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, listening: socket.socket | None = None
) -> Iterator[Process]:
    """The program with these arguments (see `Process`), gone at the end."""
    process = Process(*arguments, cwd=cwd, env=env, listening=listening)
    try:
        yield process
    finally:
        process.end()


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the program to its end: exit status, standard output, standard error."""
    with running(*arguments, cwd=cwd, env=env) as process:
        status = process.wait()
        return status, "\n".join(process.lines), "\n".join(process.errors)


def call(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, seconds: float = 60
) -> tuple[int, Any]:
    """One request as a small script would make it: status, and body as JSON where it is that, else text."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            status, raw, kind = answer.status, answer.read(), answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        with error:
            status, raw, kind = error.code, error.read(), error.headers.get_content_type()
    return status, json.loads(raw) if kind == "application/json" else raw.decode()


def until(seen: Callable[[], Any], seconds: float = START_SECONDS) -> bool:
    """Look again and again until something is so; False when it is not after so many seconds."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def ready(url: str, seconds: float = START_SECONDS) -> bool:
    """Wait until the service at this address is ready; False when it is not after so many seconds."""
    return until(lambda: call("GET", f"{url}/readyz")[0] == 200, seconds)


def write_config(directory: Path, netbox_url: str, storage: Mapping[str, Any], **sections: Any) -> Path:
    """A configuration in the directory, with its secret files. `storage`: the sections that say where to store."""
    (directory / "netbox.secret").write_text(TOKEN + "\n")
    (directory / "auth.secret").write_text(BEARER + "\n")
    (directory / "secrets.json").write_text(json.dumps({"enc_key": "k" * 32, "enc_iv": "i" * 16}))
    content = {
        **storage,
        "netbox": {"url": netbox_url, "token_path": "netbox.secret", "constraint_tag": "vitistack"},
        "encryption_secrets": {"path": "secrets.json"},
        "server": {"host": "127.0.0.1", "port": 0},
        "auth": {"token_path": "auth.secret"},
        **sections,
    }
    path = directory / "config.json"
    path.write_text(json.dumps(content))
    return path
