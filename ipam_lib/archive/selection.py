"""Chooses the service's collections in an archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ipam_lib.archive.format import ArchiveError, CollectionEntry, Namespace, Prelude
from ipam_lib.storage.bulk_copy import CollectionKind

# The databases of the server itself. The one without a name holds the oplog.
_OF_THE_SERVER: Final = ("", "admin", "config", "local")
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """The collections of an archive that will be restored.

    - `registrations`: the collection of registrations.
    - `kinds`: the kind of each collection that will be restored.
    - `others`: the other collections of the archive.
    """

    registrations: Namespace
    kinds: Mapping[Namespace, CollectionKind]
    others: tuple[Namespace, ...]


def select(prelude: Prelude, *, configured: Namespace, named: Namespace | None = None) -> Selection:
    """Choose the collection of registrations, and those that belong to it. It is the first of these that applies:

    1. the collection that is `named`,
    2. the `configured` one,
    3. the only collection with the configured name, in any database,
    4. the only collection.

    Raises ArchiveError if there is no candidate, or more than one.
    """
    entries = {one.namespace: one for one in prelude.collections}
    candidates = [name for name, entry in entries.items() if _may_hold_registrations(entry, entries)]
    chosen = _choose(candidates, configured, named)
    kinds = {
        name: kind
        for kind in CollectionKind
        if (name := Namespace(chosen.database, chosen.collection + kind)) in entries
    }
    return Selection(chosen, kinds, tuple(name for name in entries if name not in kinds))


def _may_hold_registrations(entry: CollectionEntry, entries: Mapping[Namespace, CollectionEntry]) -> bool:
    database, collection = entry.namespace
    if database in _OF_THE_SERVER or collection.startswith("system.") or entry.without_documents:
        return False
    belongs_to = (
        Namespace(database, collection.removesuffix(kind)) for kind in CollectionKind if collection.endswith(kind)
    )
    return not any(owner in entries for owner in belongs_to if owner != entry.namespace)


def _choose(candidates: list[Namespace], configured: Namespace, named: Namespace | None) -> Namespace:
    if named is not None:
        if named not in candidates:
            raise ArchiveError(f"the archive has no collection {named}; it has {_listed(candidates)}")
        return named
    same_name = [one for one in candidates if one.collection == configured.collection]
    if configured in candidates:
        return configured
    if len(same_name) == 1:
        return same_name[0]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ArchiveError("the archive has no collection that could hold registrations")
    raise ArchiveError(f"the archive has no {configured}; name one of its collections (--from): {_listed(candidates)}")


def _listed(candidates: list[Namespace]) -> str:
    if not candidates:
        return "none that could hold registrations"
    more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return ", ".join(map(str, candidates[:_SHOWN])) + more
