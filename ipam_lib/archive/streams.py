"""The bytes of an archive file, compressed or not."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Final, Protocol

from ipam_lib.archive.format import MAGIC, ArchiveError

_GZIP: Final = b"\x1f\x8b"
_WINDOW: Final = 31  # zlib: the largest window, with a gzip header
_CHUNK: Final = 256 * 1024


class Gunzip(io.RawIOBase):
    """Unpacks a gzip file (RFC 1952) strictly, in bounded memory.

    - Every member must be whole and have the right CRC.
    - Nothing may follow the last member. (The module `gzip` accepts zeros as padding.)

    Reading raises ArchiveError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._member = zlib.decompressobj(wbits=_WINDOW)
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while True:
            if self._member.eof:
                self._pending = self._member.unused_data or self._file.read(_CHUNK)
                if not self._pending:
                    return 0
                self._next_member()
            elif not self._pending:
                self._pending = self._file.read(_CHUNK)
                if not self._pending:
                    raise ArchiveError("the file is cut off: it ends in the middle of its compressed data")
            try:
                data = self._member.decompress(self._pending, len(view))
            except zlib.error:
                raise ArchiveError("the file is damaged: its compressed data cannot be unpacked") from None
            self._pending = self._member.unconsumed_tail
            if data:
                view[: len(data)] = data
                return len(data)

    def _next_member(self) -> None:
        while len(self._pending) < len(_GZIP) and (more := self._file.read(_CHUNK)):
            self._pending += more
        if not self._pending.startswith(_GZIP):
            raise ArchiveError("the file is damaged: something follows the end of its compressed data")
        self._member = zlib.decompressobj(wbits=_WINDOW)


class Sink(Protocol):
    """Anything to write to."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""


class Gzip:
    """Packs data into a gzip file (RFC 1952) without time and file name. `finish` completes it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._packer = zlib.compressobj(wbits=_WINDOW)

    def write(self, data: bytes, /) -> None:
        """Write all of it."""
        self._sink.write(self._packer.compress(data))

    def finish(self) -> None:
        """Write the rest. Nothing can be written afterwards."""
        self._sink.write(self._packer.flush())


def opened(file: BinaryIO) -> BinaryIO:
    """The archive in a file, unpacked if it is compressed. The file is at its beginning.

    Raises ArchiveError if the file is neither an archive nor a gzip file.
    """
    start = file.read(len(MAGIC))
    file.seek(-len(start), io.SEEK_CUR)
    if start.startswith(_GZIP):
        return io.BufferedReader(Gunzip(file), _CHUNK)
    if start == MAGIC:
        return file
    if not start:
        raise ArchiveError("the file is empty")
    raise ArchiveError("the file is no archive of mongodump (made with --archive), compressed or not")
