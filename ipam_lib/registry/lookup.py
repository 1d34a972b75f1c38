"""Find the live registrations that a request is about: by its address or its service, and by its secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipam_lib.crypto import same_text
from ipam_lib.errors import AnotherSecret, NotFound, WrongSecret
from ipam_lib.models import Registration, Request, State
from ipam_lib.registry.context import Context


async def on_address(context: Context, request: Request) -> list[Registration]:
    """The registrations on the request's address, in any state and under any secret. An
    empty list if the request names no address."""
    if request.address is None:
        return []
    # The earlier service stored an address as the client wrote it.
    spellings = tuple(dict.fromkeys(text for text in (request.address, request.spelling) if text))
    return await context.store.find_address(zone=request.zone, addresses=spellings)


async def find(context: Context, request: Request, standing: Iterable[Registration]) -> list[Registration]:
    """The live registrations that the request is about: those of `standing` under its secret if it names an address,
    otherwise those that hold its service under its secret.

    `standing`: the result of `on_address` for this request.
    """
    if request.address is not None:
        return with_secret(context, standing, request.secret)
    return await context.store.find_service(
        secrets=context.cipher.candidates(request.secret),
        zone=request.zone,
        ip_family=request.ip_family,
        service=request.key,
    )


async def find_one(context: Context, request: Request) -> Registration:
    """The live registration that the request is about.

    Raises AnotherSecret if the address is registered under another secret only, NotFound if there is no registration.
    """
    standing = await on_address(context, request)
    if found := await find(context, request, standing):
        return pick_registration(found, request)
    if any(one.state is State.LIVE for one in standing):
        raise AnotherSecret
    raise NotFound(WrongSecret().message)


def with_secret(context: Context, registrations: Iterable[Registration], secret: str) -> list[Registration]:
    """The live registrations that have this secret. The comparison takes the same time, however many characters are
    right: `legacy-ctr` encrypts each character separately."""
    secrets = context.cipher.candidates(secret)
    return [one for one in registrations if one.state is State.LIVE and _same(one.secret, secrets)]


def _same(stored: str, candidates: Sequence[str]) -> bool:
    return any(same_text(stored, candidate) for candidate in candidates)


def pick_registration(found: Sequence[Registration], request: Request) -> Registration:
    """The registration to answer with, if several fit: one whose service does not expire before one whose service does,
    then the oldest."""

    def rank(registration: Registration) -> tuple[bool, str]:
        service = registration.service(request.key)
        return service is not None and service.expires_at is not None, registration.id

    return min(found, key=rank)


async def is_unrelated_service(context: Context, request: Request) -> bool:
    """Whether the request's address is registered, but not for the request's service."""
    live = [one for one in await on_address(context, request) if one.state is State.LIVE]
    return bool(live) and not any(one.service(request.key) for one in live)
