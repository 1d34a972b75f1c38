"""A store in memory, for tests that must run the same way every time: each operation is one step, without an await.

Held to the same contract suite as the stores of the program (tests/storage/test_contract.py).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ipam_lib.errors import StorageUnavailable, StoreConflict
from ipam_lib.models import PENDING, Filter, IPFamily, QuotaOwner, Registration, ServiceKey, State
from ipam_lib.storage.base import DuplicateReport, Store
from ipam_lib.storage.documents import Document, cas_fields, change, services_as_read, to_document, to_registration
from ipam_lib.storage.usage import Usage, UsageCounting
from tests.support.memory_history import MemoryHistory
from tests.support.memory_pool import MemoryPool


@dataclass
class MemoryDatabase:
    """What several stores can share, as processes share a database. Documents have their `_id` as 24 hex digits."""

    registrations: dict[str, Document] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    pool: dict[str, Document] = field(default_factory=dict)
    history: dict[str, Document] = field(default_factory=dict)
    unique: bool = False
    parsed: dict[str, tuple[Document, Registration]] | None = None
    """Where documents are kept as registrations too, for tests that read the same ones again and again."""

    def read(self, document: Document, *, raw: bool = True) -> Registration:
        """A stored document as a registration, with a copy of itself if `raw`. A stored document is replaced and never
        changed."""
        if self.parsed is None:
            return to_registration(document, raw_document=copy.deepcopy(document) if raw else None)
        source, registration = self.parsed.get(document["_id"], (None, None))
        if source is not document or registration is None:
            registration = to_registration(document, raw_document=copy.deepcopy(document))
            self.parsed[document["_id"]] = document, registration
        return registration

    def holder(self, document: Document) -> str | None:
        """The id of another document on the same zone and address, if that is not allowed."""
        place = _place(document)
        return next(
            (
                one["_id"]
                for one in self.registrations.values()
                if one["_id"] != document["_id"] and _place(one) == place
            ),
            None,
        )


class MemoryStore(MemoryPool, MemoryHistory, Store):
    """A store over `database`. The unique index is there after `prepare`, as in a database of the earlier service."""

    def __init__(self, database: MemoryDatabase | None = None, *, coexist: bool = False) -> None:
        self.database = MemoryDatabase() if database is None else database
        self._coexist = coexist
        self._closed = True

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True

    async def ping(self) -> None:
        self._check()

    async def prepare(self) -> list[DuplicateReport]:
        self._check()
        database = self.database
        for document in sorted(database.registrations.values(), key=lambda one: one["_id"], reverse=True):
            if database.holder(document) is not None:
                revision = (to_registration(document).revision or 0) + 1
                if document["address"].startswith(PENDING):
                    changes = {"address": PENDING + document["_id"], "state": State.ABORTING.value}
                else:
                    changes = {"duplicate": document["_id"]}
                database.registrations[document["_id"]] = document | changes | {"revision": revision}
        database.unique = True
        marked: dict[tuple[str, str], list[str]] = {}
        for one in self._select(lambda registration: registration.duplicate):
            marked.setdefault((one.zone, one.address), []).append(one.id)
        return [
            DuplicateReport(zone, address, self._kept(zone, address), tuple(ids))
            for (zone, address), ids in marked.items()
        ]

    def _kept(self, zone: str, address: str) -> str:
        kept = self._select(lambda one: (one.zone, one.address, one.duplicate) == (zone, address, False))
        return kept[0].id if kept else ""

    async def insert(self, registration: Registration) -> None:
        self._check()
        if registration.id in self.database.registrations:
            raise StoreConflict("the id is taken")
        self._put(to_document(registration))

    async def get(self, registration_id: str) -> Registration | None:
        self._check()
        document = self.database.registrations.get(registration_id)
        return None if document is None else self.database.read(document)

    async def find_service(
        self, *, secrets: Sequence[str], zone: str, ip_family: IPFamily, service: ServiceKey
    ) -> list[Registration]:
        return self._select(
            lambda one: (
                one.state is State.LIVE
                and one.secret in secrets
                and (one.zone, one.ip_family) == (zone, ip_family)
                and one.service(service) is not None
            )
        )

    async def find_address(self, *, zone: str | None, addresses: Sequence[str]) -> list[Registration]:
        return self._select(lambda one: zone in (None, one.zone) and one.address in addresses, any_state=True)

    async def replace(self, old: Registration, new: Registration) -> bool:
        self._check()
        stored = self._is_current(old)
        if stored is None:
            return False
        self._put(change(old, new, services_as_read(old) if old.raw_document else stored.get("services")).apply(stored))
        return True

    async def delete(self, old: Registration) -> bool:
        self._check()
        if self._is_current(old) is None:
            return False
        del self.database.registrations[old.id]
        return True

    async def find_due(self, *, now: datetime, after: str | None, limit: int) -> list[Registration]:
        return self._select(
            lambda one: (
                one.state is State.LIVE
                and (not one.services or bool(one.departed) or any(service.expired(now) for service in one.services))
            ),
            after,
            limit,
        )

    async def find_undescribed(self, *, after: str | None, limit: int) -> list[Registration]:
        return self._select(lambda one: one.state is State.LIVE and one.description_due, after, limit)

    async def find_states(self, states: Collection[State], *, after: str | None, limit: int) -> list[Registration]:
        return self._select(lambda one: one.state in states, after, limit)

    async def find_cluster(self, cluster_ids: Sequence[str], *, after: str | None, limit: int) -> list[Registration]:
        return self._select(
            lambda one: (
                one.state is State.LIVE and any(service.key.cluster_id in cluster_ids for service in one.services)
            ),
            after,
            limit,
        )

    async def page(self, wanted: Filter, *, after: str | None, limit: int) -> list[Registration]:
        return self._select(lambda one: _fits(one, wanted), after, limit, any_state=wanted.states is None)

    async def counts(self) -> Mapping[tuple[str, IPFamily], int]:
        self._check()
        every = (to_registration(one | {"state": None}) for one in self.database.registrations.values())
        return Counter((one.zone, one.ip_family) for one in every)

    async def usage(self) -> Mapping[tuple[str, IPFamily], Usage]:
        self._check()
        counting = UsageCounting()
        for document in self.database.registrations.values():
            one = to_registration(document | {"state": None})
            counting.add(
                one.zone,
                one.ip_family,
                document.get("state"),
                registrations=1,
                services=len(one.services),
                expiring=sum(service.expires_at is not None for service in one.services),
            )
        return counting.result()

    async def count_owned(self, owner: QuotaOwner, ids: Sequence[str], *, zone: str, limit: int) -> int:
        return min(limit, sum(at == zone and not of.isdisjoint(ids) for at, of in self._owners(owner)))

    async def owned(self, owner: QuotaOwner) -> Mapping[tuple[str, str], int]:
        return Counter((zone, owner_id) for zone, owners in self._owners(owner) for owner_id in owners)

    def _owners(self, owner: QuotaOwner) -> list[tuple[str, set[str]]]:
        """The zone of each registration, and its clusters or namespaces."""
        self._check()
        every = (to_registration(one | {"state": None}) for one in self.database.registrations.values())
        return [(one.zone, {getattr(each.key, f"{owner}_id") for each in one.services}) for one in every]

    async def get_many(self, registration_ids: Sequence[str]) -> list[Registration]:
        return self._select(lambda one: one.id in registration_ids, any_state=True)

    async def load_document(self, name: str) -> dict[str, Any] | None:
        self._check()
        return copy.deepcopy(self.database.documents.get(name))

    async def save_document(self, name: str, content: dict[str, Any]) -> None:
        self._check()
        self.database.documents[name] = copy.deepcopy(content)

    def _pool(self) -> dict[str, Document]:
        self._check()
        return self.database.pool

    def _history(self) -> dict[str, Document]:
        self._check()
        return self.database.history

    def _check(self) -> None:
        if self._closed:
            raise StorageUnavailable("storage is closed", applied=False)

    def _select(
        self,
        fits: Callable[[Registration], bool],
        after: str | None = None,
        limit: int | None = None,
        *,
        any_state: bool = False,
    ) -> list[Registration]:
        """What fits, lowest id first. A document in a state that is not known here is no match for any known one; where
        any state will do it is an error (see `to_registration`)."""
        self._check()
        found: list[Registration] = []
        for one in sorted(self.database.registrations):
            document = self.database.registrations[one]
            if len(found) == limit or (after is not None and one <= after):
                continue
            known = document.get("state") in _KNOWN_STATES
            if known:
                matches = fits(self.database.read(document, raw=False))
            else:
                matches = any_state and fits(to_registration(document | {"state": None}))
            if matches:
                found.append(self.database.read(document))
        return found

    def _put(self, document: Document) -> None:
        if self.database.unique and self.database.holder(document) is not None:
            raise StoreConflict("zone and address are taken")
        self.database.registrations[document["_id"]] = copy.deepcopy(document)

    def _is_current(self, old: Registration) -> Document | None:
        """The stored document, if it still is `old`'s."""
        stored = self.database.registrations.get(old.id)
        if stored is None or self.database.read(stored, raw=False).revision != old.revision:
            return None
        if self._coexist and (stored.get("services"), stored.get("secret")) != cas_fields(old):
            return None
        return stored


_KNOWN_STATES = {None, *State}


def _place(document: Document) -> tuple[Any, ...]:
    return document.get("zone"), document.get("address"), document.get("duplicate")


def _fits(one: Registration, wanted: Filter) -> bool:
    def same(service: ServiceKey) -> bool:
        return (
            wanted.service_name in (None, service.service_name)
            and wanted.namespace_id in (None, service.namespace_id)
            and wanted.cluster_id in (None, service.cluster_id)
        )

    any_service = (wanted.service_name, wanted.namespace_id, wanted.cluster_id) == (None, None, None)
    return (
        wanted.zone in (None, one.zone)
        and wanted.ip_family in (None, one.ip_family)
        and wanted.address in (None, one.address)
        and (wanted.states is None or one.state in wanted.states)
        and (any_service or any(same(service.key) for service in one.services))
        and wanted.expiring in (None, any(service.expires_at is not None for service in one.services))
    )
