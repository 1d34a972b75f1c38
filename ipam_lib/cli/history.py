"""`history`: print which services held an address, from when to when. It changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ipam_lib.addresses import spellings
from ipam_lib.cli import terminal
from ipam_lib.cli.exit_codes import DONE, CommandError
from ipam_lib.cli.runtime import load_settings, opened_registry, run
from ipam_lib.config import Settings
from ipam_lib.models import Tenure
from ipam_lib.registry import Registry
from ipam_lib.registry.address_history import held_between
from ipam_lib.serializers import tenure_json
from ipam_lib.text import printable

PAGE = 500
HEADINGS = ("FROM", "UNTIL", "ZONE", "SERVICE", "NAMESPACE", "CLUSTER")
UNKNOWN = "not recorded"
STILL = "still held"


def show(arguments: argparse.Namespace) -> int:
    """Print the tenures of an address: first those that have not ended, then the others, last end first.

    Raises CommandError if there are none, ConfigError.
    """
    found = run(_found(load_settings(arguments), arguments))
    if not found:
        place = f" of zone {arguments.zone}" if arguments.zone else ""
        when = "" if arguments.at is None else " then"
        raise CommandError(
            f"no holder is known of {spellings(arguments.address)[0]}{place}{when};"
            " what ended longer ago than history.retention_days is not kept"
        )
    if arguments.format == "json":
        terminal.print_json({"history": [tenure_json(one) for one in found], "count": len(found)})
        return DONE
    print(terminal.paint(printable(found[0].address), "bold"))
    terminal.print_table(HEADINGS, [_row(one) for one in found])
    return DONE


async def _found(settings: Settings, arguments: argparse.Namespace) -> list[Tenure]:
    found: list[Tenure] = []
    async with opened_registry(settings) as registry, aclosing(_tenures(registry, arguments)) as tenures:
        async for one in tenures:
            if arguments.at is None or held_between(one, *arguments.at):
                found.append(one)
            elif one.until is not None and one.until <= arguments.at[0]:
                break  # all later ones ended before that
    return found


async def _tenures(registry: Registry, arguments: argparse.Namespace) -> AsyncGenerator[Tenure, None]:
    cursor: str | None = None
    while True:
        page = await registry.history(spellings(arguments.address), zone=arguments.zone, limit=PAGE, cursor=cursor)
        for one in page.tenures:
            yield one
        cursor = page.cursor
        if cursor is None:
            return


def _row(one: Tenure) -> tuple[str, ...]:
    return (
        UNKNOWN if one.since is None else terminal.local_time(one.since),
        terminal.paint(STILL, "green") if one.until is None else terminal.local_time(one.until),
        printable(one.zone),
        printable(one.key.service_name),
        printable(one.key.namespace_id),
        printable(one.key.cluster_id),
    )
