"""Register: the five cases of `POST /`, as one loop that starts over from the read whenever something moved
underneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ipam_lib.errors import (
    AddressOutsideZone,
    NetBoxError,
    NetBoxUnavailable,
    NoContainers,
    StillInFlight,
    WrongSecret,
)
from ipam_lib.models import Registered, Registration, Request, Service, State, placeholder
from ipam_lib.netbox.base import Container
from ipam_lib.registry import recover, release, services, writes
from ipam_lib.registry.context import Backoff, Context, Deadline
from ipam_lib.registry.create import Creation, StepResult


async def register(context: Context, request: Request, deadline: Deadline) -> Registered:
    """Register the request's service on its address, or on the next free one of its zone, or update what is registered.

    The same request, repeated or concurrent, on one instance or several, gives one address. Where the service is
    registered already, NetBox is not asked.

    Raises UnknownZone, NoContainers, AddressOutsideZone, WrongSecret, SecretShared, AddressTaken, ZoneFull,
    StillInFlight, Unavailable.
    """
    backoff = Backoff(deadline)
    while True:
        outcome = await _attempt(context, request, deadline)
        if isinstance(outcome, Registered):
            return outcome
        await backoff.pause()


async def _attempt(context: Context, request: Request, deadline: Deadline) -> Registered | StepResult:
    """One pass from the read to the end."""
    standing: list[Registration] = []
    if request.address is not None:
        standing = await context.store.find_address(zone=request.zone, addresses=services.spellings(request))
    done = await _already_registered(context, request, standing, deadline)
    if done is not None:
        return done
    if request.address is not None and (blocked := _blocking(context, request, standing)) is not None:
        return await _resolve_conflict(context, request, blocked, deadline)
    containers = await _containers(context, request)
    if not context.netbox.available and not context.settings.pools:
        raise NetBoxUnavailable(applied=False)
    own = Registration(
        id=context.new_id(),
        zone=request.zone,
        ip_family=request.ip_family,
        address=request.address or placeholder(request.ip_family, request.key),
        secret=context.cipher.seal(request.secret),
        services=(_requested(request),),
        state=State.CREATING,
        revision=1,
        lease_until=context.lease(),
    )
    creation = Creation(context, own, deadline)
    deadline.leased_call_limit(own)  # nothing is begun that there is no time to finish
    if not await writes.insert(context, own, deadline):
        found = await context.store.find_address(zone=request.zone, addresses=[own.address])
        blocked = _blocking(context, request, found)
        return StepResult.REREAD if blocked is None else await _resolve_conflict(context, request, blocked, deadline)
    try:
        # Another creation may have ended between the read and the insert: that freed the placeholder.
        if request.address is None and (done := await _already_registered(context, request, [], deadline)):
            await writes.delete(context, own, deadline)
            return done
        return await _create(creation, request, containers)
    except Exception as error:
        await creation.give_up(error)
        raise


async def _already_registered(
    context: Context, request: Request, standing: Sequence[Registration], deadline: Deadline
) -> Registered | StepResult | None:
    """Cases 1, 3 and 5; None when the service has yet to be registered. `standing` is what stands on the request's
    address, when it names one.

    With a new secret, a repeated request finds its registration under that: the first one, whose answer may have been
    lost, has replaced the secret.
    """

    async def opened_by(wanted: Request) -> list[Registration]:
        if wanted.address is not None:
            return services.with_secret(context, standing, wanted.secret)
        return await services.find(context, wanted)

    if found := await opened_by(request):
        return await _update(context, found, request, deadline)
    if request.new_secret is not None and request.new_secret != request.secret:
        renewed = _renewed(request, request.new_secret)
        if found := [one for one in await opened_by(renewed) if one.service(request.key)]:
            return await _update(context, found, renewed, deadline)
    return None


def _renewed(request: Request, secret: str) -> Request:
    """The same request as it would be sent once its new secret is in force."""
    return replace(request, secret=secret, new_secret=None)


async def _update(
    context: Context, found: Sequence[Registration], request: Request, deadline: Deadline
) -> Registered | StepResult:
    registration = services.pick_registration(found, request)
    assert registration is not None
    return await services.update(context, registration, request, deadline) or StepResult.REREAD


def _blocking(context: Context, request: Request, standing: Sequence[Registration]) -> Registration | None:
    """Of what stands on the address (or placeholder), the registration that is not the request's to update, if there
    is one.

    Raises WrongSecret when that is a live one: the secret did not open it.
    """
    taken = request.address is not None and any(one.state is State.LIVE for one in standing)
    if taken and not services.with_secret(context, standing, request.secret):
        raise WrongSecret
    return next((one for one in standing if one.state is not State.LIVE), None)


async def _resolve_conflict(
    context: Context, request: Request, blocked: Registration, deadline: Deadline
) -> Registered | StepResult:
    """Somebody else is at this address, or creates for this service: help what is ending, wait for what is being made,
    take over what was left behind."""
    if blocked.state is State.RELEASING:
        await release.finish(context, [blocked], deadline)
    elif blocked.state is State.ABORTING:
        await recover.abort(context, blocked, deadline)
    elif _lease_is_over(context, blocked) and _is_the_same(context, request, blocked):
        return await _take_over(context, request, blocked, deadline)
    else:
        await _wait(context, blocked, deadline)
    return StepResult.REREAD


def _lease_is_over(context: Context, registration: Registration) -> bool:
    return registration.lease_until is not None and registration.lease_until <= context.clock.now()


def _is_the_same(context: Context, request: Request, creating: Registration) -> bool:
    """Whether the creation was begun by this very request: same service, same secret."""
    return creating.service(request.key) is not None and creating.secret in context.cipher.candidates(request.secret)


async def _wait(context: Context, creating: Registration, deadline: Deadline) -> None:
    """Return when the registration changed, or its lease ran out.

    Raises StillInFlight when the deadline comes first.
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
    context: Context, request: Request, left_behind: Registration, deadline: Deadline
) -> Registered | StepResult:
    """Become the holder of a creation whose lease has run out, and finish it: with what it made, if that is found."""
    own = left_behind.changed(
        lease_until=context.lease(),
        services=(_requested(request),),
        secret=context.cipher.seal(request.secret),
    )
    deadline.leased_call_limit(own)
    containers = await _containers(context, request)
    if not await writes.replace(context, left_behind, own, deadline):
        return StepResult.REREAD
    creation = Creation(context, own, deadline, taken_over=True)
    try:
        await recover.finish_prefix_transfer(context, left_behind, deadline)
        adopted = await creation.adopt()
        if adopted is not StepResult.NEXT_CANDIDATE:
            return adopted
        return await _create(creation, request, containers)
    except Exception as error:
        await creation.give_up(error)
        raise


async def _create(creation: Creation, request: Request, containers: Sequence[Container]) -> Registered | StepResult:
    if request.address is not None:
        return await creation.exactly(containers[0])
    return await creation.next_free(containers)


async def _containers(context: Context, request: Request) -> Sequence[Container]:
    """The containers to create in: those of the zone and family, or the one that holds the requested address. What the
    cache does not know may be new in NetBox, which is asked once more (rate-limited) before this says no.

    Raises UnknownZone, NoContainers, AddressOutsideZone, Unavailable.
    """
    await context.zones.check(request.zone)
    found = _cached_containers(context, request)
    if not found and await _refreshed(context):
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


async def _refreshed(context: Context) -> bool:
    """Whether the cache of zones has just been loaded again. NetBox being away is no reason to answer otherwise than
    the cache says."""
    try:
        return await context.zones.refresh()
    except NetBoxError:
        return False


def _requested(request: Request) -> Service:
    return Service(request.key, request.retention_period_days or 0, request.deny_external_cleanup)
