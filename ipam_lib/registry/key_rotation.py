"""Rotate: bring every stored secret under the current key and scheme, beside services that know the previous key too.

Each record is one compare-and-set, so it may be cut short at any moment, and run again: what is done is recognized. A
creation that is under way is left to its holder, whose next step would be refused otherwise, and looked at again later.
At the end every record is read once more, with nothing but the new key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from ipam_lib.crypto import PREFIX, Cipher, SecretUnreadable
from ipam_lib.models import Filter, Registration, State
from ipam_lib.registry import writes
from ipam_lib.registry.concurrency import gather_bounded
from ipam_lib.registry.context import Backoff, Context

WRITERS = 16
PAGE = 500
PATIENCE = 4.0
"""How long creations under way are waited for, in longest requests: recovery has ended them by then."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A registration whose secret is not under the new key, and why it was left as it is."""

    id: str
    zone: str
    address: str
    problem: str


@dataclass(slots=True)
class RotateReport:
    """What a rotation came to. `rotated` counts the records that it changed, `lifted` those of them that stood in the
    old scheme; `current` those that had nothing to change. `empty` have no secret at all. `pending` are creations under
    way that still stand under the old key. `verified` says that a whole look at the end found every secret readable
    under the new key alone."""

    rotated: int = 0
    lifted: int = 0
    current: int = 0
    empty: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    pending: list[Registration] = field(default_factory=list)
    verified_so_far: int = 0
    verified: bool = False


class _Left(Enum):
    """What became of one record."""

    CURRENT = auto()
    EMPTY = auto()
    ROTATED = auto()
    LIFTED = auto()
    PENDING = auto()
    GONE = auto()


async def rotate(
    context: Context,
    new: Cipher,
    *,
    dry_run: bool = False,
    told: Callable[[RotateReport], None] = lambda report: None,
) -> RotateReport:
    """Seal every secret anew with the context's cipher, which knows the new key and the one before; then read all of
    them with `new`, which knows the new one only. `told` is called now and then.

    What cannot be read under any key is reported and left as it is. With `dry_run` nothing is written, and nothing
    verified.

    Raises Unavailable; what was done by then stays done.
    """
    work = _Rotation(context, new, dry_run, told)
    await work.round()
    until = context.clock.monotonic() + PATIENCE * context.settings.longest_request
    while not dry_run and work.report.pending and context.clock.monotonic() < until:
        await context.clock.sleep(1.0)
        waiting, work.report.pending = work.report.pending, []
        await work.take(await context.store.get_many([one.id for one in waiting]))
    if not dry_run:
        await work.verify()
    return work.report


class _Rotation:
    def __init__(self, context: Context, new: Cipher, dry_run: bool, told: Callable[[RotateReport], None]) -> None:
        self.context = context
        self.new = new
        self.dry_run = dry_run
        self.told = told
        self.report = RotateReport()

    async def round(self) -> None:
        """Every record once."""
        after: str | None = None
        while page := await self.context.store.page(Filter(states=None), after=after, limit=PAGE):
            await self.take(page)
            after = page[-1].id

    async def take(self, registrations: list[Registration]) -> None:
        """These records, several at a time, and what became of each into the report."""

        async def one_of(registration: Registration) -> None:
            self._note(registration, await self._rotate(registration))

        await gather_bounded(one_of, registrations, limit=WRITERS)

    def _note(self, registration: Registration, left: _Left | Unreadable) -> None:
        report = self.report
        match left:
            case Unreadable():
                report.unreadable.append(left)
            case _Left.CURRENT:
                report.current += 1
            case _Left.EMPTY:
                report.empty += 1
            case _Left.ROTATED | _Left.LIFTED:
                report.rotated += 1
                report.lifted += left is _Left.LIFTED
            case _Left.PENDING:
                report.pending.append(registration)
        self.told(report)

    async def _rotate(self, registration: Registration) -> _Left | Unreadable:
        """One record, read again for as long as others change it."""
        deadline = self.context.deadline()
        current: Registration | None = registration
        backoff = Backoff(deadline)
        while True:
            if current is None:
                return _Left.GONE
            if not current.secret:
                return _Left.EMPTY
            if self.new.is_current(current.secret):
                return _Left.CURRENT
            secret = self._read(current)
            if isinstance(secret, Unreadable):
                return secret
            if self._is_being_made(current):
                return _Left.PENDING
            lifted = not current.secret.startswith(PREFIX)
            changed = current.changed(secret=self.context.cipher.seal(secret))
            if self.dry_run or await writes.replace(self.context, current, changed, deadline):
                return _Left.LIFTED if lifted else _Left.ROTATED
            await backoff.pause()
            current = await self.context.store.get(registration.id)

    def _read(self, registration: Registration) -> str | Unreadable:
        try:
            secret = self.context.cipher.unseal(registration.secret)
        except SecretUnreadable as error:
            return _unreadable(registration, error.message)
        # The old scheme gives something under every key. What nobody would have typed was not sealed under this one:
        # sealed anew it would look like a secret for ever.
        if not registration.secret.startswith(PREFIX) and not "".join(secret.split()).isprintable():
            return _unreadable(registration, "the stored secret of the old scheme gives no text under a known key")
        return secret

    def _is_being_made(self, registration: Registration) -> bool:
        """Whether somebody may still be at this creation: until recovery may take it."""
        if registration.state is not State.CREATING or registration.lease_until is None:
            return False
        patience = timedelta(seconds=self.context.settings.longest_request)
        return self.context.clock.now() <= registration.lease_until + patience

    async def verify(self) -> None:
        """Read every record with the new key alone. What is left under another was reported before, or was written
        since by a service that does not know the new key."""
        known = {one.id for one in self.report.unreadable} | {one.id for one in self.report.pending}
        after: str | None = None
        while page := await self.context.store.page(Filter(states=None), after=after, limit=PAGE):
            for registration in page:
                if (
                    registration.secret
                    and registration.id not in known
                    and not self.new.is_current(registration.secret)
                ):
                    problem = (
                        "was written under the old key after this had rotated it: does every service know the new?"
                    )
                    self.report.unreadable.append(_unreadable(registration, problem))
            self.report.verified_so_far += len(page)
            self.told(self.report)
            after = page[-1].id
        self.report.verified = not self.report.unreadable and not self.report.pending


def _unreadable(registration: Registration, problem: str) -> Unreadable:
    return Unreadable(registration.id, registration.zone, registration.address, problem)
