"""What every use case works with, and how long it may take."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ipam_lib.clock import Clock
from ipam_lib.crypto import Cipher
from ipam_lib.errors import Unavailable
from ipam_lib.models import Registration
from ipam_lib.netbox.base import NetBox, Zones
from ipam_lib.storage.base import Store

TOO_SLOW = "the request took too long; try again"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """`longest_request`: seconds within which every request is answered; also the length of a lease.
    `netbox_call`: the longest that one call to NetBox may take, in seconds; must fit into a request more than twice.
    `batch`: how many registrations are released, or paged through, at a time.
    `warm`: how many addresses of each zone and family are kept created in NetBox ahead of demand; a number for all, or
    one for each zone that has any. `cooldown`: how long a released address is not handed out again.
    `history`: how long it is kept who held an address, after that has ended; none is kept when it is zero."""

    longest_request: float = 25.0
    netbox_call: float = 10.0
    batch: int = 50
    warm: int | Mapping[str, int] = 0
    cooldown: timedelta = timedelta(0)
    history: timedelta = timedelta(days=365)

    def warm_in(self, zone: str) -> int:
        """How many addresses of a zone, in each family, are to be ready."""
        return self.warm if isinstance(self.warm, int) else self.warm.get(zone, 0)

    @property
    def pools(self) -> bool:
        """Whether this instance keeps a pool: of addresses that are ready, or of those that must cool down."""
        warm = self.warm if isinstance(self.warm, int) else sum(self.warm.values())
        return bool(warm or self.cooldown)


@dataclass(frozen=True, slots=True)
class Context:
    """The outside world of the use cases, injected."""

    store: Store
    netbox: NetBox
    zones: Zones
    cipher: Cipher
    clock: Clock
    new_id: Callable[[], str]
    settings: RegistrySettings = field(default_factory=RegistrySettings)
    random: random.Random = field(default_factory=random.Random)

    def lease(self) -> datetime:
        """The end of a lease taken now."""
        return self.clock.now() + timedelta(seconds=self.settings.longest_request)

    def deadline(self, at: float | None = None) -> Deadline:
        """The deadline at this value of the clock's `monotonic()`; one longest request from now when not given."""
        return Deadline(self, self.clock.monotonic() + self.settings.longest_request if at is None else at)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a request must be answered."""

    context: Context
    at: float

    def left(self) -> float:
        """Seconds until then; negative when it has passed."""
        return self.at - self.context.clock.monotonic()

    def call_limit(self) -> float:
        """The limit of a call to NetBox that only reads.

        Raises Unavailable when there is no time left for one.
        """
        left = self.left()
        if left <= 0:
            raise Unavailable(TOO_SLOW)
        return min(left, self.context.settings.netbox_call)

    def leased_call_limit(self, registration: Registration) -> float:
        """The limit of a call to NetBox that writes on behalf of `registration`, which this request holds.

        The lease must still have the time of one whole call left, by the wall clock that the other instances go by, and
        the deadline too, by the clock that cannot be set: who was suspended, or sees his clock jump, stops here and
        writes nothing that a successor would not know of.

        Raises Unavailable when it has not.
        """
        return self.limit_until(registration.lease_until)

    def limit_until(self, lease_until: datetime | None) -> float:
        """As `leased_call_limit`, for a lease until this moment; None for work that holds none."""
        limit = self.context.settings.netbox_call
        now = self.context.clock.now()
        if self.left() < limit or (lease_until is not None and lease_until - now < timedelta(seconds=limit)):
            raise Unavailable(TOO_SLOW)
        return limit


@dataclass(slots=True)
class Backoff:
    """The pauses between the attempts of one request: 10 ms, 16 ms, 26 ms, up to 250 ms, each with jitter. With
    `attempt`, the first pause is as long as the pause after that many attempts."""

    deadline: Deadline
    attempt: int = 0

    async def pause(self) -> None:
        """Wait before the next attempt.

        Raises Unavailable if the deadline leaves no time for another attempt.
        """
        context = self.deadline.context
        seconds = min(0.01 * 1.6 ** min(self.attempt, 8), 0.25) * (0.5 + context.random.random())
        if self.deadline.left() < seconds + 0.25:
            raise Unavailable(TOO_SLOW)
        self.attempt += 1
        await context.clock.sleep(seconds)
