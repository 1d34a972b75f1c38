"""Register: the five cases of `POST /`.

One attempt goes from the read to the answer. If something changed in the storage meanwhile, the request starts again
from the read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ipam_lib.errors import (
    AddressOutsideZone,
    NetBoxUnavailable,
    NoContainers,
    QuotaExceeded,
    StillInFlight,
    WrongSecret,
)
from ipam_lib.models import Registered, Registration, Request, State, placeholder
from ipam_lib.netbox.base import Container
from ipam_lib.registry import lookup, quotas, recover, release, services, writes
from ipam_lib.registry.context import Backoff, Context, Deadline
from ipam_lib.registry.create import Creation, StepResult


async def register(context: Context, request: Request, *, deadline: float | None = None) -> Registered:
    """Register the request's service on its address, or on the next free address of its zone, or update the
    registration.

    The same request, repeated or concurrent, on one instance or several, gives one address. If the service is already
    registered, NetBox is not called. `deadline`: see `Context.deadline`.

    Raises UnknownZone, NoContainers, AddressOutsideZone, WrongSecret, SecretShared, AddressTaken, AddressHeld,
    ZoneFull, QuotaExceeded, StillInFlight, Unavailable.
    """
    limit = context.deadline(deadline)
    backoff = Backoff(limit)
    while True:
        outcome = await _attempt(context, request, limit)
        if isinstance(outcome, Registered):
            return outcome
        await backoff.pause()


async def _attempt(context: Context, request: Request, deadline: Deadline) -> Registered | StepResult:
    """One pass from the read to the answer. REREAD if something changed meanwhile."""
    standing = await lookup.on_address(context, request)
    done = await _update_if_registered(context, request, standing, deadline)
    if done is not None:
        return done
    if (blocking := _blocking(context, request, standing)) is not None:
        return await _resolve_conflict(context, request, blocking, deadline)
    containers = await _containers(context, request)
    if not context.netbox.available and not context.settings.pools:
        raise NetBoxUnavailable(applied=False)
    address = request.address or placeholder(request.ip_family, request.key)
    try:
        async with quotas.admitted(context, request):
            own = Registration(
                id=context.new_id(),
                zone=request.zone,
                ip_family=request.ip_family,
                address=address,
                secret=context.cipher.seal(request.secret),
                services=(request.service,),
                described=context.settings.described([request.service]),
                state=State.CREATING,
                revision=1,
                lease_until=context.lease(),
            )
            deadline.leased_call_limit(own)  # Do not insert a document if there is no time to create its prefix.
            inserted = await writes.insert(context, own, deadline)
    except QuotaExceeded:
        # An identical request may have inserted its document after the read: then this one gets the same address.
        standing = await context.store.find_address(zone=request.zone, addresses=[address])
        if standing or await lookup.find(context, request, standing):
            return StepResult.REREAD
        raise
    if not inserted:
        standing = await context.store.find_address(zone=request.zone, addresses=[own.address])
        blocking = _blocking(context, request, standing)
        return StepResult.REREAD if blocking is None else await _resolve_conflict(context, request, blocking, deadline)
    async with Creation(context, own, deadline) as creation:
        # Another creation may have ended between the read and the insert: that made the placeholder free.
        if request.address is None and (done := await _update_if_registered(context, request, [], deadline)):
            await writes.delete(context, own, deadline)
            return done
        return await _create(creation, request, containers)


async def _update_if_registered(
    context: Context, request: Request, standing: Sequence[Registration], deadline: Deadline
) -> Registered | StepResult | None:
    """Cases 1, 3 and 5: update the registration that the request is about. None if there is no such registration.

    A repeated request with a new secret finds its registration under the new secret: the first request has replaced
    the secret, and its answer may have been lost.
    """
    found = await lookup.find(context, request, standing)
    if not found and request.new_secret is not None and request.new_secret != request.secret:
        request = replace(request, secret=request.new_secret, new_secret=None)
        found = [one for one in await lookup.find(context, request, standing) if one.service(request.key)]
    if not found:
        return None
    registration = lookup.pick_registration(found, request)
    return await services.update(context, registration, request, deadline) or StepResult.REREAD


def _blocking(context: Context, request: Request, standing: Sequence[Registration]) -> Registration | None:
    """The registration that is not live and has the request's address, or its placeholder. None if there is none.

    Raises WrongSecret if the address is live under another secret.
    """
    live = request.address is not None and any(one.state is State.LIVE for one in standing)
    if live and not lookup.with_secret(context, standing, request.secret):
        raise WrongSecret
    return next((one for one in standing if one.state is not State.LIVE), None)


async def _resolve_conflict(
    context: Context, request: Request, blocking: Registration, deadline: Deadline
) -> Registered | StepResult:
    """Complete a registration that is releasing or aborting, take over a creation whose lease has ended, or wait for a
    creation that is running."""
    if blocking.state is State.RELEASING:
        await release.finish(context, [blocking], deadline)
    elif blocking.state is State.ABORTING:
        await recover.abort(context, blocking, deadline)
    elif _lease_is_over(context, blocking) and _is_the_same(context, request, blocking):
        return await _take_over(context, request, blocking, deadline)
    else:
        await _wait(context, blocking, deadline)
    return StepResult.REREAD


def _lease_is_over(context: Context, registration: Registration) -> bool:
    return registration.lease_until is not None and registration.lease_until <= context.clock.now()


def _is_the_same(context: Context, request: Request, creating: Registration) -> bool:
    """Whether the same request began this creation: same service, same secret."""
    return creating.service(request.key) is not None and creating.secret in context.cipher.candidates(request.secret)


async def _wait(context: Context, creating: Registration, deadline: Deadline) -> None:
    """Return when the registration has changed, or its lease has ended.

    Raises StillInFlight if the deadline comes first.
    """
    backoff = Backoff(deadline)
    lease_was_over = _lease_is_over(context, creating)
    while deadline.left() > 1:
        await backoff.pause()
        current = await context.store.get(creating.id)
        if current is None or current.revision != creating.revision:
            return
        if _lease_is_over(context, current) and not lease_was_over:
            return
    raise StillInFlight


async def _take_over(
    context: Context, request: Request, abandoned: Registration, deadline: Deadline
) -> Registered | StepResult:
    """Become the holder of a creation whose lease has ended, and complete it. If the previous holder created a prefix,
    use that one."""
    own = abandoned.changed(
        lease_until=context.lease(),
        services=(request.service,),
        secret=context.cipher.seal(request.secret),
    )
    deadline.leased_call_limit(own)
    containers = await _containers(context, request)
    if not await writes.replace(context, abandoned, own, deadline):
        return StepResult.REREAD
    async with Creation(context, own, deadline, taken_over=True) as creation:
        await recover.finish_prefix_transfer(context, abandoned, deadline)
        adopted = await creation.adopt()
        if adopted is not StepResult.NEXT_CANDIDATE:
            return adopted
        return await _create(creation, request, containers)


async def _create(creation: Creation, request: Request, containers: Sequence[Container]) -> Registered | StepResult:
    if request.address is not None:
        return await creation.exactly(containers[0])
    return await creation.next_free(containers)


async def _containers(context: Context, request: Request) -> Sequence[Container]:
    """The containers to create the prefix in: those of the zone and family, or the one that contains the requested
    address. If the zone cache has none, it is loaded from NetBox again (rate-limited) before the request is refused.

    Raises UnknownZone, NoContainers, AddressOutsideZone, Unavailable.
    """
    await context.zones.check(request.zone)
    found = _cached_containers(context, request)
    if not found:
        await context.refresh_zones()
        found = _cached_containers(context, request)
    if found:
        return found
    if request.address is None or not context.zones.containers(request.zone, request.ip_family):
        raise NoContainers(request.zone, request.ip_family)
    raise AddressOutsideZone(request.address, request.zone)


def _cached_containers(context: Context, request: Request) -> Sequence[Container]:
    if request.address is None:
        return context.zones.containers(request.zone, request.ip_family)
    holding = context.zones.container_of(request.zone, request.address)
    return [holding] if holding else []
