"""Change the services of a live registration: update, expire, expire a whole cluster. Nothing here calls NetBox."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

from ipam_lib.errors import NotFound, SecretShared
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import ClusterExpired, Registered, Registration, Request, State
from ipam_lib.registry import lookup, quotas, writes
from ipam_lib.registry.concurrency import gather_bounded
from ipam_lib.registry.context import Backoff, Context, Deadline, pages
from ipam_lib.registry.log_fields import log_registration

log = logging.getLogger(__name__)

CLUSTER_WRITERS = 16


async def update(
    context: Context, registration: Registration, request: Request, deadline: Deadline
) -> Registered | None:
    """Add the request's service to a live registration, or update it and remove its expiration, and replace the secret
    if the request asks for that. All of it is one compare-and-set. If nothing changes, nothing is written.

    The caller has checked the secret. None if the registration has changed meanwhile: read it again.

    Raises SecretShared, QuotaExceeded, StorageUnavailable.
    """
    present = registration.service(request.key)
    since = context.clock.now() if present is None else present.since
    service = replace(request.service, since=since)
    changes: dict[str, object] = {}
    if present is None:
        changes["services"] = (*registration.services, service)
    elif present != service:
        changes["services"] = tuple(service if one.key == request.key else one for one in registration.services)
    renewing = request.new_secret is not None and request.new_secret != request.secret
    if renewing:
        if present is None or len(registration.services) != 1:
            raise SecretShared(registration.address)
        assert request.new_secret is not None
        changes["secret"] = context.cipher.seal(request.new_secret)
    if changes:
        # Every change encrypts the secret again, so that `legacy-ctr` disappears over time.
        changes.setdefault("secret", context.cipher.seal(request.secret))
        async with quotas.admitted(context, request, registration) if present is None else nullcontext():
            if not await writes.replace(context, registration, registration.changed(**changes), deadline):
                return None
        text = "replaced the secret of %s of zone %s for %s" if renewing else "updated %s of zone %s for %s"
        log_registration(log, text, registration, [request.key])
    return Registered(registration.address, created=False)


async def expire(context: Context, request: Request, *, deadline: float | None = None) -> str:
    """Set the expiration of the request's service to now plus the retention period of the request, or the stored one
    if the request has none. Returns the address. A repeated request sets the expiration again.

    Raises NotFound if there is no such registration, or no such service on it; AnotherSecret if the address is
    registered under another secret; Unavailable.
    """
    limit = context.deadline(deadline)
    backoff = Backoff(limit)
    while True:
        registration = await lookup.find_one(context, request)
        service = registration.service(request.key)
        if service is None:
            raise NotFound(f"the service is not registered on {registration.address}")
        days = request.retention_period_days
        if days is None:
            days = service.retention_period_days
        expires_at = context.clock.now() + timedelta(days=days)
        changed = registration.changed(
            services=tuple(
                replace(one, expires_at=expires_at) if one.key == request.key else one for one in registration.services
            ),
            secret=context.cipher.seal(request.secret),
        )
        if await writes.replace(context, registration, changed, limit):
            text, at = "%s of zone %s: expires for %s in %d days", expires_at.isoformat()
            log_registration(log, text, registration, [request.key], days, expires_at=at)
            return registration.address
        await backoff.pause()


async def expire_cluster(
    context: Context,
    cluster_id: str,
    *,
    deadline: float | None = None,
    on_progress: Callable[[ClusterExpired], None] = lambda so_far: None,
) -> ClusterExpired:
    """Set the expiration of every service of a cluster to now, except those that deny it. The case of the cluster ID
    does not matter. `on_progress` is called after each page, with the counts so far.

    Raises NotFound if no service of the cluster is registered, Unavailable if the deadline has passed or the storage is
    down. After an error nothing more is written; what was done stays done, and the call may be repeated.
    """
    ids = uuid_spellings(cluster_id)
    limit = context.deadline(deadline)
    expired = denied = 0

    async def expire_on(registration: Registration) -> tuple[int, int]:
        return await _expire_cluster_on(context, registration, ids, limit)

    async for page in pages(lambda after: context.store.find_cluster(ids, after=after, limit=500)):
        for one_expired, one_denied in await gather_bounded(expire_on, page, limit=CLUSTER_WRITERS):
            expired += one_expired
            denied += one_denied
        on_progress(ClusterExpired(expired, denied))
    if not expired and not denied:
        raise NotFound(f"no service of cluster {cluster_id} is registered")
    return ClusterExpired(expired, denied)


async def _expire_cluster_on(
    context: Context, registration: Registration, ids: Sequence[str], deadline: Deadline
) -> tuple[int, int]:
    """Expire the services of the cluster on one registration. Returns how many expire, and how many deny it."""
    current: Registration | None = registration
    backoff = Backoff(deadline)
    while True:
        if current is None or current.state is not State.LIVE:
            return 0, 0
        now = context.clock.now()
        theirs = [one for one in current.services if one.key.cluster_id in ids]
        allowing = [one for one in theirs if not one.deny_external_cleanup]
        pending = [one for one in allowing if not one.expired(now)]
        services = tuple(replace(one, expires_at=now) if one in pending else one for one in current.services)
        if not pending or await writes.replace(context, current, current.changed(services=services), deadline):
            if pending:
                text = "%s of zone %s: expires now for %s, with its cluster"
                log_registration(log, text, current, [one.key for one in pending])
            return len(allowing), len(theirs) - len(allowing)
        await backoff.pause()
        current = await context.store.get(current.id)
