"""The use cases: what happens to a registration, and in which order. Knows neither HTTP nor Motor nor NetBox's JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from ipam_lib.crypto import Cipher
from ipam_lib.models import ClusterExpired, Filter, Registered, Registration, Request
from ipam_lib.registry import (
    admin,
    history,
    listing,
    reconcile,
    recover,
    register,
    release,
    rotate,
    services,
    statistics,
)
from ipam_lib.registry.context import Context, RegistrySettings
from ipam_lib.registry.drift import Drift, DriftKind, DriftResult
from ipam_lib.registry.expiry_clock import ExpiryClock
from ipam_lib.registry.history import HistoryPage
from ipam_lib.registry.listing import Page, ZoneUse
from ipam_lib.registry.pool.worker import PoolReport, PoolWorker
from ipam_lib.registry.recover import RecoverReport
from ipam_lib.registry.release import ReleaseReport
from ipam_lib.registry.rotate import RotateReport
from ipam_lib.registry.statistics import Statistics

__all__ = [
    "Context",
    "Drift",
    "DriftKind",
    "DriftResult",
    "HistoryPage",
    "Page",
    "PoolReport",
    "RecoverReport",
    "Registry",
    "RegistrySettings",
    "ReleaseReport",
    "RotateReport",
    "Statistics",
    "ZoneUse",
]


class Registry:
    """The use cases over one context. Deadlines are values of the clock's `monotonic()`, one longest request from now
    when left out."""

    def __init__(self, context: Context) -> None:
        self.context = context
        # The wall clock is believed as it is when the process starts.
        self._cached_counts = listing.CachedCounts()
        self._pool = PoolWorker(context)
        self._time = ExpiryClock(context.clock.now(), context.clock.monotonic())

    async def register(self, request: Request, *, deadline: float | None = None) -> Registered:
        """See `register.register`."""
        return await register.register(self.context, request, self.context.deadline(deadline))

    async def expire(self, request: Request, *, deadline: float | None = None) -> str:
        """See `services.expire`."""
        return await services.expire(self.context, request, self.context.deadline(deadline))

    async def expire_cluster(
        self,
        cluster_id: str,
        *,
        deadline: float | None = None,
        told: Callable[[ClusterExpired], None] = lambda so_far: None,
    ) -> ClusterExpired:
        """See `services.expire_cluster`."""
        return await services.expire_cluster(self.context, cluster_id, self.context.deadline(deadline), told)

    async def is_unrelated_service(self, request: Request) -> bool:
        """See `services.stranger`."""
        return await services.is_unrelated_service(self.context, request)

    async def addresses(self, wanted: Filter, *, limit: int, cursor: str | None = None) -> Page:
        """See `listing.addresses`."""
        return await listing.addresses(self.context, wanted, limit=limit, cursor=cursor)

    async def address(self, spellings: Sequence[str], *, zone: str | None = None) -> list[Registration]:
        """See `listing.address`."""
        return await listing.address(self.context, spellings, zone=zone)

    async def zones(self) -> list[ZoneUse]:
        """See `listing.zones`."""
        return await listing.zones(self.context, self._cached_counts)

    async def history(
        self, spellings: Sequence[str], *, zone: str | None = None, limit: int, cursor: str | None = None
    ) -> HistoryPage:
        """See `history.read`."""
        return await history.read(self.context, spellings, zone=zone, limit=limit, cursor=cursor)

    async def prune_history(self) -> int:
        """See `history.prune`."""
        return await history.prune(self.context, self._time)

    async def statistics(self) -> Statistics:
        """See `statistics.count`."""
        return await statistics.count(self.context)

    async def release_expired(self) -> ReleaseReport:
        """See `release.release_expired`."""
        return await release.release_expired(self.context, self._time)

    async def recover(self) -> RecoverReport:
        """See `recover.recover`."""
        return await recover.recover(self.context)

    async def replace_secret(
        self, *, zone: str, addresses: Sequence[str], new_secret: str, deadline: float | None = None
    ) -> Registration:
        """See `admin.replace_secret`."""
        limit = self.context.deadline(deadline)
        return await admin.replace_secret(
            self.context, zone=zone, addresses=addresses, new_secret=new_secret, deadline=limit
        )

    async def rotate(
        self, new: Cipher, *, dry_run: bool = False, told: Callable[[RotateReport], None] = lambda report: None
    ) -> RotateReport:
        """See `rotate.rotate`."""
        return await rotate.rotate(self.context, new, dry_run=dry_run, told=told)

    async def keep_pool(self) -> PoolReport:
        """See `pool.keeping.PoolWorker.keep`."""
        return await self._pool.keep()

    def reconcile(
        self, *, fix: bool = False, most_deletions: int = reconcile.MOST_DELETIONS
    ) -> AsyncIterator[DriftResult]:
        """See `reconcile.reconcile`."""
        return reconcile.reconcile(self.context, fix=fix, most_deletions=most_deletions)
