"""Unpacks ipam.pyz, once per build and machine, and deletes what old builds left.

No process waits for another: each unpacks into a directory of its own and then renames it, which is atomic. Of two
processes that start at once, one renames first, and the other uses that copy. A process that is killed in the middle
leaves a directory that the next one to unpack deletes.

Of the other builds' copies in the same place, the newest few stay (to go back quickly), the rest are deleted unless
a running program still holds them.
"""

from __future__ import annotations

import _imp
import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import _ipam_copies as copies

PACKAGES = "site-packages/"
UNFINISHED = ".unpacking-"
COPIES_KEPT = 2
ATTEMPTS = 5


def unpack(archive: str, name: str) -> str:
    """Unpack into the first directory that will do, and hold the copy.

    archive: path of ipam.pyz. name: name of this build's copy. Returns the copy's path; raises copies.BootError when no
    directory will do, with what was wrong with each.
    """
    refused = []
    for root in copies.roots():
        try:
            return str(_unpack_below(Path(root), archive, name))
        except (OSError, _UnusableError) as error:
            refused.append(f"{root}: {getattr(error, 'strerror', None) or error}")
    for temporary in copies.temporary_directories():
        try:
            root = tempfile.mkdtemp(prefix="ipam-api-", dir=temporary)
            atexit.register(shutil.rmtree, root, ignore_errors=True)
            return str(_unpack_below(Path(root), archive, name))
        except (OSError, _UnusableError) as error:
            refused.append(f"{temporary}: {getattr(error, 'strerror', None) or error}")
    raise NoDirectoryError(
        "no directory to unpack into; let SHIV_ROOT name one that this user can write, with 40 MB free"
        f" ({'; '.join(refused)})"
    )


class NoDirectoryError(Exception):
    """There is no directory to unpack into."""


class _UnusableError(Exception):
    """This directory cannot be used."""


def _unpack_below(root: Path, archive: str, name: str) -> Path:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not copies.trusted(str(root)):
        raise _UnusableError("belongs to another user, or other users can write it")
    if not copies.executable(str(root)):
        raise _UnusableError("mounted noexec")
    copy = root / name
    for _ in range(ATTEMPTS):
        try:
            _unpack_once(root, archive, copy)
        except FileNotFoundError:
            continue  # Another process deleted the directory before it was locked.
        if copies.hold(str(copy)):
            _delete_leftovers(root, copy)
            return copy
    raise _UnusableError("unpacked copies vanish or are damaged at once")


def _unpack_once(root: Path, archive: str, copy: Path) -> None:
    """Put a whole copy in place, unless there is one."""
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))
    try:
        with _locked(unfinished, fcntl.LOCK_SH, required=False):
            _extract(archive, unfinished)
            if copy.exists() and not copies.complete(str(copy)):
                copy.rename(_fresh_name(root))
            with contextlib.suppress(OSError):  # Another process has put its copy there: the same files.
                unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _extract(archive: str, target: Path) -> None:
    own = _imp.extension_suffixes()[0]
    manifest = []
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            path = entry.filename.removeprefix(PACKAGES)
            other_python = ".cpython-" in path and path.endswith(".so") and not path.endswith(own)
            if path == entry.filename or other_python:
                continue
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed.read(entry))
            manifest.append(f"{entry.file_size} {path}\n")
    (target / copies.MANIFEST).write_text("".join(manifest), encoding="utf-8")


def _delete_leftovers(root: Path, current: Path) -> None:
    """Delete what crashed unpackings left, and all but the newest other copies; never one that is in use."""
    others = []
    for path in root.iterdir():
        if path.name.startswith(UNFINISHED):
            with contextlib.suppress(OSError), _locked(path, fcntl.LOCK_EX):
                shutil.rmtree(path, ignore_errors=True)
        elif path != current and (path / copies.MANIFEST).is_file():
            others.append((path.stat().st_mtime, path))
    for _, path in sorted(others, reverse=True)[COPIES_KEPT:]:
        with contextlib.suppress(OSError), _locked(path, fcntl.LOCK_EX):
            # Renamed first: a process that starts now must not find half of it.
            shutil.rmtree(path.rename(_fresh_name(root)), ignore_errors=True)


def _fresh_name(root: Path) -> Path:
    """An empty directory below root, marked as left over, for another to be renamed onto."""
    return Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))


@contextlib.contextmanager
def _locked(directory: Path, kind: int, *, required: bool = True) -> Iterator[None]:
    """Hold a lock on a directory. Raises OSError at once when it is required and cannot be had."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError:
            if required:
                raise
        yield
    finally:
        os.close(descriptor)
