"""`mongo-backup`: write the whole store to an archive that `mongorestore --archive --gzip` reads.

The service may run meanwhile. A backup of the embedded database has its state at one moment. A backup of MongoDB has
each registration whole, as it was at some moment during the backup. A service that runs on the restored data finishes
or undoes what is half done, as after a crash.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from ipam_lib.archive import ArchiveWriter, CollectionEntry, Gzip, Namespace, Prelude
from ipam_lib.cli import archive_files, terminal
from ipam_lib.cli.exit_codes import DONE, CommandError, UsageError
from ipam_lib.cli.runtime import load_settings, opened_store
from ipam_lib.cli.runtime import run as run_work
from ipam_lib.config import Settings
from ipam_lib.storage.bulk_copy import OLDEST_SERVER, CollectionKind, Contents, Snapshot
from ipam_lib.text import plural, printable
from ipam_lib.version import __version__


def run(arguments: argparse.Namespace) -> int:
    """Write the archive. Raises CommandError if that fails; UsageError, ConfigError."""
    to_standard_output = arguments.out == archive_files.STANDARD
    as_json = arguments.format == "json"
    if to_standard_output and as_json:
        raise UsageError("--out - sends the archive to standard output, where --format json would be: name a file")
    settings = load_settings(arguments)
    place: AbstractContextManager[BinaryIO]
    place = archive_files.standard_output() if to_standard_output else archive_files.put_in_place(arguments.out)
    with place as file:
        backed_up = run_work(_backup(settings, file))
    if as_json:
        terminal.print_json({"out": str(arguments.out), **backed_up.json()})
    elif to_standard_output:
        terminal.say(f"{backed_up.text()} backed up")
    else:
        print(f"{backed_up.text()} backed up to {printable(str(arguments.out))}")
    return DONE


class _BackedUp:
    """The numbers of a finished archive."""

    def __init__(self, contents: Contents, counts: dict[Namespace, int], size: int) -> None:
        self._contents = contents
        self._counts = counts
        self._size = size

    def json(self) -> dict[str, Any]:
        return {
            "bytes": self._size,
            "database": self._contents.database,
            "collections": [{"name": name.collection, "documents": count} for name, count in self._counts.items()],
        }

    def text(self) -> str:
        registrations = self._counts[Namespace(self._contents.database, self._contents.collection)]
        return f"{plural(registrations, 'registration')} ({self._size} bytes)"


class _Counting:
    """Writes to a file, and counts the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Write all of it."""
        self._file.write(data)
        self.size += len(data)


async def _backup(settings: Settings, file: BinaryIO) -> _BackedUp:
    async with opened_store(settings) as store, store.snapshot() as snapshot:
        contents = snapshot.contents
        if contents.unfinished:
            raise CommandError("a restore was cut off half-way: run mongo-restore again, and back up what it makes")
        if CollectionKind.REGISTRATIONS not in contents.collections:
            raise CommandError(
                f"there is nothing to back up in {contents.place}: the service was never started on it; is this the"
                " right configuration (--config)?"
            )
        counting = _Counting(file)
        packer = Gzip(counting)
        names = {kind: Namespace(contents.database, info.name) for kind, info in contents.collections.items()}
        writer = ArchiveWriter(packer, _prelude(contents, names))
        with terminal.progress() as shown:
            for kind, name in names.items():
                await _write(writer, snapshot, kind, name, shown)
        packer.finish()
        return _BackedUp(contents, writer.counts, counting.size)


def _prelude(contents: Contents, names: dict[CollectionKind, Namespace]) -> Prelude:
    return Prelude(
        # mongorestore refuses an archive whose version it cannot read.
        contents.server_version or OLDEST_SERVER,
        f"ipam-api {__version__}",
        tuple(
            CollectionEntry.describe(names[kind], indexes=info.indexes, options=info.options, uuid=info.uuid)
            for kind, info in contents.collections.items()
        ),
    )


async def _write(
    writer: ArchiveWriter, snapshot: Snapshot, kind: CollectionKind, name: Namespace, shown: terminal.Progress
) -> None:
    total = snapshot.contents.count(kind)
    async for page in snapshot.dump(kind):
        writer.write(name, page)
        shown.show(lambda: f"{name}: {writer.counts[name]} of {total} documents")
    writer.end(name)
