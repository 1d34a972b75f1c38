"""The contract of a store for the history: which service held an address, from when to when.

The collection `addresses_history` has a document for each tenure that has ended. It is written once and never changed.
A service that holds an address now is in the registration only, so the two cannot disagree. The rules of `base` apply
to every method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ipam_lib.clock import whole_milliseconds
from ipam_lib.models import Tenure
from ipam_lib.storage.documents import Document, key_document, to_key, to_moment


class HistoryPosition(NamedTuple):
    """The position of a tenure among those of its address, which are sorted by end and then by id."""

    until: datetime
    id: str


class HistoryStore(ABC):
    """The tenures that have ended."""

    @abstractmethod
    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        """Store tenures that have ended, durably. A tenure whose id is stored already is skipped, so that the call can
        be repeated."""

    @abstractmethod
    async def history_page(
        self, *, address: str, zone: str | None, before: HistoryPosition | None, limit: int
    ) -> list[Tenure]:
        """The tenures of an address, last end first, at most `limit`. By index.

        - `address`: in its canonical spelling.
        - `zone`: None means any zone.
        - `before`: only tenures that come after this position; None starts at the first.
        """

    @abstractmethod
    async def history_prune(self, *, before: datetime, limit: int) -> int:
        """Delete the oldest tenures that ended before this time, at most `limit`. By index.

        - Returns how many were deleted.
        """


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
