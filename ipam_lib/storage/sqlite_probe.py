"""Checks whether the embedded database works at its configured place. It changes nothing, and blocks."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from ipam_lib.errors import ConfigError
from ipam_lib.findings import Finding, error, ok, warning
from ipam_lib.storage import sqlite_file

STATE_DIRECTORY: Final = Path("/var/lib/ipam-api")
"""StateDirectory= of the unit: systemd gives it to the user of the service, at every start."""
LEAST_FREE: Final = 100 * 1024 * 1024
_BUSY_SECONDS: Final = 2.0


def probe(path: Path) -> list[Finding]:
    """The findings about the database file at `path`, which may be missing."""
    found = [_directory(path)]
    if found[0].status != "error":
        found.append(_space(path))
        found += _file(path) if path.exists() else [_write_ahead(path)]
    return found


def _nearest(path: Path) -> Path:
    """The directory of the file, or the nearest parent that exists."""
    return next(directory for directory in path.absolute().parents if directory.exists())


def _directory(path: Path) -> Finding:
    check, directory = "sqlite.directory", _nearest(path)
    if not directory.is_dir():
        return error(check, f"{directory} is not a directory", "name another place in storage.sqlite")
    if not os.access(directory, os.W_OK | os.X_OK):
        advice = "make it the service's own, or run this as the service's user"
        return error(check, f"this user may not write in {directory}", advice)
    if os.geteuid() == 0 and (found := _user_of(path, directory)) is not None:
        return found
    if directory != path.absolute().parent:
        return ok(check, f"{path.parent} is not there yet: the service makes it in {directory}")
    return ok(check, f"{directory} can be written")


def _user_of(path: Path, directory: Path) -> Finding | None:
    """Which user the service must be, since root may use every directory; None where systemd cares for that."""
    check = "sqlite.directory"
    if path.absolute().is_relative_to(STATE_DIRECTORY):
        return None
    resolved = directory.resolve()
    status = resolved.stat()
    closed = next((one for one in (*reversed(resolved.parents), resolved) if not _open_to_others(one, 0o1)), None)
    if closed is None and not _open_to_others(resolved, 0o2):
        closed = resolved
    if closed is not None:
        message = (
            f"only root may {'write in' if closed == resolved else 'enter'} {closed}: no service of another user can"
        )
        advice = (
            f"with the unit, name a file in {STATE_DIRECTORY} in storage.sqlite; else give the directory to its user"
        )
        return warning(check, f"{message} use the database there", advice)
    return ok(check, f"{directory} can be written by {_user_name(status.st_uid)}: the service must run as that user")


def _open_to_others(directory: Path, right: int) -> bool:
    """Whether a user who is not root has a right (1: enter, 2: write) to a directory, as its owner or otherwise."""
    status = directory.stat()
    mode = status.st_mode
    return bool(status.st_uid or mode & right or (status.st_gid and mode & right << 3))


def _user_name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the id {uid}"


def _space(path: Path) -> Finding:
    free = shutil.disk_usage(_nearest(path)).free
    told = f"{free // (1024 * 1024)} MiB free"
    if free < LEAST_FREE:
        return warning("sqlite.space", told, "make room: without it nothing can be registered")
    return ok("sqlite.space", told)


def _file(path: Path) -> list[Finding]:
    """The findings about an existing database."""
    check = "sqlite.file"
    if path.is_dir():
        return [error(check, f"{path} is a directory", "name a file in storage.sqlite")]
    if not os.access(path, os.R_OK | os.W_OK):
        advice = "make it the service's own, or run this as the service's user"
        return [error(check, f"this user may not read and write {path}", advice)]
    if path.stat().st_size == 0:
        return [ok(check, f"{path} is empty: the service makes its tables when it starts"), _write_ahead(path)]
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=_BUSY_SECONDS, uri=True)
        ) as database:
            sqlite_file.check_owner(database, path)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    except ConfigError as problem:
        return [error(check, problem.problems[0], "name another file in storage.sqlite")]
    except sqlite3.Error as problem:
        return [error(check, f"{path}: {problem}", "stop what holds it, or restore a backup (mongo-restore)")]
    if version > sqlite_file.SCHEMA_VERSION:
        advice = "run that version, or name another file in storage.sqlite"
        return [error(check, f"{path} was written by a newer version (schema {version})", advice)]
    found = ok(check, f"{path} is a database of this program (schema {version})")
    return [found, ok("sqlite.write_ahead", "write-ahead logging") if mode == "wal" else _write_ahead(path)]


def _write_ahead(path: Path) -> Finding:
    """Whether write-ahead logging works on this file system. Tries it with a temporary database in the same
    directory."""
    check = "sqlite.write_ahead"
    try:
        with (
            tempfile.TemporaryDirectory(dir=_nearest(path), prefix=".ipam-check-") as directory,
            closing(sqlite3.connect(Path(directory, "try.sqlite"), isolation_level=None)) as database,
        ):
            (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
            database.execute("CREATE TABLE tried (id INTEGER)")
    except (sqlite3.Error, OSError) as problem:
        mode = str(problem)
    if mode == "wal":
        return ok(check, "write-ahead logging works here")
    advice = "name a file on a disk of this machine in storage.sqlite, not on a network's"
    return error(check, f"write-ahead logging does not work here ({mode})", advice)
