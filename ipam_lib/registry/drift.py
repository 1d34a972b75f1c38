"""The kinds of drift between storage and NetBox, and the memory of what was seen before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

SIGHTINGS = 3
"""How often a drift must be seen, in as many rounds, before it is repaired."""

REMEMBERED = 10_000
"""How many drifts are remembered from round to round; memory is bounded, and what is beyond has its turn later."""


class DriftKind(StrEnum):
    """What is wrong. Those in `REPAIRED` can be mended without a person."""

    PREFIX_WITHOUT_REGISTRATION = "prefix without registration"
    """A prefix that bears an id of ours, which no registration has."""
    PREFIX_LEFT_OVER = "prefix left over"
    """A prefix that bears the id of a live registration, which has another prefix."""
    REGISTRATION_WITHOUT_PREFIX = "registration without prefix"
    NETBOX_ID_DIFFERS = "NetBox id differs"
    """The registration's prefix, by address and `k8s_uuid`, has another NetBox id than the registration says."""
    UUID_MISSING = "k8s_uuid missing"
    UUID_DIFFERS = "k8s_uuid of another registration"
    ADDRESS_DIFFERS = "address differs"
    ZONE_DIFFERS = "zone differs"
    DUPLICATE_PREFIX = "duplicate prefix"
    """An address stands in NetBox more than once."""
    DUPLICATE_REGISTRATION = "duplicate registration"
    """A zone and address is registered more than once (by the earlier service)."""
    STUCK = "stuck"
    """A registration that is creating, aborting or releasing for longer than that can take."""
    POOL_ENTRY_WITHOUT_PREFIX = "pool entry without prefix"
    """An address that the pool holds does not, or no longer, stand in NetBox under the entry's id."""
    POOL_STATUS_DIFFERS = "status of a pool entry's prefix differs"
    """Somebody changed it: the pool's prefixes are `reserved`."""
    POOL_ENTRY_STUCK = "pool entry stuck"
    """An address that the pool is making, dropping or handing over for longer than that can take."""


REPAIRED = frozenset(
    {
        DriftKind.PREFIX_WITHOUT_REGISTRATION,
        DriftKind.PREFIX_LEFT_OVER,
        DriftKind.REGISTRATION_WITHOUT_PREFIX,
        DriftKind.NETBOX_ID_DIFFERS,
        DriftKind.UUID_MISSING,
        DriftKind.POOL_ENTRY_WITHOUT_PREFIX,
        DriftKind.POOL_ENTRY_STUCK,
    }
)


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that differs. `registration_id` and `prefix_id` are None where there is none."""

    kind: DriftKind
    zone: str
    address: str
    registration_id: str | None = None
    prefix_id: int | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """What makes it the same drift in the next round."""
        return f"{self.kind.name}:{self.registration_id or ''}:{self.prefix_id or ''}"


@dataclass(frozen=True, slots=True)
class DriftResult:
    """A drift in a round's report: how often it has been seen by now, and whether this round repaired it. `note` says
    why it could not be repaired."""

    drift: Drift
    sightings: int
    repaired: bool = False
    note: str = ""


@dataclass(slots=True)
class DriftHistory:
    """What earlier rounds saw: how often, and when first. Only rounds in a row count: what is not seen is forgotten."""

    before: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    now: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    def count(self, drift: Drift, moment: datetime) -> tuple[int, timedelta]:
        """Note that the drift is there; how often it has been seen by now, and for how long."""
        times, first = self.before.get(drift.key, (0, moment))
        first = min(first, moment)
        if len(self.now) < REMEMBERED or drift.key in self.now:
            self.now[drift.key] = (times + 1, first)
        return times + 1, moment - first

    def document(self) -> dict[str, Any]:
        """For `Store.save_document`."""
        return {"seen": [[key, times, first.isoformat()] for key, (times, first) in self.now.items()]}

    @classmethod
    def from_document(cls, document: dict[str, Any] | None) -> DriftHistory:
        """From `Store.load_document`; nothing seen when there is none, or when it is no such document."""
        try:
            seen = (document or {}).get("seen", [])
            return cls({str(key): (int(times), datetime.fromisoformat(first)) for key, times, first in seen})
        except (AttributeError, TypeError, ValueError):
            return cls()
