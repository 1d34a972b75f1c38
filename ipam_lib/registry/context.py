"""The environment of the use cases, the deadline of a request, its retries, and reading a collection by pages."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from ipam_lib.clock import Clock
from ipam_lib.crypto import Cipher
from ipam_lib.description import DescriptionTemplate
from ipam_lib.errors import NetBoxError, TimeLimitReached
from ipam_lib.models import IPAddressPolicy, PoolEntry, QuotaOwner, Registration, Service
from ipam_lib.netbox.base import NetBox, Zones
from ipam_lib.registry.quota_state import QuotaState
from ipam_lib.storage.base import Store

log = logging.getLogger(__name__)

Document = TypeVar("Document", Registration, PoolEntry)


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The settings of the registry.

    `longest_request`: the time within which every request is answered, and the length of a lease, in seconds.
    `netbox_call`: the longest time of one call to NetBox, in seconds; less than half of `longest_request`.
    `batch`: the number of documents in one page or one bulk call.
    `warm`: the number of addresses that the pool keeps ready for each zone and family: one number for all zones, or one
    for each zone that has a pool.
    `cooldown`: the time for which a released address is not given to another service.
    `history`: the time for which a tenure is stored after its end. Zero: no history is stored.
    `quotas`: the largest number of addresses of a cluster or a namespace in a zone: one number for all zones, or one
    for each zone that has a limit. 0: no limit.
    `description`: the description of the prefixes in NetBox. None: descriptions are left alone.
    """

    longest_request: float = 25.0
    netbox_call: float = 10.0
    batch: int = 50
    warm: int | Mapping[str, int] = 0
    cooldown: timedelta = timedelta(0)
    history: timedelta = timedelta(days=365)
    ip_addresses: IPAddressPolicy = "avoid"
    quotas: Mapping[QuotaOwner, int | Mapping[str, int]] = field(default_factory=dict)
    description: DescriptionTemplate | None = None

    def warm_in(self, zone: str) -> int:
        """The number of addresses that the pool keeps ready in a zone, for each family."""
        return _in_zone(self.warm, zone)

    def quota(self, owner: QuotaOwner, zone: str) -> int:
        """The largest number of addresses of one cluster or namespace in a zone. 0: no limit."""
        return _in_zone(self.quotas.get(owner, 0), zone)

    def described(self, services: Sequence[Service]) -> tuple[str, ...]:
        """The texts that a new registration with these services stores (see `description`)."""
        text = "" if self.description is None else self.description.text(services)
        return (text,) if text else ()

    def next_description(self, registration: Registration) -> str:
        """The description to write with a call to NetBox that has another purpose: the last text that the registration
        stores, so that it is recognized later. Empty: none."""
        return registration.described[-1] if self.description is not None and registration.described else ""

    @property
    def pools(self) -> bool:
        """Whether this instance has a pool: addresses that are ready, or addresses in their cooldown."""
        warm = self.warm if isinstance(self.warm, int) else sum(self.warm.values())
        return bool(warm or self.cooldown)


def _in_zone(number: int | Mapping[str, int], zone: str) -> int:
    return number if isinstance(number, int) else number.get(zone, 0)


@dataclass(frozen=True, slots=True)
class Context:
    """The environment of the use cases: everything with input or output, the time and the randomness. A test injects
    its own."""

    store: Store
    netbox: NetBox
    zones: Zones
    cipher: Cipher
    clock: Clock
    new_id: Callable[[], str]
    settings: RegistrySettings = field(default_factory=RegistrySettings)
    random: random.Random = field(default_factory=random.Random)
    quotas: QuotaState = field(default_factory=QuotaState)

    def lease(self) -> datetime:
        """The end of a lease taken now."""
        return self.clock.now() + timedelta(seconds=self.settings.longest_request)

    async def refresh_zones(self) -> None:
        """Load the zones from NetBox once more (rate-limited) before a request is refused. If that fails, the cache
        stays as it is."""
        try:
            await self.zones.refresh()
        except NetBoxError as error:
            log.warning("zones could not be refreshed: %s", error.detail or error)

    def deadline(self, at: float | None = None) -> Deadline:
        """The deadline at a value of the clock's `monotonic()`, in seconds. Default: one longest request from now."""
        return Deadline(self, self.clock.monotonic() + self.settings.longest_request if at is None else at)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time by which a request must be answered. `at`: a value of the clock's `monotonic()`, in seconds."""

    context: Context
    at: float

    def left(self) -> float:
        """The seconds until the deadline; negative if it has passed."""
        return self.at - self.context.clock.monotonic()

    def call_limit(self) -> float:
        """The time limit of a call to NetBox that needs no lease, in seconds: the time that is left, but not more than
        `netbox_call`.

        Raises TimeLimitReached if the deadline has passed.
        """
        left = self.left()
        if left <= 0:
            raise TimeLimitReached
        return min(left, self.context.settings.netbox_call)

    def leased_call_limit(self, registration: Registration) -> float:
        """The time limit of a call to NetBox that writes for `registration`, in seconds. This request must be its
        holder.

        The lease must have the time of one whole call left, by the wall clock, because other instances use it too. The
        deadline must have the same time left, by the monotonic clock, which cannot be set. So a holder that was
        suspended, or whose wall clock jumped, stops here. It writes nothing that the next holder does not know of.

        Raises TimeLimitReached if the lease or the deadline has less time left.
        """
        return self.limit_until(registration.lease_until)

    def limit_until(self, lease_until: datetime | None) -> float:
        """Like `leased_call_limit`, for a lease that ends at `lease_until`. None: there is no lease to check."""
        limit = self.context.settings.netbox_call
        now = self.context.clock.now()
        if self.left() < limit or (lease_until is not None and lease_until - now < timedelta(seconds=limit)):
            raise TimeLimitReached
        return limit


@dataclass(slots=True)
class Backoff:
    """The pauses between the attempts of one request: 10 ms, 16 ms, 26 ms, up to 250 ms, each with jitter. With
    `attempt`, the first pause is as long as the pause after that many attempts."""

    deadline: Deadline
    attempt: int = 0

    async def pause(self) -> None:
        """Wait before the next attempt.

        Raises TimeLimitReached if the deadline leaves no time for another attempt.
        """
        context = self.deadline.context
        seconds = min(0.01 * 1.6 ** min(self.attempt, 8), 0.25) * (0.5 + context.random.random())
        if self.deadline.left() < seconds + 0.25:
            raise TimeLimitReached
        self.attempt += 1
        await context.clock.sleep(seconds)


async def pages(read: Callable[[str | None], Awaitable[Sequence[Document]]]) -> AsyncIterator[Sequence[Document]]:
    """All pages of a collection, in the order of the IDs. `read` returns the page after an ID; None: the first page."""
    after: str | None = None
    while page := await read(after):
        yield page
        after = page[-1].id
