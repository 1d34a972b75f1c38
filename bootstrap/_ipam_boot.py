"""Starts ipam.pyz: finds its unpacked copy, or unpacks it, and runs the program.

`_ipam_copies` says where a copy may be, `_ipam_unpack` makes one.

This module runs at every start, `ipam.pyz version` included: it imports only what costs nothing.
"""

from __future__ import annotations

import _imp
import os
import sys

import _ipam_build as build
import _ipam_copies as copies

# EX_CONFIG of sysexits.h, as ipam_lib.cli has it: the units do not restart a service that ended with it.
UNFIT = 78


class BootError(Exception):
    """The program cannot start here; the message says in one line what to do."""


class UnfitInterpreterError(BootError):
    """The archive was not made for this interpreter or system: a restart changes nothing."""


def main() -> int:
    """Run the program. Returns its exit code. Where it cannot run here: 1, or UNFIT for the service, and the reason in
    one line on stderr."""
    archive = os.path.dirname(os.path.abspath(__file__))
    try:
        check_interpreter()
        copy = unpacked_copy(archive)
    except BootError as error:
        sys.stderr.write(f"{sys.argv[0]}: {error}\n")
        tell_service_manager(str(error))
        return UNFIT if isinstance(error, UnfitInterpreterError) and "serve" in sys.argv[1:] else 1
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
    """Raise UnfitInterpreterError when the compiled modules in the archive do not fit this interpreter."""
    suffix = _imp.extension_suffixes()[0]
    if suffix not in build.SUFFIXES:
        # ".cpython-312-x86_64-linux-gnu.so" is the version and the platform in one word.
        abi, _, platform = suffix.removesuffix(".so").partition("-")[2].partition("-")
        versions = ", ".join(build.VERSIONS)
        this = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]} on {platform or sys.platform}"
        if abi.endswith("t"):
            this = f"free-threaded {this}"
        ordinary = sys.implementation.name == "cpython" and not abi.endswith("t")
        advice = _advice(platform, ordinary=ordinary)
        raise UnfitInterpreterError(f"made for CPython {versions} on {build.PLATFORM}, this is {this}; {advice}")
    if hasattr(os, "confstr"):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < build.GLIBC:
            needed = ".".join(str(part) for part in build.GLIBC)
            raise UnfitInterpreterError(f"needs glibc {needed} or newer, this is {version}; run it on a newer system")


def _advice(platform: str, *, ordinary: bool) -> str:
    """What to do about it on this machine. `ordinary`: an archive can be built for this kind of interpreter."""
    if platform != build.PLATFORM:
        machine, _, system = platform.partition("-")
        option = f" --platform {machine}" if machine in build.MACHINES and system == "linux-gnu" else ""
        return f"build it for this machine, in its source tree: python3 build_zipapp.py{option}"
    if fitting := _python_on_path():
        return f"run it with one of those, for example: {fitting} {sys.argv[0]}"
    install = f"no such Python is on PATH: install one, for example python{build.VERSIONS[-1]}"
    if not ordinary:
        return install
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"{install}, or build it for this one, in its source tree: python3 build_zipapp.py --python {this}"


def _python_on_path() -> str | None:
    """The newest Python on PATH that the archive was made for."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    names = [f"python{version}" for version in reversed(build.VERSIONS)]
    return next((name for name in names if any(os.access(os.path.join(d, name), os.X_OK) for d in directories)), None)


def unpacked_copy(archive: str) -> str:
    """The directory to import from, locked against deletion for as long as this process lives.

    archive: path of ipam.pyz. Raises BootError when there is no directory to unpack into.
    """
    tag = _imp.extension_suffixes()[0].split("-")[1]
    name = f"{build.ID}-cp{tag}"
    for root in copies.roots():
        copy = os.path.join(root, name)
        if copies.trusted(root) and copies.hold(copy):
            return copy

    import _ipam_unpack

    try:
        return _ipam_unpack.unpack(archive, name)
    except _ipam_unpack.NoDirectoryError as error:
        raise BootError(str(error)) from None


def tell_service_manager(status: str) -> None:
    """Put a line into `systemctl status`, where systemd started this (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return

    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send(f"STATUS={status}".encode(errors="replace"))
    except OSError:
        pass  # The line is on stderr as well.
