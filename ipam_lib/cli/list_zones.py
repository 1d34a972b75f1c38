"""`list-zones`: print how full the zones are, and the use of their quotas. It reads the storage and NetBox, and changes
nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ipam_lib.cli import terminal
from ipam_lib.cli.exit_codes import DONE
from ipam_lib.cli.runtime import load_settings, opened_registry
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import Settings
from ipam_lib.errors import UnknownZone
from ipam_lib.registry import FamilyUse, Registry, ZoneUse
from ipam_lib.serializers import zone_json
from ipam_lib.text import printable

HEADINGS = ("ZONE", "FAMILY", "SIZE", "USED", "RESERVED", "OTHER PREFIXES", "OTHER ADDRESSES", "FREE")
QUOTA_HEADINGS = ("ZONE", "QUOTA OF EACH", "LIMIT", "HIGHEST USE", "WITH 90 % OR MORE")
UNKNOWN = "unknown"
NEARLY_FULL = 0.1
LONGEST_IN_FULL = 9


def run(arguments: argparse.Namespace) -> int:
    """Print the zones, or the one zone that is wanted.

    Raises CommandError if there is no such zone, or the storage or NetBox cannot be read; ConfigError.
    """
    settings = load_settings(arguments)
    zones = run_work(_read(settings, arguments.zone))
    if arguments.format == "json":
        terminal.print_json({"zones": [zone_json(one) for one in zones]})
    else:
        _print_text(zones)
    return DONE


async def _read(settings: Settings, wanted: str | None) -> Sequence[ZoneUse]:
    async with opened_registry(settings, netbox=True) as registry:
        await _read_space(registry, wanted)
        zones = (await registry.statistics()).zones
        if wanted is not None:
            zones = [one for one in zones if one.zone == wanted]
            if not zones:
                raise UnknownZone(wanted, registry.context.zones.names)
    uses = [each.space for one in zones for family in one.families for each in family.containers]
    if settings.netbox.ip_addresses != "ignore" and any(one and not one.ip_addresses_known for one in uses):
        terminal.warn("the token may not view IP addresses or IP ranges, so they count as free; see check-config")
    return zones


async def _read_space(registry: Registry, wanted: str | None) -> None:
    """Read what is taken in the containers of the wanted zone, or of all zones."""
    context = registry.context
    containers = [one for one in context.zones.all_containers() if wanted in (None, one.zone)]
    with terminal.progress() as shown:
        for number, container in enumerate(containers, 1):
            shown.show(f"reading container {container.prefix} ({number} of {len(containers)})")
            if problem := await context.netbox.read_space(container):
                shown.clear()
                terminal.warn(f"what is free in container {container.prefix} is not known: {problem}")


def _print_text(zones: Sequence[ZoneUse]) -> None:
    rows = [_row(one.zone, family) for one in zones for family in one.families or (None,)]
    terminal.print_table(HEADINGS, rows)
    quotas = [
        (printable(use.zone), use.owner, str(use.limit), str(use.highest), str(use.nearly_used))
        for one in zones
        for use in one.quotas
    ]
    if quotas:
        print()
        terminal.print_table(QUOTA_HEADINGS, quotas)
    moments = [family.as_of for one in zones for family in one.families if family.as_of is not None]
    if moments:
        print(f"\nNetBox as of {terminal.local_time(min(moments))}")


def _row(zone: str, use: FamilyUse | None) -> Sequence[str]:
    """A zone without containers has no family (None)."""
    if use is None:
        return (printable(zone), *["-"] * (len(HEADINGS) - 1))
    numbers = (use.size, use.used, use.reserved, use.other_prefixes, use.other_addresses)
    return (printable(zone), use.ip_family, *map(_number, numbers), _free(use))


def _number(number: int | None) -> str:
    """A number in full, or, from ten digits on, rounded: `1.8e+19`."""
    if number is None:
        return UNKNOWN
    return str(number) if len(str(number)) <= LONGEST_IN_FULL else f"{number:.1e}"


def _free(use: FamilyUse) -> str:
    text = _number(use.free)
    if use.free is None or not use.size:
        return text
    if use.free == 0:
        return terminal.paint(f"{text} (full)", "red")
    return terminal.paint(f"{text} (nearly full)", "yellow") if use.free < NEARLY_FULL * use.size else text
