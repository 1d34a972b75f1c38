"""Around the use cases that look at a secret: who goes on guessing has to wait (see `guessing`)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from aiohttp import web

from ipam_lib.errors import AnotherSecret, NotFound, SecretShared, TooManyAttempts, WrongSecret
from ipam_lib.models import Request
from ipam_lib.web.guessing import Attempt, Guessing, Target, source_of

log = logging.getLogger(__name__)

GUESSING: Final = web.AppKey("guessing", Guessing)


@asynccontextmanager
async def guarded(
    request: web.Request, wanted: Request, stranger: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """Do what is wanted within this; what it raises tells whether the secret was right. `stranger`: whether nothing on
    the address that is wanted is the asking service's.

    The source is whoever holds the other end of the connection. What a header says of another one (`X-Forwarded-For`)
    is not believed: with a new one for each guess, nobody would ever have to wait.

    Raises TooManyAttempts when the source must wait.
    """
    guessing = request.app[GUESSING]
    target = _target(request, wanted)
    with ExitStack() as stack:
        try:
            attempt = stack.enter_context(guessing.attempt(target, wanted.secret, wanted.new_secret))
        except TooManyAttempts:
            # Where nothing is registered there is nothing to guess; and a service that stands on the address may be the
            # owner's, of whose secret this process does not know yet. He is not to wait for his neighbours' guesses.
            if wanted.address is None or await stranger():
                raise
            target = replace(target, by=_service(wanted))
            attempt = stack.enter_context(guessing.attempt(target, wanted.secret, wanted.new_secret))
        try:
            yield
        except (WrongSecret, AnotherSecret):
            _wrong(request, wanted, attempt)
            raise
        except NotFound:
            # No such service under this secret. Perhaps there is none at all, and an operator asks again and again.
            if wanted.address is None:
                _wrong(request, wanted, attempt, repeats_count=False)
            raise
        except SecretShared:
            attempt.right()
            raise
        attempt.right()


def _target(request: web.Request, wanted: Request) -> Target:
    return Target(source_of(request.remote), wanted.zone, wanted.address or f"{wanted.ip_family} {_service(wanted)}")


def _service(wanted: Request) -> str:
    key = wanted.key
    return "\0".join((key.service_name, key.namespace_id, key.cluster_id))


def _wrong(request: web.Request, wanted: Request, attempt: Attempt, *, repeats_count: bool = True) -> None:
    if seconds := attempt.wrong(repeats_count=repeats_count):
        fields = {"ip": request.remote, "zone": wanted.zone, "address": wanted.address, "seconds": seconds}
        log.warning("too many wrong secrets from one source: refusing it for this address for a while", extra=fields)
