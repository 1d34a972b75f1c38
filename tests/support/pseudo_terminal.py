"""The program as a user at a terminal meets it: standard input and error are one, and what it asks is answered."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.processes import REPOSITORY

SECONDS = 60


def at_terminal(
    *arguments: str,
    cwd: Path,
    answers: Sequence[tuple[str, str]] = (),
    output: bool = False,
    columns: int = 200,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Run the program: exit status, standard output, and what the terminal showed.

    answers: what to wait for on the terminal, and what to type then (with its newline, or a control character).
    output: whether standard output goes to the terminal too (it is empty then).
    """
    terminal, end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", **(env or {})}
    environment.pop("IPAM_CONFIG", None)
    # A session of its own, whose terminal is this one: a password is asked for on /dev/tty.
    take = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        " os.execv(sys.executable, [sys.executable, '-W', 'error', *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", take, str(REPOSITORY / "ipam.py"), *arguments],
        cwd=cwd,
        env=environment,
        stdin=end,
        stdout=end if output else subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    try:
        shown = _talk(terminal, process, answers)
        out = process.stdout.read().decode() if process.stdout else ""
        return process.wait(SECONDS), out, shown
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
        os.close(terminal)


def _talk(terminal: int, process: subprocess.Popen[bytes], answers: Sequence[tuple[str, str]]) -> str:
    """Type each answer once what it waits for has been shown, and read to the end."""
    shown, read_up_to, pending = "", 0, list(answers)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1.0)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            some = os.read(terminal, 65536)
        except OSError:  # the last one on the other side has closed it
            break
        if not some:
            break
        shown += some.decode("utf-8", "replace").replace("\r\n", "\n")
        if pending and (found := re.search(pending[0][0], shown[read_up_to:])):
            read_up_to += found.end()
            os.write(terminal, pending.pop(0)[1].encode())
    assert not pending, f"never asked {pending}: {shown}"
    return shown
