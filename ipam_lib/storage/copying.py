"""What a store promises to those who copy all of it: backup, restore, and the move from one store to another.

Documents go in and out as BSON (https://bsonspec.org), exactly as MongoDB holds them, whatever the store: `_id` is an
ObjectId, a date is a date, and fields that this version does not know are there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ipam_lib.storage.base import DuplicateReport, Store

# The most that a page of documents should hold: many enough to be fast, few enough to be small.
PAGE_DOCUMENTS: Final = 500
PAGE_BYTES: Final = 8 * 1024 * 1024


class Part(StrEnum):
    """What a store holds. Each part is a collection; the value is what follows the name of the first one's."""

    REGISTRATIONS = ""
    DOCUMENTS = "_documents"
    POOL = "_pool"
    HISTORY = "_history"


@dataclass(frozen=True, slots=True)
class Collection:
    """A part as MongoDB has it, or would have it.

    options, indexes: as `listCollections` and `listIndexes` give them; `uuid` in hex, empty where there is none.
    """

    name: str
    documents: int
    indexes: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds now. `collections` has the parts that exist; `place` is for people."""

    database: str
    server_version: str
    place: str
    collections: Mapping[Part, Collection]

    @property
    def registrations(self) -> int:
        """How many registrations there are, in whatever state."""
        found = self.collections.get(Part.REGISTRATIONS)
        return found.documents if found else 0


class UnfitDocument(Exception):
    """The store cannot hold a document as it is. The text says which one and why."""


class CopyableStore(Store):
    """A store that can be copied as a whole."""

    @abstractmethod
    async def contents(self) -> Contents:
        """What there is. Changes nothing, also where the store was never made ready."""

    @abstractmethod
    def dump(self, part: Part) -> AsyncIterator[list[bytes]]:
        """Every document of a part, in pages; none where the part does not exist. Registrations come by id, lowest
        first, those with an id that is none of ours before them.

        What is inserted, changed or removed meanwhile is in it or not, as it was or as it is; each document is whole,
        and comes once.
        """

    @abstractmethod
    async def load(self, pages: AsyncIterable[tuple[Part, list[bytes]]], *, replace: bool) -> list[DuplicateReport]:
        """Put these documents in the place of all that the store holds, and make it ready, as `prepare` does (whose
        report this returns).

        The registrations are always replaced, by none where there are none in `pages`; another part only where it has
        documents there. The store shows what it held until `pages` has ended and everything is in: then it changes at
        once. When anything goes wrong before, `pages` raising an error included, and when the process dies, it still
        holds what it held, and what was left lying about is removed by the next `load`.

        Nobody else may write meanwhile: what others write may be lost.

        Raises StoreConflict when there are registrations and `replace` is False, or two of the documents have one id;
        UnfitDocument.
        """
