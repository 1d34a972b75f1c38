"""`show-services` and `list-addresses`: print registrations. They change nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ipam_lib.cli import output, terminal
from ipam_lib.cli.exit_codes import DONE
from ipam_lib.cli.json_array import JSONArray
from ipam_lib.cli.runtime import found_on, load_settings, opened_store, run
from ipam_lib.config import Settings
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import Filter, Registration
from ipam_lib.serializers import registration_json
from ipam_lib.storage.base import Store
from ipam_lib.text import plural, printable

PAGE = 500
LIST_HEADINGS = ("ADDRESS", "ZONE", "EXPIRES", "SERVICES (CLUSTER)")


def show_services(arguments: argparse.Namespace) -> int:
    """Print the services on an address. Raises CommandError if it is not registered, ConfigError."""
    found = run(found_on(load_settings(arguments), arguments.zone, arguments.address))
    if arguments.format == "json":
        terminal.print_json({"registrations": [registration_json(one) for one in found]})
        return DONE
    now = datetime.now(UTC)
    for number, registration in enumerate(found):
        if number:
            print()
        print(output.heading(registration))
        terminal.print_table(
            output.SERVICE_HEADINGS, [output.service_row(service, now) for service in registration.services]
        )
        if not registration.services:
            print("no services")
    return DONE


def list_addresses(arguments: argparse.Namespace) -> int:
    """Print the registrations that match, in the order of their creation. No match is no failure.

    Raises CommandError, ConfigError.
    """
    return run(_list_addresses(load_settings(arguments), arguments))


async def _list_addresses(settings: Settings, arguments: argparse.Namespace) -> int:
    wanted = Filter(
        zone=arguments.zone,
        ip_family=arguments.ip_family,
        cluster_id=arguments.cluster_id,
        expiring=True if arguments.expiring else None,
    )
    async with opened_store(settings) as store:
        if arguments.format == "json":
            await _list_json(pages(store, wanted))
        else:
            await _list_text(pages(store, wanted))
    return DONE


async def _list_json(found: AsyncIterator[list[Registration]]) -> None:
    count = 0
    with JSONArray("registrations") as array:
        async for page in found:
            for registration in page:
                array.add(registration_json(registration))
            count += len(page)
        array.end(count=count)


async def _list_text(found: AsyncIterator[list[Registration]]) -> None:
    table = terminal.Table(*LIST_HEADINGS, width=terminal.terminal_width(), summary=True)
    count = 0
    async for page in found:
        for line in table.lines([_row(registration) for registration in page]):
            print(line)
        count += len(page)
    if terminal.has_terminal(sys.stdout):
        terminal.say(f"{plural(count, 'registration')}")


def _row(one: Registration) -> tuple[str, ...]:
    services = ", ".join(f"{service.key.service_name} ({service.key.cluster_id})" for service in one.services)
    marks = [mark for mark, marked in (("duplicate", one.duplicate), (one.state.value, not one.services)) if marked]
    shown = "; ".join(filter(None, [services, *marks]))
    return printable(one.address), printable(one.zone), output.end(one), printable(shown)


async def pages(store: Store, wanted: Filter) -> AsyncIterator[list[Registration]]:
    """The registrations that match, in pages. A cluster's id matches in upper and lower case. A registration that holds
    it in both comes once."""
    ids: Sequence[str | None] = [None] if wanted.cluster_id is None else uuid_spellings(wanted.cluster_id)
    for number, cluster_id in enumerate(ids):
        one_case = replace(wanted, cluster_id=cluster_id)
        after: str | None = None
        while page := await store.page(one_case, after=after, limit=PAGE):
            yield [one for one in page if not any(service.key.cluster_id in ids[:number] for service in one.services)]
            after = page[-1].id
