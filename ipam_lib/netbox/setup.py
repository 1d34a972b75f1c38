"""Finds out which definitions, webhooks and event rules NetBox lacks for this service, and creates them. It removes and
changes nothing that is there; it only adds zones to the choice set.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ipam_lib.errors import NetBoxError, NetBoxRejected
from ipam_lib.netbox import definitions, payloads
from ipam_lib.netbox.definitions import CHOICE_SET
from ipam_lib.netbox.paging import find_named, unexpected_response
from ipam_lib.netbox.payloads import UUID_FIELD, ZONE_FIELD, UnexpectedResponse
from ipam_lib.netbox.responses import NetBoxResponse
from ipam_lib.netbox.transport import Transport
from ipam_lib.netbox.webhook_definitions import (
    EVENT_RULES,
    WEBHOOKS,
    WebhookTarget,
    event_rule_problems,
    event_rule_wanted,
    read_hooks,
    webhook_problems,
    webhook_wanted,
)

Action = Literal["present", "create", "extend", "differs", "needs_zones", "unseen"]
CHANGES: Final = ("create", "extend")
_CHANGELOG: Final = "IPAM-API: netbox-setup"
_COLOUR: Final = "2196f3"


@dataclass(frozen=True, slots=True)
class Item:
    """One object that the service needs, and the action for it.

    `present`: no action. `create`. `extend`: add `zones`. `differs`: the object is not as it should be and is left
    alone; `detail` says how it differs. `needs_zones`: there are no zones, and none were named. `unseen`: the token may
    not view such objects. `kind` is `choice_set`, `custom_field`, `tag`, `webhook` or `event_rule`. `target`: of the
    latter two. `done`: whether the action was carried out; `failure`: why it was not.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
    zones: tuple[str, ...] = ()
    target: WebhookTarget | None = None
    done: bool = False
    failure: str = ""

    @property
    def changes(self) -> bool:
        """Whether the action writes to NetBox."""
        return self.action in CHANGES

    @property
    def settled(self) -> bool:
        """Whether the object is now as it should be."""
        return self.action == "present" or self.done


class NetBoxSetup:
    """Works over an open transport, whose token may view and add definitions (and change them, to add zones)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def plan(self, zones: Sequence[str], targets: Sequence[WebhookTarget] = ()) -> list[Item]:
        """The actions that make these zones and everything else exist, in the order in which `apply` must take them.
        `targets`: where NetBox is to send events to.

        Raises NetBoxError when NetBox cannot be read.
        """
        items = [await self._plan_choice_set(zones)]
        items.append(await self._plan_field(ZONE_FIELD, definitions.zone_field_problems))
        items.append(await self._plan_field(UUID_FIELD, definitions.uuid_field_problems))
        if (name := self._transport.settings.constraint_tag) is not None:
            items.append(await self._plan_tag(name))
        return items + await self._plan_webhooks(targets)

    async def apply(self, items: Sequence[Item], report: Callable[[Item], None]) -> list[Item]:
        """Carry out the actions, and call `report` after each success. One failure does not stop the others; an action
        that needs the failed one fails too."""
        results: list[Item] = []
        for item in items:
            if not item.changes:
                results.append(item)
                continue
            try:
                await self._do(item)
                done = replace(item, done=True)
            except NetBoxError as error:
                done = replace(item, failure=error.detail or error.message)
            results.append(done)
            if done.done:
                report(done)
        return results

    async def _plan_choice_set(self, zones: Sequence[str]) -> Item:
        found = await self._look(definitions.CHOICE_SETS, CHOICE_SET)
        wanted = tuple(dict.fromkeys(zones))
        if found is None:
            return Item("choice_set", CHOICE_SET, "create" if wanted else "needs_zones", zones=wanted)
        there = _choices(found)
        missing = tuple(zone for zone in wanted if zone not in there)
        detail = f"zones: {', '.join(there)}" if there else "it has no zones"
        if not missing:
            return Item("choice_set", CHOICE_SET, "present" if there else "needs_zones", detail)
        return Item("choice_set", CHOICE_SET, "extend", detail, missing)

    async def _plan_field(self, name: str, problems_of: Callable[[Mapping[str, Any]], list[str]]) -> Item:
        found = await self._look(definitions.CUSTOM_FIELDS, name)
        if found is None:
            return Item("custom_field", name, "create")
        problems = problems_of(found)
        return Item("custom_field", name, "differs" if problems else "present", "; ".join(problems))

    async def _plan_tag(self, name: str) -> Item:
        found = await self._look(definitions.TAGS, name)
        if found is None:
            return Item("tag", name, "create")
        types = found.get("object_types") or []
        if types and definitions.PREFIX_TYPE not in types:
            return Item("tag", name, "differs", f"it may only be put on {', '.join(map(str, types))}")
        return Item("tag", name, "present")

    async def _plan_webhooks(self, targets: Sequence[WebhookTarget]) -> list[Item]:
        if not targets:
            return []
        items: list[Item] = []
        try:
            hooks = await read_hooks(self._transport, "netbox-setup")
        except NetBoxRejected as error:
            detail = f"the token may not view webhooks and event rules: {error.detail}"
            return [
                Item(kind, one.name, "unseen", detail, target=one)
                for one in targets
                for kind in ("webhook", "event_rule")
            ]
        for one in targets:
            hook = hooks.to(one.url)
            problems = [] if hook is None else webhook_problems(hook, one.secret)
            items.append(_item("webhook", one, there=hook is not None, problems=problems))
            rules = [] if hook is None else hooks.rules_of(hook)
            problems = event_rule_problems(rules) if rules else []
            items.append(_item("event_rule", one, there=bool(rules), problems=problems))
        return items

    async def _add_event_rule(self, target: WebhookTarget) -> None:
        hook = (await read_hooks(self._transport, "netbox-setup")).to(target.url)
        if hook is None:
            raise NetBoxRejected("not tried", detail="not tried: it needs the webhook")
        await self._add(EVENT_RULES, event_rule_wanted(target, _id(hook)))

    async def _do(self, item: Item) -> None:
        if item.target is not None:
            if item.kind == "webhook":
                await self._add(WEBHOOKS, webhook_wanted(item.target))
            else:
                await self._add_event_rule(item.target)
            return
        match item.kind, item.action:
            case "choice_set", "create":
                choices = [[zone, zone] for zone in item.zones]
                await self._add(definitions.CHOICE_SETS, {"name": CHOICE_SET, "extra_choices": choices})
            case "choice_set", _:
                await self._extend(item.zones)
            case "custom_field", _ if item.name == ZONE_FIELD:
                choice_set = await self._look(definitions.CHOICE_SETS, CHOICE_SET)
                if choice_set is None:
                    raise NetBoxRejected("not tried", detail=f"not tried: it needs the choice set {CHOICE_SET}")
                wanted = {**definitions.ZONE_FIELD_WANTED, "choice_set": _id(choice_set)}
                await self._add(definitions.CUSTOM_FIELDS, wanted)
            case "custom_field", _:
                await self._add(definitions.CUSTOM_FIELDS, dict(definitions.UUID_FIELD_WANTED))
            case _:
                tag = {"name": item.name, "slug": slug(item.name), "color": _COLOUR}
                await self._add(definitions.TAGS, tag)

    async def _extend(self, zones: Sequence[str]) -> None:
        """Add zones after those that are there. NetBox replaces the whole list. NetBox 4.6 refuses the change if
        the choice set was changed since it was read (ETag); for older versions it is read again afterwards."""
        found = await self._look(definitions.CHOICE_SETS, CHOICE_SET)
        if found is None:
            raise NetBoxRejected("gone", detail=f"the choice set {CHOICE_SET} is gone; run this again")
        path = f"{definitions.CHOICE_SETS}{_id(found)}/"
        shown = await self._transport.call("netbox-setup", "GET", path, budget=self._transport.budget())
        there = _choices(shown.body)
        choices = [*shown.body["extra_choices"], *([zone, zone] for zone in zones if zone not in there)]
        answer = await self._transport.call(
            "netbox-setup",
            "PATCH",
            path,
            budget=self._transport.budget(),
            body={"extra_choices": choices, "changelog_message": _CHANGELOG},
            expected=(400, 403, 412),
            if_match=shown.etag,
        )
        if answer.status == 412:
            raise NetBoxRejected("changed", detail="it was changed at the same moment; run this again")
        _accept(answer, f"change {path}")
        kept = await self._transport.call("netbox-setup", "GET", path, budget=self._transport.budget())
        if missing := [zone for zone in [*there, *zones] if zone not in _choices(kept.body)]:
            raise NetBoxRejected("lost", detail=f"NetBox did not keep {', '.join(missing)}: look at the choice set")

    async def _add(self, path: str, wanted: dict[str, Any]) -> None:
        body = wanted | {"changelog_message": _CHANGELOG}
        answer = await self._transport.call(
            "netbox-setup", "POST", path, budget=self._transport.budget(), body=body, expected=(400, 403)
        )
        _accept(answer, f"add to {path}")
        if not isinstance(answer.body, dict) or answer.body.get("name") != wanted["name"]:
            raise unexpected_response(
                "netbox-setup", UnexpectedResponse(f"not the {wanted['name']} that was to be created")
            )

    async def _look(self, path: str, name: str) -> dict[str, Any] | None:
        """The object of exactly this name, or None. Raises NetBoxError."""
        found = await find_named(self._transport, "netbox-setup", path, name, self._transport.budget())
        return found if isinstance(found, dict) else None


def _item(kind: str, target: WebhookTarget, *, there: bool, problems: Sequence[str]) -> Item:
    action: Action = "create" if not there else "differs" if problems else "present"
    return Item(kind, target.name, action, "; ".join(problems), target=target)


def slug(name: str) -> str:
    """A slug for a tag of this name, as NetBox's own form suggests it: letters, digits, hyphens, underscores."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", plain.lower()).strip("-")[:100] or "tag"


def _accept(answer: NetBoxResponse, what: str) -> None:
    """Raises NetBoxRejected with NetBox's own text."""
    if answer.status == 403:
        raise NetBoxRejected("refused", detail=f"the token may not {what} ({answer.words})")
    if not answer.ok:
        raise NetBoxRejected("refused", detail=f"NetBox refuses: {answer.words}")


def _choices(item: Any) -> list[str]:
    try:
        return payloads.choices(item)
    except UnexpectedResponse as error:
        raise unexpected_response("netbox-setup", error) from None


def _id(item: Any) -> int:
    try:
        return payloads.id_of(item)
    except UnexpectedResponse as error:
        raise unexpected_response("netbox-setup", error) from None
