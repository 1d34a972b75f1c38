"""Changes by an administrator, while the service runs: with the same compare-and-set as every request."""

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
    """Replace the secret of the live registration on an address. All services on the address need the new secret from
    now on. If the address has duplicates, the registration in force is changed.

    `addresses`: the spellings of the address. Returns the changed registration.

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
    """The decrypted secret of a registration. None if it has no secret, or if no known key decrypts it."""
    try:
        return context.cipher.unseal(registration.secret) if registration.secret else None
    except SecretUnreadable:
        return None
