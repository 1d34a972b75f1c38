"""The part of the command line that is about setting the service up."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ipam_lib.cli.argtypes import zone
from ipam_lib.cli.parser_registrations import add_confirm_options, add_format_option


def _check_config(parser: argparse.ArgumentParser) -> None:
    add_format_option(parser)


def _netbox_setup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--zone",
        type=zone,
        action="append",
        default=[],
        metavar="ZONE",
        help="a zone that there is to be; may be given several times",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="PATH",
        help="file with an administrator's token, to be used instead of the service's own; - reads standard input",
    )
    add_confirm_options(parser)
    add_format_option(parser)


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "check-config": (
        "check the configuration, the secret files, the storage, NetBox and Splunk, and say what is wrong",
        _check_config,
    ),
    "netbox-setup": (
        "create the choice set, custom fields and tag that NetBox needs, where they are missing",
        _netbox_setup,
    ),
}
TARGETS = {
    "check-config": "ipam_lib.cli.check_config:run",
    "netbox-setup": "ipam_lib.cli.netbox_setup:run",
}
