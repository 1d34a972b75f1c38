"""Documents as JSON text, for the embedded database.

A date is `{"$date": milliseconds since 1970}`. Documents that came from MongoDB may hold other types that only BSON
has. Such a value is `{"$bson": base64}`, so that it is unchanged if it goes back to MongoDB.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ipam_lib.storage.documents import Document

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

_DATE: Final = "$date"
_BSON: Final = "$bson"
_PLAIN: Final = (str, int, bool, type(None))


def dump(document: Document) -> str:
    """A document as text. Raises UnfitDocument for a value that no document can hold."""
    return json.dumps(_to_json(document), ensure_ascii=False, separators=(",", ":"))


def load(text: str) -> Document:
    """The document in a text that `dump` wrote."""
    return json.loads(text, object_hook=_from_json)  # type: ignore[no-any-return]


def milliseconds(moment: datetime) -> int:
    """A moment in milliseconds since 1970."""
    return (moment - EPOCH) // MILLISECOND


def _to_json(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is dict and value.keys() not in ({_DATE}, {_BSON}):
        return {name: _to_json(one) for name, one in value.items()}
    if kind is list:
        return [_to_json(one) for one in value]
    if kind is datetime:
        return {_DATE: milliseconds(value)}
    # Imported here because few documents need it, and it takes time and memory.
    from ipam_lib.storage.bson_documents import value_to_bson

    return {_BSON: base64.b64encode(value_to_bson(value)).decode()}


def _from_json(value: Document) -> Any:
    if value.keys() == {_DATE}:
        return EPOCH + MILLISECOND * value[_DATE]
    if value.keys() == {_BSON}:
        from ipam_lib.storage.bson_documents import to_value

        return to_value(base64.b64decode(value[_BSON]))
    return value
