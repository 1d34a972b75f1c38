"""Which of an archive's collections are the service's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ipam_lib.archive.errors import ArchiveError
from ipam_lib.archive.format import CollectionEntry, Namespace, Prelude
from ipam_lib.storage.bulk_copy import CollectionKind

# Databases that are the server's own; that without a name holds the oplog.
_OF_THE_SERVER: Final = ("", "admin", "config", "local")
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an archive is to be restored.

    registrations: the collection of registrations. kinds: the kind that each collection is, those that the archive
    lists. others: what else it holds.
    """

    registrations: Namespace
    kinds: Mapping[Namespace, CollectionKind]
    others: tuple[Namespace, ...]


def select(prelude: Prelude, *, configured: Namespace, named: Namespace | None = None) -> Selection:
    """The registrations and what belongs to them: of the collection that is `named`; else of the `configured` one; else
    of the only collection that has its name, in whatever database; else of the only collection that there is.

    Raises ArchiveError when there is none, or there are several.
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
