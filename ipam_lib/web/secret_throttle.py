"""The throttle for wrong secrets: a source that keeps sending wrong secrets must wait longer and longer (429).

Wrong secrets count for each source and each subject (an address of a zone, or a service if the request names no
address). Wrong guesses by others never lock out the owner:

- Other sources are not affected.
- From the same source (behind the same NAT or proxy), a secret that was right once for that subject is always allowed.
- Requests of a service that stands on the address are counted apart from all others.

During the wait of a source, its secrets are not checked, so a right one gets the same answer as a wrong one.

The counts are in the memory of this process, bounded, and end with it. They hold no secrets, only digests under a key
of this process.
"""

from __future__ import annotations

import hmac
import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from ipam_lib.errors import AnotherSecret, NotFound, SecretShared, TooManyAttempts, WrongSecret
from ipam_lib.models import Request
from ipam_lib.web.client_address import client_address, source_of
from ipam_lib.web.middlewares import SERVICES

log = logging.getLogger(__name__)

# Enough for a typing error, or for an operator that still sends a replaced secret.
FREE_TRIES: Final = 5
# Concurrent different secrets while none was wrong: many services may request one free address at once.
MOST_AT_ONCE: Final = 32
# Penalties are 1, 2, 4 ... seconds. At one guess a minute, 8 random letters take 400,000 years.
LONGEST_PENALTY: Final = 60.0
# One wrong secret is forgotten after this time without another. Longer than any penalty, so waiting gains nothing.
SECONDS_TO_FORGET: Final = 300.0
# About 5 MB when full.
MOST_KEYS: Final = 10_000
# About 3 MB when full; more than the services of one instance.
MOST_REMEMBERED: Final = 20_000

_DOUBLINGS: Final = math.ceil(math.log2(LONGEST_PENALTY))


@dataclass(frozen=True, slots=True)
class ThrottleKey:
    """The source of an attempt and its subject: a canonical address, or a service.

    `by_service`: counts the attempts of this service apart from all others. A right secret counts for all.
    """

    source: str
    zone: str
    subject: str
    by_service: str = ""


@dataclass(slots=True)
class _Tries:
    """The attempts for one throttle key. Times are by the monotonic clock."""

    wrong: int = 0
    last_wrong: float = 0.0
    refused_until: float = 0.0
    last_digest: bytes = b""
    # Attempts without an outcome yet: the number for each digest.
    under_way: dict[bytes, int] = field(default_factory=dict)

    def forget_old(self, now: float) -> None:
        """Forget one wrong secret for each `SECONDS_TO_FORGET` since the last."""
        rounds = int((now - self.last_wrong) / SECONDS_TO_FORGET)
        if self.wrong and rounds > 0:
            self.wrong = max(0, self.wrong - rounds)
            self.last_wrong += rounds * SECONDS_TO_FORGET


@dataclass(slots=True)
class Attempt:
    """One attempt. Its caller reports the outcome."""

    _throttle: SecretThrottle
    _tries: _Tries
    _digest: bytes = field(repr=False)
    _new_digest: bytes | None = field(repr=False)

    def right(self) -> None:
        """The secret was right. A new secret in the request may be the right one now."""
        self._throttle._accept(self._digest)
        self._throttle._accept(self._new_digest)

    def wrong(self, *, repeats_count: bool = True) -> float:
        """The secret was wrong. Returns the new penalty in seconds, 0 for none.

        `repeats_count` False: the same secret as the last time does not count. For requests whose secret may be wrong
        because there is no registration at all.
        """
        throttle, tries = self._throttle, self._tries
        throttle._forget(self._digest)
        throttle._forget(self._new_digest)
        now = throttle._monotonic()
        if now < tries.refused_until or (self._digest == tries.last_digest and not repeats_count):
            return 0.0
        tries.last_digest = self._digest
        tries.forget_old(now)
        tries.wrong = min(tries.wrong + 1, FREE_TRIES + _DOUBLINGS)
        tries.last_wrong = now
        if tries.wrong < FREE_TRIES:
            return 0.0
        penalty = min(2.0 ** (tries.wrong - FREE_TRIES), LONGEST_PENALTY)
        tries.refused_until = now + penalty
        return penalty


class SecretThrottle:
    """See the module docstring. `monotonic`: the clock, in seconds."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        key: bytes | None = None,
        most_keys: int = MOST_KEYS,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self._monotonic = monotonic
        self._key = key or secrets.token_bytes(32)
        self._most_keys = most_keys
        self._most_remembered = most_remembered
        # Both in the order of their last use: the least recently used entry is removed first.
        self._tries: dict[ThrottleKey, _Tries] = {}
        self._known: dict[bytes, None] = {}

    @contextmanager
    def attempt(self, key: ThrottleKey, secret: str, new_secret: str | None = None) -> Iterator[Attempt]:
        """An attempt; report its outcome within the context, if it is known.

        `new_secret`: it is a guess as well, because a repeated request finds its registration under the new secret.
        Raises TooManyAttempts during a penalty.
        """
        digest = self._digest(key, secret)
        new_digest = None if new_secret is None else self._digest(key, new_secret)
        trial = digest if new_digest is None else digest + new_digest
        tries = self._tries.pop(key, None) or _Tries()
        self._tries[key] = tries
        if len(self._tries) > self._most_keys:
            del self._tries[next(iter(self._tries))]
        known = digest in self._known or new_digest in self._known
        if not known:
            self._check(tries, trial)
            tries.under_way[trial] = tries.under_way.get(trial, 0) + 1
        try:
            yield Attempt(self, tries, digest, new_digest)
        finally:
            if not known:
                tries.under_way[trial] -= 1
                if not tries.under_way[trial]:
                    del tries.under_way[trial]
            if not tries.wrong and not tries.under_way and self._tries.get(key) is tries:
                del self._tries[key]

    def _accept(self, digest: bytes | None) -> None:
        """Allow the secret of this digest from now on, until it is wrong."""
        if digest is None:
            return
        self._forget(digest)
        self._known[digest] = None
        if len(self._known) > self._most_remembered:
            del self._known[next(iter(self._known))]

    def _forget(self, digest: bytes | None) -> None:
        if digest is not None:
            self._known.pop(digest, None)

    def _check(self, tries: _Tries, digest: bytes) -> None:
        now = self._monotonic()
        if now < tries.refused_until:
            raise TooManyAttempts(retry_after=math.ceil(tries.refused_until - now))
        tries.forget_old(now)
        # Concurrent guesses are as many guesses: at most as many as may still be wrong.
        most = max(1, FREE_TRIES - tries.wrong) if tries.wrong else MOST_AT_ONCE
        if digest not in tries.under_way and len(tries.under_way) >= most:
            raise TooManyAttempts(retry_after=1)

    def _digest(self, key: ThrottleKey, secret: str) -> bytes:
        text = "\0".join((key.source, key.zone, key.subject, secret))
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")[:16]


SECRET_THROTTLE: Final = web.AppKey("secret_throttle", SecretThrottle)


@asynccontextmanager
async def throttled(request: web.Request, wanted: Request) -> AsyncIterator[None]:
    """The context of a use case: its exceptions tell whether the secret was right.

    The source is the peer of the connection. Raises TooManyAttempts during a penalty.
    """
    throttle = request.app[SECRET_THROTTLE]
    subject = wanted.address or f"{wanted.ip_family} {_service(wanted)}"
    key = ThrottleKey(source_of(client_address(request)), wanted.zone, subject)
    with ExitStack() as stack:
        try:
            attempt = stack.enter_context(throttle.attempt(key, wanted.secret, wanted.new_secret))
        except TooManyAttempts:
            # On a free address there is no secret to guess. A service on the address may be the owner's, whose secret
            # this process does not know yet: the guesses of its neighbours must not make it wait.
            if wanted.address is None or await request.app[SERVICES].registry.is_unrelated_service(wanted):
                raise
            key = replace(key, by_service=_service(wanted))
            attempt = stack.enter_context(throttle.attempt(key, wanted.secret, wanted.new_secret))
        try:
            yield
        except (WrongSecret, AnotherSecret):
            _wrong(request, wanted, attempt)
            raise
        except NotFound:
            # No such service under this secret. Perhaps it does not exist, and an operator repeats its request.
            if wanted.address is None:
                _wrong(request, wanted, attempt, repeats_count=False)
            raise
        except SecretShared:
            attempt.right()
            raise
        attempt.right()


def _service(wanted: Request) -> str:
    key = wanted.key
    return "\0".join((key.service_name, key.namespace_id, key.cluster_id))


def _wrong(request: web.Request, wanted: Request, attempt: Attempt, *, repeats_count: bool = True) -> None:
    if seconds := attempt.wrong(repeats_count=repeats_count):
        fields = {"ip": client_address(request), "zone": wanted.zone, "address": wanted.address, "seconds": seconds}
        log.warning("too many wrong secrets from one source: it must wait for this address", extra=fields)
