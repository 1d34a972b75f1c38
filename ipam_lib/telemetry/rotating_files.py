"""A file of JSON lines, rotated by size. A disk that is full, or a directory that cannot be written, costs lines and
nothing else: it is told, and tried again with the next line."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

LARGEST_FILE: Final = 50 * 1024 * 1024
FILES_KEPT: Final = 10


class LogFile(logging.Handler):
    """Keeps the lines that it is handed, and writes them on `flush`: one write for many lines.

    `complain` is told in words what went wrong. `failed`: how many lines are missing in the file. What was begun when
    the disk filled up is ended by a line break before the next line, so that all others can be read. Where the file has
    been moved or removed (by another process of the service, or by logrotate), a new one is begun.
    """

    def __init__(
        self,
        path: Path,
        complain: Callable[[str], None],
        *,
        largest: int = LARGEST_FILE,
        kept: int = FILES_KEPT,
    ) -> None:
        super().__init__()
        self._path = path
        self._complain = complain
        self._largest = largest
        self._kept = kept
        self._file: BinaryIO | None = None
        self._size = 0
        self._broken = False
        self._lines: list[bytes] = []
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record).encode("utf-8", "replace") + b"\n")

    def flush(self) -> None:
        """Write what is kept."""
        lines, self._lines = self._lines, []
        try:
            while lines:
                self._open()
                fitting = self._fitting(lines)
                self._write(b"".join(lines[:fitting]))
                del lines[:fitting]
        except OSError as error:
            self.failed += len(lines)
            self._leave()
            self._complain(f"cannot write {self._path}: {error.strerror}; {self.failed} lines are missing there so far")

    def close(self) -> None:
        """Write what is kept, and close the file."""
        self.flush()
        self._leave()
        super().close()

    def _fitting(self, lines: list[bytes]) -> int:
        """How many of the lines go into the file, which is exchanged for a new one when none does."""
        if self._size and self._size + len(lines[0]) > self._largest:
            self._rotate()
        size = self._size
        for number, line in enumerate(lines):
            size += len(line)
            if number and size > self._largest:
                return number
        return len(lines)

    def _open(self) -> None:
        """Have the file open that stands at the path. Raises OSError."""
        if self._file is not None:
            try:
                there, ours = os.stat(self._path), os.fstat(self._file.fileno())
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    self._size = ours.st_size
                    return
            except FileNotFoundError:
                pass
            self._leave()
        self._file = file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - stays open
        self._size = os.fstat(file.fileno()).st_size
        if self._size and not self._broken:
            # A process that was killed, or a disk that was full, may have left half a line.
            with suppress(OSError), self._path.open("rb") as reader:
                reader.seek(-1, os.SEEK_END)
                self._broken = reader.read(1) != b"\n"

    def _write(self, content: bytes) -> None:
        """Raises OSError; what has been written by then counts as begun."""
        assert self._file is not None
        if self._broken:
            content = b"\n" + content
        left = memoryview(content)
        while left:
            written = self._file.write(left)
            self._size += written
            left = left[written:]
            self._broken = bool(left)
        self._broken = False

    def _rotate(self) -> None:
        self._leave()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{one}") for one in range(1, self._kept + 1))]
        for newer, older in reversed(list(pairwise(names))):
            # Another process of the service may be doing the same.
            with suppress(FileNotFoundError):
                newer.replace(older)
        self._broken = False
        self._open()

    def _leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
