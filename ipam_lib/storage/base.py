"""The contract of a store. These docstrings are the specification; one contract test suite runs over every store.

The contract has four classes:

- `Store` (this module): registrations, and small documents beside them.
- `PoolStore` (`pool_store`): the addresses of the warm pool.
- `HistoryStore` (`history_store`): the tenures that have ended.
- `CopyableStore` (`bulk_copy`): the whole store, for backup and restore.

Rules for every method:

- A method is one operation on the storage, for callers on any number of instances at once.
- It raises StorageUnavailable if the storage does not answer in time. If the method writes, `applied` of this error
  says whether the write may have happened. If so, read the document back before you do anything else.
- "By index" means that the time depends on the number of results, not on the size of the store.
- Lists that take `after` and `limit` are pages: at most `limit` results, ids in ascending order, all above `after`
  (None: from the start).

A store needs only single-document operations, plain unique indexes and compare-and-set on `revision`. An embedded
database has these, and every server that properly speaks MongoDB's protocol.

Compare-and-set is how every change of a document is made:

1. The caller reads a document (`old`) and decides on its next revision (`new`).
2. `replace(old, new)` writes `new` only if the stored document still has the revision of `old`, as one atomic step.
3. If it returns False, another caller was faster: nothing was written. The caller reads again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ipam_lib.models import Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage.history_store import HistoryStore
from ipam_lib.storage.pool_store import PoolStore
from ipam_lib.storage.usage import Usage


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Registrations of one zone and address that were there before the unique index.

    - `kept`: the id of the registration that is not marked.
    - `marked`: the ids of those that are marked as duplicates, so that the index could be made.
    """

    zone: str
    address: str
    kept: str
    marked: tuple[str, ...]


class Store(PoolStore, HistoryStore):
    """Registrations, one document each, and a few small documents."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. A server that does not answer is no error here; the first operation then fails."""

    @abstractmethod
    async def close(self) -> None:
        """Release every resource. A second call does nothing."""

    @abstractmethod
    async def ping(self) -> None:
        """Return if the storage answers."""

    @abstractmethod
    async def prepare(self) -> list[DuplicateReport]:
        """Make the tables and indexes that the other methods need.

        - It can be repeated, also by several processes at once, and works on a database of the earlier service.
        - If a zone and address is stored more than once, the registration with the lowest id keeps it. Each of the
          others gets the field `duplicate` (its own id), which is part of the unique index. A duplicate can be read,
          expires and is released like any other registration.
        - Returns all duplicates, those that were marked earlier included.
        """

    @abstractmethod
    async def insert(self, registration: Registration) -> None:
        """Store a new registration durably (MongoDB: `w: majority`; SQLite: `synchronous=FULL`).

        - The secret of a registration that is neither live nor a duplicate goes to the field `held_secret`, never to
          `secret`. So neither the earlier service nor `find_service` takes it for a registration.
        - Raises StoreConflict if the id, or the zone and address, is taken.
        """

    @abstractmethod
    async def get(self, registration_id: str) -> Registration | None:
        """The registration with this id, in any state, as of the last acknowledged write; None if there is none."""

    @abstractmethod
    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        """The live registrations that hold this service under one of these sealed `secrets`, lowest id first.

        One round trip, by index. All three fields of `service` must match in one element of the services.
        """

    @abstractmethod
    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        """The registrations, in any state, with one of these spellings of an address, lowest id first. By index.

        - `zone`: None means any zone.
        """

    @abstractmethod
    async def replace(self, old: Registration, new: Registration) -> bool:
        """Compare-and-set: write `new` if the stored document still has `old`'s id and revision.

        - `new.revision` is `old.revision + 1`, or 1 if `old` has none (a document of the earlier service).
        - Fields that this version does not know, in the document and in its services, stay as they are.
        - If the earlier service writes to the same collection (the store's `coexist`), the stored services and secret
          must be those of `old` too, because the earlier service does not change the revision.
        - Returns False if they are not; then nothing was written.
        - Raises StoreConflict if `new` has another address and that is taken in its zone.
        """

    @abstractmethod
    async def delete(self, old: Registration) -> bool:
        """Compare-and-delete: delete the document if it still is `old`'s, by the comparison of `replace`.

        - Returns False if it is not; then nothing was deleted.
        """

    @abstractmethod
    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        """A page of the live registrations that need a cleanup at `now`. By index. These are the registrations with:

        - a service whose expiration has passed, or
        - no service at all, or
        - a service that has left and is not in the history yet.
        """

    @abstractmethod
    async def find_undescribed(self, *, after: str | None, limit: int) -> list[Registration]:
        """A page of the live registrations that are `description_due`: a worker must write the description of their
        prefix in NetBox. By index."""

    @abstractmethod
    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        """A page of the registrations in one of these states, which must not include LIVE. By index."""

    @abstractmethod
    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        """A page of the live registrations with a service of a cluster, given as spellings of its id. By index."""

    @abstractmethod
    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        """A page of the registrations that match a filter.

        - Conditions on a service must all match one and the same service.
        - Inserts do not disturb the paging: an id that was passed does not come again.
        """

    @abstractmethod
    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        """The number of registrations, in any state, by zone and family.

        Reads one whole index but no documents: too slow for every request.
        """

    @abstractmethod
    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        """The numbers of registrations and services, by zone and family.

        Reads every registration, which takes seconds for a million: for a worker, not for requests. It delays no other
        operation, and may take `usage.SECONDS_TO_COUNT`.
        """

    @abstractmethod
    async def count_owned(self, owner: QuotaOwner, ids: Sequence[str], *, zone: str, limit: int) -> int:
        """The number of registrations in a zone, in any state, with a service of a cluster or a namespace; at most
        `limit`. By index.

        - `ids`: spellings of the ID of the cluster or the namespace.
        """

    @abstractmethod
    async def owned(self, owner: QuotaOwner) -> Mapping[tuple[str, str], int]:
        """The number of registrations, in any state, by zone and by ID of a cluster or a namespace.

        Several services of one cluster on a registration count once. Reads every registration; see `usage`.
        """

    @abstractmethod
    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        """The registrations with these ids that exist, in any state and in any order."""

    @abstractmethod
    async def load_document(self, name: str) -> dict[str, Any] | None:
        """A small JSON document, such as the cached zones; None if there is none."""

    @abstractmethod
    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        """Store a small JSON document under this name. The last call wins."""
