"""The start of every command: parse the command line, import the module of the command, run it.

This module imports the standard library and small modules only. A command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from ipam_lib.cli.commands import COMMANDS
from ipam_lib.cli.exit_codes import DONE, FAILED, UNFIT, CommandError
from ipam_lib.cli.parser import build_parser, command_parser
from ipam_lib.errors import CannotListen, ConfigError
from ipam_lib.version import __version__

Target = Callable[[argparse.Namespace], int]

EARLIER_NAME = "ipam-cli"
"""The name of the earlier service's program for administrators."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def program_name(argv0: str | None = None) -> str:
    """The name that the program was called by, for usage texts: `ipam.pyz`, or `ipam-cli` through a link of that
    name."""
    name = os.path.basename(sys.argv[0] if argv0 is None else argv0)
    return "ipam.pyz" if name in {"", "-c", "-m", "__main__.py", "main.py"} else name


def version(arguments: argparse.Namespace) -> int:
    """Print the version."""
    del arguments
    print(f"ipam-api {__version__}")
    return DONE


def show_help(arguments: argparse.Namespace) -> int:
    """Print the help of the program or of one subcommand, or the man page."""
    if arguments.man:
        sys.stdout.write((Path(__file__).parents[1] / "static" / "man" / "ipam.1").read_text("utf-8"))
        return DONE
    parser = build_parser(program_name())
    if arguments.command is None:
        parser.print_help()
        return DONE
    if arguments.command not in COMMANDS:
        parser.error(f"no such subcommand: {arguments.command!r}")
    command_parser(COMMANDS[arguments.command], parser.prog).print_help()
    return DONE


def load(target: str) -> Target:
    """The function that a target (`module:function`) names."""
    module, _, function = target.partition(":")
    command: Target = getattr(import_module(module), function)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, without the program's name (by default that of the process).

    Returns the exit status. Raises SystemExit with status 2 for wrong usage, as argparse does.
    """
    parser = build_parser(program_name())
    arguments = parser.parse_args(argv)
    if arguments.version:
        return _written(version(arguments), parser.prog)
    if arguments.subcommand is None:
        parser.error("a subcommand is missing")
    return _written(_run(arguments, parser.prog), parser.prog)


def _run(arguments: argparse.Namespace, prog: str) -> int:
    command = COMMANDS[arguments.subcommand]
    arguments.unasked = command.unasked and prog == EARLIER_NAME and not _has_terminal()
    if arguments.unasked:
        arguments.yes = True
    try:
        return load(command.target)(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{prog}: {problem}", file=sys.stderr)
        if arguments.subcommand == "serve" and not isinstance(error, CannotListen):
            return UNFIT
    except CommandError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        pass  # the reader of the output has gone
    except OSError as error:
        # Commands handle errors of the files that they write. This one came from printing.
        if error.filename is not None or error.errno not in FULL:
            raise
        print(f"{prog}: {_cannot_write(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return FAILED


def _has_terminal() -> bool:
    from ipam_lib.cli.terminal import can_ask  # imported here because the other modules must start at once

    return can_ask()


def _written(status: int, prog: str) -> int:
    """The exit status, after the output was written. If it cannot be written, this keeps the interpreter from trying
    again at its exit, and complaining."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status == DONE and not isinstance(error, BrokenPipeError):
            print(f"{prog}: {_cannot_write(error)}", file=sys.stderr)
        return status or FAILED
    return status


def _cannot_write(error: OSError) -> str:
    return f"standard output cannot be written: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
