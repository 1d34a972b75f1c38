"""A log file, rotated by size. On a full disk or in an unwritable directory, lines are lost and counted, and the next
line tries again.

The standard library's RotatingFileHandler does not do for this: it writes and flushes line by line, keeps a partial
line in its buffer when the disk is full, and does not notice that another process has moved the file.
"""

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
    """Collects lines, and writes them on `flush` with one call.

    `report`: gets a text for each problem. `failed`: the number of lines that are missing in the file.

    A line break ends a partial line (of a full disk, or of a killed process) before the next line. When the file was
    moved or removed (by another process of the service, or by logrotate), a new file is opened.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[str], None],
        *,
        largest: int = LARGEST_FILE,
        kept: int = FILES_KEPT,
    ) -> None:
        super().__init__()
        self._path = path
        self._report = report
        self._largest = largest
        self._kept = kept
        self._file: BinaryIO | None = None
        self._size = 0
        self._partial = False
        self._lines: list[bytes] = []
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record).encode("utf-8", "replace") + b"\n")

    def flush(self) -> None:
        """Write the collected lines."""
        lines, self._lines = self._lines, []
        try:
            while lines:
                self._open()
                fitting = self._fitting(lines)
                self._write(b"".join(lines[:fitting]))
                del lines[:fitting]
        except OSError as error:
            self.failed += len(lines)
            self._close()
            self._report(f"cannot write {self._path}: {error.strerror}; {self.failed} lines are missing there so far")

    def close(self) -> None:
        """Write the collected lines, and close the file."""
        self.flush()
        self._close()
        super().close()

    def _fitting(self, lines: list[bytes]) -> int:
        """The number of lines that fit into the file; if none fits, rotate the file first."""
        if self._size and self._size + len(lines[0]) > self._largest:
            self._rotate()
        size = self._size
        for number, line in enumerate(lines):
            size += len(line)
            if number and size > self._largest:
                return number
        return len(lines)

    def _open(self) -> None:
        """Open the file at the path, unless it is open already. Raises OSError."""
        if self._file is not None:
            try:
                current, opened = os.stat(self._path), os.fstat(self._file.fileno())
                if (current.st_dev, current.st_ino) == (opened.st_dev, opened.st_ino):
                    self._size = opened.st_size
                    return
            except FileNotFoundError:
                pass
            self._close()
        self._file = file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - stays open
        self._size = os.fstat(file.fileno()).st_size
        if self._size and not self._partial:
            # A killed process, or a full disk, may have left a partial line.
            with suppress(OSError), self._path.open("rb") as reader:
                reader.seek(-1, os.SEEK_END)
                self._partial = reader.read(1) != b"\n"

    def _write(self, content: bytes) -> None:
        """Write all of it. Raises OSError; the file then may end with a partial line."""
        assert self._file is not None
        if self._partial:
            content = b"\n" + content
        left = memoryview(content)
        while left:
            written = self._file.write(left)
            self._size += written
            left = left[written:]
            self._partial = bool(left)
        self._partial = False

    def _rotate(self) -> None:
        self._close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{one}") for one in range(1, self._kept + 1))]
        for newer, older in reversed(list(pairwise(names))):
            # Another process of the service may rotate at the same time.
            with suppress(FileNotFoundError):
                newer.replace(older)
        self._partial = False
        self._open()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
