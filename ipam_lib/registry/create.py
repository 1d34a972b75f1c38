"""Creation: from a registration that is `creating` to one that is `live`, with its prefix in NetBox.

The request that inserted the document, or took it over, is its holder: it has the lease, and no other request may write
to NetBox with the ID of the document. A crash may follow each step. Then the next holder or `recover` finds the
prefixes by this ID (`k8s_uuid`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Self

from ipam_lib import addresses
from ipam_lib.errors import (
    AddressTaken,
    ContainerFull,
    ContainerGone,
    DuplicatePrefix,
    NetBoxUnavailable,
    StorageUnavailable,
    StoreConflict,
    Unavailable,
    ZoneFull,
)
from ipam_lib.models import PoolEntry, Registered, Registration, State
from ipam_lib.netbox.base import Container, Occupant, Prefix
from ipam_lib.registry import address_history, owned_prefixes, recover, release, writes
from ipam_lib.registry.context import Backoff, Context, Deadline
from ipam_lib.registry.log_fields import log_registration
from ipam_lib.registry.pool import claim

log = logging.getLogger(__name__)

SENDINGS = 3
"""How often one creation is sent to NetBox at most. Before it is sent again, the holder searches for its prefix."""


class StepResult(Enum):
    """The result of a step that did not end in a registration."""

    REREAD = auto()
    """Another request has taken over or completed the document: read it again."""
    NEXT_CANDIDATE = auto()
    """There is no prefix, or its address is not available: ask NetBox for another prefix."""


class Creation:
    """The work of one holder on one registration. As a context manager, it cleans up after an error."""

    def __init__(self, context: Context, own: Registration, deadline: Deadline, *, taken_over: bool = False) -> None:
        self.context = context
        self.own = own
        self.deadline = deadline
        self.maybe_created = taken_over
        """Whether NetBox may have a prefix with the document's ID that this holder has not seen."""
        self.timed_out = False
        """Whether NetBox may still work on a request of this holder."""
        self.made: dict[int, Prefix] = {}
        """The known prefixes in NetBox with the document's ID, by NetBox ID."""
        self.deleted: set[int] = set()
        """NetBox IDs of prefixes that this holder asked NetBox to delete. A deletion whose reply was lost may still
        happen later, so this holder adopts none of them."""
        self.pooled = context.settings.pools
        """Whether the requested address may be in the pool, of this instance or of another one."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, _traceback: object) -> None:
        # After a cancellation nothing more is sent; recovery does the rest.
        if isinstance(error, Exception):
            await self._give_up(error)

    async def next_free(self, containers: Sequence[Container]) -> Registered | StepResult:
        """Register the lowest ready address of the pool, or the next free address of the first container that has one.
        If all are full, NetBox is asked for new containers. If it has none, use the pool, also if this instance has
        none.

        Raises ZoneFull, Unavailable.
        """
        if self.context.settings.pools and (taken := await self._from_pool()) is not StepResult.NEXT_CANDIDATE:
            return taken
        backoff, tried = Backoff(self.deadline), list(containers)
        while containers:
            for container in containers:
                while (prefix := await self._create(container, None)) is not None:
                    result = await self._go_live(prefix, container)
                    if result is not StepResult.NEXT_CANDIDATE:
                        return result
                    await backoff.pause()
            containers = await self._new_containers(tried)
            tried += containers
        await self._delete(self.made.values())
        if (taken := await self._from_pool()) is not StepResult.NEXT_CANDIDATE:
            return taken
        cooling = await self.context.store.pool_cooling(zone=self.own.zone, ip_family=self.own.ip_family)
        raise ZoneFull(self.own.zone, self.own.ip_family, cooling=cooling.number, until=cooling.until)

    async def _new_containers(self, tried: Sequence[Container]) -> Sequence[Container]:
        """The containers of the zone that are not among those tried, after NetBox was asked again (rate-limited)."""
        await self.context.refresh_zones()
        known = {one.id for one in tried}
        return [one for one in self.context.zones.containers(self.own.zone, self.own.ip_family) if one.id not in known]

    async def _from_pool(self) -> Registered | StepResult:
        """Register the lowest ready address of the pool, without a call to NetBox. NEXT_CANDIDATE if there is none."""
        while (entry := await writes.pool_claim(self.context, self.own, self.deadline)) is not None:
            result = await self._go_live_from_pool(entry)
            if result is not StepResult.NEXT_CANDIDATE:
                return result
        return StepResult.NEXT_CANDIDATE

    async def exactly(self, container: Container) -> Registered | StepResult:
        """Register the address of the document: from the pool if it is there, otherwise from NetBox if no other prefix
        inside the container covers it.

        If the other prefix belongs to a registration that is not live, or to the pool, this request waits: the unique
        index has given the address to this document, so that prefix will be deleted. A registration leaves NetBox
        first and the storage afterwards. So a prefix that is still there at a second look stays there.

        Raises AddressTaken, AddressHeld, Unavailable.
        """
        staying: set[int] = set()
        backoff = Backoff(self.deadline)
        while True:
            if self.pooled and (entry := await claim.claim_exactly(self.context, self.own, self.deadline)) is not None:
                return await self._go_live_from_pool(entry)
            mine, others = await self._look_before_creating(container)
            if not others:
                prefix = mine or await self._create_exactly(container)
                if prefix is not None:
                    result = await self._go_live(prefix, container)
                    if result is not StepResult.NEXT_CANDIDATE:
                        return result
            before, staying = staying, {one.id for one in others if not await self._will_be_deleted(one)}
            if staying & before:
                await self._delete(self.made.values())
                raise AddressTaken(self.own.address, others[0].prefix)
            if not staying:
                await backoff.pause()

    async def adopt(self) -> Registered | StepResult:
        """After a take-over: complete the registration with a prefix of the previous holder that fits the request.
        NEXT_CANDIDATE if there is none."""
        made = await self._find_created()
        self.maybe_created = False
        fitting = [one for one in made if self.own.pending or one.prefix == self.own.address]
        for prefix in fitting:
            if prefix.id in self.made:
                container = self.context.zones.container_of(self.own.zone, prefix.prefix)
                result = await self._go_live(prefix, container)
                if result is not StepResult.NEXT_CANDIDATE:
                    return result
        return StepResult.NEXT_CANDIDATE

    async def _give_up(self, error: Exception) -> None:
        """Clean up after `error`. If NetBox certainly created nothing, the document is deleted immediately. Otherwise
        it stays for the next holder or for `recover`. The lease ends early, because this holder writes no more; if
        NetBox may still work on a request, it ends after the time of one more call."""
        try:
            if not self.maybe_created and not self.made:
                await self.context.store.delete(self.own)
            elif self.own.lease_until is not None:
                extra_time = self.context.settings.netbox_call if self.timed_out else 0.0
                until = self.context.clock.now() + timedelta(seconds=extra_time)
                if until < self.own.lease_until:
                    await self.context.store.replace(self.own, self.own.changed(lease_until=until))
        except StorageUnavailable as trouble:
            log.warning("registration %s is left to recovery: %s, after: %s", self.own.id, trouble, error)

    async def _create(self, container: Container, address: str | None) -> Prefix | None:
        """Create a prefix in NetBox with the document's ID: `address`, or the next free address if it is None. None if
        the container is full or gone. After a lost reply, the holder searches for the prefix before it sends again."""
        backoff, sent = Backoff(self.deadline, attempt=3), 0
        netbox, uuid = self.context.netbox, self.own.id
        text = self.context.settings.next_description(self.own)
        while True:
            limit = self.deadline.leased_call_limit(self.own)
            sent += 1
            try:
                if address is None:
                    prefix = await netbox.create_next(container, uuid=uuid, limit=limit, description=text)
                else:
                    prefix = await netbox.create_exact(container, address, uuid=uuid, limit=limit, description=text)
                self.made[prefix.id] = prefix
                return prefix
            except ContainerFull:
                return None
            except ContainerGone as error:
                log.warning("container %s (NetBox id %d) is gone: %s", container.prefix, container.id, error.detail)
                return None
            except NetBoxUnavailable as error:
                if error.applied:
                    self.maybe_created = True
                    self.timed_out |= error.timed_out
                    known = set(self.made)
                    fresh = [one for one in await self._find_created() if one.id not in known]
                    if fresh:
                        self.maybe_created = False
                        return fresh[0]
                if error.timed_out or sent == SENDINGS:
                    raise
            await backoff.pause()

    async def _create_exactly(self, container: Container) -> Prefix | None:
        """Create the requested address in NetBox. None if another prefix has it by now; the next look finds that
        prefix."""
        try:
            prefix = await self._create(container, self.own.address)
        except DuplicatePrefix:
            return None
        if prefix is None:
            raise Unavailable(f"container {container.prefix} is gone from NetBox; try again")
        return prefix

    async def _look_before_creating(self, container: Container) -> tuple[Prefix | None, list[Prefix]]:
        """Search the container for prefixes that cover the address. Returns the document's own prefix, None if NetBox
        does not have it yet, and the other prefixes. Containers, and prefixes around the container, do not count.
        NetBox's own check for duplicates is not used: it has a race."""
        covering = await self.context.netbox.covering(container, self.own.address, limit=self.deadline.call_limit())
        inside = [one for one in covering if not one.is_container and addresses.contains(container.prefix, one.prefix)]
        own = owned_prefixes.own_prefixes(inside, self.own.id)
        self.made.update((one.id, one) for one in own)
        await self._delete(one for one in own if one.id in self.deleted)
        mine = [one for one in own if one.id not in self.deleted]
        others = [one for one in inside if one not in own]
        if not others:
            await self._delete(mine[1:])
        return (mine[0] if mine else None), others

    async def _will_be_deleted(self, prefix: Prefix) -> bool:
        """Whether the prefix will be deleted soon: it belongs to a registration that is not live, or to a pool
        entry. In the second case the next attempt looks into the pool first."""
        if prefix.uuid is None or prefix.prefix != self.own.address:
            return False
        holder = await self.context.store.get(prefix.uuid)
        if holder is not None:
            return holder.state is not State.LIVE
        entries = await self.context.store.pool_get_many([prefix.uuid])
        self.pooled = self.pooled or bool(entries)
        return bool(entries)

    async def _go_live(self, prefix: Prefix, container: Container | None) -> Registered | StepResult:
        """Make the registration live with this prefix, and delete the other prefixes with its ID. NEXT_CANDIDATE when
        NetBox has something else on the address."""
        if container is not None and await self._has_conflict(prefix, container):
            return StepResult.NEXT_CANDIDATE
        others = [one for one in self.made.values() if one.id != prefix.id]
        # The others stay until this address is available: NetBox would give them out again, and so back and forth.
        if others and not await self._address_is_free(prefix):
            return StepResult.NEXT_CANDIDATE
        await self._delete(others)
        result = await self._set_live(prefix.prefix, prefix.id, partial(self._address_is_free, prefix))
        return await self._lost_lease(prefix) if result is StepResult.REREAD else result

    async def _has_conflict(self, prefix: Prefix, container: Container) -> bool:
        """Whether another prefix, an IP address or an IP range takes the address, so that this registration must not
        have it. An IP address or range does not keep a request from the address that it names, unless the settings say
        so.

        Raises AddressTaken, Unavailable.
        """
        limit = self.deadline.call_limit()
        other = await self.context.netbox.conflict(container, prefix, limit=limit)
        if other is None:
            return False
        if self.own.pending or other.kind == "prefix":
            log.info("%s is taken by %s: choosing another address", prefix.prefix, other)
            return True
        await self._check_named(prefix.prefix, [other])
        return False

    async def _check_named(self, address: str, occupants: Sequence[Occupant]) -> None:
        """Raises AddressTaken where IP addresses and IP ranges in NetBox keep a request from the address that it
        names."""
        for one in occupants:
            if self.context.settings.ip_addresses == "refuse":
                await self._delete(self.made.values())
                raise AddressTaken(address, str(one))
            log.warning("%s of zone %s is registered, although it is %s", address, self.own.zone, one)

    async def _go_live_from_pool(self, entry: PoolEntry) -> Registered | StepResult:
        """Make the registration live with an address of the pool. The pool worker updates NetBox afterwards."""

        async def is_free() -> bool:
            return not await claim.pass_on(self.context, entry, self.deadline)

        await self._delete(self.made.values())
        return await self._set_live(entry.address, entry.netbox_id, is_free)

    async def _set_live(
        self, address: str, netbox_id: int | None, is_free: Callable[[], Awaitable[bool]]
    ) -> Registered | StepResult:
        """Change the document to live, with this address. If the unique index refuses the address, `is_free` decides
        whether to try again or to return NEXT_CANDIDATE. REREAD if another request has taken the document over."""
        backoff = Backoff(self.deadline)
        while True:
            live = self.own.changed(
                state=State.LIVE,
                address=address,
                netbox_id=netbox_id,
                lease_until=None,
                services=address_history.arrived(self.own.services, self.context.clock.now()),
            )
            try:
                if not await writes.replace(self.context, self.own, live, self.deadline):
                    return StepResult.REREAD
                keys = [service.key for service in live.services]
                log_registration(log, "registered %s of zone %s for %s", live, keys)
                return Registered(address, created=True)
            except StoreConflict:
                if not await is_free():
                    return StepResult.NEXT_CANDIDATE
            await backoff.pause()

    async def _address_is_free(self, prefix: Prefix) -> bool:
        """Whether the address of the prefix is available, after the unique index refused it. A registration that is
        releasing or aborting is completed first.

        False: this creation must ask NetBox for another address. It keeps this prefix until it has another one, so that
        NetBox does not give the same address again. If the address belongs to a live registration without prefix, that
        registration gets the prefix."""
        found = await self.context.store.find_address(zone=self.own.zone, addresses=[prefix.prefix])
        holder = next((one for one in found if not one.duplicate), None)
        if holder is None or holder.id == self.own.id:
            return True
        if holder.state is State.RELEASING:
            await release.finish(self.context, [holder], self.deadline)
            return True
        if holder.state is State.ABORTING:
            await recover.abort(self.context, holder, self.deadline)
            return True
        if holder.state is State.LIVE:
            theirs = (await owned_prefixes.prefixes_of(self.context, [holder], self.deadline))[holder.id]
            if not any(addresses.same(one.prefix, holder.address) and one.id != prefix.id for one in theirs):
                await self._transfer_prefix(prefix, holder)
        return False

    async def _transfer_prefix(self, prefix: Prefix, holder: Registration) -> None:
        """Transfer the prefix to the live registration of this address, whose own prefix is gone from NetBox.

        The order matters: (1) this document stores the NetBox ID, so that `recover` finds it; (2) NetBox stores the
        receiver's ID as `k8s_uuid`; (3) the receiver stores the NetBox ID; (4) this document removes it.
        """
        log.warning("%s is registered, but its prefix was gone from NetBox; it gets a new one", holder.address)
        await self._change(netbox_id=prefix.id)
        limit = self.deadline.leased_call_limit(self.own)
        if await self.context.netbox.assign(prefix.id, holder.id, limit=limit):
            await self._link_prefix(prefix, holder)
        self.made.pop(prefix.id, None)
        await self._change(netbox_id=None)

    async def _link_prefix(self, prefix: Prefix, holder: Registration) -> None:
        """Store the NetBox ID of the prefix in the live registration whose ID the prefix has. If that registration is
        not live any more, or names another prefix, delete this prefix."""
        current: Registration | None = holder
        backoff = Backoff(self.deadline)
        while True:
            if current is None or current.state is not State.LIVE or current.netbox_id != holder.netbox_id:
                if current is None or current.netbox_id != prefix.id:
                    await self._delete([prefix])
                return
            linked = owned_prefixes.transferred(current, prefix.id, self.own)
            if await writes.replace(self.context, current, linked, self.deadline):
                return
            await backoff.pause()
            current = await self.context.store.get(holder.id)

    async def _lost_lease(self, prefix: Prefix) -> StepResult:
        """Another request has taken the document over: the lease had ended. Wait for the result. If the registration
        does not use this prefix, delete it."""
        backoff = Backoff(self.deadline)
        while True:
            current = await self.context.store.get(self.own.id)
            if current is None or current.state is not State.CREATING:
                if current is None or current.netbox_id != prefix.id:
                    await self._delete([prefix])
                return StepResult.REREAD
            await backoff.pause()

    async def _change(self, *, netbox_id: int | None) -> None:
        """Change the document with a compare-and-set. Raises Unavailable if another request has taken it over."""
        changed = self.own.changed(netbox_id=netbox_id)
        if not await writes.replace(self.context, self.own, changed, self.deadline):
            raise Unavailable("the registration was taken over by another request; try again")
        self.own = changed

    async def _find_created(self) -> list[Prefix]:
        """The prefixes in NetBox with the document's ID, lowest NetBox ID first."""
        found = await self.context.netbox.find_by_uuid([self.own.id], limit=self.deadline.call_limit())
        own = owned_prefixes.own_prefixes(found, self.own.id)
        self.made.update((one.id, one) for one in own)
        return [one for one in own if one.id not in self.deleted]

    async def _delete(self, prefixes: Iterable[Prefix]) -> None:
        """Delete prefixes that this registration created and does not need."""
        to_delete = list(prefixes)
        if to_delete:
            limit = self.deadline.leased_call_limit(self.own)
            self.deleted.update(prefix.id for prefix in to_delete)
            await self.context.netbox.delete_many(to_delete, limit=limit)
            for prefix in to_delete:
                self.made.pop(prefix.id, None)
