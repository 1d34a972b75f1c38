"""Starts ipam.pyz: finds its unpacked copy, or unpacks it, and runs the program.

Compiled modules cannot be imported from inside a zip file, so the packages are unpacked once per build and machine,
into the first of these directories that this user can write and trust:

1. `$SHIV_ROOT`;
2. `$CACHE_DIRECTORY` (systemd, with `CacheDirectory=`);
3. `$XDG_CACHE_HOME/ipam-api`, else `$HOME/.cache/ipam-api`;
4. `ipam-api-UID` in `$TMPDIR`, `/var/tmp` or `/tmp`;
5. a directory of this very run in there, deleted when it ends.

A copy counts only if every file in it has its size, so one that was damaged (a power cut, a cleaner of temporary files)
is replaced. A running program holds a shared lock on its copy: see _ipam_unpack for how old copies go away.

This module runs at every start, `ipam.pyz version` included: it imports only what costs nothing.
"""

from __future__ import annotations

import _imp
import fcntl
import os
import stat
import sys
from collections.abc import Iterator

import _ipam_build as build

MANIFEST = ".files"


class BootError(Exception):
    """The program cannot start here; the message says in one line what to do."""


def main() -> int:
    """Run the program. Returns its exit code; 1, with one line on stderr, when it cannot run here."""
    archive = os.path.dirname(os.path.abspath(__file__))
    try:
        check_interpreter()
        copy = unpacked_copy(archive)
    except BootError as error:
        sys.stderr.write(f"{sys.argv[0]}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    # What was locked is what runs: neither the archive nor packages installed on this machine are looked at.
    outside = ("site-packages", "dist-packages")
    kept = [path for path in sys.path if os.path.basename(path) not in outside and os.path.abspath(path) != archive]
    sys.path[:] = [copy, *kept]

    # Not `ipam.main`, which is the same function: the application's module imports all that `version` has no use for.
    from ipam_lib.cli.main import main as run

    return run()


def check_interpreter() -> None:
    """Raise BootError when the compiled modules in the archive do not fit this interpreter."""
    suffix = _imp.extension_suffixes()[0]
    if suffix not in build.SUFFIXES:
        # ".cpython-312-x86_64-linux-gnu.so" is the version and the platform in one word.
        platform = suffix.removesuffix(".so").partition("-")[2].partition("-")[2] or sys.platform
        versions = ", ".join(build.VERSIONS)
        this = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]} on {platform}"
        if platform == build.PLATFORM:
            advice = f"run it with one of those, for example: {_python_on_path()} {sys.argv[0]}"
        else:
            advice = "build it on this machine: python3 build_zipapp.py"
        raise BootError(f"made for CPython {versions} on {build.PLATFORM}, this is {this}; {advice}")
    if hasattr(os, "confstr"):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < build.GLIBC:
            needed = ".".join(str(part) for part in build.GLIBC)
            raise BootError(f"needs glibc {needed} or newer, this is {version}; run it on a newer system")


def _python_on_path() -> str:
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    names = [f"python{version}" for version in build.VERSIONS]
    return next(
        (name for name in names if any(os.access(os.path.join(d, name), os.X_OK) for d in directories)), names[0]
    )


def unpacked_copy(archive: str) -> str:
    """The directory to import from, locked against deletion for as long as this process lives.

    archive: path of ipam.pyz. Raises BootError when there is no directory to unpack into.
    """
    tag = _imp.extension_suffixes()[0].split("-")[1]
    name = f"{build.ID}-cp{tag}"
    for root in roots():
        copy = os.path.join(root, name)
        if trusted(root) and hold(copy):
            return copy

    import _ipam_unpack

    return _ipam_unpack.unpack(archive, name)


def roots() -> Iterator[str]:
    """The directories that may hold unpacked copies, in order."""
    environment = os.environ
    # Whoever set these may have left a link there, as systemd does with `DynamicUser=`.
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
    """Where temporary files may live, in order."""
    paths = (os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp")  # noqa: S108 - used only if `trusted`
    return [path for path in paths if os.path.isabs(path)]


def trusted(directory: str) -> bool:
    """Whether nobody else (but root) can have put code into the directory."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def hold(copy: str) -> bool:
    """Lock a copy for the rest of this process, if it is there, whole, and trusted. Returns whether it is held."""
    if not trusted(copy):
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
    # Looked at only now, under the lock: until here another process could still move the copy away.
    if whole(copy) and os.path.samestat(os.fstat(descriptor), os.stat(copy)):
        return True
    os.close(descriptor)
    return False


def whole(copy: str) -> bool:
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
