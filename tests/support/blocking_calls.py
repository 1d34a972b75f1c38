"""Notices when the program makes an event loop wait: in this process (`guarded`), or in one of its own, by
`python -m tests.support.blocking_calls ipam.py serve ...`, which tells of it on standard error in lines that begin with
`MARK`, once it serves.

Two things can be noticed, and neither depends on how fast or how busy the machine is:

- a call that blocks (a file, a database, a process, a name to resolve, a sleep), made by the program on a thread that
  runs an event loop. Python's audit events tell of most of them (https://docs.python.org/3/library/audit_events.html).
  What a test does itself, and what is read of the sources (imports, tracebacks), does not count.
- how much one turn of the loop computes (`busiest_turn`), in calls of functions instead of seconds: the same request
  makes the same calls everywhere. Tests ask for it where a client decides how much there is to do.
"""

from __future__ import annotations

import asyncio
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
from dataclasses import dataclass
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
    sleep, fsync = time.sleep, os.fsync

    os.fsync = _noting(fsync, "os.fsync")
    if sys.version_info < (3, 13):  # from there on there is an audit event
        time.sleep = _noting(sleep, "time.sleep")
    _found = found
    try:
        yield found
    finally:
        _found = None
        os.fsync, time.sleep = fsync, sleep


@dataclass
class Turn:
    """The turn of the loop that called the most functions, Python's and C's."""

    calls: int = 0
    handle: str = ""


@contextmanager
def busiest_turn() -> Iterator[Turn]:
    """The busiest turn of this thread's loop while this lasts. It slows the program down, a profiler being at work."""
    busiest = Turn()
    run = asyncio.Handle._run
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def counted(handle: asyncio.Handle) -> None:
        nonlocal calls
        calls = 0
        run(handle)
        if calls > busiest.calls:
            busiest.calls, busiest.handle = calls, repr(handle)

    asyncio.Handle._run = counted  # type: ignore[assignment, method-assign]
    sys.setprofile(count)
    try:
        yield busiest
    finally:
        sys.setprofile(None)
        asyncio.Handle._run = run  # type: ignore[method-assign]


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
