"""Documents to BSON and back, for stores that do not use BSON themselves.

A document of a store is a dict with `_id` (and `duplicate`) as 24 hex digits, and dates as aware datetimes. A value
that only BSON has stays an object of PyMongo's `bson`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import Registration
from ipam_lib.storage import history_store, pool_store
from ipam_lib.storage.bulk_copy import CollectionKind, UnfitDocument
from ipam_lib.storage.documents import Document, to_registration

_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_OBJECT_ID = re.compile("[0-9a-f]{24}")
_ID_FIELDS: Final = ("_id", "duplicate")


def to_bson(document: Document) -> bytes:
    """A document as BSON, exactly as MongoDB would hold it."""
    return bson.encode({name: _to_id(value) if name in _ID_FIELDS else value for name, value in document.items()})


def from_bson(data: bytes) -> Document:
    """A document of MongoDB. Raises UnfitDocument if `to_bson` would not give exactly the same bytes."""
    try:
        decoded = bson.decode(data, codec_options=_OPTIONS)
        document = {name: _from_id(value) if name in _ID_FIELDS else value for name, value in decoded.items()}
        same = to_bson(document) == data
    except (BSONError, ValueError, OverflowError, RecursionError) as error:
        raise invalid_bson(error) from None
    identity = decoded.get("_id")
    if not isinstance(identity, bson.ObjectId | str):
        raise UnfitDocument(f"the document with _id {identity!r} is no registration: expected an ObjectId")
    if not same:
        raise UnfitDocument(
            f"the document with _id {identity} holds something that only MongoDB can hold (a kind of value of old, a"
            " field twice, text that is not UTF-8)"
        )
    return document


def invalid_bson(error: Exception) -> UnfitDocument:
    """The error for data that cannot be decoded."""
    return UnfitDocument(f"a document is no valid BSON ({error})")


def read(kind: CollectionKind, document: Document) -> Registration | None:
    """Read a document of a collection as the service reads it. Returns the registration; None for other collections.

    Raises UnfitDocument if the service cannot read it.
    """
    if "_id" not in document:
        raise UnfitDocument("a document has no _id")
    try:
        match kind:
            case CollectionKind.REGISTRATIONS:
                return to_registration(document)
            case CollectionKind.POOL:
                pool_store.to_document(pool_store.to_entry(document))
            case CollectionKind.HISTORY:
                history_store.to_document(history_store.to_tenure(document))
            case CollectionKind.DOCUMENTS:
                name, content = document["_id"], document["content"]
                if len(document) > 2 or not isinstance(content, str) or _OBJECT_ID.fullmatch(name):
                    raise ValueError
    except StorageUnavailable as error:
        raise UnfitDocument(error.message) from None
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError):
        identity = document.get("_id")
        raise UnfitDocument(f"the document with _id {identity!r} is none that this program writes there") from None
    return None


def to_value(data: bytes) -> Any:
    """A single value that `value_to_bson` encoded."""
    return bson.decode(data, codec_options=_OPTIONS)[""]


def value_to_bson(value: Any) -> bytes:
    """A single value of any type. Raises UnfitDocument if BSON has no such type."""
    try:
        return bson.encode({"": value})
    except (BSONError, OverflowError) as error:
        raise UnfitDocument(f"a document cannot hold this ({error})") from None


def _to_id(value: Any) -> Any:
    return bson.ObjectId(value) if isinstance(value, str) and _OBJECT_ID.fullmatch(value) else value


def _from_id(value: Any) -> Any:
    return str(value) if isinstance(value, bson.ObjectId) else value
