"""Reads an archive and checks all of it on the way: structure, names, lengths, CRCs and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from ipam_lib.archive import format as form
from ipam_lib.archive.crc64 import CRC64
from ipam_lib.archive.format import ArchiveError, CollectionEntry, Namespace, Prelude

# Enough for the names and indexes of 100,000 collections. A larger prelude is an attack.
_LARGEST_PRELUDE: Final = 64 * 1024 * 1024


class ArchiveReader:
    """Reads an archive from an unpacked stream: the prelude in the constructor, the documents by `documents`.

    The constructor and every step of `documents` raise ArchiveError for a damaged archive.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offset = 0
        if self._read(len(form.MAGIC)) != form.MAGIC:
            raise ArchiveError("what the file holds is no archive of mongodump (made with --archive)")
        self.prelude = self._prelude()
        self._buckets = {
            Namespace(one.namespace.database, form.BUCKETS + one.namespace.collection)
            for one in self.prelude.collections
            if one.kind == "timeseries"
        }

    def documents(self) -> Iterator[tuple[Namespace, bytes]]:
        """Every document with its collection, in the order of the archive. Trust no document before this has ended
        without an error: only then is the archive known to be whole."""
        known = {one.namespace for one in self.prelude.collections} | self._buckets
        sums: dict[Namespace, CRC64] = {}
        ended: set[Namespace] = set()
        while (header := self._header_of_block()) is not None:
            namespace, end, crc = header
            if namespace not in known:
                raise self._damaged(f"documents of {namespace}, which it does not list")
            if namespace in ended:
                raise self._damaged(f"more of {namespace} after its end")
            checksum = sums.setdefault(namespace, CRC64())
            while (document := self._document()) is not None:
                if end:
                    raise self._damaged(f"a document of {namespace} after its end")
                checksum.update(document)
                yield namespace, document
            if end:
                if crc != checksum.value:
                    raise self._damaged(f"documents of {namespace} that do not match their checksum")
                ended.add(namespace)
                del sums[namespace]
        missing = [str(name) for name in sums]
        missing += [
            str(one.namespace)
            for one in self.prelude.collections
            if one.namespace not in ended and one.namespace not in sums and not one.without_documents
        ]
        if missing:
            raise ArchiveError(f"the archive is cut off: the end of {', '.join(missing)} is missing")

    def _prelude(self) -> Prelude:
        first = self._document()
        if first is None:
            raise self._damaged("no header")
        try:
            server_version, tool_version, concurrent = form.read_header(form.decode(first))
        except ArchiveError as error:
            raise self._damaged(str(error)) from None
        entries: dict[Namespace, CollectionEntry] = {}
        while (document := self._document()) is not None:
            if self._offset > _LARGEST_PRELUDE:
                raise self._damaged("a list of collections that has no end")
            try:
                entry = form.read_entry(form.decode(document))
            except ArchiveError as error:
                raise self._damaged(str(error)) from None
            if entry.namespace in entries:
                raise self._damaged(f"{entry.namespace} twice in its list of collections")
            entries[entry.namespace] = entry
        return Prelude(server_version, tool_version, tuple(entries.values()), concurrent)

    def _header_of_block(self) -> tuple[Namespace, bool, int] | None:
        """The header of the next block: namespace, end, CRC; None at the end of the archive."""
        length = self._stream.read(4)
        if not length:
            return None
        self._offset += len(length)
        document = self._body(length)
        if document is None:
            raise self._damaged("a block without a header")
        try:
            return form.read_namespace_header(form.decode(document))
        except ArchiveError as error:
            raise self._damaged(str(error)) from None

    def _document(self) -> bytes | None:
        """The next document of the block; None at the end of the block."""
        return self._body(self._read(4))

    def _body(self, length: bytes) -> bytes | None:
        """The document that begins with these four bytes; None if they are a terminator."""
        if length == form.TERMINATOR:
            return None
        size = int.from_bytes(length, "little")
        if len(length) < 4:
            raise self._cut_off()
        if not form.SMALLEST_DOCUMENT <= size <= form.LARGEST_DOCUMENT:
            raise self._damaged("neither a document nor the end of a block")
        document = length + self._read(size - 4)
        if document[-1]:
            raise self._damaged("a document that does not end where it should")
        return document

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._offset += len(data)
        if len(data) < size:
            raise self._cut_off()
        return data

    def _cut_off(self) -> ArchiveError:
        return ArchiveError(f"the archive is cut off after {self._offset} bytes")

    def _damaged(self, what: str) -> ArchiveError:
        return ArchiveError(f"the archive is damaged: {what} (before byte {self._offset} of what it unpacks to)")
