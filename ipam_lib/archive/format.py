"""The documents that structure an archive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from ipam_lib.text import printable

MAGIC: Final = (0x8199E26D).to_bytes(4, "little")
TERMINATOR: Final = b"\xff\xff\xff\xff"
VERSION: Final = "0.1"
# An empty document, and the largest that a server stores, with the fields that it may add.
SMALLEST_DOCUMENT: Final = 5
LARGEST_DOCUMENT: Final = 16 * 1024 * 1024 + 16 * 1024
BUCKETS: Final = "system.buckets."

# Dates past the year 9999 and text that is not UTF-8 must not make an archive unreadable.
_LENIENT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


class ArchiveError(Exception):
    """The file is no archive, or not a whole one. The text is for the user: what is wrong, and where."""


class Namespace(NamedTuple):
    """A database and a collection in it. Both may hold any character but NUL. The database of the oplog is empty."""

    database: str
    collection: str

    def __str__(self) -> str:
        return printable(f"{self.database}.{self.collection}")


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """The entry of a collection in the prelude.

    - `metadata`: JSON with options and indexes (Extended JSON v2 canonical; v1 from older tools), or empty text.
    - `kind`: `collection`, `view` or `timeseries`; empty in archives of older tools.
    """

    namespace: Namespace
    metadata: str = ""
    kind: str = "collection"
    size: int = 0

    @staticmethod
    def describe(
        namespace: Namespace, *, indexes: Sequence[Mapping[str, Any]], options: Mapping[str, Any], uuid: str = ""
    ) -> CollectionEntry:
        """The entry of a collection with these indexes and options, as the server lists them. `uuid` is in hex."""
        metadata = {
            "indexes": indexes,
            **({"options": options} if options else {}),
            **({"uuid": uuid} if uuid else {}),
            "collectionName": namespace.collection,
            "type": "collection",
        }
        return CollectionEntry(namespace, json_util.dumps(metadata, json_options=json_util.CANONICAL_JSON_OPTIONS))

    def described(self) -> Mapping[str, Any]:
        """The metadata. Raises ArchiveError if it is no JSON object."""
        if not self.metadata:
            return {}
        try:
            content = json.loads(self.metadata)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ArchiveError(f"the archive is damaged: what it says about {self.namespace} is no JSON object")
        return content

    @property
    def without_documents(self) -> bool:
        """Whether the archive may have no documents of this collection: a view has none, and a time series has them in
        its buckets."""
        options = self.described().get("options")
        return self.kind in ("view", "timeseries") or (isinstance(options, dict) and "viewOn" in options)


@dataclass(frozen=True, slots=True)
class Prelude:
    """The start of an archive: the tool that wrote it, the server, and the collections."""

    server_version: str
    tool_version: str
    collections: tuple[CollectionEntry, ...] = field(default=())
    concurrent_collections: int = 1

    def encode(self) -> bytes:
        """The prelude as bytes, from the magic number to the terminator."""
        header = {
            "concurrent_collections": self.concurrent_collections,
            "version": VERSION,
            "server_version": self.server_version,
            "tool_version": self.tool_version,
        }
        parts = [MAGIC, bson.encode(header)]
        for entry in self.collections:
            document = {
                "db": entry.namespace.database,
                "collection": entry.namespace.collection,
                "metadata": entry.metadata,
                "size": entry.size,
                "type": entry.kind,
            }
            parts.append(bson.encode(document))
        return b"".join((*parts, TERMINATOR))


def namespace_header(namespace: Namespace, *, end: bool = False, crc: int = 0) -> bytes:
    """The header of a block. `end`: whether it marks the end of the collection, with the CRC of its documents."""
    return bson.encode(
        {
            "db": namespace.database,
            "collection": namespace.collection,
            "EOF": end,
            "CRC": bson.Int64(crc),
        }
    )


def decode(document: bytes) -> dict[str, Any]:
    """Decode a document. Raises ArchiveError if it is not valid BSON."""
    try:
        return bson.decode(document, codec_options=_LENIENT)
    except (BSONError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveError(f"a document is no valid BSON ({error})") from None


def read_header(document: Mapping[str, Any]) -> tuple[str, str, int]:
    """Server version, tool version and concurrent collections of an archive's header. Raises ArchiveError."""
    version = document.get("version")
    if not isinstance(version, str):
        raise ArchiveError("its header has no format version")
    if version != VERSION:
        raise ArchiveError(f"its format has version {printable(version)!r}; this program knows {VERSION}")
    concurrent = document.get("concurrent_collections")
    return _text(document, "server_version"), _text(document, "tool_version"), _whole(concurrent)


def read_entry(document: Mapping[str, Any]) -> CollectionEntry:
    """The entry of a collection. Raises ArchiveError."""
    entry = CollectionEntry(
        _namespace(document), _text(document, "metadata"), _text(document, "type"), _whole(document.get("size"))
    )
    entry.described()
    return entry


def read_namespace_header(document: Mapping[str, Any]) -> tuple[Namespace, bool, int]:
    """The namespace of a block, whether the collection ends here, and its CRC. Raises ArchiveError."""
    end, crc = document.get("EOF"), document.get("CRC")
    if not isinstance(end, bool) or not isinstance(crc, int) or isinstance(crc, bool):
        raise ArchiveError("a block does not begin with a namespace header")
    if crc and not end:
        raise ArchiveError("a block begins with a checksum, which only the end of a collection has")
    return _namespace(document), end, int(crc)


def _namespace(document: Mapping[str, Any]) -> Namespace:
    database, collection = document.get("db"), document.get("collection")
    if not isinstance(database, str) or not isinstance(collection, str) or not collection:
        raise ArchiveError("a collection has no name")
    return Namespace(database, collection)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise ArchiveError(f"{name!r} in its prelude is no text")
    return value


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0
