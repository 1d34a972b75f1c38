"""The table of commands: name, help, target and arguments of each. A new command is one entry here and one module.

The parser, the help, the man page, the completions and docs/commands.md are made from this table. Standard library
only: `version`, `help` and usage errors must start at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, NamedTuple

from ipam_lib.cli import argtypes
from ipam_lib.cli.completion import SHELLS


class Argument:
    """One argument of a command: what `argparse.ArgumentParser.add_argument` takes.

    `one_of` names a group: a command line may have only one argument of it.
    """

    def __init__(self, *flags: str, one_of: str = "", **options: Any) -> None:
        self.flags = flags
        self.one_of = one_of
        self.options = options

    @property
    def help(self) -> str:
        """What the argument means."""
        text: str = self.options["help"]
        return text


class Command(NamedTuple):
    """One command.

    - `help`: what the command does, without a capital letter and a full stop.
    - `target`: `module:function`, as in an entry point. The function takes the parsed arguments (`argparse.Namespace`)
      and returns the exit status. Its module is imported only when the command runs.
    - `unasked`: whether the command changes data without a question if it is called as `ipam-cli` and there is no
      terminal. The earlier `ipam-cli` never asked, and scripts and timers call it.
    """

    name: str
    help: str
    target: str
    arguments: tuple[Argument, ...] = ()
    unasked: bool = False


# SUPPRESS: the parser of the subcommand must not overwrite a `--config` before the subcommand.
CONFIG: Final = Argument(
    "--config",
    type=Path,
    metavar="PATH",
    default=argparse.SUPPRESS,
    help="configuration file (default: $IPAM_CONFIG, ./config.json, /etc/ipam-api/config.json)",
)
FORMAT: Final = Argument(
    "--format", choices=("text", "json"), default="text", help="text for people (the default), or json for scripts"
)
"""Every command that prints data has it."""
NETBOX_VERSION: Final = Argument(
    "--netbox-version",
    choices=argtypes.NETBOX_VERSIONS,
    metavar="VERSION",
    help="NetBox version that the simulator answers as: "
    + ", ".join(argtypes.NETBOX_VERSIONS)
    + f" (default: that of the kept state, else {argtypes.NETBOX_VERSIONS[-1]})",
)
CONFIRM: Final = (
    Argument("--yes", action="store_true", help="do not ask"),
    Argument("--dry-run", action="store_true", help="only show what would be done"),
)
"""Every command that shows what it will change, and asks, has these."""
TARGET: Final = (
    Argument(
        "--prefix",
        type=Path,
        metavar="PATH",
        help="directory of the program, in its bin (default: where it is installed, or /usr/local)",
    ),
    Argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="PATH",
        help="root of the system to install on, such as an image that is being built (default: /)",
    ),
    Argument("--no-systemd", action="store_true", help="leave the units of systemd out"),
)
"""What to install, and where."""
ADDRESS: Final = Argument(
    "--address",
    type=argtypes.address,
    required=True,
    metavar="ADDRESS",
    help="the address; without a mask it means /32 or /128",
)
PLACE: Final = (
    Argument("--zone", type=argtypes.nonempty, required=True, metavar="ZONE", help="zone of the address"),
    ADDRESS,
)

_TABLE = (
    Command(
        "serve",
        "run the service",
        "ipam:serve",
        (
            Argument(
                "--host", type=argtypes.nonempty, metavar="ADDRESS", help="address to listen on (overrides server.host)"
            ),
            Argument("--port", type=argtypes.port, metavar="PORT", help="port to listen on (overrides server.port)"),
            Argument(
                "--log-dir", type=Path, metavar="PATH", help="directory of the log files (overrides logging.directory)"
            ),
        ),
    ),
    Command(
        "demo",
        "run the service on an embedded database and a built-in NetBox simulator: no configuration, no network",
        "ipam:demo",
        (
            Argument(
                "--port", type=argtypes.port, default=3000, metavar="PORT", help="port to listen on (default: 3000)"
            ),
            Argument(
                "--data",
                type=Path,
                metavar="PATH",
                help="directory kept between runs (default: ipam-api/demo in the user's data directory)",
            ),
            Argument("--reset", action="store_true", help="delete the data of earlier runs first"),
            NETBOX_VERSION,
        ),
    ),
    Command(
        "simulate-netbox",
        "run only the NetBox simulator, to try a configuration against it",
        "ipam_lib.cli.simulate:run",
        (
            Argument(
                "--host",
                type=argtypes.nonempty,
                default="127.0.0.1",
                metavar="ADDRESS",
                help="address to listen on (default: 127.0.0.1)",
            ),
            Argument(
                "--port", type=argtypes.port, default=8000, metavar="PORT", help="port to listen on (default: 8000)"
            ),
            Argument(
                "--token",
                type=argtypes.nonempty,
                metavar="TOKEN",
                help="token that clients must send (default: a new one, printed)",
            ),
            Argument(
                "--zones",
                one_of="content",
                type=Path,
                metavar="PATH",
                help="JSON file of zones and their prefixes (default: three sample zones)",
            ),
            Argument(
                "--empty",
                one_of="content",
                action="store_true",
                help="start like a new NetBox, without the objects that IPAM-API needs",
            ),
            Argument(
                "--latency-ms",
                type=argtypes.milliseconds,
                default=0.0,
                metavar="MS",
                help="delay of every answer, in ms (default: 0)",
            ),
            Argument(
                "--cost-model",
                choices=argtypes.COST_MODELS,
                metavar="NAME",
                help="take as long as a measured NetBox, by operation and number of children: "
                + ", ".join(argtypes.COST_MODELS),
            ),
            Argument(
                "--time-scale",
                type=argtypes.scale,
                default=1.0,
                metavar="FACTOR",
                help="factor for the durations of the cost model (default: 1)",
            ),
            Argument(
                "--state",
                type=Path,
                metavar="PATH",
                help="file that keeps the prefixes between runs (default: memory only)",
            ),
            NETBOX_VERSION,
        ),
    ),
    Command(
        "install",
        "install this file on the machine: program, systemd units, man page, completions, a first configuration",
        "ipam_lib.cli.install:install",
        (
            *TARGET,
            *CONFIRM,
        ),
    ),
    Command(
        "uninstall",
        "remove what install has installed; configuration and data are kept",
        "ipam_lib.cli.install:uninstall",
        (
            *TARGET,
            Argument("--purge", action="store_true", help="remove configuration, keys and data too"),
            *CONFIRM,
        ),
    ),
    Command(
        "check-config",
        "check the configuration, the secret files, the storage, NetBox and Splunk, and say what is wrong",
        "ipam_lib.cli.check_config:run",
        (FORMAT,),
    ),
    Command(
        "netbox-setup",
        "create the choice set, custom fields, tag, webhook and event rule that NetBox needs, if they are missing",
        "ipam_lib.cli.netbox_setup:run",
        (
            Argument(
                "--zone",
                type=argtypes.zone,
                action="append",
                default=[],
                metavar="ZONE",
                help="a zone to create; may be given several times",
            ),
            Argument(
                "--webhook",
                type=argtypes.webhook_url,
                action="append",
                default=[],
                metavar="URL",
                help="URL at which NetBox reaches an instance, to create a webhook and event rule for it; may be given"
                " several times",
            ),
            Argument(
                "--token-file",
                type=Path,
                metavar="PATH",
                help="file with an administrator's token, used instead of the service's token; - reads standard input",
            ),
            *CONFIRM,
            FORMAT,
        ),
    ),
    Command("show-services", "show the services on an address", "ipam_lib.cli.show:show_services", (*PLACE, FORMAT)),
    Command(
        "show-secret",
        "show the secret of an address (the log records it)",
        "ipam_lib.cli.secrets:show",
        (*PLACE, FORMAT),
    ),
    Command(
        "replace-secret",
        "replace the secret of an address (the log records it)",
        "ipam_lib.cli.secrets:replace",
        (
            *PLACE,
            Argument(
                "--new",
                metavar="SECRET",
                help="the new secret, 8 to 64 characters; - reads it from standard input; without this option, the"
                " command asks for it or reads it",
            ),
            *CONFIRM,
            FORMAT,
        ),
        unasked=True,
    ),
    Command(
        "delete-service",
        "set the expiration of a service on an address to now",
        "ipam_lib.cli.delete:delete_service",
        (
            *PLACE,
            Argument(
                "--secret",
                metavar="SECRET",
                help="secret of the address; - reads it from standard input; without this option, the command asks for"
                " it or reads it",
            ),
            Argument(
                "--service-name", type=argtypes.nonempty, required=True, metavar="NAME", help="name of the service"
            ),
            Argument("--namespace-id", type=argtypes.uuid, required=True, metavar="UUID", help="its namespace"),
            Argument("--cluster-id", type=argtypes.uuid, required=True, metavar="UUID", help="its cluster"),
            *CONFIRM,
            FORMAT,
        ),
        unasked=True,
    ),
    Command(
        "delete-cluster",
        "set the expiration of every service of a cluster to now, except services that deny it",
        "ipam_lib.cli.delete:delete_cluster",
        (
            Argument(
                "--cluster-id",
                "--cluster",
                type=argtypes.uuid,
                required=True,
                metavar="UUID",
                help="the cluster, in either case",
            ),
            *CONFIRM,
            FORMAT,
        ),
        unasked=True,
    ),
    Command(
        "list-addresses",
        "list the registrations",
        "ipam_lib.cli.show:list_addresses",
        (
            Argument("--zone", type=argtypes.nonempty, metavar="ZONE", help="only registrations of this zone"),
            Argument("--ip-family", choices=("ipv4", "ipv6"), help="only registrations of this family"),
            Argument(
                "--cluster-id",
                type=argtypes.uuid,
                metavar="UUID",
                help="only registrations with a service of this cluster",
            ),
            Argument("--expiring", action="store_true", help="only registrations with an expiring service"),
            FORMAT,
        ),
    ),
    Command(
        "list-zones",
        "list the zones: how full they are, and the use of their quotas",
        "ipam_lib.cli.list_zones:run",
        (
            Argument("--zone", type=argtypes.nonempty, metavar="ZONE", help="only this zone"),
            FORMAT,
        ),
    ),
    Command(
        "history",
        "show which services had an address, and when",
        "ipam_lib.cli.history:show",
        (
            ADDRESS,
            Argument("--zone", type=argtypes.nonempty, metavar="ZONE", help="only in this zone"),
            Argument(
                "--at",
                type=argtypes.moments,
                metavar="TIME",
                help="only services that had it at this time, such as 2026-11-24T13:30 (local time, or with Z or an"
                " offset), or on this day, such as 2026-11-24",
            ),
            FORMAT,
        ),
    ),
    Command(
        "reconcile",
        "compare the storage with NetBox, and repair what is safe to repair",
        "ipam_lib.cli.reconcile_command:run",
        (
            Argument(
                "--fix",
                action="store_true",
                help="repair what certainly belongs to this service and was seen by three rounds in a row",
            ),
            Argument(
                "--rounds",
                type=argtypes.positive,
                default=1,
                metavar="N",
                help="number of rounds, with the time between them that a repair needs (default: 1)",
            ),
            FORMAT,
        ),
    ),
    Command(
        "rotate-key",
        "encrypt every stored secret with a new key, also secrets in the scheme of the earlier service",
        "ipam_lib.cli.rotate:run",
        (
            Argument(
                "--new-secrets",
                type=Path,
                required=True,
                metavar="PATH",
                help="file with the new keys, which encryption_secrets.path names already",
            ),
            *CONFIRM,
            FORMAT,
        ),
    ),
    Command(
        "mongo-backup",
        "write all stored data into an archive in the format of mongodump --archive --gzip",
        "ipam_lib.cli.backup:run",
        (
            Argument(
                "--out",
                type=Path,
                required=True,
                metavar="PATH",
                help="the file to write; it replaces an older file when it is complete; - for standard output",
            ),
            FORMAT,
        ),
    ),
    Command(
        "mongo-restore",
        "restore such an archive, or one of mongodump, into MongoDB or the embedded database",
        "ipam_lib.cli.restore:run",
        (
            Argument(
                "--in",
                dest="archive",
                type=Path,
                required=True,
                metavar="PATH",
                help="the archive, compressed or not; - reads it from standard input",
            ),
            Argument("--drop", action="store_true", help="replace the stored data with the archive"),
            Argument(
                "--from",
                dest="source",
                type=argtypes.namespace,
                metavar="DATABASE.COLLECTION",
                help="which collection of the archive holds the registrations (default: that of the configuration, or"
                " the only one)",
            ),
            *CONFIRM,
            FORMAT,
        ),
    ),
    Command(
        "completion",
        "print the completion script of a shell",
        "ipam_lib.cli.completion:run",
        (
            Argument(
                "shell",
                choices=SHELLS,
                metavar="SHELL",
                help="bash, zsh or fish; bash: source <(ipam.pyz completion bash)",
            ),
        ),
    ),
    Command("version", "print the version", "ipam_lib.cli.main:version"),
    Command(
        "help",
        "explain a subcommand",
        "ipam_lib.cli.main:show_help",
        (
            Argument("command", nargs="?", metavar="SUBCOMMAND", help="the subcommand to explain"),
            Argument("--man", action="store_true", help="print the man page instead, as man(1) reads it"),
        ),
    ),
)
COMMANDS: Final = {command.name: command for command in _TABLE}
