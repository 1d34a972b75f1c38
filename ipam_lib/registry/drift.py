"""The kinds of drift between storage and NetBox, and how often earlier rounds have seen each drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

SIGHTINGS = 3
"""The number of rounds in a row that must see a drift before it is repaired."""

REMEMBERED = 10_000
"""The largest number of drifts that are counted from round to round. Others are counted in a later round."""


class DriftKind(StrEnum):
    """The kind of a drift. Reconcile can repair the kinds in `REPAIRED`; for the others, a person must decide."""

    PREFIX_WITHOUT_REGISTRATION = "prefix without registration"
    """A prefix with an ID of this service that no registration has."""
    PREFIX_LEFT_OVER = "prefix left over"
    """A prefix with the ID of a live registration that has another prefix."""
    REGISTRATION_WITHOUT_PREFIX = "registration without prefix"
    NETBOX_ID_DIFFERS = "NetBox id differs"
    """The prefix with the registration's address and `k8s_uuid` has another NetBox ID than the registration says."""
    UUID_MISSING = "k8s_uuid missing"
    UUID_DIFFERS = "k8s_uuid of another registration"
    ADDRESS_DIFFERS = "address differs"
    ZONE_DIFFERS = "zone differs"
    DESCRIPTION_DIFFERS = "description differs"
    """The description of a registration's prefix is empty, or a former one of this program."""
    DUPLICATE_PREFIX = "duplicate prefix"
    """NetBox has an address more than once."""
    DUPLICATE_REGISTRATION = "duplicate registration"
    """The earlier service registered an address of a zone more than once."""
    STUCK = "stuck"
    """A registration that is creating, aborting or releasing for too long."""
    POOL_ENTRY_WITHOUT_PREFIX = "pool entry without prefix"
    """The pool holds an address, but NetBox has no prefix for it with the entry's ID."""
    POOL_STATUS_DIFFERS = "status of a pool entry's prefix differs"
    """The prefix of a pool entry does not have the status `reserved`: another user changed it."""
    POOL_ENTRY_STUCK = "pool entry stuck"
    """A pool entry that is made, dropped or handed over for too long."""


REPAIRED = frozenset(
    {
        DriftKind.PREFIX_WITHOUT_REGISTRATION,
        DriftKind.PREFIX_LEFT_OVER,
        DriftKind.REGISTRATION_WITHOUT_PREFIX,
        DriftKind.NETBOX_ID_DIFFERS,
        DriftKind.UUID_MISSING,
        DriftKind.DESCRIPTION_DIFFERS,
        DriftKind.POOL_ENTRY_WITHOUT_PREFIX,
        DriftKind.POOL_ENTRY_STUCK,
    }
)


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. `registration_id`: the ID of the registration or pool entry; None if there is none. `prefix_id`:
    the NetBox ID of the prefix; None if there is none."""

    kind: DriftKind
    zone: str
    address: str
    registration_id: str | None = None
    prefix_id: int | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """The text by which the next round recognizes the same drift."""
        return f"{self.kind.name}:{self.registration_id or ''}:{self.prefix_id or ''}"


@dataclass(frozen=True, slots=True)
class DriftResult:
    """A drift in the report of a round. `sightings`: the number of rounds in a row that have seen it. `repaired`: this
    round repaired it. `note`: why the repair failed."""

    drift: Drift
    sightings: int
    repaired: bool = False
    note: str = ""


@dataclass(slots=True)
class DriftHistory:
    """How often, and when first, earlier rounds saw each drift. Only rounds in a row count."""

    before: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    now: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    def count(self, drift: Drift, moment: datetime) -> tuple[int, timedelta]:
        """Count a drift that this round sees. Returns the number of rounds that have seen it, and the time since the
        first of them."""
        times, first = self.before.get(drift.key, (0, moment))
        first = min(first, moment)
        if len(self.now) < REMEMBERED or drift.key in self.now:
            self.now[drift.key] = (times + 1, first)
        return times + 1, moment - first

    def document(self) -> dict[str, Any]:
        """The document for `Store.save_document`."""
        return {"seen": [[key, times, first.isoformat()] for key, (times, first) in self.now.items()]}

    @classmethod
    def from_document(cls, document: dict[str, Any] | None) -> DriftHistory:
        """The history in the document of `Store.load_document`; empty if there is none, or if it cannot be read."""
        try:
            seen = (document or {}).get("seen", [])
            return cls({str(key): (int(times), datetime.fromisoformat(first)) for key, times, first in seen})
        except (AttributeError, TypeError, ValueError):
            return cls()
