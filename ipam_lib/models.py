"""The data of the service: registrations, services, tenures, pool entries and requests.

A registration is the one record of which services have an address. Its states:

    creating -> live -> releasing -> deleted
    creating -> aborting -> deleted

Every arrow is one compare-and-set on the document (`_id` and `revision`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

IPFamily = Literal["ipv4", "ipv6"]
IPAddressPolicy = Literal["avoid", "refuse", "ignore"]
"""The use of addresses that NetBox has as IP addresses or in IP ranges. `avoid`: they are never the next free address.
`refuse`: a request that names one is refused, too. `ignore`: IPAM-API does not look at them, like the earlier
service."""
QuotaOwner = Literal["cluster", "namespace"]
"""Whose addresses a quota limits."""

PENDING = "pending:"

UUID_PATTERN: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""A UUID of a cluster or a namespace, in either case (RFC 9562, section 4)."""

SECRET_LENGTHS: Final = (8, 64)
"""The shortest and the longest secret of a registration, in Unicode code points."""


class State(StrEnum):
    """The state of a registration. A document without a state (written by the earlier service) is live."""

    CREATING = "creating"
    LIVE = "live"
    RELEASING = "releasing"
    ABORTING = "aborting"


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """The identity of a service: two services are the same if all three fields are exactly equal."""

    service_name: str
    namespace_id: str
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service on an address.

    `expires_at`: aware UTC in whole milliseconds; None: it does not expire. `since`: when the service came to the
    address; None: unknown (the earlier service did not store it). `since` is not part of what the service asks for, so
    comparisons ignore it.
    """

    key: ServiceKey
    retention_period_days: int = 0
    deny_external_cleanup: bool = False
    expires_at: datetime | None = None
    since: datetime | None = field(default=None, compare=False)

    def expired(self, now: datetime) -> bool:
        """Whether the service has expired at `now`."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Departure:
    """A service that has left a registration. It stays in the document until it is in the history.

    `id`: the ID of the tenure, 24 hex digits. `since`: as in `Service`. `until`: when the service left, aware UTC in
    whole milliseconds.
    """

    id: str
    key: ServiceKey
    since: datetime | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Tenure:
    """The time during which a service had an address: from `since` (None: unknown) to `until` (None: it still has it).

    A tenure that has ended is a document of the collection `addresses_history`. The others are in the registrations
    only. `address`: canonical, with its mask.
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

    `id`: 24 hex digits (an ObjectId), new for each registration and never used again; also the custom field `k8s_uuid`
    of the prefix in NetBox. `secret`: encrypted (see `crypto`). `revision`: None in documents of the earlier service.
    `lease_until`: until when the holder of a creation may write to NetBox. `duplicate`: whether another registration
    has the same zone and address and is in force. `departed`: the services that have left and are not in the history
    yet. `described`: the texts that this program has written to the description of the prefix, or may have written,
    last one last. `description_due`: whether a worker must write the description. `raw_document`: the document as the
    store read it; only the store uses it, and comparisons ignore it.
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
    described: tuple[str, ...] = ()
    description_due: bool = False
    raw_document: Any = field(default=None, compare=False, repr=False)

    def service(self, key: ServiceKey) -> Service | None:
        """The service with this key, or None."""
        return next((service for service in self.services if service.key == key), None)

    def changed(self, **changes: Any) -> Registration:
        """The next revision of this registration, with `changes`; for `Store.replace`."""
        return replace(self, revision=(self.revision or 0) + 1, **changes)

    @property
    def pending(self) -> bool:
        """Whether the address is still a placeholder, because NetBox has not given one yet."""
        return self.address.startswith(PENDING)


def placeholder(ip_family: IPFamily, key: ServiceKey) -> str:
    """The placeholder for the address of a registration that has none yet.

    All creations for one service and family insert this same text. So the unique index on zone and address accepts one
    creation at a time for a service, zone and family, on any number of instances.
    """
    parts = "\0".join((ip_family, key.service_name, key.namespace_id, key.cluster_id))
    return PENDING + hashlib.sha256(parts.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Filter:
    """The registrations that a listing shows; None means any. `expiring`: those with (True) or without (False) a
    service that has an expiration. `states`: by default live and releasing."""

    zone: str | None = None
    ip_family: IPFamily | None = None
    address: str | None = None
    cluster_id: str | None = None
    namespace_id: str | None = None
    service_name: str | None = None
    expiring: bool | None = None
    states: frozenset[State] | None = frozenset({State.LIVE, State.RELEASING})


class PoolState(StrEnum):
    """The state of a pool entry: making -> ready -> claimed -> deleted, or cooling -> dropping -> deleted. An entry
    whose prefix must be deleted goes through `dropping`."""

    MAKING = "making"
    """A worker creates its prefix in NetBox. The address is a placeholder."""
    READY = "ready"
    """Reserved in NetBox for the next registration."""
    CLAIMED = "claimed"
    """The registration `registration_id` has the address. The prefix in NetBox still has the entry's ID."""
    COOLING = "cooling"
    """The registration `registration_id` has released the address. No other gets it before `cooldown_until`."""
    DROPPING = "dropping"
    """The prefix is being deleted, then the entry."""


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One document of the collection `addresses_pool`: a prefix of this service in NetBox, with the status `reserved`.

    `id`: 24 hex digits, new for each entry and never used again; the `k8s_uuid` of the prefix. The document stores
    `registration_id` as `by` and `cooldown_until` as `until`. `lease_until`: how long the worker that creates the
    prefix, or hands it over to its registration, may write to NetBox.
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
    """The placeholder for the address of a pool entry that has none yet."""
    return PENDING + entry_id


@dataclass(frozen=True, slots=True)
class Request:
    """A validated request of a service.

    `address`: canonical. `spelling`: the address as the client wrote it; the earlier service stored this text. `secret`
    and `new_secret`: not encrypted, so the repr leaves them out. `retention_period_days`: None if the request has none.
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
    """The result of a registration: the address, and whether it is new."""

    address: str
    created: bool


@dataclass(frozen=True, slots=True)
class ClusterExpired:
    """The result of a cluster deletion: the number of services that expire now, and of those that deny it."""

    expired: int
    denied: int
