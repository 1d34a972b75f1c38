"""`check-config`: check everything that the service needs, before it runs. It changes nothing.

An error in one check does not stop the others. The exit status is 1 if any check has an error.
"""

from __future__ import annotations

import argparse
import asyncio
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from ipam_lib.assembly import netbox_settings
from ipam_lib.cli import terminal
from ipam_lib.cli.checks import config_files
from ipam_lib.cli.checks.storage import storage
from ipam_lib.cli.exit_codes import DONE, FAILED
from ipam_lib.config import Inspection, NetBoxSection, inspect
from ipam_lib.errors import ConfigError
from ipam_lib.findings import Finding, Status, error, warning
from ipam_lib.netbox.probe import NetBoxProbe, probe_transport
from ipam_lib.telemetry import logs
from ipam_lib.telemetry.splunk_probe import probe as probe_splunk
from ipam_lib.text import plural, printable

STATUSES: Final[tuple[Status, ...]] = ("ok", "warning", "error")
_COLOURS: Final[Mapping[Status, terminal.Colour]] = {"ok": "green", "warning": "yellow", "error": "red"}
_MARGIN: Final = 9


def run(arguments: argparse.Namespace) -> int:
    """Run all checks and print their findings. Raises nothing: problems are findings."""
    terminal.set_up()
    logs.set_up("CRITICAL")  # the findings have every failure
    as_text = arguments.format == "text"
    found: list[Finding] = []
    source = None
    try:
        config = inspect(getattr(arguments, "config", None))
        source = str(config.source)
    except ConfigError as problem:
        found = [error("settings", one, "write one: ipam help --man lists the settings") for one in problem.problems]
        for finding in found if as_text else ():
            _print(finding)
    else:
        found = asyncio.run(_look(config, as_text=as_text))
    counted = Counter(one.status for one in found)
    if as_text:
        print(f"\n{counted['ok']} ok, {plural(counted['warning'], 'warning')}, {plural(counted['error'], 'error')}")
    else:
        summary = {status: counted[status] for status in STATUSES}
        terminal.print_json({"config": source, "checks": [_json(one) for one in found], "summary": summary})
    return FAILED if counted["error"] else DONE


async def _look(config: Inspection, *, as_text: bool) -> list[Finding]:
    found = []
    with terminal.progress() as shown:
        async for finding in _findings(config, shown):
            found.append(finding)
            if as_text:
                shown.clear()
                _print(finding)
    return found


async def _findings(config: Inspection, shown: terminal.Progress) -> AsyncIterator[Finding]:
    for finding in _here(config):
        yield finding
    if config.storage is not None:
        shown.show("looking at the storage ...", now=True)
        async for finding in storage(config.storage, config.encryption_secrets):
            yield finding
    if config.netbox is not None:
        shown.show("looking at NetBox ...", now=True)
        async for finding in _netbox(config.netbox):
            yield finding
    if config.splunk is not None and config.splunk.enable:
        shown.show("looking at Splunk ...", now=True)
        assert config.splunk.url is not None
        assert config.splunk.token is not None
        for finding in await probe_splunk(config.splunk.url, config.splunk.token.reveal()):
            yield finding


def _here(config: Inspection) -> Iterator[Finding]:
    """The findings that need no other system."""
    yield from config_files.settings(config)
    yield from config_files.secret_files(config)
    if config.server is not None:
        yield from config_files.server(config.server)
    if config.logging is not None:
        yield config_files.log_directory(config.logging.directory)
    skipped = [name for name in ("storage", "netbox") if getattr(config, name) is None]
    if skipped:
        advice = "correct the settings first, then run this again"
        yield warning("settings", f"not looked at, for want of its settings: {', '.join(skipped)}", advice)


async def _netbox(section: NetBoxSection) -> AsyncIterator[Finding]:
    warm = section.warm_addresses
    try:
        transport = probe_transport(netbox_settings(section))
    except ConfigError as problem:
        for one in problem.problems:
            yield error("netbox.connection", one, "correct it in the configuration")
        return
    async with transport:
        zones_named = warm if isinstance(warm, Mapping) else ()
        probe = NetBoxProbe(transport, zones_named=zones_named, webhook_secret=section.webhook_secret)
        async for finding in probe.findings():
            yield finding


def _print(finding: Finding) -> None:
    width = max(40, (terminal.terminal_width() or 1_000_000) - _MARGIN)
    status = terminal.paint(finding.status.ljust(_MARGIN), _COLOURS[finding.status])
    lines = _wrapped(f"{finding.check}: {printable(finding.message)}", width)
    if finding.advice:
        lines += _wrapped(f"-> {printable(finding.advice)}", width)
    print(status + ("\n" + " " * _MARGIN).join(lines), flush=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "status": finding.status,
        "message": finding.message,
        "advice": finding.advice or None,
    }
