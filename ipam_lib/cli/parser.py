"""The command line, as one parser. Standard library only: `version`, `help` and usage errors must start at once.

The man page, the completions and the README's table of commands are made from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ipam_lib.cli import parser_archives as archives
from ipam_lib.cli import parser_registrations as registrations
from ipam_lib.cli import parser_setup as setup
from ipam_lib.cli.argtypes import COST_MODELS, milliseconds, nonempty, port, scale
from ipam_lib.cli.completion import SHELLS

DESCRIPTION = "Hand out IP addresses to services in Kubernetes clusters, and keep NetBox in step."
EPILOG = "Exit status: 0 done, 1 failed or not found (the reason is on standard error), 2 wrong usage."

Add = Callable[[argparse.ArgumentParser], None]


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", type=nonempty, metavar="ADDRESS", help="address to listen on (overrides server.host)")
    parser.add_argument("--port", type=port, metavar="PORT", help="port to listen on (overrides server.port)")
    parser.add_argument(
        "--log-dir", type=Path, metavar="PATH", help="directory of the log files (overrides logging.directory)"
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=port, default=3000, metavar="PORT", help="port to listen on (default: 3000)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="directory kept between runs (default: ipam-api/demo in the user's data directory)",
    )
    parser.add_argument("--reset", action="store_true", help="forget what earlier runs registered, and start anew")


def _simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        type=nonempty,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=port, default=8000, metavar="PORT", help="port to listen on (default: 8000)")
    parser.add_argument(
        "--token", type=nonempty, metavar="TOKEN", help="token that clients must send (default: a new one, printed)"
    )
    content = parser.add_mutually_exclusive_group()
    content.add_argument(
        "--zones", type=Path, metavar="PATH", help="JSON file of zones and their prefixes (default: three sample zones)"
    )
    content.add_argument(
        "--empty", action="store_true", help="begin as a new NetBox does, with nothing that IPAM-API needs"
    )
    parser.add_argument(
        "--latency-ms", type=milliseconds, default=0.0, metavar="MS", help="delay of every answer, in ms (default: 0)"
    )
    parser.add_argument(
        "--cost-model",
        choices=COST_MODELS,
        metavar="NAME",
        help=f"take as long as a NetBox was measured to, by operation and number of children: {', '.join(COST_MODELS)}",
    )
    parser.add_argument(
        "--time-scale",
        type=scale,
        default=1.0,
        metavar="FACTOR",
        help="what the durations of the cost model are multiplied with (default: 1)",
    )
    parser.add_argument(
        "--state", type=Path, metavar="PATH", help="file that keeps the prefixes between runs (default: memory only)"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish; bash: source <(ipam.pyz completion bash)"
    )


def _version(parser: argparse.ArgumentParser) -> None:
    del parser


def _help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs="?", metavar="SUBCOMMAND", help="the subcommand to explain")
    parser.add_argument("--man", action="store_true", help="print the man page instead, as man(1) reads it")


COMMANDS: dict[str, tuple[str, Add]] = {
    "serve": ("run the service", _serve),
    "demo": (
        "run the service on an embedded database and a built-in NetBox simulator: no configuration, no network",
        _demo,
    ),
    "simulate-netbox": (
        "run only the NetBox simulator, to try a configuration against it",
        _simulate,
    ),
    **setup.COMMANDS,
    **registrations.COMMANDS,
    **archives.COMMANDS,
    "completion": ("print the script that completes this command line in a shell", _completion),
    "version": ("print the version", _version),
    "help": ("explain a subcommand", _help),
}


def _config(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: the subcommand's parser must not overwrite what stood before the subcommand.
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        default=argparse.SUPPRESS,
        help="configuration file (default: $IPAM_CONFIG, ./config.json, /etc/ipam-api/config.json)",
    )


def build_parser(prog: str = "ipam.pyz") -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` is the subcommand, `config` a Path or absent."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    _config(parser)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", title="subcommands")
    for name, (summary, add) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
        )
        _config(sub)
        add(sub)
    return parser


def subparser(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser | None:
    """The parser of one subcommand, or None when there is no such subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: argparse.ArgumentParser | None = action.choices.get(name)
            return found
    return None
