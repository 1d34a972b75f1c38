"""Reads an archive for a restore: first checks all of it, then gives its documents in pages."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from ipam_lib.archive import ArchiveError, ArchiveReader, Namespace, Prelude, Selection, select
from ipam_lib.cli.exit_codes import CommandError
from ipam_lib.cli.terminal import Progress
from ipam_lib.crypto import Cipher, SecretUnreadable
from ipam_lib.models import PENDING, Registration
from ipam_lib.storage.bulk_copy import CollectionKind, CopyableStore, UnfitDocument, paged
from ipam_lib.text import printable


@dataclass(slots=True)
class Checked:
    """The contents of a checked archive.

    - `strange`: registrations without a zone or an address, which the service ignores.
    - `unreadable`: registrations whose secret was not sealed with the configured keys.
    """

    prelude: Prelude
    selection: Selection
    counts: Counter[CollectionKind] = field(default_factory=Counter)
    strange: int = 0
    unreadable: int = 0


@contextmanager
def problems_told(path: Path) -> Iterator[None]:
    """Raises CommandError for an error of the archive at a path."""
    shown = printable(str(path))
    try:
        yield
    except (ArchiveError, UnfitDocument) as error:
        raise CommandError(f"{shown}: {printable(str(error))}; nothing was changed") from None
    except OSError as error:
        raise CommandError(f"{shown} cannot be read: {error.strerror}; nothing was changed") from None


def check(
    reader: ArchiveReader,
    store: CopyableStore,
    cipher: Cipher,
    *,
    configured: Namespace,
    named: Namespace | None,
    shown: Progress,
) -> Checked:
    """Read the whole archive, and check that the store can hold what will be restored.

    - `configured`, `named`: see `archive.select`.

    Raises ArchiveError, UnfitDocument.
    """
    checked = Checked(reader.prelude, select(reader.prelude, configured=configured, named=named))
    kinds = checked.selection.kinds
    for namespace, data in reader.documents():
        if (kind := kinds.get(namespace)) is None:
            continue
        registration = store.validate(kind, data)
        checked.counts[kind] += 1
        if registration is not None:
            checked.strange += not _is_ours(registration)
            checked.unreadable += not _is_readable(registration, cipher)
        shown.show(lambda: f"checking: {checked.counts.total()} documents")
    if checked.strange and checked.strange == checked.counts[CollectionKind.REGISTRATIONS]:
        raise ArchiveError(f"what it holds as {checked.selection.registrations} are no registrations")
    return checked


async def pages(
    reader: ArchiveReader, checked: Checked, shown: Progress
) -> AsyncIterator[tuple[CollectionKind, list[bytes]]]:
    """The documents to restore from an archive that was checked before, in pages.

    Raises ArchiveError if the archive has changed since.
    """
    total = checked.counts.total()
    counts: Counter[CollectionKind] = Counter()
    for namespace, group in groupby(reader.documents(), key=itemgetter(0)):
        kind = checked.selection.kinds.get(namespace)
        for page in paged(data for _, data in group):
            if kind is not None:
                counts[kind] += len(page)
                yield kind, page
                shown.show(lambda: f"restoring: {counts.total()} of {total} documents")
    if counts != checked.counts or reader.prelude != checked.prelude:
        raise ArchiveError("the archive changed while it was read")


def _is_ours(registration: Registration) -> bool:
    if not registration.zone:
        return False
    if registration.address.startswith(PENDING):
        return True
    try:
        ipaddress.ip_interface(registration.address)
    except ValueError:
        return False
    return True


def _is_readable(registration: Registration, cipher: Cipher) -> bool:
    try:
        return not registration.secret or bool(cipher.unseal(registration.secret))
    except SecretUnreadable:
        return False
