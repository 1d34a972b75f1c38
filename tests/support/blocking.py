"""Notices when the program makes an event loop wait: in this process (`guarded`), or in one of its own, by
`python -m tests.support.blocking ipam.py serve ...`, which tells of it on standard error in lines that begin with
`MARK`, once it serves.

Two things are noticed, and neither depends on how busy the machine is:

- a call that blocks (a file, a database, a process, a name to resolve, a sleep), made by the program on a thread that
  runs an event loop. Python's audit events tell of most of them (https://docs.python.org/3/library/audit_events.html).
  What a test does itself, and what is read of the sources (imports, tracebacks), does not count.
- one turn of the loop that takes more than 100 ms of its thread's own processor time, without what the garbage
  collector takes (which goes through all that a whole run of tests has left behind). Not in a process of its own, whose
  first turns import everything.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import linecache
import os
import runpy
import sys
import threading
import time
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[2]
PROGRAM: Final = (str(REPOSITORY / "ipam_lib"), str(REPOSITORY / "ipam.py"))
TESTS: Final = str(REPOSITORY / "tests")
# What reads the sources: to import a module, to show where a bug was.
SOURCES: Final = ("<frozen importlib", importlib.__file__, linecache.__file__)

COROUTINES: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR

MARK: Final = "the event loop had to wait:"
LONGEST_TURN: Final = 0.1
BLOCKING: Final = frozenset(
    {
        "open",
        "os.listdir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.scandir",
        "os.system",
        "os.truncate",
        "shutil.copyfile",
        "shutil.rmtree",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "sqlite3.connect",
        "subprocess.Popen",
        "time.sleep",
        "urllib.Request",
    }
)

_found: list[str] | None = None


def _note(what: str) -> None:
    """Note a call, if the program makes it on a thread that runs a loop."""
    if _found is None or events._get_running_loop() is None:
        return
    where = _caller()
    if where is not None:
        _found.append(f"{what} at {where}")


def _caller() -> str | None:
    """Where in the program this call comes from; None when it is the test's own (also by way of a plain function of the
    program, which nobody says may be called on a loop), or reads a source."""
    frame: FrameType | None = sys._getframe(2)
    where: str | None = None
    awaited = True
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(SOURCES):
            return None
        if name.startswith(PROGRAM):
            where = where or f"{name.removeprefix(str(REPOSITORY) + os.sep)}:{frame.f_lineno}"
            awaited = bool(frame.f_code.co_flags & COROUTINES)
        elif name.startswith(TESTS) and name != __file__:
            return where if awaited else None
        frame = frame.f_back
    return where


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in BLOCKING:
        _note(f"{event}({', '.join(map(repr, arguments[:1]))})")


sys.addaudithook(_hook)  # for good: such a hook cannot be taken away, so it looks whether somebody wants to know


def _noting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def noting(*arguments: Any, **keywords: Any) -> Any:
        _note(name)
        return function(*arguments, **keywords)

    return noting


@contextmanager
def guarded() -> Iterator[list[str]]:
    """What made a loop wait while this lasts, as it is found."""
    global _found
    found: list[str] = []
    run = asyncio.Handle._run
    sleep, fsync = time.sleep, os.fsync

    collecting = [0.0, 0.0]  # since when, and how long so far

    def collected(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            collecting[0] = time.thread_time()
        else:
            collecting[1] += time.thread_time() - collecting[0]

    def timed(handle: asyncio.Handle) -> None:
        began, before = time.thread_time(), collecting[1]
        run(handle)
        seconds = time.thread_time() - began - (collecting[1] - before)
        if seconds > LONGEST_TURN:
            found.append(f"{seconds:.3f} s of processor time in one turn: {handle!r}")

    gc.callbacks.append(collected)
    asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]
    os.fsync = _noting(fsync, "os.fsync")
    if sys.version_info < (3, 13):  # from there on there is an audit event
        time.sleep = _noting(sleep, "time.sleep")
    _found = found
    try:
        yield found
    finally:
        _found = None
        gc.callbacks.remove(collected)
        asyncio.Handle._run = run  # type: ignore[method-assign]
        os.fsync, time.sleep = fsync, sleep


class _Telling(list[str]):
    """Tells at once of what is found, from the first line on standard output on: until then the service starts. Of the
    main thread's loop only: the demo's simulator has another one."""

    def __init__(self) -> None:
        super().__init__()
        self._output = sys.stdout
        self._serving = False
        sys.stdout = self

    def append(self, what: str) -> None:
        if self._serving and threading.current_thread() is threading.main_thread():
            os.write(2, f"{MARK} {what}\n".encode())

    def write(self, text: str) -> int:
        self._serving = True
        return self._output.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


def main() -> None:
    """Run the script that the arguments name, with the rest of them, and tell of what makes its loop wait."""
    global _found
    sys.argv = sys.argv[1:]
    _found = _Telling()
    os.fsync = _noting(os.fsync, "os.fsync")
    if sys.version_info < (3, 13):
        time.sleep = _noting(time.sleep, "time.sleep")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
