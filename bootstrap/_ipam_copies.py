"""The unpacked copies of ipam.pyz: where they may be, and which of them may be used.

Compiled modules cannot be imported from inside a zip file, so the packages are unpacked once per build and machine,
into the first of these directories that this user can write and trust, and that programs can be run from:

1. `$SHIV_ROOT`;
2. `$CACHE_DIRECTORY` (systemd, with `CacheDirectory=`);
3. `$XDG_CACHE_HOME/ipam-api`, else `$HOME/.cache/ipam-api`;
4. `ipam-api-UID` in `$TMPDIR`, `/var/tmp` or `/tmp`;
5. a directory for this process only in there, deleted when the process ends.

A copy is used only if every file in it has its size, so a damaged copy (a power cut, a cleaner of temporary files) is
replaced. A running program holds a shared lock on its copy: `_ipam_unpack` deletes only copies without a lock.

This module runs at every start, `ipam.pyz version` included: it imports only what costs nothing.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator

MANIFEST = ".files"


def roots() -> Iterator[str]:
    """The directories that may hold unpacked copies, in order."""
    environment = os.environ
    # These may name a link, as `$CACHE_DIRECTORY` does under systemd with `DynamicUser=`.
    for root in (environment.get("SHIV_ROOT"), environment.get("CACHE_DIRECTORY", "").partition(":")[0]):
        if root:
            yield os.path.realpath(root)
    cache = environment.get("XDG_CACHE_HOME", "")
    home = environment.get("HOME", "")
    if os.path.isabs(cache):
        yield os.path.join(cache, "ipam-api")
    elif os.path.isabs(home):
        yield os.path.join(home, ".cache", "ipam-api")
    for temporary in temporary_directories():
        yield os.path.join(temporary, f"ipam-api-{os.geteuid()}")


def temporary_directories() -> list[str]:
    """Where temporary files may be, in order."""
    paths = (os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp")  # noqa: S108 - used only if `trusted`
    return [path for path in paths if os.path.isabs(path)]


def trusted(directory: str) -> bool:
    """Whether no user but this one and root can have put code into the directory."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def executable(directory: str) -> bool:
    """Whether compiled modules can be loaded from the directory: its file system is not mounted noexec.

    From systemd 257 on, `DynamicUser=` mounts `CacheDirectory=` noexec, unless `ExecPaths=` names it
    (https://github.com/systemd/systemd/issues/38443).
    """
    try:
        return not os.statvfs(directory).f_flag & os.ST_NOEXEC
    except OSError:
        return False


def hold(copy: str) -> bool:
    """Lock a copy for the rest of this process, if it is there, complete, trusted and executable. Returns whether the
    lock is held."""
    if not trusted(copy) or not executable(copy):
        return False
    try:
        descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        pass  # A file system without locks. Then nothing is deleted there either.
    # Compared only now, under the lock: until here another process could still move the copy away.
    if complete(copy) and os.path.samestat(os.fstat(descriptor), os.stat(copy)):
        return True
    os.close(descriptor)
    return False


def complete(copy: str) -> bool:
    """Whether every file that was unpacked is there with its size."""
    try:
        with open(os.path.join(copy, MANIFEST), encoding="utf-8") as manifest:
            for line in manifest:
                size, _, path = line.rstrip("\n").partition(" ")
                if os.stat(f"{copy}/{path}").st_size != int(size):
                    return False
    except (OSError, ValueError):
        return False
    return True
