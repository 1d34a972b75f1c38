"""What an administrator changes by hand: with the same compare-and-set as every request, beside a running service."""

from __future__ import annotations

from collections.abc import Sequence

from ipam_lib.crypto import SecretUnreadable
from ipam_lib.errors import NotFound
from ipam_lib.models import Registration, State
from ipam_lib.registry import writes
from ipam_lib.registry.context import Backoff, Context


async def replace_secret(
    context: Context, *, zone: str, addresses: Sequence[str], new_secret: str, deadline: float | None = None
) -> Registration:
    """Replace the secret of the live registration on an address, given in any of its spellings; how the registration
    then stands. However many services share it: they all need the new one from now on. Of duplicates it is that of the
    one that counts.

    Raises NotFound, Unavailable.
    """
    limit = context.deadline(deadline)
    backoff = Backoff(limit)
    while True:
        found = await context.store.find_address(zone=zone, addresses=addresses)
        live = [one for one in found if one.state is State.LIVE]
        if not live:
            raise NotFound(f"{addresses[0]} is not registered in zone {zone}")
        registration = min(live, key=lambda one: (one.duplicate, one.id))
        sealed = context.cipher.seal(new_secret)
        if registration.secret == sealed:
            return registration
        changed = registration.changed(secret=sealed)
        if await writes.replace(context, registration, changed, limit):
            return changed
        await backoff.pause()


def readable_secret(context: Context, registration: Registration) -> str | None:
    """The secret of a registration in the clear; None when it cannot be read, or there is none."""
    try:
        return context.cipher.unseal(registration.secret) if registration.secret else None
    except SecretUnreadable:
        return None
