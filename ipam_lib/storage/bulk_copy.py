"""What a store promises to those who copy all of it: backup, restore, and the move from one store to another.

Documents go in and out as BSON (https://bsonspec.org), exactly as MongoDB holds them, whatever the store: `_id` is an
ObjectId, a date is a date, and fields that this version does not know are there.
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

# The most that a page of documents should hold: many enough to be fast, few enough to be small.
PAGE_DOCUMENTS: Final = 500
PAGE_BYTES: Final = 8 * 1024 * 1024

# The oldest server that this program works with.
OLDEST_SERVER: Final = "4.4.0"


class CollectionKind(StrEnum):
    """What a store holds. Each part is a collection; the value is what follows the name of the first one's."""

    REGISTRATIONS = ""
    DOCUMENTS = "_documents"
    POOL = "_pool"
    HISTORY = "_history"

    @property
    def can_be_made_again(self) -> bool:
        """Whether it holds only what the service finds out anew."""
        return self is CollectionKind.DOCUMENTS

    @property
    def belongs_to_registrations(self) -> bool:
        """Whether it means something only beside the registrations that it was copied with: an address must not stand
        in both."""
        return self is CollectionKind.POOL


@dataclass(frozen=True, slots=True)
class CollectionInfo:
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
    """What a store holds. `parts` has those that exist; `place` is for people.

    unfinished: whether a `load` was cut off while it changed over, so that this is neither the one nor the other.
    """

    database: str
    collection: str
    server_version: str
    place: str
    parts: Mapping[CollectionKind, CollectionInfo]
    unfinished: bool = False

    def count(self, part: CollectionKind) -> int:
        """How many documents there are in a part."""
        held = self.parts.get(part)
        return held.documents if held else 0


class UnfitDocument(Exception):
    """The store cannot hold a document as it is, or not read it. The text says which one and why."""


class Snapshot(ABC):
    """A store being read as a whole."""

    contents: Contents

    @abstractmethod
    def dump(self, part: CollectionKind) -> AsyncIterator[list[bytes]]:
        """Every document of a part by its id, in pages; none where the part does not exist."""


class CopyableStore(Store):
    """A store that can be copied as a whole."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Read the store, and change nothing, also where it was never made ready.

        Where the store can do so, all is as it was at one moment. Where it cannot, what is inserted, changed or removed
        meanwhile is there or not, as it was or as it is; but each document is whole, comes once, and a part that is
        dumped later is newer.

        Raises ConfigError where a newer version made the store.
        """

    @abstractmethod
    def validate(self, part: CollectionKind, data: bytes) -> Registration | None:
        """Make sure that the store can hold a document of another one, and read it then: the registration that it is,
        None in other parts. No input or output.

        Raises UnfitDocument.
        """

    @abstractmethod
    async def load(
        self,
        pages: AsyncIterable[tuple[CollectionKind, list[bytes]]],
        *,
        parts: Collection[CollectionKind],
        replace: bool,
    ) -> list[DuplicateReport]:
        """Put these documents, which fit, in the place of all that `parts` hold, and make the store ready, as `prepare`
        does (whose report this returns). Other parts stay as they are.

        The store shows what it held until `pages` has ended and everything is in; then it changes over. When anything
        goes wrong before that, `pages` raising an error included, and when the process dies, it still holds what it
        held, and what was left lying about is removed by the next `load`. Where it cannot change over in one step, one
        that is cut off meanwhile leaves it `unfinished`: `prepare` then raises ConfigError until a `load` has ended.

        Nobody else may write meanwhile: what others write may be lost.

        Raises StoreConflict when one of the `parts` holds what cannot be made again and `replace` is False (a store
        that is unfinished may always be replaced), or two of the documents have one id, or one place; ConfigError as
        `prepare` does.
        """


def paged(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Documents in pages."""
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
