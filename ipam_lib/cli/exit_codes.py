"""The exit statuses of commands, and the errors that lead to them."""

from __future__ import annotations

DONE, FAILED, USAGE = 0, 1, 2
# EX_CONFIG of sysexits.h: `serve` cannot run until the configuration is corrected. The unit does not restart a service
# that ended with it (RestartPreventExitStatus=).
UNFIT = 78


class CommandError(Exception):
    """A command failed for a reason that the user can act on. It is printed as one line; the exit status is
    `status`."""

    status = FAILED


class UsageError(CommandError):
    """The arguments make no sense together. It is printed like a CommandError; the exit status is that of wrong
    usage."""

    status = USAGE
