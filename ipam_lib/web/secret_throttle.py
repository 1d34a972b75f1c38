"""Guessed secrets: whoever goes on being wrong about one thing waits longer and longer before he may try again.

Counted for each source and each target (an address of a zone, or a service where a request names no address): other
sources are not affected, so nobody can lock the owner out from elsewhere. Nor from beside him, behind the same NAT or
proxy: a secret that was right once, from there and for that target, is always let through; and what is asked in the
name of a service that stands on the address is counted apart. While a source waits, its
guesses are not looked at, so a right one among them is not told from the wrong ones.

All of it is in the memory of this process, bounded, and forgotten when it ends. No secret is kept, only digests under a
key that is made anew for each process.
"""

from __future__ import annotations

import hmac
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp import web

from ipam_lib.errors import AnotherSecret, NotFound, SecretShared, TooManyAttempts, WrongSecret
from ipam_lib.models import Request

log = logging.getLogger(__name__)

# An owner who mistypes, or whose operator holds on to a secret that was replaced, does not notice anything yet.
FREE_TRIES: Final = 5
# As long as none was wrong: many services may ask for one free address at the same moment.
MOST_AT_ONCE: Final = 32
# From then on 1, 2, 4 ... seconds. At one guess a minute, one source needs 400,000 years for 8 random letters.
LONGEST_PENALTY: Final = 60.0
# For each of these without another wrong one, one is forgiven. Longer than any penalty, so that waiting gains nothing.
SECONDS_TO_FORGIVE: Final = 300.0
# Some 5 MB, when somebody fills it.
MOST_TARGETS: Final = 10_000
# Some 3 MB; more than the services behind one instance.
MOST_REMEMBERED: Final = 20_000

_DOUBLINGS: Final = math.ceil(math.log2(LONGEST_PENALTY))


@dataclass(frozen=True, slots=True)
class ThrottleKey:
    """The source of a try and its subject: a canonical address, or a service. With `by_service`, the tries of that
    service are counted apart from all others; a right secret counts for all."""

    source: str
    zone: str
    subject: str
    by_service: str = ""


@lru_cache(maxsize=4096)
def source_of(remote: str | None) -> str:
    """The source that a peer's address counts for: an IPv6 client has at least a /64 to itself, so that is one."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


@dataclass(slots=True)
class _Tries:
    """What is known of one target. Times are of the monotonic clock."""

    wrong: int = 0
    last_wrong: float = 0.0
    refused_until: float = 0.0
    last_digest: bytes = b""
    # Those whose outcome is not known yet: digest, and how many of the same.
    under_way: dict[bytes, int] = field(default_factory=dict)

    def forgive(self, now: float) -> None:
        """Forget what is long ago."""
        rounds = int((now - self.last_wrong) / SECONDS_TO_FORGIVE)
        if self.wrong and rounds > 0:
            self.wrong = max(0, self.wrong - rounds)
            self.last_wrong += rounds * SECONDS_TO_FORGIVE


@dataclass(slots=True)
class Attempt:
    """One try whose outcome is to be told."""

    _throttle: SecretThrottle
    _tries: _Tries
    _digest: bytes = field(repr=False)
    _new_digest: bytes | None = field(repr=False)

    def right(self) -> None:
        """The secret was right. Where a new one came along, that may be the right one now."""
        self._throttle._accept(self._digest)
        self._throttle._accept(self._new_digest)

    def wrong(self, *, repeats_count: bool = True) -> float:
        """The secret was wrong. Returns for how many seconds the source is refused from now on; 0 when it is not, or is
        already.

        `repeats_count` False: the same secret as the time before does not count, where being wrong does not mean that
        there is another.
        """
        throttle, tries = self._throttle, self._tries
        throttle._forget(self._digest)
        throttle._forget(self._new_digest)
        now = throttle._monotonic()
        if now < tries.refused_until or (self._digest == tries.last_digest and not repeats_count):
            return 0.0
        tries.last_digest = self._digest
        tries.forgive(now)
        tries.wrong = min(tries.wrong + 1, FREE_TRIES + _DOUBLINGS)
        tries.last_wrong = now
        if tries.wrong < FREE_TRIES:
            return 0.0
        penalty = min(2.0 ** (tries.wrong - FREE_TRIES), LONGEST_PENALTY)
        tries.refused_until = now + penalty
        return penalty


class SecretThrottle:
    """See the module. `monotonic`: seconds of a clock that never goes back."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        key: bytes | None = None,
        most_targets: int = MOST_TARGETS,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self._monotonic = monotonic
        self._key = key or secrets.token_bytes(32)
        self._most_targets = most_targets
        self._most_remembered = most_remembered
        # Both in the order of their last use: what was not used for longest is forgotten first.
        self._tries: dict[ThrottleKey, _Tries] = {}
        self._known: dict[bytes, None] = {}

    @contextmanager
    def attempt(self, target: ThrottleKey, secret: str, new_secret: str | None = None) -> Iterator[Attempt]:
        """Try a secret, and tell within the context what came of it (nothing, where that is not known).

        `new_secret`: one that may be in force already, since a repeated request finds its registration under that. So
        it is a guess as well. Raises TooManyAttempts when the source must wait.
        """
        digest = self._digest(target, secret)
        new_digest = None if new_secret is None else self._digest(target, new_secret)
        trial = digest if new_digest is None else digest + new_digest
        tries = self._tries.pop(target, None) or _Tries()
        self._tries[target] = tries
        if len(self._tries) > self._most_targets:
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
            if not tries.wrong and not tries.under_way and self._tries.get(target) is tries:
                del self._tries[target]

    def _accept(self, digest: bytes | None) -> None:
        """The secret of this digest is right: it is let through from now on, until it is wrong."""
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
        tries.forgive(now)
        # Guesses at once are as many guesses: no more may be under way than may still be wrong.
        most = max(1, FREE_TRIES - tries.wrong) if tries.wrong else MOST_AT_ONCE
        if digest not in tries.under_way and len(tries.under_way) >= most:
            raise TooManyAttempts(retry_after=1)

    def _digest(self, target: ThrottleKey, secret: str) -> bytes:
        text = "\0".join((target.source, target.zone, target.subject, secret))
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")[:16]


SECRET_THROTTLE: Final = web.AppKey("secret_throttle", SecretThrottle)


@asynccontextmanager
async def throttled(
    request: web.Request, wanted: Request, is_unrelated_service: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """Run a use case inside this context; what it raises tells whether the secret was right. `is_unrelated_service`:
    whether the address is registered, and the requesting service is not on it.

    The source is whoever holds the other end of the connection. What a header says of another one (`X-Forwarded-For`)
    is not believed: with a new one for each guess, nobody would ever have to wait.

    Raises TooManyAttempts when the source must wait.
    """
    throttle = request.app[SECRET_THROTTLE]
    target = _target(request, wanted)
    with ExitStack() as stack:
        try:
            attempt = stack.enter_context(throttle.attempt(target, wanted.secret, wanted.new_secret))
        except TooManyAttempts:
            # Where nothing is registered there is nothing to guess; and a service that stands on the address may be the
            # owner's, of whose secret this process does not know yet. He is not to wait for his neighbours' guesses.
            if wanted.address is None or await is_unrelated_service():
                raise
            target = replace(target, by_service=_service(wanted))
            attempt = stack.enter_context(throttle.attempt(target, wanted.secret, wanted.new_secret))
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


def _target(request: web.Request, wanted: Request) -> ThrottleKey:
    return ThrottleKey(
        source_of(request.remote), wanted.zone, wanted.address or f"{wanted.ip_family} {_service(wanted)}"
    )


def _service(wanted: Request) -> str:
    key = wanted.key
    return "\0".join((key.service_name, key.namespace_id, key.cluster_id))


def _wrong(request: web.Request, wanted: Request, attempt: Attempt, *, repeats_count: bool = True) -> None:
    if seconds := attempt.wrong(repeats_count=repeats_count):
        fields = {"ip": request.remote, "zone": wanted.zone, "address": wanted.address, "seconds": seconds}
        log.warning("too many wrong secrets from one source: refusing it for this address for a while", extra=fields)
