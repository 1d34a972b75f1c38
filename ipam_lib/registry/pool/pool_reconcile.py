"""The part of `reconcile` for the pool: compare its entries with their prefixes in NetBox."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ipam_lib.addresses import same
from ipam_lib.models import PoolEntry, PoolState
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry import writes
from ipam_lib.registry.context import Context, pages
from ipam_lib.registry.drift import Drift, DriftKind
from ipam_lib.registry.pool import claim, drop

HELD = frozenset({PoolState.READY, PoolState.COOLING})
"""The states in which the pool holds an address, and no worker writes to its prefix."""


async def drifts(context: Context) -> AsyncIterator[Drift]:
    """The drift of each pool entry. Raises Unavailable."""
    batch, limit = context.settings.batch, context.settings.netbox_call
    async for page in pages(lambda after: context.store.pool_page(list(PoolState), after=after, limit=batch)):
        held = [one.netbox_id for one in page if one.netbox_id and one.state in HELD]
        standing = {one.id: one for one in await context.netbox.get_many(held, limit=limit)} if held else {}
        odd = {one.id: drift for one in page if (drift := _compare(context, one, standing.get(one.netbox_id or 0)))}
        # An entry that changed between the two reads is not drift.
        current = await context.store.pool_get_many(list(odd)) if odd else []
        unmoved = {(one.id, one.revision) for one in current}
        for entry in page:
            if entry.id in odd and (entry.id, entry.revision) in unmoved:
                yield odd[entry.id]


def _compare(context: Context, entry: PoolEntry, prefix: Prefix | None) -> Drift | None:
    if entry.state in HELD:
        if prefix is None or not _bears(prefix, entry):
            found = "NetBox has none" if prefix is None else f"NetBox says {prefix.prefix}, k8s_uuid {prefix.uuid}"
            return _drift(DriftKind.POOL_ENTRY_WITHOUT_PREFIX, entry, f"the pool holds it, {entry.state}; {found}")
        if prefix.status != "reserved":
            detail = f"the pool holds it, {entry.state}; NetBox says {prefix.status}"
            return _drift(DriftKind.POOL_STATUS_DIFFERS, entry, detail, prefix)
    elif entry.state is PoolState.CLAIMED:
        # The lease has ended, but the entry still has it: its hand-over was not completed.
        if entry.lease_until is not None and not claim.is_leased(context, entry):
            return _drift(DriftKind.POOL_ENTRY_STUCK, entry, "it is registered, and NetBox does not know it yet")
    elif entry.state is PoolState.DROPPING or drop.is_overdue(context, entry):
        return _drift(DriftKind.POOL_ENTRY_STUCK, entry, f"the pool is {entry.state} it")
    return None


def _bears(prefix: Prefix, entry: PoolEntry) -> bool:
    return prefix.uuid == entry.id and same(prefix.prefix, entry.address) and not prefix.is_container


def _drift(kind: DriftKind, entry: PoolEntry, detail: str, prefix: Prefix | None = None) -> Drift:
    return Drift(kind, entry.zone, entry.address, entry.id, prefix.id if prefix else None, detail)


async def end(context: Context, drift: Drift) -> str:
    """Drop an entry that does not proceed, or whose prefix is gone or has another owner. A prefix with another owner is
    not deleted. Returns the reason if the entry was not dropped, otherwise an empty text.

    Raises Unavailable.
    """
    entries = await context.store.pool_get_many([drift.registration_id or ""])
    if not entries:
        return ""
    entry, deadline = entries[0], context.deadline()
    if entry.state is PoolState.CLAIMED:
        return "the service hands it over to its registration when NetBox accepts it"
    if entry.state in HELD:
        found = await context.netbox.get_many([entry.netbox_id or 0], limit=deadline.call_limit())
        if any(_bears(one, entry) for one in found):
            return "the prefix is back"
    elif entry.state is PoolState.MAKING and not drop.is_overdue(context, entry):
        return "the pool has changed"
    if entry.state is not PoolState.DROPPING:
        dropping = entry.changed(PoolState.DROPPING, lease_until=None)
        if not await writes.pool_replace(context, entry, dropping, deadline):
            return "the pool has changed"
        entry = dropping
    await drop.drop(context, [entry], deadline)
    return ""
