"""A MongoDB-compatible server for the tests, looked for in this order:

1. `IPAM_TEST_MONGODB_URI`: a server that is running already;
2. `mongod` on PATH, started on a directory and a port of its own;
3. the server of tests/mongo_server (needs a JDK and Maven), built once.

A pytest plugin: tests/conftest.py loads it. Fixtures: `mongodb_uri` (one server for the whole run, also for the workers
of pytest-xdist, whose parent starts it), `mongodb_database`
(a fresh database name, dropped afterwards), `start_mongo` (servers of a test's own, to stop, kill and start again).
Where there is no server, the tests that need one are skipped and said so (tests/support/not_run.py).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import mongo_server
from tests.support.not_run import skip_loudly

if TYPE_CHECKING:
    from pymongo import MongoClient
    from xdist.workermanage import WorkerController

URI_VARIABLE = "IPAM_TEST_MONGODB_URI"
WORKER_INPUT = "mongodb"
WHAT = "MongoDB tests"
START_SECONDS = 60
STOP_SECONDS = 30


_SHARED = pytest.StashKey[tuple[str, str]]()


class NoMongoError(Exception):
    """There is no MongoDB-compatible server to be had here; the message says why, and what would help."""


class MongoServer(ABC):
    """A server process on 127.0.0.1 that keeps its port from start to start.

    data_outlive_stop, data_outlive_kill: whether what was acknowledged (with `w: majority`) is there again after
    `stop` or `kill` and `start`.
    """

    data_outlive_stop: bool
    data_outlive_kill: bool

    def __init__(self) -> None:
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        """Connection string without a database. Valid once started, and while stopped."""
        assert self._port, "the server was never started"
        return f"mongodb://127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when it answers. Raises NoMongoError when it does not come up."""
        assert not self.running, "the server runs already"
        self._process, self._port = self._launch(self._port)

    def stop(self) -> None:
        """End it in order (SIGTERM) and wait. Does nothing when it is not running."""
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait. Does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    @abstractmethod
    def _launch(self, port: int) -> tuple[subprocess.Popen[str], int]:
        """Start the process on the port (0: a free one); return both when it answers."""


class JavaServer(MongoServer):
    """The server of tests/mongo_server.

    data: file that keeps the data; None keeps them in memory, which is faster. heap: as for `mongo_server.command`.
    """

    def __init__(self, data: Path | None = None, heap: str = "512m") -> None:
        super().__init__()
        self._data = data
        self._heap = heap
        self.data_outlive_stop = self.data_outlive_kill = data is not None

    def _launch(self, port: int) -> tuple[subprocess.Popen[str], int]:
        try:
            command = mongo_server.command(port, self._data, self._heap)
        except mongo_server.BuildError as error:
            raise NoMongoError(
                f"set {URI_VARIABLE}, or install mongod, or let tests/mongo_server be built: {error}"
            ) from None
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        first_line = process.stdout.readline().strip()
        if not first_line.isdecimal():
            process.kill()
            rest, _ = process.communicate()
            raise NoMongoError(f"the server of tests/mongo_server did not start: {first_line} {rest.strip()}")
        return process, int(first_line)


class Mongod(MongoServer):
    """A real `mongod` on a directory of its own."""

    data_outlive_stop = True
    data_outlive_kill = True

    def __init__(self, program: str, directory: Path) -> None:
        super().__init__()
        self._program = program
        self._directory = directory

    def _launch(self, port: int) -> tuple[subprocess.Popen[str], int]:
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        port = port or _free_port()
        log = self._directory / "mongod.log"
        process = subprocess.Popen(
            [
                *(self._program, "--quiet", "--bind_ip", "127.0.0.1", "--port", str(port)),
                *("--dbpath", str(self._directory), "--logpath", str(log), "--logappend"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        with MongoClient[dict[str, Any]](
            f"mongodb://127.0.0.1:{port}", serverSelectionTimeoutMS=START_SECONDS * 1000
        ) as client:
            try:
                client.admin.command("ping")
            except PyMongoError as error:
                process.kill()
                process.wait()
                raise NoMongoError(f"{self._program} does not answer ({error}); its log: {log}") from None
        return process, port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def own_server(directory: Path, *, keep_data: bool, heap: str = "512m") -> MongoServer:
    """A server of one's own (not started): mongod, else that of tests/mongo_server.

    directory: an empty directory for its data. keep_data: whether data must outlive the process. heap: how
    much memory that of tests/mongo_server may take.
    """
    mongod = shutil.which("mongod")
    if mongod is not None:
        return Mongod(mongod, directory)
    return JavaServer(directory / "data.mv" if keep_data else None, heap)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Start the server of the workers of pytest-xdist before the first of them. Each worker is told its URI, or why
    there is none. (What a worker starts ends with that worker, while another may still be at work.)"""
    stash = node.config.stash
    if _SHARED not in stash and not os.environ.get(URI_VARIABLE):
        stash[_SHARED] = _shared_server(node.config)
    if _SHARED in stash:
        node.workerinput[WORKER_INPUT] = stash[_SHARED]


def _shared_server(config: pytest.Config) -> tuple[str, str]:
    directory = tempfile.TemporaryDirectory(prefix="mongodb-")
    config.add_cleanup(directory.cleanup)
    server = own_server(Path(directory.name), keep_data=False)
    try:
        server.start()
    except NoMongoError as error:
        return "", str(error)
    config.add_cleanup(server.stop)
    return server.uri, ""


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI, without a database, of a server that runs as long as the tests do."""
    uri = os.environ.get(URI_VARIABLE)
    missing = ""
    if not uri and hasattr(request.config, "workerinput"):
        uri, missing = request.config.workerinput[WORKER_INPUT]
    if missing:
        skip_loudly(WHAT, missing)
    if uri:
        yield uri
        return
    server = own_server(tmp_path_factory.mktemp("mongodb"), keep_data=False)
    _start_or_skip(server)
    yield server.uri
    server.stop()


@pytest.fixture(scope="session")
def mongodb_admin(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A synchronous client of that server, to prepare and inspect."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](mongodb_uri, timeoutMS=START_SECONDS * 1000) as client:
        yield client


@pytest.fixture
def mongodb_database(mongodb_admin: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database that does not exist yet; dropped after the test."""
    name = f"ipam_test_{uuid.uuid4().hex}"
    yield name
    mongodb_admin.drop_database(name)


@pytest.fixture
def start_mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], MongoServer]]:
    """A function that starts one more server, of the test's own, whose data outlive stop and kill."""
    with ExitStack() as servers:

        def start() -> MongoServer:
            server = own_server(tmp_path_factory.mktemp("mongodb"), keep_data=True)
            _start_or_skip(server)
            servers.callback(server.stop)
            return server

        yield start


def _start_or_skip(server: MongoServer) -> None:
    try:
        server.start()
    except NoMongoError as error:
        skip_loudly(WHAT, str(error))
