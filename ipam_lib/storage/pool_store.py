"""The contract of a store for the warm pool: addresses that NetBox holds for no registration yet, or no longer.

They are a collection of their own (`addresses_pool`), one document each. The rules of `base` apply to every method.
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
from ipam_lib.storage.documents import Document, integer


@dataclass(frozen=True, slots=True, order=True)
class PoolKey:
    """What `PoolStore.pool_counts` counts by."""

    zone: str
    ip_family: IPFamily
    state: PoolState


@dataclass(frozen=True, slots=True)
class Cooling:
    """How many addresses are in their cooldown, and when the first one ends (None if there are none)."""

    number: int = 0
    until: datetime | None = None


class PoolStore(ABC):
    """The entries of the warm pool.

    How an address of the pool is claimed:

    - An entry is `ready` when NetBox holds its address and no registration has it.
    - `pool_claim` turns the lowest `ready` entry of a zone and family into `claimed`, in one atomic step.
    - Claims at the same time, on any number of instances, get different entries.
    - Every later change of an entry is a compare-and-set on its revision, as for registrations.
    """

    @abstractmethod
    async def pool_insert(self, entries: Sequence[PoolEntry]) -> None:
        """Store new entries durably.

        - Raises StoreConflict if an id, or a zone and address, is taken. The entries before it may then be stored.
        """

    @abstractmethod
    async def pool_claim(self, *, zone: str, ip_family: IPFamily, registration_id: str) -> PoolEntry | None:
        """Claim the lowest `ready` address of a zone and family for a registration. One round trip.

        - Returns the entry, now `claimed`; None if no entry is `ready`.
        """

    @abstractmethod
    async def pool_replace(self, old: PoolEntry, new: PoolEntry) -> bool:
        """Compare-and-set: write `new` if the stored entry still has `old`'s id and revision.

        - Returns False if it does not; then nothing was written.
        - Raises StoreConflict if `new` has another address and that is in the pool.
        """

    @abstractmethod
    async def pool_delete(self, old: PoolEntry) -> bool:
        """Delete the entry if it still has `old`'s id and revision. Returns False if it does not."""

    @abstractmethod
    async def pool_get_many(self, entry_ids: Sequence[str]) -> list[PoolEntry]:
        """The entries with these ids that exist, in any order."""

    @abstractmethod
    async def pool_find_address(self, *, zone: str, address: str) -> PoolEntry | None:
        """The entry of this address; None if there is none."""

    @abstractmethod
    async def pool_find_by(self, registration_ids: Sequence[str]) -> list[PoolEntry]:
        """The entries, in any state, that name one of these registrations (as claimant, or as last holder), lowest id
        first. By index."""

    @abstractmethod
    async def pool_page(self, states: Collection[PoolState], *, after: str | None, limit: int) -> list[PoolEntry]:
        """A page of the entries in one of these states. By index."""

    @abstractmethod
    async def pool_beyond(self, *, zone: str, ip_family: IPFamily, keep: int, limit: int) -> list[PoolEntry]:
        """The `ready` entries of a zone and family except the lowest `keep`, lowest address first, at most `limit`.

        Instances that find too many entries at the same time thus agree on those that stay.
        """

    @abstractmethod
    async def pool_cooling(self, *, zone: str, ip_family: IPFamily) -> Cooling:
        """The `cooling` entries of a zone and family: how many, and when the first one ends. By index."""

    @abstractmethod
    async def pool_counts(self) -> Mapping[PoolKey, int]:
        """The number of entries, by zone, family and state."""


def to_entry(document: Mapping[str, Any]) -> PoolEntry:
    """Read a document.

    Raises StorageUnavailable for a state that only a newer version knows. Skipping the entry would lose track of its
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
    """Write an entry. The field `order` is the address as text that sorts like the address."""
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
    """An address as text that sorts like the addresses of its family. Placeholders sort last."""
    if address.startswith(PENDING):
        return address
    return f"{int(ipaddress.ip_network(address, strict=False).network_address):032x}"
