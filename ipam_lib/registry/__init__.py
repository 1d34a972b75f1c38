"""The use cases: what happens to a registration, and in which order. Knows neither HTTP nor Motor nor NetBox's JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ipam_lib.registry import (
    address_history,
    admin,
    descriptions,
    key_rotation,
    listing,
    lookup,
    reconcile,
    recover,
    register,
    release,
    services,
    statistics,
    zone_usage,
)
from ipam_lib.registry.context import Context, RegistrySettings
from ipam_lib.registry.descriptions import DescriptionReport
from ipam_lib.registry.drift import DriftKind, DriftResult
from ipam_lib.registry.expiry_clock import ExpiryClock
from ipam_lib.registry.key_rotation import RotateReport
from ipam_lib.registry.pool.worker import PoolReport, PoolWorker
from ipam_lib.registry.quotas import QuotaUse
from ipam_lib.registry.recover import RecoverReport
from ipam_lib.registry.release import ReleaseReport
from ipam_lib.registry.statistics import Statistics
from ipam_lib.registry.zone_usage import ContainerUse, FamilyUse, ZoneUse

__all__ = [
    "ContainerUse",
    "Context",
    "DescriptionReport",
    "DriftKind",
    "DriftResult",
    "FamilyUse",
    "PoolReport",
    "QuotaUse",
    "RecoverReport",
    "Registry",
    "RegistrySettings",
    "ReleaseReport",
    "RotateReport",
    "Statistics",
    "ZoneUse",
]


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _with_context(
    use_case: Callable[Concatenate[Context, Arguments], Result],
) -> Callable[Concatenate[Registry, Arguments], Result]:
    """The use case as a method of `Registry`."""

    @wraps(use_case)
    def method(self: Registry, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return use_case(self.context, *args, **kwargs)

    return method


class Registry:
    """The use cases of one process over one context. `context` may be replaced while requests run (reload).

    The registry holds what one call of a use case leaves for the next: the cached counts, the state of the pool worker,
    and the expiry clock.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._cached_counts = zone_usage.CachedCounts()
        self._quotas: Sequence[QuotaUse] = ()
        self._pool = PoolWorker(context)
        # The wall clock is trusted as it is when the process starts.
        self._expiry_clock = ExpiryClock(context.clock.now(), context.clock.monotonic())

    register = _with_context(register.register)
    expire = _with_context(services.expire)
    expire_cluster = _with_context(services.expire_cluster)
    is_unrelated_service = _with_context(lookup.is_unrelated_service)
    addresses = _with_context(listing.addresses)
    address = _with_context(listing.address)
    history = _with_context(address_history.read)
    describe = _with_context(descriptions.describe)
    recover = _with_context(recover.recover)
    replace_secret = _with_context(admin.replace_secret)
    rotate = _with_context(key_rotation.rotate)
    reconcile = _with_context(reconcile.reconcile)

    async def zones(self) -> list[ZoneUse]:
        """See `zone_usage.zones`."""
        return await zone_usage.zones(self.context, self._cached_counts, self._quotas)

    async def statistics(self) -> Statistics:
        """See `statistics.count`."""
        counted = await statistics.count(self.context)
        self._quotas = counted.quotas
        return counted

    async def release_expired(self) -> ReleaseReport:
        """See `release.release_expired`."""
        return await release.release_expired(self.context, self._expiry_clock)

    async def prune_history(self) -> int:
        """See `address_history.prune`."""
        return await address_history.prune(self.context, self._expiry_clock)

    async def maintain_pool(self) -> PoolReport:
        """See `pool.worker.PoolWorker.keep`."""
        return await self._pool.maintain()
