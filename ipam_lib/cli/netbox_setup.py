"""`netbox-setup`: shows what NetBox lacks, and creates it. It reports objects that differ, and leaves them alone.

Exit status 0: everything is there. 1: something is missing or unsuitable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ipam_lib.assembly import netbox_settings
from ipam_lib.cli import audit, terminal
from ipam_lib.cli.exit_codes import DONE, FAILED, UsageError
from ipam_lib.cli.runtime import load_settings
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import Settings, read_secret
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.setup import Item, NetBoxSetup
from ipam_lib.netbox.transport import Transport
from ipam_lib.netbox.webhook_definitions import WebhookTarget, by_hand
from ipam_lib.text import plural, printable

HEADINGS: Final = ("WHAT", "NAME", "TO DO", "DETAIL")
_KINDS: Final = {
    "choice_set": "choice set",
    "custom_field": "custom field",
    "tag": "tag",
    "webhook": "webhook",
    "event_rule": "event rule",
}
# NetBox keeps no longer one.
_LONGEST_SECRET: Final = 255


def run(arguments: argparse.Namespace) -> int:
    """Compare with NetBox, show the plan, ask, and create.

    Raises CommandError if NetBox cannot be read or the answer is no; UsageError if NetBox has no zones and --zone names
    none, or --webhook has no secret; ConfigError.
    """
    settings = load_settings(arguments)
    targets = _targets(settings, arguments.webhook)
    netbox = netbox_settings(settings.netbox)
    if arguments.token_file is not None:
        netbox = replace(netbox, token=_token(arguments.token_file))
    plan = run_work(_plan(netbox, arguments.zone, targets))
    as_text = arguments.format == "text"
    if as_text:
        terminal.print_table(HEADINGS, [_row(item) for item in plan])
    if any(item.action == "needs_zones" for item in plan):
        raise UsageError("there are no zones in NetBox yet: name those that there are to be, each with --zone")
    items: Sequence[Item] = plan
    changes = sum(item.changes for item in plan)
    if changes and not arguments.dry_run:
        if terminal.can_ask() and not as_text:
            terminal.print_table(HEADINGS, [_row(item) for item in plan], sys.stderr)
        terminal.confirm(f"Write {plural(changes, 'change')} to {netbox.url}?", yes=arguments.yes)
        items = _apply(settings, netbox, plan, as_text=as_text)
    if as_text:
        _conclude(items, dry_run=arguments.dry_run)
    else:
        terminal.print_json(
            {"dry_run": arguments.dry_run, "netbox": netbox.url, "items": [_json(item) for item in items]}
        )
    wrong = [item for item in items if not item.settled and not (arguments.dry_run and item.changes)]
    return FAILED if wrong else DONE


def _token(path: Path) -> str:
    if str(path) == "-":
        return terminal.read_secret("-", "token of an administrator")
    return read_secret(path).reveal()


def _targets(settings: Settings, urls: Sequence[str]) -> list[WebhookTarget]:
    secret = settings.netbox.webhook_secret
    if urls and secret is None:
        raise UsageError("--webhook needs a secret: name its file in netbox.webhook_secret_path, for the service too")
    if urls and secret is not None and len(secret.reveal()) > _LONGEST_SECRET:
        raise UsageError(f"the secret of the webhook has more than {_LONGEST_SECRET} characters; NetBox keeps no more")
    return [WebhookTarget(url, secret) for url in dict.fromkeys(urls) if secret is not None]


async def _plan(netbox: NetBoxSettings, zones: Sequence[str], targets: Sequence[WebhookTarget]) -> list[Item]:
    async with Transport(netbox) as transport:
        return await NetBoxSetup(transport).plan(zones, targets)


def _apply(settings: Settings, netbox: NetBoxSettings, plan: Sequence[Item], *, as_text: bool) -> list[Item]:
    with audit.trail(settings, required=False) as trail:

        def report(item: Item) -> None:
            trail.record("netbox-setup: NetBox was changed", kind=item.kind, name_in_netbox=item.name, zones=item.zones)
            if as_text:
                print(f"{terminal.paint('done', 'green')}: {_what(item)}", flush=True)

        async def work() -> list[Item]:
            async with Transport(netbox) as transport:
                return await NetBoxSetup(transport).apply(plan, report)

        return run_work(work())


def _row(item: Item) -> tuple[str, ...]:
    colour: terminal.Colour = "green" if item.settled else "yellow"
    todo = {
        "present": "nothing",
        "create": "create",
        "extend": "add zones",
        "differs": "differs: left alone",
        "needs_zones": "needs --zone",
        "unseen": "not known",
    }[item.action]
    detail = f"zones to add: {', '.join(item.zones)}" if item.zones else item.detail
    return _KINDS[item.kind], printable(item.name), terminal.paint(todo, colour), printable(detail)


def _what(item: Item) -> str:
    zones = f" with the zones {', '.join(item.zones)}" if item.zones else ""
    verb = "added to" if item.action == "extend" else "created"
    return printable(f"{_KINDS[item.kind]} {item.name} {verb}{zones}")


def _conclude(items: Sequence[Item], *, dry_run: bool) -> None:
    for item in items:
        if item.failure:
            terminal.say(
                f"{terminal.paint('failed', 'red', sys.stderr)}: {_KINDS[item.kind]} {printable(item.name)}:"
                f" {printable(item.failure)}"
            )
        elif item.action == "differs":
            terminal.warn(
                f"the {_KINDS[item.kind]} {item.name} is there, but cannot be used: {item.detail}. Correct it in"
                " NetBox; this program changes nothing that is there"
            )
    urls = [one.target.url for one in items if one.target and not one.settled and not (dry_run and one.changes)]
    for url in dict.fromkeys(urls):
        terminal.say(by_hand(url))
    if any("may not" in item.failure or item.action == "unseen" for item in items):
        terminal.say("An administrator's token may: give the file that holds one with --token-file.")
    if all(item.settled for item in items):
        print(terminal.paint("NetBox has everything that is needed", "green"))
        terminal.say(
            "Now give prefixes of status container the custom field k8s_zone; check-config shows what is left."
        )
    elif dry_run:
        terminal.say("Nothing was changed: this was a dry run.")


def _json(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "action": item.action,
        "zones": list(item.zones),
        "detail": item.detail or None,
        "done": item.done,
        "failure": item.failure or None,
    }
