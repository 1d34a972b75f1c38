"""An archive's bytes out of a file, compressed or not."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Final, Protocol

from ipam_lib.archive.errors import ArchiveError
from ipam_lib.archive.format import MAGIC

_GZIP: Final = b"\x1f\x8b"
_WINDOW: Final = 31  # the largest, in a gzip file
_CHUNK: Final = 256 * 1024


class Gunzip(io.RawIOBase):
    """What a gzip file holds (RFC 1952), read strictly: every member whole and with the right CRC, nothing after the
    last one. (The module `gzip` takes zeros at the end for padding.) Memory stays bounded, whatever a member expands
    to. Reading raises ArchiveError."""

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
    """What can be written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class Gzip:
    """Packs what is written to it into a gzip file (RFC 1952) that says neither when nor where it was made. It is whole
    after `finish`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._packer = zlib.compressobj(wbits=_WINDOW)

    def write(self, data: bytes, /) -> None:
        """Take all of it."""
        self._sink.write(self._packer.compress(data))

    def finish(self) -> None:
        """Write what is left. Nothing can be written after it."""
        self._sink.write(self._packer.flush())


def opened(file: BinaryIO) -> BinaryIO:
    """The archive in a file that is read from its beginning, unpacked where it is compressed.

    Raises ArchiveError when it is neither an archive nor a gzip file.
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
