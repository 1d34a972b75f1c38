"""`rotate-key`: seal every stored secret with the new key, while the service runs and knows both keys.

This order keeps every secret readable by every instance at all times (docs/commands.md has it in full):

1. Name the new key as `previous_path`.
2. Exchange the two.
3. Run this command.
4. Remove `previous_path`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ipam_lib.cli import audit, terminal
from ipam_lib.cli.exit_codes import DONE, FAILED, CommandError
from ipam_lib.cli.runtime import load_settings, opened_registry
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import EncryptionSection, Settings, read_keys
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.registry import RotateReport
from ipam_lib.text import plural, printable


def run(arguments: argparse.Namespace) -> int:
    """Seal every secret again, then read all of them with the new key alone.

    Raises CommandError if that is not safe or not possible; UsageError, ConfigError.
    """
    new = read_keys(arguments.new_secrets)
    settings = load_settings(arguments)
    offline = settings.encryption_secrets.keys != new
    previous = _previous(settings.encryption_secrets, new)
    # From here on these keys count, in whatever order the configuration names them.
    encryption = replace(settings.encryption_secrets, keys=new, previous=previous)
    settings = replace(settings, encryption_secrets=encryption)
    before = run_work(_rotate(settings, dry_run=True))
    _refuse_wrong_keys(before, previous)
    if arguments.dry_run:
        return _report(before, arguments, offline=offline)
    if offline:
        terminal.confirm(
            "The configuration does not name these keys as encryption_secrets.path: a service that runs now would not"
            " find what is rotated, and register it a second time. Is every instance of the service stopped?",
            yes=arguments.yes,
        )
    with audit.trail(settings, required=False) as trail:
        after = run_work(_rotate(settings, dry_run=False))
        trail.record(
            "rotate-key: the stored secrets were brought under a new key",
            rotated=after.rotated,
            unreadable=len(after.unreadable),
            verified=after.verified,
        )
    return _report(after, arguments, offline=offline)


def _previous(encryption: EncryptionSection, new: KeySet) -> KeySet | None:
    """The previous keys; None if there are none.

    Raises CommandError if secrets would be sealed with a key that a running service may not know.
    """
    if encryption.scheme != "aes-siv":
        raise CommandError(
            "encryption_secrets.scheme is legacy-ctr: the earlier service runs beside this one, and cannot read what is"
            " rotated. Stop it, take the scheme out of the configuration, restart, and run this again"
        )
    if encryption.keys == new:
        return encryption.previous if encryption.previous != new else None
    if encryption.previous == new:
        raise CommandError(
            "the service still writes under the old key: let encryption_secrets.path name the new keys and"
            " previous_path the old ones, restart every instance, and run this again"
        )
    if encryption.previous is not None:
        raise CommandError(
            "the configuration knows two keys, and these are a third: an earlier rotation has not ended. End it first"
            " (rotate-key with the file that encryption_secrets.path names), and take previous_path away"
        )
    return encryption.keys


async def _rotate(settings: Settings, *, dry_run: bool) -> RotateReport:
    only_new = Cipher(settings.encryption_secrets.keys)
    with terminal.progress() as shown:
        async with opened_registry(settings) as registry:
            return await registry.rotate(
                only_new,
                dry_run=dry_run,
                on_progress=lambda report: shown.show(lambda: _so_far(report, dry_run=dry_run)),
            )


def _so_far(report: RotateReport, *, dry_run: bool) -> str:
    if dry_run:
        return f"looking at every secret first: {report.rotated + report.current} ..."
    verified = f", {report.verified_so_far} verified" if report.verified_so_far else ""
    waiting = f", {len(report.pending)} being registered" if report.pending else ""
    return f"{report.rotated} rotated, {report.current} were under the new key already{waiting}{verified} ..."


def _refuse_wrong_keys(before: RotateReport, previous: KeySet | None) -> None:
    """Raises CommandError if these keys do not seem to be those that the secrets were sealed with. In the old scheme, a
    wrong key may still give some text, and sealing that would destroy the secret."""
    readable = before.rotated + before.current + len(before.pending)
    if before.unreadable and (previous is None or len(before.unreadable) > readable):
        first = before.unreadable[0]
        known = "the new key" if previous is None else "the new key and the one before"
        raise CommandError(
            f"{plural(len(before.unreadable), 'secret')} cannot be read with {known} (such as that of"
            f" {printable(first.address)}, id {first.id}), {readable} can: nothing was changed."
            " Does encryption_secrets.previous_path name the keys that they were stored under?"
        )


def _report(report: RotateReport, arguments: argparse.Namespace, *, offline: bool) -> int:
    if arguments.format == "json":
        terminal.print_json(_json(report, dry_run=arguments.dry_run))
    else:
        _print(report, arguments, offline=offline)
    return DONE if report.verified or (arguments.dry_run and not report.unreadable) else FAILED


def _json(report: RotateReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "rotated": report.rotated,
        "lifted": report.lifted,
        "already_current": report.current,
        "without_secret": report.empty,
        "pending": [one.id for one in report.pending],
        "unreadable": [
            {"id": one.id, "zone": one.zone, "address": one.address, "problem": one.problem}
            for one in report.unreadable
        ],
        "verified": report.verified,
    }


def _print(report: RotateReport, arguments: argparse.Namespace, *, offline: bool) -> None:
    would = "would be " if arguments.dry_run else ""
    print(
        f"{plural(report.rotated, 'secret')} {would}rotated,"
        f" {report.lifted} of them out of the earlier service's scheme"
    )
    print(f"{plural(report.current, 'secret')} {'is' if report.current == 1 else 'are'} under the new key already")
    if report.empty:
        print(f"{report.empty} registrations have no secret")
    if report.pending:
        print(f"{plural(len(report.pending), 'secret')} of creations that are under way: run this again in a minute")
    if report.unreadable:
        print(
            terminal.paint(f"{plural(len(report.unreadable), 'secret')} cannot be read, and stay as they are:", "red")
        )
        rows = [(one.id, printable(one.zone), printable(one.address), one.problem) for one in report.unreadable]
        terminal.print_table(("ID", "ZONE", "ADDRESS", "PROBLEM"), rows)
        terminal.say("replace-secret gives an address a new one. Until then, keep the old keys.")
    if report.verified:
        print(terminal.paint("verified: every secret can be read with the new key alone", "green"))
        terminal.say(
            f"Now let encryption_secrets.path name {printable(str(arguments.new_secrets))}, and start the service."
            if offline
            else "Now take encryption_secrets.previous_path, if it is there, out of the configuration, and restart."
        )
