"""Archive files: written as a whole or not at all, and read several times."""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ipam_lib.cli import terminal
from ipam_lib.cli.exit_codes import CommandError, UsageError
from ipam_lib.text import printable

STANDARD: Final = Path("-")
"""The path that means standard input or standard output."""

_PARTIAL: Final = ".ipam-partial"
_CHUNK: Final = 1 << 20


@contextmanager
def put_in_place(path: Path) -> Iterator[BinaryIO]:
    """A new file (mode 0600) that replaces `path` when all of it is on the disk.

    - Until then, and after any error, the earlier file stays.
    - Partial files that killed runs have left in the directory are removed.

    Raises CommandError if the file cannot be written.
    """
    # Replace the target of a link, not the link.
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            raise CommandError(f"{_shown(path)} is no regular file; name a file, or - for standard output")
        _remove_partial_files(place.parent)
        file, partial = _new(place)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_directory(place.parent)
    except OSError as error:
        raise CommandError(
            f"{_shown(path)} cannot be written: {error.strerror}; the earlier file is unchanged"
        ) from None


def _new(place: Path) -> tuple[BinaryIO, Path]:
    """A new file in the same directory, locked while it is open."""
    while True:
        partial = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}{_PARTIAL}")
        file = open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")  # noqa: SIM115
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return file, partial
        # Another run removed it before it was locked.
        file.close()


def _remove_partial_files(directory: Path) -> None:
    """Remove partial files without a lock: a killed run leaves such a file."""
    for partial in directory.glob(f".*{_PARTIAL}"):
        with suppress(OSError), partial.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output for bytes. Raises UsageError if it is a terminal, CommandError if it cannot be written."""
    if terminal.has_terminal(sys.stdout):
        raise UsageError("this is nothing to look at on a terminal: send it to a file or a program, or name a file")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"standard output cannot be written: {error.strerror}") from None


@contextmanager
def read_again(path: Path) -> Iterator[BinaryIO]:
    """A file that can be read several times. Standard input, a pipe and the like are copied to a temporary file without
    a name.

    Raises CommandError if it cannot be read, UsageError if it is a terminal.
    """
    with ExitStack() as opened:
        try:
            source = _source(path, opened)
            if not source.seekable():
                source = _copied(source, opened)
        except OSError as error:
            raise CommandError(f"{_shown(path)} cannot be read: {error.strerror}") from None
        yield source


def _source(path: Path, opened: ExitStack) -> BinaryIO:
    if path != STANDARD:
        return opened.enter_context(path.open("rb"))
    if terminal.has_terminal(sys.stdin):
        raise UsageError("standard input is a terminal: send a file to it, or name one")
    return sys.stdin.buffer


def _copied(source: BinaryIO, opened: ExitStack) -> BinaryIO:
    copy = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    try:
        while some := source.read(_CHUNK):
            copy.write(some)
        copy.seek(0)
    except OSError as error:
        with suppress(OSError):  # closing writes the rest, which fails again
            copy.close()
        raise CommandError(
            f"it cannot be copied to a temporary file: {error.strerror}; TMPDIR names a directory with more room"
        ) from None
    return copy


def _shown(path: Path) -> str:
    return printable(str(path))
