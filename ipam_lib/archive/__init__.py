"""Reads and writes the archive format of `mongodump --archive`, in bounded memory.

An archive is a stream of BSON documents in blocks (https://github.com/mongodb/mongo-tools, common/archive/spec.md):

    magic number · header · one document for each collection · terminator
    then blocks: namespace header · documents of that collection · terminator
    and at the end of each collection: namespace header with EOF and the CRC of all its documents · terminator

Blocks of several collections may alternate. `mongodump --gzip` compresses the whole stream.
"""

from __future__ import annotations

from ipam_lib.archive.format import ArchiveError, CollectionEntry, Namespace, Prelude
from ipam_lib.archive.reader import ArchiveReader
from ipam_lib.archive.selection import Selection, select
from ipam_lib.archive.streams import Gzip, opened
from ipam_lib.archive.writer import ArchiveWriter

__all__ = [
    "ArchiveError",
    "ArchiveReader",
    "ArchiveWriter",
    "CollectionEntry",
    "Gzip",
    "Namespace",
    "Prelude",
    "Selection",
    "opened",
    "select",
]
