"""Key rotation: encrypt every stored secret with the current key and scheme, while services run that know both keys.

Each record is one compare-and-set. So a rotation may stop at any moment and run again; it recognizes the records that
are done. A creation that is running is skipped and read again later: a change would make its holder's next step fail.
At the end, every record is read with the new key only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ipam_lib.crypto import SIV_MARK, Cipher, SecretUnreadable
from ipam_lib.models import Filter, Registration, State
from ipam_lib.registry import writes
from ipam_lib.registry.concurrency import gather_bounded
from ipam_lib.registry.context import Backoff, Context, Deadline, pages

WRITERS = 16
PAGE = 500
PATIENCE = 4.0
"""How long the rotation waits for running creations, in longest requests. By then, recovery has undone them."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A registration whose secret is not encrypted with the new key, and why it was not changed."""

    id: str
    zone: str
    address: str
    problem: str


@dataclass(slots=True)
class RotateReport:
    """The result of a rotation.

    `rotated`: the number of changed records. `lifted`: how many of these had the old scheme. `current`: records that
    needed no change. `empty`: records without a secret. `pending`: running creations that still have the old key.
    `verified`: whether a full read at the end decrypted every secret with the new key only.
    """

    rotated: int = 0
    lifted: int = 0
    current: int = 0
    empty: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    pending: list[Registration] = field(default_factory=list)
    verified_so_far: int = 0
    verified: bool = False


async def rotate(
    context: Context,
    new: Cipher,
    *,
    dry_run: bool = False,
    on_progress: Callable[[RotateReport], None] = lambda report: None,
) -> RotateReport:
    """Encrypt every secret again with the context's cipher, which has the new and the previous key. Then read all of
    them with `new`, which has the new key only.

    A secret that no key decrypts is reported and not changed. `on_progress` is called with the report after each
    record. With `dry_run` nothing is written and nothing is verified.

    Raises Unavailable; what was done before stays done.
    """
    work = _Rotation(context, new, dry_run, on_progress)
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
    def __init__(
        self, context: Context, new: Cipher, dry_run: bool, on_progress: Callable[[RotateReport], None]
    ) -> None:
        self.context = context
        self.new = new
        self.dry_run = dry_run
        self.on_progress = on_progress
        self.report = RotateReport()

    async def round(self) -> None:
        """Rotate every record once."""
        async for page in self._pages():
            await self.take(page)

    async def take(self, registrations: Sequence[Registration]) -> None:
        """Rotate these records, several at once, and add the results to the report."""
        await gather_bounded(self._rotate, registrations, limit=WRITERS)

    def _pages(self) -> AsyncIterator[Sequence[Registration]]:
        read = self.context.store.page
        return pages(lambda after: read(Filter(states=None), after=after, limit=PAGE))

    async def _rotate(self, registration: Registration) -> None:
        """Rotate one record, and count it. Read it again as long as other requests change it."""
        backoff = Backoff(self.context.deadline())
        current: Registration | None = registration
        while current is not None and not await self._rotate_once(current, backoff.deadline):
            await backoff.pause()
            current = await self.context.store.get(registration.id)
        self.on_progress(self.report)

    async def _rotate_once(self, registration: Registration, deadline: Deadline) -> bool:
        """One attempt. False if the record has changed meanwhile."""
        report = self.report
        if not registration.secret:
            report.empty += 1
        elif self.new.is_current(registration.secret):
            report.current += 1
        elif isinstance(secret := self._read(registration), Unreadable):
            report.unreadable.append(secret)
        elif self._is_being_made(registration):
            report.pending.append(registration)
        else:
            changed = registration.changed(secret=self.context.cipher.seal(secret))
            if not self.dry_run and not await writes.replace(self.context, registration, changed, deadline):
                return False
            report.rotated += 1
            report.lifted += not registration.secret.startswith(SIV_MARK)
        return True

    def _read(self, registration: Registration) -> str | Unreadable:
        try:
            secret = self.context.cipher.unseal(registration.secret)
        except SecretUnreadable as error:
            return _unreadable(registration, error.message)
        # The old scheme decrypts to some text with every key. A text that no user would type was encrypted with another
        # key: encrypted again, it would look like a valid secret.
        if not registration.secret.startswith(SIV_MARK) and not "".join(secret.split()).isprintable():
            return _unreadable(registration, "the stored secret of the old scheme gives no text under a known key")
        return secret

    def _is_being_made(self, registration: Registration) -> bool:
        """Whether a holder may still work on this creation: until recovery may abort it."""
        if registration.state is not State.CREATING or registration.lease_until is None:
            return False
        extra_time = timedelta(seconds=self.context.settings.longest_request)
        return self.context.clock.now() <= registration.lease_until + extra_time

    async def verify(self) -> None:
        """Read every record with the new key only. A record that it does not decrypt was reported before, or was
        written since by a service that does not know the new key."""
        known = {one.id for one in self.report.unreadable} | {one.id for one in self.report.pending}
        async for page in self._pages():
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
            self.on_progress(self.report)
        self.report.verified = not self.report.unreadable and not self.report.pending


def _unreadable(registration: Registration, problem: str) -> Unreadable:
    return Unreadable(registration.id, registration.zone, registration.address, problem)
