"""What a store promises for the pool: the addresses that NetBox holds for no registration yet, or for none any more.

They live beside the registrations (collection `addresses_pool`), one document each, changed by compare-and-set on
`revision` like these. The docstrings are the specification; the contract suite holds every store to them, and every
method raises `StorageUnavailable` as those of `Store` do.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ipam_lib.clock import whole_milliseconds
from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import PENDING, IPFamily, PoolEntry, PoolState
from ipam_lib.storage.documents import integer

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class PoolKey:
    """What pool entries are counted by."""

    zone: str
    ip_family: IPFamily
    state: PoolState


@dataclass(frozen=True, slots=True)
class Cooling:
    """How many addresses must cool down, and when the first of them may be handed out again (None: there is none)."""

    number: int = 0
    until: datetime | None = None


class PoolStore(ABC):
    """The pool's entries."""

    @abstractmethod
    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        """Store new entries, durably. They are told apart by zone and address, and by id.

        Raises StoreConflict when a place is taken; those before it in `entries` are then stored.
        """

    @abstractmethod
    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        """Give the lowest `ready` address of the zone and family to the registration `by`, in one atomic step: the
        entry, `claimed` now; None when there is none. One round trip."""

    @abstractmethod
    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        """Compare-and-set: write `new` where the stored entry still has `old`'s id and revision. False, and nothing
        written, when it has not.

        Raises StoreConflict when `new` has another address and that is in the pool.
        """

    @abstractmethod
    async def pool_delete(self, old: PoolEntry) -> bool:
        """Remove the entry where it still has `old`'s id and revision. False when it has not."""

    @abstractmethod
    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        """Those of these entries that exist, in no particular order."""

    @abstractmethod
    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        """The entry of this address."""

    @abstractmethod
    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        """The entries, in whatever state, that were given to, or left by, any of these registrations; lowest id first.
        By index."""

    @abstractmethod
    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        """Entries in one of `states`; by id, those above `after`, at most `limit`. By index."""

    @abstractmethod
    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        """The `ready` entries of a zone and family but for the lowest `keep`, lowest address first, at most `limit`: so
        that instances which find too many at once agree on those that stay."""

    @abstractmethod
    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        """What of the zone and family is `cooling`. By index."""

    @abstractmethod
    async def pool_counts(self) -> Mapping[PoolKey, int]:
        """How many entries there are of each kind."""


def to_entry(document: Mapping[str, Any]) -> PoolEntry:
    """Read a document.

    Raises StorageUnavailable for one in a state of a newer version's making: to pass over it would be to forget a
    prefix in NetBox.
    """
    try:
        state = PoolState(document["state"])
    except ValueError:
        raise StorageUnavailable(
            f"pool entry {document['_id']} has a state that this version does not know; run the newest version",
            applied=False,
        ) from None
    return PoolEntry(
        id=str(document["_id"]),
        zone=document["zone"],
        ip_family=document["ip_family"],
        address=document["address"],
        state=state,
        netbox_id=integer(document.get("netbox_id")),
        registration_id=document.get("by"),
        revision=integer(document.get("revision")) or 0,
        lease_until=document.get("lease_until"),
        cooldown_until=document.get("until"),
    )


def to_document(entry: PoolEntry) -> Document:
    """Write an entry. `order` is the address as a text that sorts like the address."""
    document: Document = {
        "_id": entry.id,
        "zone": entry.zone,
        "ip_family": entry.ip_family,
        "address": entry.address,
        "order": order(entry.address),
        "state": entry.state.value,
        "netbox_id": entry.netbox_id,
        "by": entry.registration_id,
        "revision": entry.revision,
        "lease_until": entry.lease_until and whole_milliseconds(entry.lease_until),
        "until": entry.cooldown_until and whole_milliseconds(entry.cooldown_until),
    }
    return {name: value for name, value in document.items() if value is not None}


def order(address: str) -> str:
    """A text for each address of a family that sorts as the addresses do; placeholders come after all of them."""
    if address.startswith(PENDING):
        return address
    return f"{int(ipaddress.ip_network(address, strict=False).network_address):032x}"
