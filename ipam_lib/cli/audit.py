"""Audit lines: which user had which secret shown, or changed what. They never hold a secret.

Each goes to the service's log (`ipam-api.log` in `logging.directory`), and to the system's log if there is one. A line
is a JSON object like those of the service, appended in one write, so that the service can write to the same file.
"""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ipam_lib.cli import terminal
from ipam_lib.cli.exit_codes import CommandError
from ipam_lib.config import DEFAULT_LOG_DIRECTORY, Settings
from ipam_lib.file_owner import chown_to_parent
from ipam_lib.models import Registration
from ipam_lib.telemetry.json_lines import JSONFormatter
from ipam_lib.telemetry.pipeline import APP_FILE
from ipam_lib.text import printable

log = logging.getLogger(__name__)

# LogsDirectory= of the unit, which starts the service with --log-dir.
UNIT_LOG_DIRECTORY: Final = Path("/var/log/ipam-api")
SYSTEM_LOG: Final = Path("/dev/log")
# Facility authpriv, severity notice (RFC 5424, section 6.2.1).
_PRIORITY: Final = 10 * 8 + 5


def user_fields() -> dict[str, Any]:
    """The user of this process, and the user that called sudo, if any."""
    uid = os.getuid()
    user: dict[str, Any] = {"user": _name_of(uid), "uid": uid}
    if sudo_user := os.environ.get("SUDO_USER"):
        user |= {"sudo_user": sudo_user, "sudo_uid": os.environ.get("SUDO_UID", "")}
    return user


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container
        return str(uid)


def place(registration: Registration) -> dict[str, Any]:
    """The fields that identify a registration."""
    return {"zone": registration.zone, "address": registration.address, "registration": registration.id}


class Trail:
    """Writes audit lines to a log file that is open for appending (None: to the system's log only)."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def record(self, message: str, **fields: Any) -> None:
        """Write one line. The action is done already, so an error of the log is only a warning."""
        command = sys._getframe(1)
        name, line = command.f_globals["__name__"], command.f_lineno
        record = log.makeRecord(name, logging.WARNING, name, line, message, (), None, extra=user_fields() | fields)
        text = JSONFormatter().format(record)
        _tell_system(text)
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, text.encode() + b"\n")
        except OSError as error:
            terminal.warn(f"the log {APP_FILE} did not take the line about this: {error.strerror}")


@contextmanager
def trail(settings: Settings, *, required: bool = True) -> Iterator[Trail]:
    """Open the log before the action.

    Raises CommandError if the log cannot be written and is `required`; then the action must not happen.
    """
    directory = _directory(settings)
    path = directory / APP_FILE
    if not required and directory == DEFAULT_LOG_DIRECTORY and not directory.exists():
        # No service logs here, and a command must not make ./logs wherever it is run.
        yield Trail(None)
        return
    try:
        descriptor = _open(path)
    except OSError as error:
        problem = f"the log {printable(str(path))} cannot be written ({error.strerror})"
        if required:
            raise CommandError(
                f"{problem}, and this leaves a line there; run it with sudo, or set logging.directory"
            ) from None
        terminal.warn(f"{problem}: it will not name the user of this command")
        yield Trail(None)
        return
    try:
        yield Trail(descriptor)
    finally:
        os.close(descriptor)


def _directory(settings: Settings) -> Path:
    """The directory of the service's log files. Where the setting is absent, the service has another one than this
    command: that of its unit, or ./logs in its own working directory."""
    directory = settings.logging.directory
    if directory == DEFAULT_LOG_DIRECTORY and not directory.exists() and UNIT_LOG_DIRECTORY.is_dir():
        return UNIT_LOG_DIRECTORY
    return directory


def _open(path: Path) -> int:
    """Open the log for appending. Files and directories created here get the owner of their parent. Raises OSError."""
    missing = [directory for directory in (path.parent, *path.parent.parents) if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o750, exist_ok=True)
        chown_to_parent(directory)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        return os.open(path, flags)
    chown_to_parent(path)
    return descriptor


def _tell_system(text: str) -> None:
    """Send the line to syslog or the journal, if one listens (RFC 3164)."""
    if not SYSTEM_LOG.exists():
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(str(SYSTEM_LOG))
        sender.send(f"<{_PRIORITY}>ipam-api: {text}".encode())
