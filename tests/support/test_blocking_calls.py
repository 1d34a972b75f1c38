"""The guard itself: what it notices, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.blocking_calls import MARK, PROGRAM, REPOSITORY, busiest_turn, guarded

BLOCKS = {
    "open": "open(path).close()",
    "time.sleep": "time.sleep(0)",
    "os.fsync": "os.fsync(os.open(path, os.O_RDONLY))",
    "sqlite3.connect": "sqlite3.connect(':memory:').close()",
    "subprocess.Popen": "subprocess.run(['true'])",
    "socket.getaddrinfo": "socket.getaddrinfo('127.0.0.1', 80)",
}

BLOCKING_LINES = ["file = open(__file__)", "time.sleep(0)", "os.fsync(file.fileno())"]


def of_the_program(line: str) -> ModuleType:
    """A module that claims to be the program's, with a coroutine function `block` of this one line."""
    module = ModuleType("blocking")
    source = f"import os, socket, sqlite3, subprocess, time\nasync def block(path):\n    {line}\n"
    exec(compile(source, os.path.join(PROGRAM[0], "blocking.py"), "exec"), module.__dict__)
    return module


def to_its_end(work: Coroutine[None, None, None]) -> None:
    """Run what never waits, without a loop."""
    with suppress(StopIteration):
        work.send(None)


@pytest.mark.parametrize("what", BLOCKS)
async def test_what_the_program_waits_for_on_the_loop_is_noticed(what: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    module = of_the_program(BLOCKS[what])
    with guarded() as found:
        await module.block(path)
    assert any(one.startswith(what) and one.endswith("ipam_lib/blocking.py:3") for one in found), found


async def test_the_same_on_another_thread_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    module = of_the_program(BLOCKS["open"])
    with guarded() as found:
        await asyncio.to_thread(to_its_end, module.block(path))
    assert found == []


async def test_what_a_test_does_itself_is_not(tmp_path: Path) -> None:
    with guarded() as found:
        (tmp_path / "file").write_text("text")
        os.listdir(tmp_path)
    assert found == []


async def test_the_turn_that_computes_most_is_told_by_its_calls() -> None:
    def compute(rounds: int) -> None:
        for _ in range(rounds):
            sum(())

    with busiest_turn() as busiest:
        for rounds in (10, 5000, 20):
            asyncio.get_running_loop().call_soon(compute, rounds)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert 5000 < busiest.calls < 5010
    assert "compute" in busiest.handle
    seen = busiest.calls
    compute(6000)
    await asyncio.sleep(0)
    assert busiest.calls == seen, "nothing is counted any longer"


def test_a_process_of_its_own_tells_of_it_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "ipam_lib"
    folder.mkdir()
    script = folder / "waiting.py"
    lines = [
        "import asyncio, os, time",
        "async def block():",
        "    open(__file__).close()",
        "    print('serving')",
        *(f"    {line}" for line in BLOCKING_LINES),
    ]
    script.write_text("\n".join([*lines, "    os._exit(9)", "", "time.sleep(0)", "asyncio.run(block())"]))
    # The script stands where the program does, as far as the watcher can tell.
    watcher = (
        "import sys; from tests.support import blocking_calls as calls; calls.PROGRAM = (sys.argv[1],); calls.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", watcher, str(script), "argument"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 9, done.stderr
    told = done.stderr.splitlines()
    assert [line.removeprefix(MARK).split("(")[0].split()[0] for line in told] == ["open", "time.sleep", "os.fsync"]
    assert all(line.startswith(MARK) for line in told)
