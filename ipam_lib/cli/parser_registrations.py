"""The part of the command line that is about registrations: show them, change them, keep them in step with NetBox."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ipam_lib.cli.argtypes import address, moments, nonempty, positive, uuid


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """The option of every command that prints data."""
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="text for people (the default), or json for scripts",
    )


def add_confirm_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that shows what it will touch, and asks."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zone", type=nonempty, required=True, metavar="ZONE", help="zone of the address")
    parser.add_argument(
        "--address",
        type=address,
        required=True,
        metavar="ADDRESS",
        help="the address; without a mask it means /32 or /128",
    )


def _show_services(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    add_format_option(parser)


def _show_secret(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    add_format_option(parser)


def _replace_secret(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    parser.add_argument(
        "--new",
        metavar="SECRET",
        help="the new secret, 8 to 64 characters; - reads it from standard input, left out it is asked for (or read)",
    )
    add_confirm_options(parser)
    add_format_option(parser)


def _delete_service(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    parser.add_argument(
        "--secret",
        metavar="SECRET",
        help="secret of the address; - reads it from standard input, left out it is asked for (or read)",
    )
    parser.add_argument("--service-name", type=nonempty, required=True, metavar="NAME", help="name of the service")
    parser.add_argument("--namespace-id", type=uuid, required=True, metavar="UUID", help="its namespace")
    parser.add_argument("--cluster-id", type=uuid, required=True, metavar="UUID", help="its cluster")
    add_confirm_options(parser)
    add_format_option(parser)


def _delete_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster-id", "--cluster", type=uuid, required=True, metavar="UUID", help="the cluster, in either case"
    )
    add_confirm_options(parser)
    add_format_option(parser)


def _list_addresses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zone", type=nonempty, metavar="ZONE", help="only those of this zone")
    parser.add_argument("--ip-family", choices=("ipv4", "ipv6"), help="only those of this family")
    parser.add_argument("--cluster-id", type=uuid, metavar="UUID", help="only those with a service of this cluster")
    parser.add_argument("--expiring", action="store_true", help="only those with a service that has an expiration")
    add_format_option(parser)


def _history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        type=address,
        required=True,
        metavar="ADDRESS",
        help="the address; without a mask it means /32 or /128",
    )
    parser.add_argument("--zone", type=nonempty, metavar="ZONE", help="only in this zone")
    parser.add_argument(
        "--at",
        type=moments,
        metavar="TIME",
        help="only who held it at this time, such as 2026-11-24T13:30 (local time, or with Z or an offset), or on this"
        " day, such as 2026-11-24",
    )
    add_format_option(parser)


def _reconcile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fix",
        action="store_true",
        help="repair what is surely this service's own and was seen by three rounds in a row",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=1,
        metavar="N",
        help="rounds to do, with the time between them that a repair needs (default: 1)",
    )
    add_format_option(parser)


def _rotate_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-secrets",
        type=Path,
        required=True,
        metavar="PATH",
        help="file with the new keys, which encryption_secrets.path names by now",
    )
    add_confirm_options(parser)
    add_format_option(parser)


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "show-services": ("show the services on an address", _show_services),
    "show-secret": ("show the secret of an address (this leaves a line in the log)", _show_secret),
    "replace-secret": ("replace the secret of an address (this leaves a line in the log)", _replace_secret),
    "delete-service": ("let a service on an address expire now", _delete_service),
    "delete-cluster": ("let every service of a cluster expire now, except those that deny it", _delete_cluster),
    "list-addresses": ("list the registrations", _list_addresses),
    "history": ("show who held an address, from when to when", _history),
    "reconcile": ("compare the storage with NetBox, and repair what is safe to repair", _reconcile),
    "rotate-key": ("bring every stored secret under a new key, and out of the earlier service's scheme", _rotate_key),
}
TARGETS = {
    "show-services": "ipam_lib.cli.show:show_services",
    "show-secret": "ipam_lib.cli.secrets:show",
    "replace-secret": "ipam_lib.cli.secrets:replace",
    "delete-service": "ipam_lib.cli.delete:delete_service",
    "delete-cluster": "ipam_lib.cli.delete:delete_cluster",
    "list-addresses": "ipam_lib.cli.show:list_addresses",
    "history": "ipam_lib.cli.history:show",
    "reconcile": "ipam_lib.cli.reconcile:run",
    "rotate-key": "ipam_lib.cli.rotate:run",
}
