"""Writes an archive in the layout of mongodump."""

from __future__ import annotations

from collections.abc import Iterable

from ipam_lib.archive import format as form
from ipam_lib.archive.crc64 import CRC64
from ipam_lib.archive.format import Namespace, Prelude
from ipam_lib.archive.streams import Sink


class ArchiveWriter:
    """Writes an archive: the prelude in the constructor, then documents and ends of collections.

    The archive is whole when each collection of the prelude has been ended. `counts` has the number of documents of
    each so far.
    """

    def __init__(self, stream: Sink, prelude: Prelude) -> None:
        self._stream = stream
        self._current: Namespace | None = None
        self._begun: set[Namespace] = set()
        self._sums = {one.namespace: CRC64() for one in prelude.collections}
        self.counts = dict.fromkeys(self._sums, 0)
        stream.write(prelude.encode())

    def write(self, namespace: Namespace, documents: Iterable[bytes]) -> None:
        """Write documents of a collection of the prelude that has not been ended."""
        checksum = self._sums[namespace]
        if namespace != self._current:
            self._end_block()
            self._stream.write(form.namespace_header(namespace))
            self._current = namespace
            self._begun.add(namespace)
        for document in documents:
            checksum.update(document)
            self._stream.write(document)
            self.counts[namespace] += 1

    def end(self, namespace: Namespace) -> None:
        """End a collection. An empty one gets an empty block, as mongodump writes it."""
        if namespace not in self._begun:
            self.write(namespace, ())
        checksum = self._sums.pop(namespace)
        self._end_block()
        self._stream.write(form.namespace_header(namespace, end=True, crc=checksum.value))
        self._stream.write(form.TERMINATOR)

    def _end_block(self) -> None:
        if self._current is not None:
            self._stream.write(form.TERMINATOR)
            self._current = None
