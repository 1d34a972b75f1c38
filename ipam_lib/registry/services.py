"""Changes of the services on a live registration: update, expire, expire a cluster. No NetBox call anywhere here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from ipam_lib.errors import NotFound, SecretShared
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import ClusterExpired, Registered, Registration, Request, State
from ipam_lib.registry import lookup, writes
from ipam_lib.registry.concurrency import gather_bounded
from ipam_lib.registry.context import Backoff, Context, Deadline
from ipam_lib.registry.log_fields import registration_fields, service_names

log = logging.getLogger(__name__)

CLUSTER_WRITERS = 16


async def update(
    context: Context, registration: Registration, request: Request, deadline: Deadline
) -> Registered | None:
    """Put the requesting service on a live registration whose secret it knows, as one compare-and-set: added, or
    updated with its expiration removed, and with the secret replaced when that is asked for. Nothing is written when
    nothing changes. None when somebody else changed the registration meanwhile: read it again.

    Raises SecretShared.
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
        # A secret in an old form is lifted along with the change.
        changes.setdefault("secret", context.cipher.seal(request.secret))
        if not await writes.replace(context, registration, registration.changed(**changes), deadline):
            return None
        text = "replaced the secret of %s of zone %s for %s" if renewing else "updated %s of zone %s for %s"
        more = registration_fields(registration, [request.key])
        log.info(text, registration.address, registration.zone, service_names([request.key]), extra=more)
    return Registered(registration.address, created=False)


async def expire(context: Context, request: Request, *, deadline: float | None = None) -> str:
    """Set the expiration of the requesting service to now plus its retention period (the request's, else the stored
    one), and return the address. Again is fine: it is set anew.

    Raises NotFound when there is no such registration, or no such service on it: AnotherSecret where the address is
    registered, but not under this secret.
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
            text = "%s of zone %s: expires for %s in %d days"
            more = registration_fields(registration, [request.key], expires_at=expires_at.isoformat())
            log.info(text, registration.address, registration.zone, service_names([request.key]), days, extra=more)
            return registration.address
        await backoff.pause()


async def expire_cluster(
    context: Context,
    cluster_id: str,
    *,
    deadline: float | None = None,
    told: Callable[[ClusterExpired], None] = lambda so_far: None,
) -> ClusterExpired:
    """Let every service of a cluster expire now, except those that deny it. The id is taken in any case. May be
    repeated when it was cut short: what is done stays done. `told` is called after each page, with what is done.

    Raises NotFound when no service of the cluster is registered, Unavailable when it was cut short; nothing is written
    after that.
    """
    ids = uuid_spellings(cluster_id)
    limit = context.deadline(deadline)
    expired = denied = 0

    async def expire_on(registration: Registration) -> tuple[int, int]:
        return await _expire_cluster_on(context, registration, ids, limit)

    after: str | None = None
    while page := await context.store.find_cluster(ids, after=after, limit=500):
        for one_expired, one_denied in await gather_bounded(expire_on, page, limit=CLUSTER_WRITERS):
            expired += one_expired
            denied += one_denied
        told(ClusterExpired(expired, denied))
        after = page[-1].id
    if not expired and not denied:
        raise NotFound(f"no service of cluster {cluster_id} is registered")
    return ClusterExpired(expired, denied)


async def _expire_cluster_on(
    context: Context, registration: Registration, ids: Sequence[str], deadline: Deadline
) -> tuple[int, int]:
    """Expire the cluster's services on one registration; how many expire now, and how many deny it."""
    current: Registration | None = registration
    backoff = Backoff(deadline)
    while True:
        if current is None or current.state is not State.LIVE:
            return 0, 0
        now = context.clock.now()
        theirs = [one for one in current.services if one.key.cluster_id in ids]
        willing = [one for one in theirs if not one.deny_external_cleanup]
        pending = [one for one in willing if not one.expired(now)]
        services = tuple(replace(one, expires_at=now) if one in pending else one for one in current.services)
        if not pending or await writes.replace(context, current, current.changed(services=services), deadline):
            if pending:
                text = "%s of zone %s: expires now for %s, with its cluster"
                gone = [one.key for one in pending]
                log.info(
                    text, current.address, current.zone, service_names(gone), extra=registration_fields(current, gone)
                )
            return len(willing), len(theirs) - len(willing)
        await backoff.pause()
        current = await context.store.get(current.id)
