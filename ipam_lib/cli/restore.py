"""`mongo-restore`: restore an archive into the configured storage, MongoDB or the embedded database.

The command reads the archive twice: first to check all of it before anything is written, then to restore it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO

from ipam_lib.archive import ArchiveReader, Namespace, opened
from ipam_lib.cli import archive_files, audit, terminal
from ipam_lib.cli.archive_check import Checked, check, pages, problems_told
from ipam_lib.cli.exit_codes import DONE, CommandError
from ipam_lib.cli.runtime import load_settings, opened_store
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import Settings
from ipam_lib.errors import StoreConflict
from ipam_lib.storage.base import DuplicateReport
from ipam_lib.storage.bulk_copy import CollectionKind, Contents
from ipam_lib.text import plural, printable

HEADINGS = ("COLLECTION", "BEFORE", "IN THE ARCHIVE")
HEADINGS_BEFORE = ("COLLECTION", "NOW", "IN THE ARCHIVE")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be done. `checked`: what the archive holds. `before`: what is stored now."""

    checked: Checked
    before: Contents

    @property
    def kinds(self) -> Sequence[CollectionKind]:
        """The collections that are replaced: those of the archive, and those that are not valid with other
        registrations."""
        listed = self.checked.selection.kinds.values()
        return [
            one
            for one in CollectionKind
            if one is CollectionKind.REGISTRATIONS or one in listed or one.belongs_to_registrations
        ]

    @property
    def lost(self) -> list[CollectionKind]:
        """The collections that are replaced, are not empty now, and cannot be made again."""
        return [one for one in self.kinds if self.before.count(one) and not one.can_be_made_again]


def run(arguments: argparse.Namespace) -> int:
    """Check the archive, show what will be done, ask, and restore.

    Raises CommandError if the archive is damaged, does not fit into the storage, or would replace documents without
    --drop; UsageError, ConfigError.
    """
    settings = load_settings(arguments)
    with archive_files.read_again(arguments.archive) as file:
        start = file.tell()
        plan = run_work(_plan(settings, file, arguments))
        _warn(plan, arguments)
        if arguments.dry_run:
            return _report(plan, [], arguments)
        _ask(plan, arguments)
        with audit.trail(settings, required=False) as trail:
            file.seek(start)
            duplicates = run_work(_restore(settings, file, plan, arguments))
            trail.record(
                "mongo-restore: everything that was stored was replaced by what an archive holds",
                archive=str(arguments.archive),
                place=plan.before.place,
                registrations_before=plan.before.count(CollectionKind.REGISTRATIONS),
                registrations=plan.checked.counts[CollectionKind.REGISTRATIONS],
            )
    return _report(plan, duplicates, arguments)


async def _plan(settings: Settings, file: BinaryIO, arguments: argparse.Namespace) -> _Plan:
    async with opened_store(settings, may_be_new=True) as store:
        async with store.snapshot() as snapshot:
            before = snapshot.contents
        with terminal.progress() as shown, problems_told(arguments.archive):
            checked = check(
                ArchiveReader(opened(file)),
                store,
                settings.encryption_secrets.cipher(),
                configured=Namespace(before.database, before.collection),
                named=Namespace(*arguments.source) if arguments.source else None,
                shown=shown,
            )
    plan = _Plan(checked, before)
    if plan.lost and not arguments.drop and not before.unfinished:
        counts = ", ".join(f"{before.count(kind)} in {before.collection}{kind}" for kind in plan.lost)
        raise CommandError(
            f"there are documents in {printable(before.place)} ({counts}): nothing was changed; mongo-backup saves"
            " them, and --drop puts the archive in their place"
        )
    return plan


def _warn(plan: _Plan, arguments: argparse.Namespace) -> None:
    """Print what the user may not expect."""
    checked, before = plan.checked, plan.before
    source = checked.selection.registrations
    if source != (before.database, before.collection) and arguments.source is None:
        terminal.say(
            f"the archive has no {before.database}.{before.collection}: its collection {source} is taken for it"
        )
    if before.unfinished:
        terminal.say("an earlier restore was cut off half-way: this one takes its place")
    if checked.strange:
        terminal.warn(f"{plural(checked.strange, 'document')} without a zone or an address: the service lets them be")
    if checked.unreadable:
        terminal.warn(
            f"{plural(checked.unreadable, 'secret')} cannot be read with the keys of encryption_secrets.path: the"
            " services that own them would be refused; configure the keys that they were sealed with"
        )


def _ask(plan: _Plan, arguments: argparse.Namespace) -> None:
    """Ask for confirmation. Without a terminal, --drop is enough."""
    if arguments.yes or not terminal.can_ask():
        return
    terminal.print_table(HEADINGS_BEFORE, _rows(plan), sys.stderr)
    number = plan.checked.counts[CollectionKind.REGISTRATIONS]
    question = f"Restore {plural(number, 'registration')} into {plan.before.place}"
    if lost := sum(plan.before.count(kind) for kind in plan.lost):
        question += f", and lose the {plural(lost, 'document')} that {'is' if lost == 1 else 'are'} there"
    terminal.say("No instance of the service may be running on it.")
    terminal.confirm(f"{question}?")


async def _restore(
    settings: Settings, file: BinaryIO, plan: _Plan, arguments: argparse.Namespace
) -> list[DuplicateReport]:
    async with opened_store(settings, may_be_new=True) as store:
        with terminal.progress() as shown, problems_told(arguments.archive):
            given = pages(ArchiveReader(opened(file)), plan.checked, shown)
            try:
                return await store.load(given, kinds=plan.kinds, replace=arguments.drop)
            except StoreConflict as error:
                raise CommandError(
                    f"the archive cannot be restored ({printable(str(error))}); nothing was changed"
                ) from None


def _report(plan: _Plan, duplicates: Sequence[DuplicateReport], arguments: argparse.Namespace) -> int:
    checked, before = plan.checked, plan.before
    if arguments.format == "json":
        terminal.print_json(
            {
                "dry_run": arguments.dry_run,
                "archive": {
                    "path": str(arguments.archive),
                    "database": checked.selection.registrations.database,
                    "collection": checked.selection.registrations.collection,
                    "server_version": checked.prelude.server_version,
                    "tool_version": checked.prelude.tool_version,
                },
                "place": before.place,
                "collections": [
                    {"name": before.collection + kind, "before": before.count(kind), "documents": checked.counts[kind]}
                    for kind in plan.kinds
                ],
                "not_restored": [str(one) for one in checked.selection.others],
                "strange": checked.strange,
                "unreadable_secrets": checked.unreadable,
                "duplicates": [asdict(one) for one in duplicates],
            }
        )
        return DONE
    would = "would be " * arguments.dry_run
    number = plural(checked.counts[CollectionKind.REGISTRATIONS], "registration")
    print(f"{number} {would}restored into {printable(before.place)}")
    terminal.print_table(HEADINGS_BEFORE if arguments.dry_run else HEADINGS, _rows(plan))
    if others := len(checked.selection.others):
        print(f"{plural(others, 'other collection')} of the archive {would}left out")
    if duplicates:
        print(f"{plural(len(duplicates), 'address')} held more than once: the first registration of each counts")
    if not arguments.dry_run:
        terminal.say("NetBox was not asked: reconcile shows where it differs by now.")
    return DONE


def _rows(plan: _Plan) -> list[tuple[str, str, str]]:
    return [
        (f"{plan.before.collection}{kind}", str(plan.before.count(kind)), str(plan.checked.counts[kind]))
        for kind in plan.kinds
    ]
