"""Keeping the simulator's state in a file, so that it survives its process, however that ends.

The file is a journal: the first line is the whole state, each further line the changes of one request, appended and
synced before the answer goes out. A line that a crash cut short has no newline at its end and is dropped; whatever was
answered is whole. Now and then the file is rewritten to its first line only, in a new file that takes the old one's
place.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from netbox_simulator.model import NetBoxModel
from netbox_simulator.state import Change, State

FORMAT = "netbox-simulator-1"
# Lines after which the file is rewritten.
_LINES = 20_000


class StateInUseError(RuntimeError):
    """Another process keeps its state in this file."""


class FileJournal:
    """The journal in a file. Opening it locks it (by a file beside it) until `close`.

    Raises StateInUseError when another process has it open, ValueError when the file is something else.
    """

    def __init__(self, path: Path, *, sync: Callable[[int], None] = os.fsync) -> None:
        self.path = path
        self._sync = sync
        self._lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(f"{path.name}.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateInUseError(f"another process uses {path}") from None
        self._file: IO[bytes] | None = None

    def read_into(self, state: State) -> bool:
        """Bring a state to what the file says; False when there is none yet."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return False
        # What follows the last newline was cut short while it was written, so it was never answered.
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        if not lines:
            return False
        first = json.loads(lines[0])
        if not isinstance(first, dict) or first.get("format") != FORMAT:
            raise ValueError(f"{self.path} is not a state file of the simulator")
        state.load(first["state"])
        for line in lines[1:]:
            entry: dict[str, Any] = json.loads(line)
            state.apply((kind, row_id, row) for kind, row_id, row in entry["changes"])
            state.sequences.update(entry["sequences"])
        state.take_changes()
        return True

    def write(self, changes: list[Change], state: State) -> None:
        """Append the changes of one request, and sync. Raises OSError when the file cannot take them."""
        if self._file is None or self._lines >= _LINES:
            self.rewrite(state)
            return
        noted = [(one.kind, one.id, one.stored) for one in changes]
        line = json.dumps({"changes": noted, "sequences": state.sequences}, separators=(",", ":"))
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            self._sync(self._file.fileno())
        except OSError:
            # The file may end in half a line now, and lacks a change: the next write begins a new one.
            broken, self._file = self._file, None
            with suppress(OSError):
                broken.close()
            raise
        self._lines += 1

    def rewrite(self, state: State) -> None:
        """Write the whole state to a new file and put it in the place of the old one."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        # It holds tokens.
        file = os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        file.write(json.dumps({"format": FORMAT, "state": state.dump()}, separators=(",", ":")).encode() + b"\n")
        file.flush()
        self._sync(file.fileno())
        fresh.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            self._sync(directory)
        finally:
            os.close(directory)
        if self._file is not None:
            self._file.close()
        self._file = file
        self._lines = 0

    def close(self) -> None:
        """Close the file and let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()


def attach(model: NetBoxModel, path: Path) -> FileJournal:
    """Let a model keep its state at `path`: read what is there, and write every change from now on.

    Gives the journal, to be closed at the end. Raises StateInUseError, ValueError.
    """
    journal = FileJournal(path)
    try:
        journal.read_into(model.state)
        journal.rewrite(model.state)
    except BaseException:
        journal.close()
        raise
    model.journal = journal
    return journal
