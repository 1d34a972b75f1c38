"""What systemd is told, over a real socket: by the notifier, by the loop that serves, and by the program itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from ipam_lib.web import notify
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.middlewares import INFLIGHT
from ipam_lib.web.notify import Notifier, reported, watched
from ipam_lib.web.server import Listen, ServiceManagerHooks, serve
from tests.support.processes import REPOSITORY, TOKEN, call, ready, running, until, write_config
from tests.support.systemd import Listener, listener


@pytest.fixture
def systemd() -> Iterator[Listener]:
    with listener() as found:
        yield found


# -- the notifier


def test_every_state(systemd: Listener) -> None:
    notifier = Notifier(systemd.address)
    assert notifier.enabled
    notifier.ready("listening on http://127.0.0.1:3000")
    assert systemd.message() == {"READY": "1", "STATUS": "listening on http://127.0.0.1:3000"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    message = systemd.message()
    assert before <= int(message.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert message == {"RELOADING": "1", "STATUS": "reloading the configuration"}
    notifier.stopping()
    assert systemd.message() == {"STOPPING": "1", "STATUS": "finishing the requests in progress"}
    notifier.alive()
    assert systemd.message() == {"WATCHDOG": "1"}
    notifier.status("all is\nwell\nREADY=0")
    assert systemd.message() == {"STATUS": r"all is\x0awell\x0aREADY=0"}


def test_an_abstract_address() -> None:
    with listener(abstract=True) as systemd:
        assert systemd.address.startswith("@")
        Notifier(systemd.address).alive()
        assert systemd.message() == {"WATCHDOG": "1"}


def test_where_nobody_listens_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    for address in (None, ""):
        notifier = Notifier(address)
        assert not notifier.enabled
        notifier.ready("x")
    assert caplog.text == ""


def test_a_socket_that_is_gone_is_complained_about_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    for _ in range(3):
        notifier.alive()
    assert len(caplog.records) == 1
    assert "systemd cannot be notified" in caplog.text
    Notifier("/" + "x" * 200).alive()
    assert "path too long" in caplog.text


def test_a_full_queue_holds_nothing_up_and_is_complained_about_once_each_time(
    systemd: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(systemd.address)
    for round_number in (1, 2):
        for _ in range(2000):
            notifier.alive()
        assert len(caplog.records) == round_number
        assert systemd.waiting()
        notifier.alive()  # gets through: the next failure is a new one
        systemd.message()


@pytest.mark.parametrize(
    ("variables", "address", "seconds"),
    [
        ({}, None, None),
        ({"NOTIFY_SOCKET": "/x"}, "/x", None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"}, "/x", 30.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "own"}, "/x", 30.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, "/x", None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, "/x", None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, "/x", None),
    ],
)
def test_what_systemd_set_is_taken_out_of_the_environment(
    variables: dict[str, str], address: str | None, seconds: float | None
) -> None:
    environ = {name: str(os.getpid()) if value == "own" else value for name, value in variables.items()}
    environ["OTHER"] = "stays"
    notifier = Notifier.from_environment(environ)
    assert (notifier.enabled, notifier.watchdog_seconds) == (address is not None, seconds)
    assert environ == {"OTHER": "stays"}


# -- the loop


async def _message(systemd: Listener) -> dict[str, str]:
    return await asyncio.to_thread(systemd.message)


async def test_the_loop_gives_a_sign_of_life_for_as_long_as_the_work_behind_it_lives(
    systemd: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    lives = True
    async with watched(Notifier(systemd.address, 0.02), lambda: lives):
        assert await _message(systemd) == {"WATCHDOG": "1"}
        assert await _message(systemd) == {"WATCHDOG": "1"}
        lives = False
        async with asyncio.timeout(60):
            while "has died" not in caplog.text:  # noqa: ASYNC110 - a log line is no event
                await asyncio.sleep(0)
        systemd.waiting()
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert systemd.waiting() == []
        assert caplog.text.count("has died") == 1
        lives = True
        assert await _message(systemd) == {"WATCHDOG": "1"}
    systemd.waiting()
    await asyncio.sleep(0.05)
    assert systemd.waiting() == []


async def test_a_loop_that_is_stuck_gives_none(systemd: Listener) -> None:
    async with watched(Notifier(systemd.address, 0.02), lambda: True):
        await _message(systemd)
        systemd.waiting()
        time.sleep(0.2)  # noqa: ASYNC251 - the very thing that the watchdog is for
        assert systemd.waiting() == []


@pytest.mark.parametrize("notifier", [Notifier(None, 0.01), Notifier("/nowhere", None)])
async def test_where_systemd_does_not_watch_nothing_is_done(
    notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(asyncio.all_tasks())
    async with watched(notifier, lambda: True):
        assert len(asyncio.all_tasks()) == before
    async with reported(Notifier(), None), reported(Notifier("/nowhere"), None):
        assert len(asyncio.all_tasks()) == before
    assert caplog.text == ""


async def test_how_it_is_doing_is_told_when_it_changes(systemd: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "SECONDS_BETWEEN_REPORTS", 0.001)
    said = ["ready", "ready", "ready", "not ready: storage", "ready"]
    asked = 0

    async def report() -> str:
        nonlocal asked
        asked += 1
        return said[min(asked, len(said)) - 1]

    async with reported(Notifier(systemd.address), report):
        for text in ("ready", "not ready: storage", "ready"):
            assert await _message(systemd) == {"STATUS": text}


async def test_a_report_that_fails_is_a_bug_and_no_more(systemd: Listener, caplog: pytest.LogCaptureFixture) -> None:
    async def report() -> str:
        raise ZeroDivisionError

    async with reported(Notifier(systemd.address), report), asyncio.timeout(60):
        while "a bug" not in caplog.text:  # noqa: ASYNC110 - a log line is no event
            await asyncio.sleep(0)
    assert systemd.waiting() == []


# -- the server


async def test_the_server_tells_when_it_is_ready_reloading_and_stopping(systemd: Listener) -> None:
    seen: list[str] = []

    async def reload() -> None:
        seen.append("reload")
        if len(seen) == 2:
            raise ZeroDivisionError

    async def report() -> str:
        return "ready"

    supervision = ServiceManagerHooks(notifier=Notifier(systemd.address), report=report, reload=reload)
    app = web.Application()
    app[INFLIGHT] = InFlight()
    announced: list[str] = []
    serving = asyncio.create_task(serve(app, Listen(host="127.0.0.1", port=0), announced.append, supervision))
    message = await _message(systemd)
    assert message == {"READY": "1", "STATUS": f"listening on {announced[0]}"}
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await asyncio.to_thread(systemd.wait_for, "RELOADING"))["MONOTONIC_USEC"].isdigit()
        # Also when reloading fails: else systemd would take the service for one that is still at it.
        await asyncio.to_thread(systemd.wait_for, "READY")
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await asyncio.to_thread(systemd.wait_for, "STOPPING"))["STATUS"] == "finishing the requests in progress"
    await serving
    assert seen == ["reload", "reload"]


# -- the program


def test_the_program(tmp_path: Path, systemd: Listener) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "100000"}
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as netbox:
        config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
        with running("serve", "--config", str(config), cwd=tmp_path, env=environment) as service:
            message = systemd.wait_for("READY")
            assert message["STATUS"] == f"listening on {service.url}"
            assert call("GET", f"{service.url}/healthz")[0] == 200  # at once: it does listen
            assert ready(service.url)
            systemd.wait_for("WATCHDOG")
            service.process.send_signal(signal.SIGHUP)
            systemd.wait_for("RELOADING")
            assert systemd.wait_for("READY")["STATUS"] == "ready"
            systemd.wait_for("WATCHDOG")
            # A process that stands still gives no sign, and one that goes on does.
            service.process.send_signal(signal.SIGSTOP)
            assert until(lambda: _stopped(service.process.pid))
            systemd.waiting()
            time.sleep(0.3)
            assert systemd.waiting() == []
            service.process.send_signal(signal.SIGCONT)
            systemd.wait_for("WATCHDOG")
            service.process.send_signal(signal.SIGTERM)
            systemd.wait_for("STOPPING")
            assert service.wait() == 0
            assert not any("Traceback" in line or "cannot be told" in line for line in service.errors)


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_lines_in_the_journal(tmp_path: Path) -> None:
    # Standard error is a socket there, as it is here.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        config = write_config(tmp_path, "http://127.0.0.1:9", {"storage": {"sqlite": "registrations.sqlite"}}, odd={})
        said = _run_into(theirs, ours, config, tmp_path, f"{status.st_dev}:{status.st_ino}")
    assert said
    assert all(line.startswith(("<3>", "<4>", "<6>")) for line in said), said
    assert any(line.startswith("<4>ipam: ") and "'odd' is not a setting" in line for line in said)


def _run_into(theirs: socket.socket, ours: socket.socket, config: Path, cwd: Path, stream: str) -> list[str]:
    """Start the service with this as its standard error, and stop it. Returns what came."""
    environment = {**os.environ, "JOURNAL_STREAM": stream}
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "ipam.py"), "serve", "--config", str(config)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    theirs.close()
    try:
        assert process.stdout
        assert process.stdout.readline().startswith(b"listening on ")
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
    finally:
        process.kill()
        process.wait()
    received = b""
    while some := ours.recv(65536):
        received += some
    return received.decode().splitlines()
