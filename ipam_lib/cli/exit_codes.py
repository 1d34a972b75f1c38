"""How a command ends."""

from __future__ import annotations

DONE, FAILED, USAGE = 0, 1, 2
# EX_CONFIG of sysexits.h: `serve` cannot run until the configuration is corrected. The unit does not restart a service
# that ended with it (RestartPreventExitStatus=).
UNFIT = 78


class CommandError(Exception):
    """A command failed for a reason that the user can act upon: printed as one line, and the exit status."""

    status = FAILED


class UsageError(CommandError):
    """What was asked for cannot be meant: printed like any other, but the exit status is that of wrong usage."""

    status = USAGE
