"""NetBox's REST API behind the contract of `base.NetBox`: what creates, deletes and changes (`reading`: the rest)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from ipam_lib.addresses import HOST_LENGTH, network
from ipam_lib.clock import Clock, SystemClock
from ipam_lib.errors import (
    ContainerFull,
    ContainerGone,
    DuplicatePrefix,
    NetBoxError,
    NetBoxRejected,
    NetBoxUnavailable,
)
from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container, Prefix, PrefixChange
from ipam_lib.netbox.breaker import Breaker
from ipam_lib.netbox.client_read import PREFIXES, ReadingClient, chunks, read_all, set_up_missing, unexpected_response
from ipam_lib.netbox.coalesce import Coalescer
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.responses import REJECTED, NetBoxBroken, NetBoxResponse, is_duplicate
from ipam_lib.netbox.transport import Budget, Observe, Transport

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 50
CHANGED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class NetBoxSettings:
    """The `netbox` section of the configuration, its files read. `constraint_tag`: name of the tag put on every prefix
    that is created, None for none. `connections`: how many requests are under way at most."""

    url: str
    token: str = field(repr=False)
    constraint_tag: str | None = None
    timeout_seconds: float = 10.0
    ca_file: str | Path | None = None
    custom_fields: Mapping[str, Any] = field(default_factory=dict)
    inherit_custom_fields: Sequence[str] = ()
    connections: int = 20
    user_agent: str = "ipam-api"


class NetBoxClient(ReadingClient):
    """The client. `open` it before the first call, in the event loop in which it is used, and `close` it; or use it as
    an asynchronous context manager.

    `observe` is told of every request (see `Transport`). `rng` makes the jitter.
    """

    def __init__(
        self,
        settings: NetBoxSettings,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        breaker: Breaker | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Raises ConfigError when the URL, the token or the CA file cannot be used."""
        clock = clock or SystemClock()
        rng = rng or random.Random()
        self.breaker = breaker or Breaker(clock, rng=rng)
        self._settings = settings
        self._tag: int | None = None
        self._coalescer = Coalescer(
            self.create_next_one, self.create_next_many, clock, hopeless=self.breaker.record_failures
        )
        super().__init__(
            Transport(
                settings.url,
                settings.token,
                clock=clock,
                breaker=self.breaker,
                rng=rng,
                timeout_seconds=settings.timeout_seconds,
                ca_file=settings.ca_file,
                connections=settings.connections,
                user_agent=settings.user_agent,
                observe=observe,
            )
        )

    @property
    def url(self) -> str:
        """Where NetBox is, with a slash at the end."""
        return self._transport.url

    @property
    def available(self) -> bool:
        return self.breaker.available

    @property
    def away(self) -> bool:
        """Whether it did not answer when it was last asked, several times in a row: also while one call tries again."""
        return self.breaker.state != "closed"

    def set_token(self, token: str) -> None:
        """Use this token from the next request on. Raises ConfigError when it can be none."""
        self._transport.set_token(token)

    async def open(self) -> None:
        """Make the session. Nothing is sent yet."""
        await self._transport.open()

    async def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        await self._coalescer.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def create_next(self, container: Container, *, uuid: str, limit: float) -> Prefix:
        return await self._coalescer.create_next(container, uuid=uuid, limit=limit)

    async def create_next_one(self, container: Container, *, uuid: str, limit: float) -> Prefix:
        """As `create_next`, at once and in a call of its own."""
        answer = await self._create_inside("create_next", container, [uuid], limit, as_list=False)
        return _created("create_next", answer.body, container, uuid)

    async def create_next_many(
        self, container: Container, uuids: Sequence[str], *, limit: float, reserved: bool = False
    ) -> list[Prefix]:
        if not uuids:
            return []
        status = "reserved" if reserved else "active"
        answer = await self._create_inside("create_next_many", container, uuids, limit, as_list=True, status=status)
        if not isinstance(answer.body, list) or len(answer.body) != len(uuids):
            raise unexpected_response("create_next_many", UnexpectedResponse(f"not a list of {len(uuids)} prefixes"))
        made = read_all("create_next_many", answer.body, payloads.prefix)
        by_uuid = {one.uuid: item for one, item in zip(made, answer.body, strict=True)}
        return [_created("create_next_many", by_uuid.get(uuid), container, uuid) for uuid in uuids]

    async def create_exact(self, container: Container, address: str, *, uuid: str, limit: float) -> Prefix:
        host = str(network(address))

        def payload(tag_id: int | None) -> dict[str, Any]:
            return {**self._creation(container, uuid, tag_id), "prefix": host, "vrf": container.vrf_id}

        answer = await self._create("create_exact", PREFIXES, payload, limit, expected=(400,))
        if not answer.ok:
            if is_duplicate(answer.body):
                raise DuplicatePrefix("NetBox has this prefix already", detail=answer.words)
            _refuse("create_exact", answer)
        return _created("create_exact", answer.body, container, uuid, host)

    async def _create_inside(
        self,
        operation: str,
        container: Container,
        uuids: Sequence[str],
        limit: float,
        *,
        as_list: bool,
        status: str = "active",
    ) -> NetBoxResponse:
        """Have NetBox choose the addresses. An object is answered by an object, a list by a list."""

        def payload(tag_id: int | None) -> Any:
            asked = {"prefix_length": HOST_LENGTH[container.ip_family]}
            items = [{**self._creation(container, uuid, tag_id), **asked, "status": status} for uuid in uuids]
            return items if as_list else items[0]

        path = f"{PREFIXES}{container.id}/available-prefixes/"
        answer = await self._create(operation, path, payload, limit, expected=(400, 404, 409))
        if answer.status == 409:
            raise ContainerFull("no free address left in the container", detail=answer.words)
        if answer.status == 404:
            raise ContainerGone("the container is gone from NetBox", detail=answer.words)
        if not answer.ok:
            _refuse(operation, answer)
        return answer

    async def _create(
        self,
        operation: str,
        path: str,
        payload: Callable[[int | None], Any],
        limit: float,
        expected: Sequence[int],
    ) -> NetBoxResponse:
        """Send a creation once; once more if NetBox refused it (so that it created nothing) because of the tag's id:
        the tag may have been deleted and made anew."""
        budget = self._transport.budget(limit)
        remembered = self._tag
        answer = await self._post(operation, path, payload(await self._constraint_tag(budget)), budget, expected)
        if remembered is not None and answer.status == 400 and _names_tags(answer.body):
            log.warning("NetBox no longer knows tag %d; looking for it anew", remembered)
            if self._tag == remembered:
                self._tag = None
            answer = await self._post(operation, path, payload(await self._constraint_tag(budget)), budget, expected)
        return answer

    async def _post(
        self, operation: str, path: str, body: Any, budget: Budget, expected: Sequence[int]
    ) -> NetBoxResponse:
        return await self._transport.call(operation, "POST", path, budget=budget, body=body, expected=expected)

    def _creation(self, container: Container, uuid: str, tag_id: int | None) -> dict[str, Any]:
        return payloads.creation(
            container,
            uuid=uuid,
            tag_id=tag_id,
            constants=self._settings.custom_fields,
            inherited=self._settings.inherit_custom_fields,
        )

    async def _constraint_tag(self, budget: Budget) -> int | None:
        """The id of the constraint tag, looked up once. Whatever fails here, nothing has been created."""
        name = self._settings.constraint_tag
        if name is None or self._tag is not None:
            return self._tag
        try:
            self._tag = await self._find_tag(name, budget)
        except NetBoxUnavailable as error:
            error.applied = False
            raise
        if self._tag is None:
            raise set_up_missing(
                f"there is no tag {name!r} in NetBox that the token may view: create it (netbox-setup does), give the"
                " token's user the right, or correct netbox.constraint_tag"
            )
        return self._tag

    async def delete_many(self, prefix_ids: Sequence[int], *, limit: float) -> None:
        """As the contract says. One prefix that cannot be deleted does not keep the others: where a bulk fails because
        of something in it, its prefixes are deleted one by one, and the first error is raised at the end. Only where
        none of them could be, the right is missing rather than a prefix odd, and no more is tried."""
        budget = self._transport.budget(limit)
        failures: list[NetBoxError] = []
        # Ascending, so that two instances that delete the same prefixes do not lock them in opposite order.
        for chunk in chunks(sorted(set(prefix_ids)), DELETED_AT_ONCE):
            before = len(failures)
            for prefix_id in chunk if len(chunk) == 1 else await self._delete_at_once(chunk, budget):
                try:
                    await self._delete(prefix_id, budget)
                except (NetBoxRejected, NetBoxBroken) as error:
                    failures.append(error)
            if len(failures) - before == len(chunk) > 1:
                break
        if failures:
            raise failures[0]

    async def _delete_at_once(self, prefix_ids: Sequence[int], budget: Budget) -> Sequence[int]:
        """One bulk deletion; those that are left: all when something in it made it fail, or those outside of what the
        token may delete, which NetBox passes over."""
        body = [{"id": prefix_id, "changelog_message": "released"} for prefix_id in prefix_ids]
        try:
            await self._transport.call("delete_many", "DELETE", PREFIXES, budget=budget, body=body, repeat=True)
        except (NetBoxRejected, NetBoxBroken):
            log.warning("%d prefixes could not be deleted at once; deleting them one by one", len(prefix_ids))
            return prefix_ids
        return sorted(one.id for one in await self._get_many(prefix_ids, budget))

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
        """NetBox treats what the token's constraints for an action do not cover as if it were not there: with a 404, or
        passed over in a bulk. Raises NetBoxRejected where it is there to be seen."""
        standing = sorted(one.id for one in await self._get_many(prefix_ids, budget))
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
        """As the contract says; where a bulk fails because of something in it, its prefixes are changed one by one, and
        the first error is raised at the end."""
        budget = self._transport.budget(limit)
        done: set[int] = set()
        failures: list[NetBoxError] = []
        for chunk in chunks(sorted(changes, key=lambda change: change.id), CHANGED_AT_ONCE):
            try:
                done |= await self._update(chunk, budget)
                continue
            except (NetBoxRejected, NetBoxBroken) as error:
                if len(chunk) == 1:
                    failures.append(error)
                    continue
            log.warning("%d prefixes could not be changed at once; changing them one by one", len(chunk))
            for change in chunk:
                try:
                    done |= await self._update([change], budget)
                except (NetBoxRejected, NetBoxBroken) as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return done

    async def _update(self, changes: Sequence[PrefixChange], budget: Budget) -> set[int]:
        """One bulk change; those that are gone are passed over by NetBox, and so are those outside of the right."""
        body = [
            {
                "id": change.id,
                "status": change.status,
                "custom_fields": {payloads.UUID_FIELD: change.uuid},
                "changelog_message": payloads.changelog(change.uuid, reserved=change.reserved),
            }
            for change in changes
        ]
        answer = await self._transport.call("update_many", "PATCH", PREFIXES, budget=budget, body=body, repeat=True)
        if not isinstance(answer.body, list):
            raise unexpected_response("update_many", UnexpectedResponse("not a list of prefixes"))
        wanted = {change.id: (change.uuid, change.status) for change in changes}
        changed = read_all("update_many", answer.body, payloads.prefix)
        for one in changed:
            if wanted.get(one.id) != (one.uuid, one.status):
                words = f"prefix {one.id} has {payloads.UUID_FIELD} {one.uuid!r} and is {one.status}"
                raise unexpected_response("update_many", UnexpectedResponse(words))
        done = {one.id for one in changed}
        if passed_over := sorted(wanted.keys() - done):
            await self._check_gone("change", passed_over, budget)
        return done


def _created(operation: str, body: Any, container: Container, uuid: str, address: str | None = None) -> Prefix:
    """What was created, checked. Something that differs is not undone here: if the answer were to another request (a
    proxy's confusion), that would delete somebody else's prefix."""

    def read(item: Any) -> Prefix:
        made = payloads.prefix(item)
        payloads.check_created(made, container, uuid=uuid, address=address)
        return made

    return read_all(operation, [body], read)[0]


def _names_tags(body: Any) -> bool:
    items = body if isinstance(body, list) else [body]
    return any(isinstance(item, dict) and "tags" in item for item in items)


def _refuse(operation: str, answer: NetBoxResponse) -> NoReturn:
    detail = f"{operation}: HTTP {answer.status}: {answer.words}"
    log.warning("NetBox refused: %s", detail, extra={"operation": operation})
    raise NetBoxRejected(REJECTED, detail=detail)
