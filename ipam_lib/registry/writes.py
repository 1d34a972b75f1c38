"""Writes to the storage whose reply may be lost. After a lost reply, the document is read to see what happened.

Each write is one compare-and-set, or an insert under a new id. So it is safe to send it again: if the first one arrives
late, the storage refuses the second one, and the document that is read back is the wanted one.

Every function raises TimeLimitReached if the deadline has passed (nothing is written then), and StorageUnavailable if
it cannot find out whether the write happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from ipam_lib.errors import StorageUnavailable, StoreConflict, TimeLimitReached
from ipam_lib.models import PoolEntry, Registration, Tenure
from ipam_lib.registry.context import Context, Deadline, Document

ATTEMPTS = 3

Result = TypeVar("Result")


async def insert(context: Context, registration: Registration, deadline: Deadline) -> bool:
    """Insert a registration. False if its zone and address are taken."""

    async def write() -> bool:
        try:
            await context.store.insert(registration)
        except StoreConflict:
            return False
        return True

    async def read_back() -> bool | None:
        return await context.store.get(registration.id) == registration or None

    return await _write(context, deadline, write, read_back)


async def replace(context: Context, old: Registration, new: Registration, deadline: Deadline) -> bool:
    """Replace `old` by `new` with a compare-and-set. False if the document is no longer `old`. The same write marks the
    description of the prefix as due, if it has changed.

    Raises StoreConflict if the new address is taken.
    """
    template = context.settings.description
    marked = new if template is None else template.marked(new)

    async def read_back() -> bool | None:
        return _was_replaced(await context.store.get(old.id), old, marked)

    return await _write(context, deadline, partial(context.store.replace, old, marked), read_back)


async def delete(context: Context, old: Registration, deadline: Deadline) -> bool:
    """Delete the document if it still is `old`. False if it is not, or is already deleted."""
    return await _write(context, deadline, partial(context.store.delete, old))


async def pool_insert(context: Context, entry: PoolEntry, deadline: Deadline) -> bool:
    """Insert a pool entry. False if its zone and address are taken."""

    async def write() -> bool:
        try:
            await context.store.pool_insert([entry])
        except StoreConflict:
            return False
        return True

    async def read_back() -> bool | None:
        return await context.store.pool_get_many([entry.id]) == [entry] or None

    return await _write(context, deadline, write, read_back)


async def pool_claim(context: Context, own: Registration, deadline: Deadline) -> PoolEntry | None:
    """Claim the lowest ready address of the registration's zone and family. None if there is none.

    If a claim that seemed lost arrives later, the pool worker puts its entry back when the registration is deleted or
    has another address.
    """

    async def read_back() -> PoolEntry | None:
        return next(iter(await context.store.pool_find_by([own.id])), None)

    claim = partial(context.store.pool_claim, zone=own.zone, ip_family=own.ip_family, registration_id=own.id)
    return await _write(context, deadline, claim, read_back)


async def pool_replace(context: Context, old: PoolEntry, new: PoolEntry, deadline: Deadline) -> bool:
    """Replace the pool entry `old` by `new` with a compare-and-set. False if the entry is no longer `old`.

    Raises StoreConflict if the new address is already in the pool.
    """

    async def read_back() -> bool | None:
        return _was_replaced(next(iter(await context.store.pool_get_many([old.id])), None), old, new)

    return await _write(context, deadline, partial(context.store.pool_replace, old, new), read_back)


async def pool_delete(context: Context, old: PoolEntry, deadline: Deadline) -> bool:
    """Delete a pool entry if it still is `old`. False if it is not, or is already deleted."""
    return await _write(context, deadline, partial(context.store.pool_delete, old))


async def history_insert(context: Context, tenures: Sequence[Tenure], deadline: Deadline) -> None:
    """Insert tenures into the history. A tenure that is already there stays unchanged."""
    await _write(context, deadline, partial(context.store.history_insert, tenures))


async def _unknown() -> None:
    """For writes that are sent again without a look: the second one has the same result."""


async def _write(
    context: Context,
    deadline: Deadline,
    write: Callable[[], Awaitable[Result]],
    read_back: Callable[[], Awaitable[Result | None]] = _unknown,
) -> Result:
    """Send a write up to three times, until its reply arrives. `read_back` finds out what an earlier one did; None if
    it cannot tell, or if nothing happened."""
    # A process that was suspended past the deadline must not write: its client has gone, and may have asked for the
    # opposite since.
    if deadline.left() <= 0:
        raise TimeLimitReached
    sent = 0
    while True:
        sent += 1
        try:
            result = await write()
            if result or sent == 1 or (earlier := await read_back()) is None:
                return result
            return earlier
        except StorageUnavailable as error:
            if error.applied and (earlier := await read_back()) is not None:
                return earlier
            if sent == ATTEMPTS or deadline.left() <= 1:
                raise
        await context.clock.sleep(0.05 * 2.0 ** (sent - 1) * (0.5 + context.random.random()))


def _was_replaced(current: Document | None, old: Document, new: Document) -> bool | None:
    """Whether a compare-and-set happened, from the document that stands there now. None: `old` still stands there."""
    if current == new:
        return True
    return False if current is None or current.revision != old.revision else None
