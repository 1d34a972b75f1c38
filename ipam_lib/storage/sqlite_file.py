"""The file of the embedded database: creating and opening it, its schema, transactions and their errors.

Everything here blocks, and runs on the thread of a connection.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ipam_lib.errors import ConfigError, StorageUnavailable, StoreConflict
from ipam_lib.file_owner import chown_to_parent

T = TypeVar("T")

# "IPAM": tells a database of this program from others (https://www.sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x4950414D
SCHEMA_VERSION = 1

# `document` is a document as JSON text (`sqlite_json`). The other columns repeat the fields that queries use.
#
# - registrations.duplicate: '' if it is none, because a unique index treats NULLs as different.
# - registrations.due_at: when the first service of a live registration expires, in milliseconds since 1970; 0 if it has
#   no service, or one that has left; NULL if no service expires.
# - pool.place: the address as text that sorts like the addresses.
# - history.until: in milliseconds since 1970.
SCHEMA = """
CREATE TABLE IF NOT EXISTS registrations (
    id TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL,
    address TEXT NOT NULL,
    duplicate TEXT NOT NULL,
    ip_family TEXT NOT NULL,
    secret TEXT,
    state TEXT NOT NULL,
    due_at INTEGER,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS registrations_address ON registrations (address, zone, duplicate);
CREATE INDEX IF NOT EXISTS registrations_state ON registrations (state, id) WHERE state <> 'live';
CREATE INDEX IF NOT EXISTS registrations_due ON registrations (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS registrations_duplicate ON registrations (duplicate) WHERE duplicate > '';
CREATE INDEX IF NOT EXISTS registrations_description ON registrations (id)
    WHERE json_type(document, '$.description_due') = 'true';
CREATE INDEX IF NOT EXISTS registrations_zone ON registrations (zone, id);
CREATE INDEX IF NOT EXISTS registrations_zone_family ON registrations (zone, ip_family, id);
CREATE TABLE IF NOT EXISTS services (
    registration_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    service_name TEXT NOT NULL,
    namespace_id TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (registration_id, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS services_name ON services (service_name, namespace_id, cluster_id, registration_id);
CREATE INDEX IF NOT EXISTS services_cluster ON services (cluster_id, registration_id);
CREATE INDEX IF NOT EXISTS services_namespace ON services (namespace_id, registration_id);
CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pool (
    id TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL,
    ip_family TEXT NOT NULL,
    address TEXT NOT NULL,
    place TEXT NOT NULL,
    state TEXT NOT NULL,
    registration_id TEXT,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS pool_address ON pool (address, zone);
CREATE INDEX IF NOT EXISTS pool_place ON pool (zone, ip_family, state, place);
CREATE INDEX IF NOT EXISTS pool_state ON pool (state, id);
CREATE INDEX IF NOT EXISTS pool_registration ON pool (registration_id, id) WHERE registration_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS history (
    id TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL,
    address TEXT NOT NULL,
    until INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_address ON history (address, until, id);
CREATE INDEX IF NOT EXISTS history_until ON history (until, id);
"""

_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def connect(path: Path, *, busy_seconds: float, writable: bool) -> sqlite3.Connection:
    """Open the database. Creates the file (mode 0600) and its directories (0700) if they are missing.

    - `busy_seconds`: how long to wait for a lock of another process.

    Raises ConfigError for a file that is no database of this program (it is not changed), sqlite3.Error, OSError.
    """
    _make(path)
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    try:
        check_owner(connection, path)
        _set_wal(connection, busy_seconds)
        # FULL: a commit returns when the log is on the disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA query_only = {'OFF' if writable else 'ON'}")
        connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    missing = [directory for directory in path.parents if not directory.exists()]
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            chown_to_parent(directory)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        chown_to_parent(path)
        # SQLite flushes the file, but not its name in the directory.
        directory_fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory_fd)
        finally:
            os.close(directory_fd)


def check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigError for a file that is no database of this program, sqlite3.Error."""
    try:
        # In this order, because another process may be creating both now, in one transaction.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise ConfigError([f"storage.sqlite: {path} is not a SQLite database; name another file"]) from error
        raise
    if tables and application != APPLICATION_ID:
        raise ConfigError([f"storage.sqlite: {path} is a database of another program; name a file of its own"])


def _set_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch on write-ahead logging, which is a property of the file. SQLite does not wait for a second process that
    does the same (it does not call the busy handler), so try again."""
    until = time.monotonic() + busy_seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise sqlite3.OperationalError(
                    "the file system does not allow write-ahead logging (it must be a local one)"
                )
            return


def make_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables and indexes that are missing. Raises ConfigError for a database of a newer version."""
    transaction(connection, lambda connection: make_tables(connection, path))


def make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """The same. The caller has begun a transaction."""
    check_version(connection, path)
    for statement in filter(str.strip, SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ConfigError for a database of a newer version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        newer = f"was written by a newer version (schema {version}; this version knows {SCHEMA_VERSION})"
        raise ConfigError([f"storage.sqlite: {path} {newer}; run that version, or name another file"])


def transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in a transaction, and return its result when its writes are on the disk. It is one call, so that a
    cancelled request cannot leave a transaction open.

    Raises StoreConflict if a unique index refuses a write, StorageUnavailable if the commit fails (then it may have
    happened), any other sqlite3.Error if certainly nothing was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        with conflicts_translated():
            result = work(connection)
    except BaseException:
        connection.rollback()
        raise
    commit(connection)
    return result


@contextmanager
def conflicts_translated() -> Iterator[None]:
    """Raises StoreConflict if a unique index refuses a write."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode in _UNIQUE:
            raise StoreConflict(str(error)) from error
        raise


def commit(connection: sqlite3.Connection) -> None:
    """Commit: afterwards the writes are on the disk. Raises StorageUnavailable if that fails; it may have happened."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            connection.rollback()
        raise StorageUnavailable(describe(error), applied=True, condition=_condition(error)) from error


def translated(error: Exception) -> Exception:
    """StorageUnavailable for an error of the database after which certainly nothing was written; else the error
    itself."""
    if isinstance(error, (sqlite3.Error, OSError)):
        unavailable = StorageUnavailable(describe(error), applied=False, condition=_condition(error))
        unavailable.__cause__ = error
        return unavailable
    return error


def describe(error: Exception) -> str:
    """The message for the client about an error of the database. It has no paths."""
    return f"storage is unavailable ({_condition(error)}); try again"


def _condition(error: Exception) -> str:
    """What is wrong with the storage, for `/readyz` and `systemctl status`. It has no paths."""
    kinds = {
        sqlite3.SQLITE_BUSY: "is locked by another process",
        sqlite3.SQLITE_LOCKED: "is locked by another process",
        sqlite3.SQLITE_FULL: "has no space left on its disk",
        sqlite3.SQLITE_READONLY: "cannot be written (read-only)",
        sqlite3.SQLITE_IOERR: "cannot be read or written (I/O error)",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened",
        sqlite3.SQLITE_CORRUPT: "is damaged",
        sqlite3.SQLITE_NOTADB: "is not a database",
        sqlite3.SQLITE_ERROR: "was not made ready by this version",
    }
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, PermissionError):
        return "its file cannot be opened"
    return f"its file {kinds.get((code or 0) & 0xFF, 'does not answer')}"
