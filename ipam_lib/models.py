"""The registration: the one record of who holds an address, and the states of its life.

    creating -> live -> releasing -> gone
    creating -> aborting -> gone

Every arrow is one compare-and-set on the document (`_id` and `revision`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

IPFamily = Literal["ipv4", "ipv6"]

PENDING = "pending:"

UUID_PATTERN: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""A UUID of a cluster or a namespace, in either case (RFC 9562, section 4)."""

SECRET_LENGTHS: Final = (8, 64)
"""The shortest and the longest secret of a registration, in Unicode code points."""


class State(StrEnum):
    """Where a registration stands in its life. A document without a state (the earlier service's) is live."""

    CREATING = "creating"
    LIVE = "live"
    RELEASING = "releasing"
    ABORTING = "aborting"


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """What makes two services the same service: all three, compared exactly."""

    service_name: str
    namespace_id: str
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service on an address. `expires_at` is aware UTC in whole milliseconds; None means that it does not expire.

    `since`: when it came to the address; None when that was not written down (the earlier service did not). It tells
    nothing about what the service wants, so it takes no part in comparisons.
    """

    key: ServiceKey
    retention_period_days: int = 0
    deny_external_cleanup: bool = False
    expires_at: datetime | None = None
    since: datetime | None = field(default=None, compare=False)

    def expired(self, now: datetime) -> bool:
        """Whether its expiration has passed at `now`."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Departure:
    """A service that has left a registration, as it stands in the document until it is in the history.

    `id` is 24 hex digits, the tenure's. `since` as in `Service`; `until`: when it left, aware UTC in whole
    milliseconds.
    """

    id: str
    key: ServiceKey
    since: datetime | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Tenure:
    """A service held an address, from `since` (None: unknown) to `until` (None: it still does).

    One that has ended is a document of the collection `addresses_history`; what is held now stands in the registrations
    alone. `address` is canonical, with its mask.
    """

    id: str
    registration_id: str
    zone: str
    ip_family: IPFamily
    address: str
    key: ServiceKey
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Registration:
    """One document of the collection `addresses`.

    `id` is 24 hex digits (an ObjectId), fresh for each registration and never used twice; it is also the NetBox
    custom field `k8s_uuid` of the prefix. `secret` is sealed (see `crypto`). `revision` is None in documents of the
    earlier service. `lease_until` says how long whoever is creating it may go on writing to NetBox.
    `departed`: the services that have left it and are not in the history yet. `witness` is the store's own (the raw
    document as it was read) and no part of the value.
    """

    id: str
    zone: str
    ip_family: IPFamily
    address: str
    secret: str
    services: tuple[Service, ...] = ()
    netbox_id: int | None = None
    state: State = State.LIVE
    revision: int | None = None
    lease_until: datetime | None = None
    duplicate: bool = False
    departed: tuple[Departure, ...] = ()
    raw_document: Any = field(default=None, compare=False, repr=False)

    def service(self, key: ServiceKey) -> Service | None:
        """The service with this key, or None."""
        return next((service for service in self.services if service.key == key), None)

    def changed(self, **changes: Any) -> Registration:
        """The next revision of this registration, with `changes`; for `Store.replace`."""
        return replace(self, revision=(self.revision or 0) + 1, **changes)

    @property
    def pending(self) -> bool:
        """Whether the address is still the placeholder that stands in for one until NetBox has given it."""
        return self.address.startswith(PENDING)


def placeholder(ip_family: IPFamily, key: ServiceKey) -> str:
    """The address of a registration that has none yet.

    The unique index on zone and address lets one creation for a service, zone and family through at a time, on any
    number of instances, because they all insert this same text.
    """
    parts = "\0".join((ip_family, key.service_name, key.namespace_id, key.cluster_id))
    return PENDING + hashlib.sha256(parts.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which registrations a listing wants; None means any. `expiring` picks those with (True) or without (False) a
    service that has an expiration. Only live and releasing registrations are listed unless `states` says otherwise."""

    zone: str | None = None
    ip_family: IPFamily | None = None
    address: str | None = None
    cluster_id: str | None = None
    namespace_id: str | None = None
    service_name: str | None = None
    expiring: bool | None = None
    states: frozenset[State] | None = frozenset({State.LIVE, State.RELEASING})


class PoolState(StrEnum):
    """Where an address that NetBox holds for no registration yet, or for none any more, stands in its life:

    making -> ready -> claimed -> gone, by way of `dropping` when its prefix is to go as well; cooling -> dropping.
    """

    MAKING = "making"
    """NetBox is being asked for it: its address is a placeholder."""
    READY = "ready"
    """Reserved in NetBox, for the next registration."""
    CLAIMED = "claimed"
    """Given to the registration `registration_id`; its prefix in NetBox still bears the entry's id."""
    COOLING = "cooling"
    """Released by the registration `registration_id`, and not to be handed out again before `cooldown_until`."""
    DROPPING = "dropping"
    """Its prefix is being deleted, then the entry."""


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One document of the collection `addresses_pool`: a prefix of ours in NetBox, of status `reserved`.

    `id` is 24 hex digits, fresh for each entry and never used twice; it is the `k8s_uuid` of the prefix. The document
    stores `registration_id` as `by` and `cooldown_until` as `until`. `lease_until`: how long the worker that creates
    the prefix, or hands it over to its registration, may write to NetBox.
    """

    id: str
    zone: str
    ip_family: IPFamily
    address: str
    state: PoolState
    netbox_id: int | None = None
    registration_id: str | None = None
    revision: int = 1
    lease_until: datetime | None = None
    cooldown_until: datetime | None = None

    def changed(self, state: PoolState, **changes: Any) -> PoolEntry:
        """The next revision of this entry, with `changes`; for `PoolStore.pool_replace`."""
        return replace(self, state=state, revision=self.revision + 1, **changes)


def pool_placeholder(entry_id: str) -> str:
    """The address of a pool entry that has none yet."""
    return PENDING + entry_id


@dataclass(frozen=True, slots=True)
class Request:
    """A validated request of a service about its address.

    `address` is canonical, `spelling` as the client wrote it (the earlier service stored that). `secret` and
    `new_secret` are in the clear, so they are left out of the repr. `retention_period_days` is None when the request
    does not say.
    """

    zone: str
    ip_family: IPFamily
    key: ServiceKey
    secret: str = field(repr=False)
    address: str | None = None
    spelling: str | None = None
    new_secret: str | None = field(default=None, repr=False)
    retention_period_days: int | None = None
    deny_external_cleanup: bool = False

    @property
    def service(self) -> Service:
        """The service as this request describes it."""
        return Service(self.key, self.retention_period_days or 0, self.deny_external_cleanup)


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration came to: the address, and whether it is new."""

    address: str
    created: bool


@dataclass(frozen=True, slots=True)
class ClusterExpired:
    """How many services of a cluster now expire at once, and how many deny that."""

    expired: int
    denied: int
