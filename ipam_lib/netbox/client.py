"""NetBox's REST API behind the contract of `base.NetBox`: creations, changes and deletions, with reads by
`PrefixReader`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from ipam_lib.addresses import HOST_LENGTH, network
from ipam_lib.errors import (
    ContainerFull,
    ContainerGone,
    DuplicatePrefix,
    NetBoxRejected,
    NetBoxUnavailable,
)
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import NO_DESCRIPTIONS, Container, NetBox, Occupant, Prefix, PrefixChange, SpaceUse
from ipam_lib.netbox.coalesce import Coalescer
from ipam_lib.netbox.definitions import TAGS, refused_field
from ipam_lib.netbox.paging import chunks, find_named, read_all, set_up_missing, unexpected_response
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.prefix_reader import PREFIXES, PrefixReader
from ipam_lib.netbox.responses import (
    REJECTED,
    Failures,
    NetBoxBroken,
    NetBoxResponse,
    is_duplicate,
    names_tags,
)
from ipam_lib.netbox.space import AddressSpace
from ipam_lib.netbox.space_create import SpaceCreator
from ipam_lib.netbox.space_reader import SpaceReader
from ipam_lib.netbox.transport import Budget, Transport
from ipam_lib.netbox.zone_reader import ZoneReader

log = logging.getLogger(__name__)

AT_ONCE = 50
"""How many prefixes one request changes or deletes."""


class NetBoxClient(NetBox):
    """The client, over a transport that it opens and closes. `open` it in the event loop that uses it, and `close` it;
    or use it as an asynchronous context manager.

    `zone_reader` reads the zones over the same transport.
    """

    def __init__(self, transport: Transport) -> None:
        self.breaker = transport.breaker
        self.zone_reader = ZoneReader(transport)
        self._reader = PrefixReader(transport)
        self._transport = transport
        self._settings = transport.settings
        self._tag: int | None = None
        self.refused_field: str | None = None
        """The problem with the custom field because of which NetBox refused the latest prefix; None after a success."""
        self.space = AddressSpace(
            SpaceReader(transport),
            clock=transport.clock,
            policy=transport.settings.ip_addresses,
            refresh_seconds=transport.settings.refresh_seconds,
            limit=transport.settings.timeout_seconds,
        )
        self._creator = SpaceCreator(self.space, self, transport.clock)
        self._coalescer = Coalescer(
            self.create_next_one, self.create_next_many, transport.clock, on_timeout=self.breaker.record_failures
        )

    @property
    def available(self) -> bool:
        return self.breaker.available

    @property
    def away(self) -> bool:
        """Whether the latest requests failed several times in a row, also while one request tries again."""
        return self.breaker.state != "closed"

    def set_token(self, token: str) -> None:
        """Use this token from the next request on. Raises ConfigError when it cannot be a token."""
        self._transport.set_token(token)

    async def open(self) -> None:
        """Make the session. Nothing is sent yet."""
        await self._transport.open()

    async def close(self) -> None:
        """Close the connections. Closing twice is harmless."""
        await self._coalescer.close()
        await self.space.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        return await self._reader.covering(container, address, self._transport.budget(limit))

    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        return await self._reader.find_by_uuid(uuids, self._transport.budget(limit))

    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        return await self._reader.get_many(prefix_ids, self._transport.budget(limit))

    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        return await self._reader.list_prefixes(container, after, self._transport.budget(limit))

    async def create_next(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        return await self._coalescer.create_next(container, uuid=uuid, limit=limit, description=description)

    async def create_next_one(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        """As `create_next`, in a call of its own and without waiting for others."""
        return (await self.create_next_many(container, [uuid], limit=limit, descriptions={uuid: description}))[0]

    async def create_next_many(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool = False,
        descriptions: Mapping[str, str] = NO_DESCRIPTIONS,
    ) -> list[Prefix]:
        if not uuids:
            return []
        return await self._creator.create_next(
            container, uuids, limit=limit, reserved=reserved, descriptions=descriptions
        )

    async def create_exact(
        self, container: Container, address: str, *, uuid: str, limit: float, description: str = ""
    ) -> Prefix:
        host = str(network(address))
        return await self._creator.create_exact(container, host, uuid=uuid, limit=limit, description=description)

    async def conflict(self, container: Container, prefix: Prefix, *, limit: float) -> Occupant | None:
        return await self.space.conflict(container, prefix, limit=limit)

    def space_use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        return self.space.use(container, inner)

    async def read_space(self, container: Container) -> str | None:
        return await self.space.load(container)

    async def create_given(
        self,
        container: Container,
        addresses: Sequence[str],
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool,
        descriptions: Mapping[str, str],
    ) -> list[Prefix]:
        """Create host prefixes at given addresses (see `space_create.PrefixCreator`)."""
        asked = [{"prefix": one, "vrf": container.vrf_id} for one in addresses]
        payload = self._creations(container, asked, uuids, reserved, descriptions)
        operation = "create_exact" if len(uuids) == 1 else "create_exact_many"
        answer = await self._create(operation, PREFIXES, payload, limit, expected=(400,))
        if not answer.ok:
            if is_duplicate(answer.body):
                raise DuplicatePrefix("NetBox has this prefix already", detail=answer.words)
            self._refuse(operation, answer)
        return _all_created(operation, answer.body, container, uuids, addresses)

    async def create_free(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool,
        descriptions: Mapping[str, str],
    ) -> list[Prefix]:
        """Let NetBox choose the addresses (see `space_create.PrefixCreator`)."""
        asked = [{"prefix_length": HOST_LENGTH[container.ip_family]}] * len(uuids)
        payload = self._creations(container, asked, uuids, reserved, descriptions)
        operation = "create_next" if len(uuids) == 1 else "create_next_many"
        path = f"{PREFIXES}{container.id}/available-prefixes/"
        answer = await self._create(operation, path, payload, limit, expected=(400, 404, 409))
        if answer.status == 409:
            raise ContainerFull("no free address left in the container", detail=answer.words)
        if answer.status == 404:
            raise ContainerGone("the container is gone from NetBox", detail=answer.words)
        if not answer.ok:
            self._refuse(operation, answer)
        return _all_created(operation, answer.body, container, uuids)

    async def _create(
        self,
        operation: str,
        path: str,
        payload: Callable[[int | None], Any],
        limit: float,
        expected: Sequence[int],
    ) -> NetBoxResponse:
        """Send a creation once. If NetBox refuses it because of the tag's id, it created nothing: the tag may have been
        deleted and created again, so the creation is sent once more with the tag's new id."""
        budget = self._transport.budget(limit)
        remembered = self._tag
        answer = await self._post(operation, path, payload(await self._constraint_tag(budget)), budget, expected)
        if remembered is not None and answer.status == 400 and names_tags(answer.body):
            log.warning("NetBox has no tag %d any more; looking up its id again", remembered)
            if self._tag == remembered:
                self._tag = None
            answer = await self._post(operation, path, payload(await self._constraint_tag(budget)), budget, expected)
        if answer.ok:
            self.refused_field = None
        return answer

    def _refuse(self, operation: str, answer: NetBoxResponse) -> NoReturn:
        detail = f"{operation}: HTTP {answer.status}: {answer.words}"
        log.warning("NetBox refused: %s", detail, extra={"operation": operation})
        self.refused_field = refused_field(answer.body)
        if self.refused_field is None:
            raise NetBoxRejected(REJECTED, detail=detail)
        message = f"{self.refused_field}; see netbox.custom_fields and the service's log"
        raise NetBoxRejected(message, detail=detail)

    async def _post(
        self, operation: str, path: str, body: Any, budget: Budget, expected: Sequence[int]
    ) -> NetBoxResponse:
        return await self._transport.call(operation, "POST", path, budget=budget, body=body, expected=expected)

    def _creations(
        self,
        container: Container,
        asked: Sequence[Mapping[str, Any]],
        uuids: Sequence[str],
        reserved: bool,
        descriptions: Mapping[str, str],
    ) -> Callable[[int | None], Any]:
        """The body of a creation, when the id of the tag is known: a list, or one object for one prefix, which NetBox
        answers with one object."""

        def payload(tag_id: int | None) -> Any:
            items = [
                payloads.creation(
                    container,
                    uuid=uuid,
                    tag_id=tag_id,
                    constants=self._settings.custom_fields,
                    inherited=self._settings.inherit_custom_fields,
                    description=descriptions.get(uuid, ""),
                )
                | {**one, "status": "reserved" if reserved else "active"}
                for one, uuid in zip(asked, uuids, strict=True)
            ]
            return items if len(items) > 1 else items[0]

        return payload

    async def _constraint_tag(self, budget: Budget) -> int | None:
        """The id of the constraint tag, looked up once. An error here means that nothing was created."""
        name = self._settings.constraint_tag
        if name is None or self._tag is not None:
            return self._tag
        try:
            found = await find_named(self._transport, "tag", TAGS, name, budget)
            self._tag = None if found is None else read_all("tag", [found], payloads.id_of)[0]
        except NetBoxUnavailable as error:
            error.applied = False
            raise
        if self._tag is None:
            raise set_up_missing(
                f"there is no tag {name!r} in NetBox that the token may view: create it (netbox-setup does), give the"
                " token's user the right, or correct netbox.constraint_tag"
            )
        return self._tag

    async def delete_many(self, prefixes: Sequence[Prefix], *, limit: float) -> None:
        """As the contract says. If NetBox refuses a bulk deletion, its prefixes are deleted one by one, and the first
        error is raised at the end. If none of them could be deleted, the right is missing, and the rest is not tried.
        """
        budget = self._transport.budget(limit)
        failures = Failures()
        by_id = {prefix.id: prefix for prefix in prefixes}
        # Ascending, so that two instances that delete the same prefixes do not lock them in opposite order.
        for chunk in chunks(sorted(by_id), AT_ONCE):
            before = len(failures.errors)
            left = chunk if len(chunk) == 1 else await self._delete_at_once(chunk, budget)
            self.space.released(by_id[one] for one in chunk if one not in left)
            for prefix_id in left:
                with failures.collected():
                    await self._delete(prefix_id, budget)
                    self.space.released([by_id[prefix_id]])
            if len(failures.errors) - before == len(chunk) > 1:
                break
        failures.raise_first()

    async def _delete_at_once(self, prefix_ids: Sequence[int], budget: Budget) -> Sequence[int]:
        """One bulk deletion. Returns the prefixes that are left: all of them if NetBox refused, or those that the
        token's constraints exclude, which NetBox skips."""
        body = [{"id": prefix_id, "changelog_message": "released"} for prefix_id in prefix_ids]
        try:
            await self._transport.call("delete_many", "DELETE", PREFIXES, budget=budget, body=body, repeat=True)
        except (NetBoxRejected, NetBoxBroken):
            log.warning("%d prefixes could not be deleted at once; deleting them one by one", len(prefix_ids))
            return prefix_ids
        return sorted(one.id for one in await self._reader.get_many(prefix_ids, budget))

    async def _delete(self, prefix_id: int, budget: Budget) -> None:
        answer = await self._transport.call(
            "delete_many",
            "DELETE",
            f"{PREFIXES}{prefix_id}/",
            budget=budget,
            body={"changelog_message": "released"},
            repeat=True,
            expected=(404,),
        )
        if not answer.ok:
            await self._check_gone("delete", [prefix_id], budget)

    async def _check_gone(self, action: str, prefix_ids: Sequence[int], budget: Budget) -> None:
        """Raises NetBoxRejected if one of these prefixes exists. NetBox treats a prefix outside of the token's
        constraints for an action as absent: 404, or skipped in a bulk."""
        standing = sorted(one.id for one in await self._reader.get_many(prefix_ids, budget))
        if standing:
            ids = ", ".join(map(str, standing))
            detail = f"the token may view prefix {ids}, but not {action} it: see the constraints of its permissions"
            log.warning("NetBox refused: %s", detail)
            raise NetBoxRejected(REJECTED, detail=detail)

    async def assign(self, prefix_id: int, uuid: str, *, limit: float) -> bool:
        budget = self._transport.budget(limit)
        answer = await self._transport.call(
            "assign",
            "PATCH",
            f"{PREFIXES}{prefix_id}/",
            budget=budget,
            body={"custom_fields": {payloads.UUID_FIELD: uuid}, "changelog_message": f"registration {uuid}"},
            repeat=True,
            expected=(404,),
        )
        if not answer.ok:
            await self._check_gone("change", [prefix_id], budget)
            return False
        [changed] = read_all("assign", [answer.body], payloads.prefix)
        if changed.id != prefix_id or changed.uuid != uuid:
            raise unexpected_response(
                "assign", UnexpectedResponse(f"prefix {changed.id} has {payloads.UUID_FIELD} {changed.uuid!r}")
            )
        return True

    async def update_many(self, changes: Sequence[PrefixChange], *, limit: float) -> set[int]:
        """As the contract says. If NetBox refuses a bulk change, its prefixes are changed one by one, and the first
        error is raised at the end."""
        budget = self._transport.budget(limit)
        done: set[int] = set()
        failures = Failures()
        for chunk in chunks(sorted(changes, key=lambda change: change.id), AT_ONCE):
            left = [chunk]
            if len(chunk) > 1:
                try:
                    done |= await self._update(chunk, budget)
                    continue
                except (NetBoxRejected, NetBoxBroken):
                    log.warning("%d prefixes could not be changed at once; changing them one by one", len(chunk))
                    left = [[change] for change in chunk]
            for changes_of_one in left:
                with failures.collected():
                    done |= await self._update(changes_of_one, budget)
        failures.raise_first()
        return done

    async def _update(self, changes: Sequence[PrefixChange], budget: Budget) -> set[int]:
        """One bulk change. NetBox skips prefixes that are gone, and those that the token's constraints exclude."""
        body = [payloads.change(one) for one in changes]
        answer = await self._transport.call("update_many", "PATCH", PREFIXES, budget=budget, body=body, repeat=True)
        if not isinstance(answer.body, list):
            raise unexpected_response("update_many", UnexpectedResponse("not a list of prefixes"))
        wanted = {change.id: change for change in changes}
        changed = read_all("update_many", answer.body, payloads.prefix)
        for one in changed:
            change = wanted.get(one.id)
            if change is None or change.uuid not in (None, one.uuid) or change.status not in (None, one.status):
                words = f"prefix {one.id} has {payloads.UUID_FIELD} {one.uuid!r} and is {one.status}"
                raise unexpected_response("update_many", UnexpectedResponse(words))
        done = {one.id for one in changed}
        if passed_over := sorted(wanted.keys() - done):
            await self._check_gone("change", passed_over, budget)
        return done


def _all_created(
    operation: str, body: Any, container: Container, uuids: Sequence[str], addresses: Sequence[str] | None = None
) -> list[Prefix]:
    """What was created, checked, in the order of `uuids`; NetBox answers a single creation with an object."""
    items = body if len(uuids) > 1 else [body]
    if not isinstance(items, list) or len(items) != len(uuids):
        raise unexpected_response(operation, UnexpectedResponse(f"not a list of {len(uuids)} prefixes"))
    by_uuid = {one.uuid: item for one, item in zip(read_all(operation, items, payloads.prefix), items, strict=True)}
    return [
        _created(operation, by_uuid.get(uuid, items[0]), container, uuid, addresses[number] if addresses else None)
        for number, uuid in enumerate(uuids)
    ]


def _created(operation: str, body: Any, container: Container, uuid: str, address: str | None = None) -> Prefix:
    """The created prefix, checked. A prefix that differs is not deleted here: if a proxy mixed up two answers, it
    may belong to another client."""

    def read(item: Any) -> Prefix:
        made = payloads.prefix(item)
        payloads.check_created(made, container, uuid=uuid, address=address)
        return made

    return read_all(operation, [body], read)[0]
