"""Documents on their way from MongoDB into the embedded database and back: the same to the last byte, or refused."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.datetime_ms import DatetimeMS

from ipam_lib.archive import ArchiveReader
from ipam_lib.storage import sqlite_json
from ipam_lib.storage.bson_documents import from_bson, to_bson
from ipam_lib.storage.bulk_copy import UnfitDocument
from ipam_lib.storage.documents import to_registration
from tests.storage.samples import LEGACY, legacy_documents, object_id

ID = bson.ObjectId(object_id(1))


def there_and_back(data: bytes) -> bytes:
    return to_bson(sqlite_json.load(sqlite_json.dump(from_bson(data))))


def test_what_the_earlier_service_wrote_comes_back_as_it_was() -> None:
    packed = (LEGACY.parent / "mongodump.archive.gz").read_bytes()
    archive = [document for _, document in ArchiveReader(io.BytesIO(gzip.decompress(packed))).documents()]
    assert [there_and_back(one) for one in archive] == archive
    documents = {one["_id"]: one for one in legacy_documents()}
    assert {one["_id"]: one for one in map(from_bson, archive)} == documents


@pytest.mark.parametrize(
    "value",
    [
        *(1, -(2**31), 2**31, 2**63 - 1, bson.Int64(5), 1.0, float("inf"), True, None, "æ\0", [], {}),
        datetime(2026, 11, 25, 12, 0, 0, 123_000, UTC),
        *(DatetimeMS(2**62), bson.Decimal128("1.5"), bson.Binary(b"x", 128), bson.Regex("a", "i"), bson.MinKey()),
        *(bson.ObjectId(object_id(2)), {"$date": 1}, {"$bson": "x"}, [{"$date": {"$bson": [bson.Int64(1)]}}]),
    ],
    ids=repr,
)
def test_every_kind_of_value_comes_back(value: Any) -> None:
    data = bson.encode({"_id": ID, "duplicate": ID, "netbox_id": value, "unknown": {"deep": [value]}})
    assert there_and_back(data) == data
    assert to_registration(sqlite_json.load(sqlite_json.dump(from_bson(data)))).id == str(ID)


@pytest.mark.parametrize("identity", [1, None, "6b" * 12, b"x"], ids=repr)
def test_an_id_that_would_not_come_back_is_refused(identity: Any) -> None:
    with pytest.raises(UnfitDocument):
        from_bson(bson.encode({"_id": identity}))


@pytest.mark.parametrize("data", [b"", b"garbage", bson.encode({"_id": ID})[:-1], bson.encode({})])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(UnfitDocument):
        from_bson(data)
