"""What a store promises for the history: who held an address, from when to when.

Only what has ended is kept here (collection `addresses_history`), a document for each tenure, written once and never
changed. Who holds an address now stands in its registration, and nowhere else, so the two cannot disagree. The
docstrings are the specification; the contract suite holds every store to them, and every method raises
`StorageUnavailable` as those of `Store` do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ipam_lib.clock import whole_milliseconds
from ipam_lib.models import Tenure
from ipam_lib.storage.documents import Document, key_document, to_key, to_moment


class Place(NamedTuple):
    """Where a tenure that has ended stands among those of its address: by its end, then by its id."""

    until: datetime
    id: str


class HistoryStore(ABC):
    """The tenures that have ended."""

    @abstractmethod
    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        """Keep tenures that have ended, durably. One whose id is there already stays as it is, so that this can be
        repeated at any time."""

    @abstractmethod
    async def history_page(self, *, address: str, zone: str | None, before: Place | None, limit: int) -> list[Tenure]:
        """The tenures of an address (canonical), in a zone (None: in any), those that ended last first; those that come
        after `before`, at most `limit`. By index."""

    @abstractmethod
    async def history_prune(self, *, before: datetime, limit: int) -> int:
        """Remove tenures that ended before this moment, the oldest first, at most `limit`; how many. By index."""


def to_tenure(document: Mapping[str, Any]) -> Tenure:
    """Read a document."""
    return Tenure(
        id=str(document["_id"]),
        registration_id=document["registration_id"],
        zone=document["zone"],
        ip_family=document["ip_family"],
        address=document["address"],
        key=to_key(document),
        since=to_moment(document.get("since")),
        until=to_moment(document["until"]),
    )


def to_document(tenure: Tenure) -> Document:
    """Write a tenure that has ended."""
    assert tenure.until is not None
    document: Document = {
        "_id": tenure.id,
        "registration_id": tenure.registration_id,
        "zone": tenure.zone,
        "ip_family": tenure.ip_family,
        "address": tenure.address,
        **key_document(tenure.key),
        "until": whole_milliseconds(tenure.until),
    }
    if tenure.since is not None:
        document["since"] = whole_milliseconds(tenure.since)
    return document
