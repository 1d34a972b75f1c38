"""Sockets that systemd passes on: what is taken and what refused, and a restart that nobody notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.errors import ConfigError
from ipam_lib.web import server
from ipam_lib.web.activation import passed_sockets
from ipam_lib.web.connection import Limits
from ipam_lib.web.middlewares import INFLIGHT
from tests.support.processes import TOKEN, call, ready, running, until, write_config
from tests.web.service import BODY, SERVICE, service


@contextmanager
def passed(*sources: Any) -> Iterator[tuple[int, dict[str, str]]]:
    """The first descriptor and the environment of a process that was passed these (things with a descriptor)."""
    # Out of the way of those that pytest has.
    first = max(map(int, os.listdir("/proc/self/fd"))) + 100
    for number, source in enumerate(sources):
        os.dup2(source.fileno(), first + number, inheritable=True)
    names = ":".join(f"name{number}" for number in range(len(sources)))
    count = str(len(sources))
    try:
        yield first, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names, "OTHER": "x"}
    finally:
        for number in range(len(sources)):
            with suppress(OSError):  # whoever took it has closed it
                os.close(first + number)


def test_listening_sockets_are_taken_and_the_variables_with_them() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as two,
        passed(one, two) as (first, environ),
    ):
        taken = passed_sockets(environ, first)
        try:
            assert [each.getsockname() for each in taken] == [one.getsockname(), two.getsockname()]
            assert [each.fileno() for each in taken] == [first, first + 1]
            assert not any(each.get_inheritable() or each.getblocking() for each in taken)
            assert environ == {"OTHER": "x"}
        finally:
            for each in taken:
                each.close()


@pytest.mark.parametrize(
    "changes",
    [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": "-1"}],
)
def test_what_is_for_another_process_or_nothing_is_left_alone(changes: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, passed(one) as (first, environ):
        environ |= changes
        assert passed_sockets(environ, first) == []
        assert environ == {"OTHER": "x"}
        os.fstat(first)
    assert passed_sockets({}) == []


def test_anything_but_a_listening_stream_socket_is_refused(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as good,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket() as deaf,
        (tmp_path / "file").open("w") as file,
    ):
        for bad in (datagrams, deaf, file):
            with passed(good, bad) as (first, environ), pytest.raises(ConfigError) as caught:
                passed_sockets(environ, first)
            assert caught.value.problems == [
                f"descriptor {first + 1} (name1) from systemd is not a listening stream socket"
            ]


# -- leaving


@asynccontextmanager
async def leaving_with_a_client() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server that was told to stop just after it had accepted a connection; it is gone at the end."""
    limits = Limits()
    context = service(limits=limits)
    running = await context.__aenter__()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        async with asyncio.timeout(60):
            while not limits.open:  # noqa: ASYNC110 - neither is an event
                await asyncio.sleep(0)
        leaving = asyncio.ensure_future(context.__aexit__(None, None, None))
        async with asyncio.timeout(60):
            while not running.app[INFLIGHT].stopping:  # noqa: ASYNC110
                await asyncio.sleep(0)
        # Long enough for a server that would close it.
        for _ in range(500):
            await asyncio.sleep(0)
        yield reader, writer
        await leaving
    finally:
        writer.close()


async def test_a_request_that_was_still_to_come_on_an_accepted_connection_is_served() -> None:
    async with leaving_with_a_client() as (reader, writer), asyncio.timeout(60):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n")
        await asyncio.sleep(0)
        body = json.dumps(BODY).encode()
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_says_nothing_does_not_hold_up_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SECONDS_FOR_PENDING_REQUESTS", 0.05)
    async with leaving_with_a_client() as (reader, _), asyncio.timeout(60):
        assert await reader.read() == b""


# -- the program


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as netbox:
        yield write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}}, server={"port": 1})


def _start(config: Path, listening: socket.socket) -> Any:
    return running("serve", "--config", str(config), cwd=config.parent, listening=listening)


def test_the_program_serves_on_the_socket_it_was_passed(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with _start(config, listening) as program:
            # Host and port of the configuration, a port that only root may have, mean nothing then.
            assert program.url == f"http://127.0.0.1:{listening.getsockname()[1]}"
            assert ready(program.url)
            assert call("POST", program.url, BODY)[0] == 200
            assert program.stop() == 0
        # The service is gone, and its port is not: it is systemd's.
        with socket.create_connection(listening.getsockname()):
            pass


def test_a_socket_in_the_file_system(config: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="listen-", dir="/tmp") as directory:
        path = f"{directory}/socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            with _start(config, listening) as program:
                program.wait_until(lambda: f"listening on http+unix://{path}" in program.lines)
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(60)
                    client.connect(path)
                    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    received = b""
                    while some := client.recv(4096):
                        received += some
                assert received.startswith(b"HTTP/1.1 200 ")
                assert program.stop() == 0
                assert not any("Traceback" in line for line in program.errors)


def test_something_else_than_a_socket_is_one_line(config: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        with _start(config, datagrams) as program:
            assert program.wait() == 78
            [line] = program.errors
            assert line == "ipam.py: descriptor 3 (ipam-api.socket) from systemd is not a listening stream socket"


def test_a_restart_under_steady_requests_refuses_nobody(config: Path) -> None:
    answers: list[tuple[int, Any]] = []
    failures: list[BaseException] = []
    enough = threading.Event()
    url = ""

    def client(number: int) -> None:
        body = BODY | {"service": SERVICE | {"service_name": f"service-{number}"}}
        while not enough.is_set():
            try:
                answers.append(call("POST", url, body))
            except BaseException as error:
                failures.append(error)
                return

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        clients = [threading.Thread(target=client, args=(number,)) for number in range(3)]

        def served(more: int) -> Callable[[], bool]:
            wanted = len(answers) + more
            return lambda: len(answers) >= wanted or bool(failures)

        try:
            for round_number in range(3):
                with _start(config, listening) as program:
                    assert ready(url)
                    if not round_number:
                        for each in clients:
                            each.start()
                    assert until(served(20))
                    # While requests come in.
                    assert program.stop(signal.SIGTERM) == 0
            with _start(config, listening) as program:
                assert ready(url)
                assert until(served(20))
                enough.set()
                for each in clients:
                    each.join()
                assert program.stop() == 0
        finally:
            enough.set()
    assert failures == []
    # Between listening and having its zones it may say so, and then the client comes again.
    assert {status for status, _ in answers} <= {200, 503}
    assert len({content["address"] for status, content in answers if status == 200}) == 3
