"""The archive format: against an archive that mongodump wrote, against a second parser, and against every damage."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.archive import ArchiveError, ArchiveReader, ArchiveWriter, CollectionEntry, Namespace, Prelude, opened
from ipam_lib.archive.crc64 import CRC64

DATA = Path(__file__).parents[1] / "data" / "legacy"
REAL_PACKED = (DATA / "mongodump.archive.gz").read_bytes()
REAL = gzip.decompress(REAL_PACKED)
ONE, TWO = Namespace("ipam", "addresses"), Namespace("ipam", "addresses_documents")


def read(data: bytes) -> tuple[Prelude, list[tuple[Namespace, bytes]]]:
    """Everything in an archive, packed or not."""
    reader = ArchiveReader(opened(io.BytesIO(data)))
    return reader.prelude, list(reader.documents())


def written(blocks: list[tuple[Namespace, list[bytes]]], *, server: str = "4.4.0") -> bytes:
    """An archive of these blocks, each collection ended after the last of them."""
    stream = io.BytesIO()
    names = list(dict.fromkeys(namespace for namespace, _ in blocks))
    writer = ArchiveWriter(stream, Prelude(server, "test", tuple(CollectionEntry(name) for name in names)))
    for namespace, documents in blocks:
        writer.write(namespace, documents)
    for name in names:
        writer.end(name)
    return stream.getvalue()


def parse(data: bytes) -> list[list[dict[str, Any]]]:
    """The second parser: the blocks of an archive, after what mongo-tools say of it in common/archive/parser.go."""
    assert data[:4] == bytes.fromhex("6de29981")
    at, blocks, block = 4, [], []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little", signed=True)
        if size == -1:
            blocks.append(block)
            at, block = at + 4, []
        else:
            block.append(bson.decode(data[at : at + size]))
            at += size
    assert not block
    return blocks


def crc_bit_by_bit(data: bytes) -> int:
    """CRC-64 as its definition has it."""
    remainder = (1 << 64) - 1
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xC96C5795D7870F42 if remainder & 1 else 0)
    return remainder ^ ((1 << 64) - 1)


SMALL = written([(ONE, [bson.encode({"_id": number, "a": "b" * number}) for number in range(3)]), (TWO, [])])


def test_the_checksum_is_the_catalogued_one() -> None:
    checksum = CRC64()
    checksum.update(b"123456789")
    assert checksum.value % (1 << 64) == 0x995DC9BBDF1939FA


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_the_checksum_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    checksum = CRC64()
    for piece in pieces:
        checksum.update(piece)
    assert checksum.value % (1 << 64) == crc_bit_by_bit(b"".join(pieces))


def test_a_real_archive_is_read() -> None:
    prelude, documents = read(REAL_PACKED)
    assert (prelude.server_version, prelude.concurrent_collections) == ("4.4.0", 4)
    (entry,) = prelude.collections
    assert entry.namespace == Namespace("legacy-sample", "addresses")
    assert [one["name"] for one in entry.described()["indexes"]] == ["_id_"]
    expected = {one["document"]["_id"]["$oid"] for one in json.loads((DATA / "documents.json").read_text())}
    assert {str(bson.decode(document)["_id"]) for _, document in documents} == expected
    assert len(documents) == len(expected)


def test_a_real_archive_is_written_byte_for_byte() -> None:
    prelude, documents = read(REAL)
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, prelude)
    (namespace,) = {name for name, _ in documents}
    writer.write(namespace, [document for _, document in documents])
    writer.end(namespace)
    assert stream.getvalue() == REAL


def test_another_parser_reads_what_is_written() -> None:
    header, *blocks = parse(SMALL)
    assert [list(one) for one in header] == [
        ["concurrent_collections", "version", "server_version", "tool_version"],
        *[["db", "collection", "metadata", "size", "type"]] * 2,
    ]
    assert [(one[0]["collection"], one[0]["EOF"], len(one) - 1) for one in blocks] == [
        ("addresses", False, 3),
        ("addresses_documents", False, 0),
        ("addresses", True, 0),
        ("addresses_documents", True, 0),
    ]
    assert blocks[2][0]["CRC"] % (1 << 64) == crc_bit_by_bit(b"".join(map(bson.encode, blocks[0][1:])))


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.lists(st.dictionaries(st.text("ab"), st.integers(-9, 9))))))
def test_whatever_is_written_is_read(blocks: list[tuple[Namespace, list[dict[str, int]]]]) -> None:
    encoded = [(namespace, [bson.encode(one) for one in documents]) for namespace, documents in blocks]
    expected = [(namespace, one) for namespace, documents in encoded for one in documents]
    assert read(written(encoded))[1] == expected
    assert read(gzip.compress(written(encoded)))[1] == expected


@pytest.mark.parametrize("data", [SMALL, gzip.compress(SMALL, mtime=0)], ids=["plain", "gzip"])
def test_every_truncation_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(ArchiveError):
            read(data[:length])


@pytest.mark.parametrize(
    "garbage", [b"\0", b"\0" * 512, b"\xff" * 4, b"garbage", SMALL, gzip.compress(b"", mtime=0)[:5]]
)
@pytest.mark.parametrize("data", [SMALL, gzip.compress(SMALL, mtime=0)], ids=["plain", "gzip"])
def test_what_follows_is_refused(data: bytes, garbage: bytes) -> None:
    with pytest.raises(ArchiveError):
        read(data + garbage)


@pytest.mark.parametrize("data", [SMALL, gzip.compress(SMALL, mtime=0)], ids=["plain", "gzip"])
def test_no_flipped_bit_changes_a_document(data: bytes) -> None:
    """What no checksum covers (versions in the prelude, the time in gzip's header) may change; documents never."""
    expected, accepted = read(SMALL)[1], 0
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            _, documents = read(bytes(flipped))
        except ArchiveError:
            continue
        assert documents == expected, position
        accepted += 1
    assert accepted < len(data) * 8 / 2


@pytest.mark.parametrize(
    "foreign", [b"", b"\x1f", b"PK\3\4 a zip file", b"{}", gzip.compress(b"{}", mtime=0), b"\0" * 100]
)
def test_a_foreign_file_is_refused(foreign: bytes) -> None:
    with pytest.raises(ArchiveError):
        read(foreign)


def test_a_collection_without_documents_gets_an_empty_block() -> None:
    stream = io.BytesIO()
    ArchiveWriter(stream, Prelude("4.4.0", "test", (CollectionEntry(ONE),))).end(ONE)
    _, empty, end = parse(stream.getvalue())
    assert (empty[0]["EOF"], end[0]["EOF"], end[0]["CRC"]) == (False, True, 0)
