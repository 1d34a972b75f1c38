"""Writes to storage whose reply may be lost: read the document back before deciding what happened.

Each of these is one compare-and-set (or an insert under a fresh id), so sending it again is safe: should the first one
still arrive, the second is refused, and the document then reads as it was meant to.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipam_lib.errors import StorageUnavailable, StoreConflict, Unavailable
from ipam_lib.models import PoolEntry, Registration, Tenure
from ipam_lib.registry.context import TOO_SLOW, Context, Deadline

ATTEMPTS = 3


async def insert(context: Context, registration: Registration, deadline: Deadline) -> bool:
    """Insert; False when zone and address are taken.

    Raises StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            await context.store.insert(registration)
            return True
        except StoreConflict:
            return attempt > 0 and await context.store.get(registration.id) == registration
        except StorageUnavailable as error:
            if error.applied and await context.store.get(registration.id) == registration:
                return True
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def replace(context: Context, old: Registration, new: Registration, deadline: Deadline) -> bool:
    """Compare-and-set; False when the document is no longer `old`.

    Raises StoreConflict when the new address is taken, StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            done = await context.store.replace(old, new)
            return done or (attempt > 0 and await context.store.get(old.id) == new)
        except StorageUnavailable as error:
            if error.applied:
                current = await context.store.get(old.id)
                if current == new:
                    return True
                if current is None or current.revision != old.revision:
                    return False
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def delete(context: Context, old: Registration, deadline: Deadline) -> bool:
    """Remove the document if it still is `old`; False when it is not, or is gone already.

    Raises StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            return await context.store.delete(old)
        except StorageUnavailable as error:
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def pool_claim(context: Context, own: Registration, deadline: Deadline) -> PoolEntry | None:
    """The lowest ready address of the registration's zone and family, claimed by it; None when there is none. Should a
    claim that seemed lost arrive later, its entry goes back when the registration has another address, or is gone.

    Raises StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            return await context.store.pool_claim(zone=own.zone, ip_family=own.ip_family, registration_id=own.id)
        except StorageUnavailable as error:
            if error.applied and (claimed := await context.store.pool_find_by([own.id])):
                return claimed[0]
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def pool_replace(context: Context, old: PoolEntry, new: PoolEntry, deadline: Deadline) -> bool:
    """Compare-and-set of a pool entry; False when it is no longer `old`.

    Raises StoreConflict when the new address is in the pool, StorageUnavailable when it cannot be told whether it
    happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            done = await context.store.pool_replace(old, new)
            return done or (attempt > 0 and await context.store.pool_get_many([old.id]) == [new])
        except StorageUnavailable as error:
            if error.applied:
                current = await context.store.pool_get_many([old.id])
                if current == [new]:
                    return True
                if not current or current[0].revision != old.revision:
                    return False
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def pool_delete(context: Context, old: PoolEntry, deadline: Deadline) -> bool:
    """Remove a pool entry if it still is `old`; False when it is not, or is gone already.

    Raises StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            return await context.store.pool_delete(old)
        except StorageUnavailable as error:
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


async def history_insert(context: Context, tenures: Sequence[Tenure], deadline: Deadline) -> None:
    """Write to the history; what is there already stays as it is.

    Raises StorageUnavailable when it cannot be told whether it happened.
    """
    _check(deadline)
    for attempt in range(ATTEMPTS):
        try:
            return await context.store.history_insert(tenures)
        except StorageUnavailable as error:
            await _before_another_attempt(context, attempt, deadline, error)
    raise AssertionError("unreachable")


def _check(deadline: Deadline) -> None:
    """Who was suspended past his deadline writes nothing: his caller has gone, and may have asked for the opposite
    since."""
    if deadline.left() <= 0:
        raise Unavailable(TOO_SLOW)


async def _before_another_attempt(
    context: Context, attempt: int, deadline: Deadline, error: StorageUnavailable
) -> None:
    """Wait a moment, or raise `error` when attempts or time have run out."""
    if attempt == ATTEMPTS - 1 or deadline.left() <= 1:
        raise error
    await context.clock.sleep(0.05 * 2**attempt * (0.5 + context.random.random()))
