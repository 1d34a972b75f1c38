"""What a store promises. The docstrings are the specification; one contract suite holds every store to them.

Only single-document operations, plain unique indexes and compare-and-set on `revision` are used, so that any server
that speaks MongoDB's protocol, and an embedded database, can stand behind this.

Every method raises `StorageUnavailable` when the storage does not answer in time. For a write, `applied` then says
whether it may have happened (True: read the document back).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ipam_lib.models import Filter, IPFamily, Registration, ServiceKey, State
from ipam_lib.storage.history_store import HistoryStore
from ipam_lib.storage.pool_store import PoolStore
from ipam_lib.storage.usage import Usage


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Registrations that stood on one zone and address before the unique index was there: `kept` stays the one that
    counts, `marked` are told apart from it so that the index could be made."""

    zone: str
    address: str
    kept: str
    marked: tuple[str, ...]


class Store(PoolStore, HistoryStore):
    """Registrations, one document each, and a few small documents beside them; the pool's entries (`PoolStore`), and
    who held an address (`HistoryStore`)."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Does not fail while the server is away: the first operation then does."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of every resource. Closing twice is fine."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the storage answers."""

    @abstractmethod
    async def prepare(self) -> list[DuplicateReport]:
        """Make what the queries below need: tables, and an index for each of them; safe to repeat, and for several
        processes at once.

        The unique index on zone and address is made on a database of the earlier service too. Where that holds a zone
        and address twice, the registration with the lowest id keeps its place, and every other gets a field `duplicate`
        (its own id) that is part of the index: it stays readable, expires and is released like any other. All
        duplicates that are marked, now or before, are returned.
        """

    @abstractmethod
    async def insert(self, registration: Registration) -> None:
        """Store a new registration, durably (`w: majority`, `synchronous=FULL`).

        The secret of one that is neither live nor a duplicate stands in a field of its own (`held_secret`), never in
        `secret`: the earlier service and `find_service` do not take it for a registration.

        Raises StoreConflict when zone and address, or the id, are taken.
        """

    @abstractmethod
    async def get(self, registration_id: str) -> Registration | None:
        """The registration with this id, in whatever state, as of the last acknowledged write; None if there is
        none."""

    @abstractmethod
    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        """The live registrations under any of the sealed `secrets` that hold this very service (all three parts equal
        in one element), lowest id first. One round trip, by index."""

    @abstractmethod
    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        """The registrations, in whatever state, on any of these spellings of an address, in a zone (None: in any);
        lowest id first. By index."""

    @abstractmethod
    async def replace(self, old: Registration, new: Registration) -> bool:
        """Compare-and-set: write `new` where the stored document still is `old`'s: same id and same revision (none
        for a document of the earlier service), as one atomic step. False, and nothing written, when it is not.

        While the earlier service writes beside this one (the store's `coexist` setting), the services and the secret
        must also be as they were read, since that service knows no revision. Fields that this version does not know,
        in the document and in its services, are kept. `new.revision` is `old.revision + 1` (1 after none).

        Raises StoreConflict when `new` has another address and that is taken in its zone.
        """

    @abstractmethod
    async def delete(self, old: Registration) -> bool:
        """Remove the document where it still is `old`'s, compared like `replace`. False when it is not."""

    @abstractmethod
    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        """Live registrations with a service whose expiration has passed at `now`, or with no service at all, or with
        one that has departed and is not in the history yet; by id, those above `after`, at most `limit`. By index."""

    @abstractmethod
    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        """Registrations in one of `states` (not LIVE); by id, those above `after`, at most `limit`. By index."""

    @abstractmethod
    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        """Live registrations with a service of any of these spellings of a cluster's id; by id, those above `after`, at
        most `limit`. By index."""

    @abstractmethod
    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        """Registrations that fit the filter; by id, those above `after`, at most `limit`. Stable under inserts: an id
        once passed does not come again. Service filters must all hold for one and the same service."""

    @abstractmethod
    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        """How many registrations there are, in whatever state, by zone and family; none are left out. Reads an index,
        not the documents, but all of it: not for every request."""

    @abstractmethod
    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        """What there is of each zone and family. Reads every registration, which takes seconds where there are a
        million: for a worker, not for requests. It holds up no other operation, and may take
        `usage.SECONDS_TO_COUNT`."""

    @abstractmethod
    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        """Those of these registrations that exist, in whatever state, in no particular order."""

    @abstractmethod
    async def load_document(self, name: str) -> dict[str, Any] | None:
        """A small JSON document kept beside the registrations (the cache of zones, say), or None."""

    @abstractmethod
    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        """Keep a small JSON document under this name; the last one wins."""
