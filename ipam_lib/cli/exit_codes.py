"""How a command ends."""

from __future__ import annotations

DONE, FAILED, USAGE = 0, 1, 2


class CommandError(Exception):
    """A command failed for a reason that the user can act upon: printed as one line, and the exit status."""

    status = FAILED


class UsageError(CommandError):
    """What was asked for cannot be meant: printed like any other, but the exit status is that of wrong usage."""

    status = USAGE
