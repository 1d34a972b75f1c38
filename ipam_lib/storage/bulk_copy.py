"""Copying a whole store: what a store promises to backup, restore and the move from one store to another.

Documents go in and out as BSON (https://bsonspec.org), exactly as MongoDB holds them, for every store: `_id` is an
ObjectId, a date is a date, and fields that this version does not know are included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ipam_lib.models import Registration
from ipam_lib.storage.base import DuplicateReport, Store

# The limits of a page: large enough to be fast, small enough for memory.
PAGE_DOCUMENTS: Final = 500
PAGE_BYTES: Final = 8 * 1024 * 1024

OLDEST_SERVER: Final = "4.4.0"
"""The oldest version of MongoDB that this program works with."""


class CollectionKind(StrEnum):
    """The collections of a store. The value is the suffix after the name of the collection of registrations."""

    REGISTRATIONS = ""
    DOCUMENTS = "_documents"
    POOL = "_pool"
    HISTORY = "_history"

    @property
    def can_be_made_again(self) -> bool:
        """Whether the service can find out everything in it again."""
        return self is CollectionKind.DOCUMENTS

    @property
    def belongs_to_registrations(self) -> bool:
        """Whether it is only valid together with the registrations that it was copied with: an address must not be in
        both collections."""
        return self is CollectionKind.POOL


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as MongoDB has it, or would have it.

    - `options`, `indexes`: as MongoDB's `listCollections` and `listIndexes` return them.
    - `uuid`: in hex; empty if there is none.
    """

    name: str
    documents: int
    indexes: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds.

    - `place`: where the store is, for messages.
    - `collections`: those that exist.
    - `unfinished`: whether a `load` was interrupted during its change-over, so that some collections are old and some
      new.
    """

    database: str
    collection: str
    server_version: str
    place: str
    collections: Mapping[CollectionKind, CollectionInfo]
    unfinished: bool = False

    def count(self, kind: CollectionKind) -> int:
        """The number of documents in a collection; 0 if it does not exist."""
        info = self.collections.get(kind)
        return info.documents if info else 0


class UnfitDocument(Exception):
    """The store cannot hold a document unchanged, or cannot read it. The text says which document, and why."""


class Snapshot(ABC):
    """A store while it is copied."""

    contents: Contents

    @abstractmethod
    def dump(self, kind: CollectionKind) -> AsyncIterator[list[bytes]]:
        """All documents of a collection, in the order of their ids, in pages. No page if the collection does not
        exist."""


class CopyableStore(Store):
    """A store that can be copied as a whole."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Read the whole store. This changes nothing, and works in a store that was never prepared.

        - A store with transactions gives its state at one moment.
        - Any other store gives each document whole and once. Documents that are inserted, changed or deleted during the
          copy are included or not, old or new. A collection that is dumped later is newer.

        Raises ConfigError if a newer version of this program made the store.
        """

    @abstractmethod
    def validate(self, kind: CollectionKind, data: bytes) -> Registration | None:
        """Check that this store can hold a document of another store, and read it. Does no input or output.

        - Returns the registration; None for the other collections.
        - Raises UnfitDocument.
        """

    @abstractmethod
    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        kinds: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        """Replace all that the collections of these `kinds` hold by documents that `validate` accepted.

        - Prepares the store, and returns the report, as `prepare` does. Other collections stay as they are.
        - No other client may write during the call: such writes may be lost.
        - The store keeps its old contents until `pages` has ended and all documents are in. An error before that, an
          error of `pages` included, and the death of the process leave the old contents. The next `load` removes what
          was left over.
        - Then the store changes over. If that takes several steps and is interrupted, the store is `unfinished`, and
          `prepare` raises ConfigError until a `load` has completed.

        Raises:

        - StoreConflict if `replace` is False and one of the collections holds documents that cannot be made again. (An
          unfinished store may always be replaced.)
        - StoreConflict if two documents have the same id, or the same unique fields.
        - ConfigError as `prepare` does.
        """


def paged(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The documents in pages."""
    page: list[bytes] = []
    size = 0
    for document in documents:
        page.append(document)
        size += len(document)
        if len(page) == PAGE_DOCUMENTS or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page
