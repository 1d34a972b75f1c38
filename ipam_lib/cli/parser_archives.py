"""The part of the command line that is about backups."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ipam_lib.cli.argtypes import namespace
from ipam_lib.cli.parser_registrations import add_confirm_options, add_format_option


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="the file to write, in place of what stands there when it is whole; - for standard output",
    )
    add_format_option(parser)


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--in",
        dest="archive",
        type=Path,
        required=True,
        metavar="PATH",
        help="the archive, compressed or not; - reads it from standard input",
    )
    parser.add_argument("--drop", action="store_true", help="put the archive in the place of what is stored now")
    parser.add_argument(
        "--from",
        dest="source",
        type=namespace,
        metavar="DATABASE.COLLECTION",
        help="which collection of the archive holds the registrations (default: that of the configuration, or the only"
        " one)",
    )
    add_confirm_options(parser)
    add_format_option(parser)


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "mongo-backup": ("write everything that is stored into an archive, as mongodump --archive --gzip does", _backup),
    "mongo-restore": ("put such an archive, also one of mongodump, into the storage, MongoDB or embedded", _restore),
}
TARGETS = {
    "mongo-backup": "ipam_lib.cli.backup:run",
    "mongo-restore": "ipam_lib.cli.restore:run",
}
