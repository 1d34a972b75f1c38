"""`reconcile`: print the differences between the storage and NetBox, and repair them with --fix.

Exit status 0: both sides agree. 1: the last round found a difference that it did not repair.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ipam_lib.cli import audit, terminal
from ipam_lib.cli.exit_codes import DONE, FAILED
from ipam_lib.cli.runtime import load_settings, opened_registry
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import Settings
from ipam_lib.registry import DriftResult, Registry
from ipam_lib.registry.drift import REPAIRED, SIGHTINGS, DriftKind
from ipam_lib.text import json_time, printable

HEADINGS = ("DRIFT", "ZONE", "ADDRESS", "REGISTRATION", "PREFIX", "OUTCOME")


@dataclass(slots=True)
class Round:
    """The numbers of one round.

    - `found`, `repaired`: drifts by kind.
    - `waiting`: drifts that need more sightings before they may be repaired.
    - `drifts`: the drifts themselves, for JSON output only. Text output prints each one at once, because there may be
      more of them than fit in memory.
    """

    number: int
    started_at: datetime
    found: Counter[DriftKind] = field(default_factory=Counter)
    repaired: Counter[DriftKind] = field(default_factory=Counter)
    waiting: int = 0
    drifts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def unrepaired(self) -> int:
        """How many drifts are left."""
        return self.found.total() - self.repaired.total()

    def note(self, found: DriftResult, *, kept: bool) -> None:
        """Count a drift. `kept`: whether to keep it for the JSON output as well."""
        kind = found.drift.kind
        self.found[kind] += 1
        self.repaired[kind] += found.repaired
        self.waiting += not found.repaired and kind in REPAIRED and not found.note
        if kept:
            self.drifts.append(_drift_json(found))


def run(arguments: argparse.Namespace) -> int:
    """Compare, and repair with --fix.

    Raises CommandError if a side cannot be read (earlier repairs stay); ConfigError.
    """
    settings = load_settings(arguments)
    return run_work(_reconcile(settings, arguments))


async def _reconcile(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run the rounds, with enough time between them that the third may repair what the first one saw."""
    rounds: list[Round] = []
    pause = settings.server.request_timeout_seconds + 1.0
    async with AsyncExitStack() as stack:
        trail = stack.enter_context(audit.trail(settings, required=False)) if arguments.fix else None
        registry = await stack.enter_async_context(opened_registry(settings, netbox=True))
        shown = stack.enter_context(terminal.progress())
        for number in range(1, arguments.rounds + 1):
            if rounds:
                await _wait(pause, number, arguments.rounds, shown)
            rounds.append(await _round(registry, number, arguments, trail, shown))
            if not rounds[-1].unrepaired:
                break
    if arguments.format == "json":
        terminal.print_json(
            {"fix": arguments.fix, "rounds": [_round_json(one) for one in rounds], "unrepaired": rounds[-1].unrepaired}
        )
    elif arguments.fix:
        _explain(rounds[-1], pause)
    return FAILED if rounds[-1].unrepaired else DONE


async def _wait(seconds: float, number: int, rounds: int, shown: terminal.Progress) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        shown.show(f"round {number} of {rounds} in {left:.0f} s", now=True)
        await asyncio.sleep(min(left, 1.0))


async def _round(
    registry: Registry, number: int, arguments: argparse.Namespace, trail: audit.Trail | None, shown: terminal.Progress
) -> Round:
    """Run one round. Text output prints each drift as it is found."""
    this = Round(number, datetime.now(UTC))
    table = terminal.Table(*HEADINGS, width=terminal.terminal_width())
    as_text = arguments.format == "text"
    if as_text and arguments.rounds > 1:
        shown.clear()
        print(terminal.paint(f"Round {number} of {arguments.rounds}, {terminal.local_time(this.started_at)}", "bold"))
    shown.show(f"round {number} of {arguments.rounds} ...", now=True)
    async for found in registry.reconcile(fix=arguments.fix):
        this.note(found, kept=not as_text)
        if found.repaired and trail is not None:
            trail.record("reconcile: repaired a drift between the storage and NetBox", **_drift_json(found))
        if as_text:
            shown.clear()
            for line in table.lines([_row(found, fix=arguments.fix)]):
                print(line, flush=True)
        shown.show(lambda: f"round {number} of {arguments.rounds}: {this.found.total()} found")
    if as_text:
        shown.clear()
        _summarize(this)
    return this


def _row(found: DriftResult, *, fix: bool) -> tuple[str, ...]:
    drift = found.drift
    return (
        drift.kind.value,
        printable(drift.zone),
        printable(drift.address),
        printable(drift.registration_id or "-"),
        str(drift.prefix_id or "-"),
        _outcome(found, fix=fix),
    )


def _outcome(found: DriftResult, *, fix: bool) -> str:
    if found.repaired:
        return terminal.paint("repaired", "green")
    notes = [found.drift.detail, found.note]
    if found.drift.kind not in REPAIRED:
        notes.append("for a person to decide")
    elif fix and not found.note:
        notes.append(f"seen {found.sightings} of {SIGHTINGS} times")
    return terminal.paint(printable("; ".join(filter(None, notes))), "yellow")


def _summarize(this: Round) -> None:
    if not this.found:
        print(terminal.paint("storage and NetBox agree", "green"))
        return
    print()
    rows = [(kind.value, str(count), str(this.repaired[kind])) for kind, count in sorted(this.found.items())]
    terminal.print_table(("DRIFT", "FOUND", "REPAIRED"), rows)


def _explain(last: Round, pause: float) -> None:
    """Print on standard error why a round does not repair a drift at first sight, and what to do next."""
    if last.waiting:
        terminal.say(
            f"A drift is repaired by the round that sees it for the {SIGHTINGS}rd time in a row, more than"
            f" {2 * (pause - 1):.0f} s after the first: it may be a request that is under way. Run this again, with"
            f" {pause:.0f} s in between, or with --rounds {SIGHTINGS}."
        )


def _round_json(this: Round) -> dict[str, Any]:
    return {
        "round": this.number,
        "started_at": json_time(this.started_at),
        "drifts": this.drifts,
        "summary": {
            kind.name.lower(): {"found": count, "repaired": this.repaired[kind]}
            for kind, count in sorted(this.found.items())
        },
    }


def _drift_json(found: DriftResult) -> dict[str, Any]:
    drift = found.drift
    return {
        "kind": drift.kind.name.lower(),
        "zone": drift.zone,
        "address": drift.address,
        "registration_id": drift.registration_id,
        "prefix_id": drift.prefix_id,
        "detail": drift.detail,
        "sightings": found.sightings,
        "repairable": drift.kind in REPAIRED,
        "repaired": found.repaired,
        "note": found.note,
    }
