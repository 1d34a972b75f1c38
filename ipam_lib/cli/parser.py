"""The parser of the command line, made from the table of commands. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from ipam_lib.cli.commands import COMMANDS, CONFIG, Argument, Command

DESCRIPTION = "Hand out IP addresses to services in Kubernetes clusters, and keep NetBox in step."
EPILOG = "Exit status: 0 done, 1 failed or not found (the reason is on standard error), 2 wrong usage."

Formatter = Callable[[str], argparse.HelpFormatter]


def build_parser(
    prog: str = "ipam.pyz",
    *,
    formatter: Formatter = argparse.HelpFormatter,
    summaries: bool = True,
    adapt: Callable[[argparse.Action], None] | None = None,
) -> argparse.ArgumentParser:
    """The parser of the whole command line, for a program of this name.

    It sets `subcommand` (a name, or None) and `config` (a Path, or absent).

    - `formatter`: lays out the help of the program and of every command.
    - `summaries`: whether the program's help says what each command does.
    - `adapt`: called with every argument of every command.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=formatter,  # type: ignore[arg-type]
    )
    _add(parser, [CONFIG], adapt)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", title="subcommands")
    for command in COMMANDS.values():
        summary = command.help if summaries else None
        _add(
            commands.add_parser(command.name, help=summary, **_options(command, formatter)),
            [CONFIG, *command.arguments],
            adapt,
        )
    return parser


def command_parser(
    command: Command, prog: str = "ipam.pyz", *, formatter: Formatter = argparse.HelpFormatter
) -> argparse.ArgumentParser:
    """The parser of one command alone. Its help and its usage are the same as in the whole parser."""
    parser = argparse.ArgumentParser(prog=f"{prog} {command.name}", **_options(command, formatter))
    _add(parser, [CONFIG, *command.arguments], None)
    return parser


def _options(command: Command, formatter: Formatter) -> dict[str, Any]:
    description = f"{command.help[0].upper()}{command.help[1:]}."
    return {"description": description, "allow_abbrev": False, "formatter_class": formatter}


def _add(
    parser: argparse.ArgumentParser,
    arguments: Iterable[Argument],
    adapt: Callable[[argparse.Action], None] | None,
) -> None:
    groups: dict[str, Callable[..., argparse.Action]] = {"": parser.add_argument}
    for one in arguments:
        if one.one_of not in groups:
            groups[one.one_of] = parser.add_mutually_exclusive_group().add_argument
        action = groups[one.one_of](*one.flags, **one.options)
        if adapt is not None:
            adapt(action)
