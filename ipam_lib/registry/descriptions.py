"""Descriptions: write to each prefix in NetBox which services have its address. Never in a request.

A registration is due if its services have another text than the one that was written last (`description_due`). The
compare-and-set that changes the services sets this mark (`writes.replace`), so no crash loses it. The worker and
`reconcile` take these steps, in bulk:

1. Read the prefixes. What somebody else wrote to a description stays.
2. Store the new text in each registration (compare-and-set). So the text is recognized, also if its reply is lost.
3. Read the prefixes again, because somebody may have written meanwhile. Then write the descriptions.
4. Remove the marks (compare-and-set). If the services have changed again, the mark stays.

A request that NetBox carries out late may write an older text. The registration stores it, so `reconcile` replaces it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ipam_lib.description import DescriptionTemplate, is_ours, with_text
from ipam_lib.errors import NetBoxError
from ipam_lib.models import PoolState, Registration, State
from ipam_lib.netbox.base import Prefix, PrefixChange
from ipam_lib.registry import owned_prefixes, writes
from ipam_lib.registry.concurrency import gather_bounded
from ipam_lib.registry.context import Backoff, Context, Deadline, pages
from ipam_lib.registry.pool import claim

log = logging.getLogger(__name__)

WRITERS = 16


@dataclass(slots=True)
class DescriptionReport:
    """The result of a round. `written`: descriptions that were written in NetBox. `failed`: registrations whose
    description could not be written; the next round tries again. `error`: the first error."""

    written: int = 0
    failed: int = 0
    error: NetBoxError | None = None


async def describe(context: Context) -> DescriptionReport:
    """One round over the registrations that are due. If NetBox refuses some of them, the others are still done. While
    NetBox is away, they stay due.

    Raises StorageUnavailable.
    """
    report = DescriptionReport()
    if context.settings.description is None:
        return report
    batch = context.settings.batch
    async for page in pages(lambda after: context.store.find_undescribed(after=after, limit=batch)):
        if not context.netbox.available:
            break
        try:
            report.written += len(await write(context, page, context.deadline()))
        except NetBoxError as error:
            report.failed += len(page)
            report.error = report.error or error
    return report


async def write(context: Context, registrations: Sequence[Registration], deadline: Deadline) -> set[str]:
    """Write the descriptions of live registrations, and remove their marks. Returns the IDs of the registrations whose
    description was written.

    A registration whose prefix does not have its ID yet, because it comes from the pool, stays due: the hand-over
    writes an older text.

    Raises Unavailable.
    """
    template = context.settings.description
    assert template is not None
    # Read the entries before the prefixes: if an entry is gone by now, its prefix has the registration's ID.
    entries = await claim.entries_of(context, registrations)
    ready = [one for one in registrations if all(each.state is not PoolState.CLAIMED for each in entries[one.id])]
    standing = await _prefixes_of(context, ready, deadline)
    to_write = [one for one in ready if is_outdated(template, one, standing.get(one.id))]
    writing = {one.id for one in to_write}
    done_already = [one for one in ready if one.id not in writing]
    await gather_bounded(lambda one: _remove_mark(context, one, deadline), done_already, limit=WRITERS)
    stored = await gather_bounded(lambda one: _store_text(context, one, deadline), to_write, limit=WRITERS)
    to_write = [one for one in stored if one is not None]
    standing = await _prefixes_of(context, to_write, deadline)
    to_write = [one for one in to_write if is_outdated(template, one, standing.get(one.id))]
    if not to_write:
        return set()
    changes = [PrefixChange(standing[one.id].id, description=template.text(one.services)) for one in to_write]
    done = await context.netbox.update_many(changes, limit=deadline.limit_until(None))
    written = [one for one in to_write if standing[one.id].id in done]
    await gather_bounded(lambda one: _remove_mark(context, one, deadline, wrote=True), written, limit=WRITERS)
    return {one.id for one in written}


def is_outdated(template: DescriptionTemplate, registration: Registration, prefix: Prefix | None) -> bool:
    """Whether the description of the registration's prefix must be written: it is empty, or a former one of this
    program."""
    text = template.text(registration.services)
    if prefix is None or not text or prefix.description == text:
        return False
    return is_ours(prefix.description, registration.described)


async def _prefixes_of(
    context: Context, registrations: Sequence[Registration], deadline: Deadline
) -> dict[str, Prefix]:
    """The prefix that each registration names, by the ID of the registration, if it still belongs to it."""
    named = [one.netbox_id for one in registrations if one.netbox_id]
    if not named:
        return {}
    found = {one.id: one for one in await context.netbox.get_many(named, limit=deadline.call_limit())}
    prefixes = {one.id: found.get(one.netbox_id or 0) for one in registrations}
    return {
        one.id: prefix
        for one in registrations
        if (prefix := prefixes[one.id]) is not None and owned_prefixes.is_releasable(prefix, one)
    }


async def _store_text(context: Context, registration: Registration, deadline: Deadline) -> Registration | None:
    """Store the text that is to be written. Returns the registration as it is stored; None if it has changed."""
    described = _described(context, registration)
    if described == registration.described:
        return registration
    changed = registration.changed(described=described, description_due=True)
    return changed if await writes.replace(context, registration, changed, deadline) else None


async def _remove_mark(
    context: Context, registration: Registration, deadline: Deadline, *, wrote: bool = False
) -> None:
    """Remove the mark of a registration, unless its services have changed. `wrote`: this process has written the
    description of these services; if another one has written a newer description before, it is due again."""
    changed = registration.changed(described=_described(context, registration), description_due=False)
    if not registration.description_due and changed.described == registration.described:
        return
    if await writes.replace(context, registration, changed, deadline) or not wrote:
        return
    backoff = Backoff(deadline)
    while (current := await context.store.get(registration.id)) is not None and _is_newer(current, registration):
        if await writes.replace(context, current, current.changed(description_due=True), deadline):
            return
        await backoff.pause()


def _is_newer(current: Registration, written: Registration) -> bool:
    """Whether a registration is not due, although an older text than its own was written last."""
    return (
        current.state is State.LIVE and not current.description_due and current.described[-1:] != written.described[-1:]
    )


def _described(context: Context, registration: Registration) -> tuple[str, ...]:
    template = context.settings.description
    assert template is not None
    text = template.text(registration.services)
    return with_text(registration.described, text) if text else registration.described
