"""Recover: undo creations that no request will complete.

If the lease of a `creating` document ended more than one longest request ago, a compare-and-set changes it to
`aborting`. If its holder continues later, the holder's own compare-and-set fails. Then the prefixes with this
`k8s_uuid` are deleted in NetBox, then the document. Several instances may do this at the same time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from ipam_lib.addresses import same
from ipam_lib.errors import IPAMError
from ipam_lib.models import Registration, State
from ipam_lib.registry import owned_prefixes, release, writes
from ipam_lib.registry.context import Context, Deadline, pages

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RecoverReport:
    """The result of a round: creations that it undid, and creations that failed and wait for the next round."""

    aborted: int = 0
    failed: int = 0


async def recover(context: Context) -> RecoverReport:
    """One round over every registration that is `creating` or `aborting`. If one fails, the others are still done."""
    report = RecoverReport()
    unfinished = {State.CREATING, State.ABORTING}
    async for page in pages(
        lambda after: context.store.find_states(unfinished, after=after, limit=context.settings.batch)
    ):
        for registration in page:
            try:
                report.aborted += await _recover(context, registration)
            except IPAMError as error:
                report.failed += 1
                log.warning("could not undo the unfinished registration %s: %s", registration.id, error)
    return report


async def _recover(context: Context, registration: Registration) -> bool:
    if registration.state is State.CREATING:
        extra_time = timedelta(seconds=context.settings.longest_request)
        if registration.lease_until is not None and context.clock.now() <= registration.lease_until + extra_time:
            return False
        aborting = registration.changed(state=State.ABORTING)
        if not await writes.replace(context, registration, aborting, context.deadline()):
            return False
        registration = aborting
    return await abort(context, registration)


async def abort(context: Context, registration: Registration, deadline: Deadline | None = None) -> bool:
    """Undo a registration that is `aborting`: delete the prefixes with its ID in NetBox, then its document. True if
    this call deleted the document.

    Raises Unavailable; the registration then stays `aborting`.
    """
    deadline = deadline or context.deadline()
    await finish_prefix_transfer(context, registration, deadline)
    prefixes = (await owned_prefixes.prefixes_of(context, [registration], deadline))[registration.id]
    to_delete = owned_prefixes.own_prefixes(prefixes, registration.id)
    if to_delete:
        await context.netbox.delete_many(to_delete, limit=deadline.call_limit())
    if await writes.delete(context, registration, deadline):
        log.warning("undid the unfinished registration %s (%s)", registration.id, registration.address)
        return True
    return False


async def finish_prefix_transfer(context: Context, registration: Registration, deadline: Deadline) -> None:
    """Complete the transfer of a prefix that an unfinished registration has begun (see `Creation`): its document names
    the prefix. If the receiver is gone, delete the prefix.

    Raises Unavailable.
    """
    if registration.netbox_id is None:
        return
    for prefix in await context.netbox.get_many([registration.netbox_id], limit=deadline.call_limit()):
        if not prefix.uuid or prefix.uuid == registration.id or prefix.is_container:
            continue
        holder = await context.store.get(prefix.uuid)
        if holder is not None and holder.state is State.RELEASING:
            await release.finish(context, [holder], deadline)
            holder = await context.store.get(prefix.uuid)
        if holder is None:
            await context.netbox.delete_many([prefix], limit=deadline.call_limit())
        elif holder.state is State.LIVE and holder.netbox_id != prefix.id:
            theirs = (await owned_prefixes.prefixes_of(context, [holder], deadline))[holder.id]
            if not any(one.id == holder.netbox_id and same(one.prefix, holder.address) for one in theirs):
                linked = owned_prefixes.transferred(holder, prefix.id, registration)
                await writes.replace(context, holder, linked, deadline)
