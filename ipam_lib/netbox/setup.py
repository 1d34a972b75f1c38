"""What NetBox lacks of what this service needs: found out, and created. What is there is never removed or changed, but
for zones that are added to the choice set.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ipam_lib.errors import NetBoxError, NetBoxRejected
from ipam_lib.netbox import definitions, payloads
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.client_read import CHOICE_SET, unexpected_response
from ipam_lib.netbox.payloads import UUID_FIELD, ZONE_FIELD, UnexpectedResponse
from ipam_lib.netbox.responses import NetBoxResponse
from ipam_lib.netbox.transport import Budget

Action = Literal["present", "create", "extend", "differs", "needs_zones"]
CHANGES: Final = ("create", "extend")
_CHANGELOG: Final = "IPAM-API: netbox-setup"
_COLOUR: Final = "2196f3"


@dataclass(frozen=True, slots=True)
class Item:
    """One object that is needed, and what there is to do.

    Nothing (`present`), `create`, `extend` (by `zones`); or it is another than it should be and left alone (`differs`:
    `detail` says how); or nobody said which zones there are to be (`needs_zones`). `kind` is `choice_set`,
    `custom_field` or `tag`. `done`: whether that was done. `failure`: why it was not.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
    zones: tuple[str, ...] = ()
    done: bool = False
    failure: str = ""

    @property
    def changes(self) -> bool:
        """Whether something is to be written."""
        return self.action in CHANGES

    @property
    def settled(self) -> bool:
        """Whether it is as it should be by now."""
        return self.action == "present" or self.done


class NetBoxSetup(NetBoxClient):
    """NetBox's client, with a token that may view and add (and, for zones, change) definitions. Open it first."""

    async def plan(self, zones: Sequence[str]) -> list[Item]:
        """What there is to do so that these zones, and everything else that is needed, are there: in the order in which
        it must be done.

        Raises NetBoxError when NetBox cannot be looked at.
        """
        items = [await self._plan_choice_set(zones)]
        items.append(await self._plan_field(ZONE_FIELD, definitions.zone_field_problems))
        items.append(await self._plan_field(UUID_FIELD, definitions.uuid_field_problems))
        if (name := self._settings.constraint_tag) is not None:
            items.append(await self._plan_tag(name))
        return items

    async def apply(self, items: Sequence[Item], told: Callable[[Item], None]) -> list[Item]:
        """Do what the plan says, and tell of each thing that was done. One failure does not keep the others from being
        done; what needs the failed one fails with it."""
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
                told(done)
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

    async def _do(self, item: Item) -> None:
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
        """Add zones behind those that are there. NetBox replaces the whole list, so the change is bound to the version
        that was read: what somebody adds at the same moment is not lost."""
        found = await self._look(definitions.CHOICE_SETS, CHOICE_SET)
        if found is None:
            raise NetBoxRejected("gone", detail=f"the choice set {CHOICE_SET} is gone; run this again")
        path = f"{definitions.CHOICE_SETS}{_id(found)}/"
        shown = await self._transport.call("netbox-setup", "GET", path, budget=self._budget())
        there = _choices(shown.body)
        choices = [*shown.body["extra_choices"], *([zone, zone] for zone in zones if zone not in there)]
        answer = await self._transport.call(
            "netbox-setup",
            "PATCH",
            path,
            budget=self._budget(),
            body={"extra_choices": choices, "changelog_message": _CHANGELOG},
            expected=(400, 403, 412),
            if_match=shown.etag,
        )
        if answer.status == 412:
            raise NetBoxRejected("changed", detail="somebody changed it at the same moment; run this again")
        _accept(answer, f"change {path}")
        if missing := [zone for zone in [*there, *zones] if zone not in _choices(answer.body)]:
            raise NetBoxRejected("lost", detail=f"NetBox did not keep {', '.join(missing)}: look at the choice set")

    async def _add(self, path: str, wanted: dict[str, Any]) -> None:
        body = wanted | {"changelog_message": _CHANGELOG}
        answer = await self._transport.call(
            "netbox-setup", "POST", path, budget=self._budget(), body=body, expected=(400, 403)
        )
        _accept(answer, f"add to {path}")
        if not isinstance(answer.body, dict) or answer.body.get("name") != wanted["name"]:
            raise unexpected_response(
                "netbox-setup", UnexpectedResponse(f"not the {wanted['name']} that was to be created")
            )

    def _budget(self) -> Budget:
        """What one request, with its repetitions, may take."""
        return self._transport.budget(self._settings.timeout_seconds)

    async def _look(self, path: str, name: str) -> dict[str, Any] | None:
        """The object of exactly this name, or None. Raises NetBoxError."""
        found = await self._named("netbox-setup", path, name, self._budget())
        return found if isinstance(found, dict) else None


def slug(name: str) -> str:
    """A slug for a tag of this name, as NetBox's own form would fill it in: letters, digits, hyphens, underscores."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", plain.lower()).strip("-")[:100] or "tag"


def _accept(answer: NetBoxResponse, what: str) -> None:
    """Raises NetBoxRejected, in NetBox's own words."""
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
