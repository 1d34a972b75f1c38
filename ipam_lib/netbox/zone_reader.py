"""The zones and their containers, as NetBox has them: what `zones.ZoneCache` loads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ipam_lib.netbox import payloads
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.definitions import (
    CHOICE_SET,
    CHOICE_SETS,
    CUSTOM_FIELDS,
    missing_field,
    required_on_prefixes,
    unfilled_field_problem,
)
from ipam_lib.netbox.paging import find_named, pages, read_all, set_up_missing
from ipam_lib.netbox.prefix_reader import PREFIXES
from ipam_lib.netbox.transport import Transport

log = logging.getLogger(__name__)

CONTAINERS: Final = (("status", "container"), ("fields", payloads.CONTAINER_FIELDS))


class ZoneReader:
    """Reads over one transport. `limit` is the longest time for a call, in seconds, repetitions included.

    The methods raise NetBoxUnavailable where NetBox does not answer properly in time, NetBoxRejected where it refuses.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._logged_earlier_fields = False

    @property
    def url(self) -> str:
        """Where NetBox is, with a slash at the end."""
        return self._transport.url

    async def choices(self, *, limit: float) -> list[str]:
        """The zones: the choices of the choice set `k8s_zone_choices`, in its order.

        Raises NetBoxRejected also where there is no such choice set.
        """
        budget = self._transport.budget(limit)
        found = await find_named(self._transport, "choices", CHOICE_SETS, CHOICE_SET, budget)
        if found is None:
            raise set_up_missing(
                f"there is no choice set {CHOICE_SET!r} in NetBox that the token may view: create it (netbox-setup"
                " does), or give the token's user the right to view it"
            )
        return read_all("choices", [found], payloads.choices)[0]

    async def containers(self, *, limit: float) -> list[Container]:
        """Every container prefix that carries a zone, in ascending order of id.

        Containers without a zone are dropped here: the filter `cf_k8s_zone__empty` finds nothing before NetBox 4.4.
        Raises NetBoxRejected also where prefixes have no custom field `k8s_uuid`.
        """
        budget = self._transport.budget(limit)
        found: list[Container] = []
        async for items in pages(self._transport, "containers", PREFIXES, CONTAINERS, budget):
            for item, one in zip(items, read_all("containers", items, payloads.prefix), strict=True):
                if one.is_container and one.zone is not None:
                    found += read_all("containers", [item], payloads.container)
        self._log_earlier_fields(found)
        if found and all(payloads.UUID_FIELD not in one.custom_fields for one in found):
            # NetBox 4.4 would create prefixes without it, and say nothing.
            raise set_up_missing(f"prefixes have no custom field {payloads.UUID_FIELD}: netbox-setup creates it")
        return found

    def _log_earlier_fields(self, containers: Sequence[Container]) -> None:
        settings = self._transport.settings
        fields = payloads.earlier_fields(containers, settings.custom_fields, settings.inherit_custom_fields)
        if fields and not self._logged_earlier_fields:
            self._logged_earlier_fields = True
            log.info("new prefixes get the custom fields that the earlier service wrote: %s", ", ".join(fields))

    async def field_definitions(self, *, limit: float) -> dict[str, Mapping[str, Any]] | None:
        """The definitions of all custom fields, by name; None if the token may not view them."""
        budget = self._transport.budget(limit)
        allowed = await self._transport.call(
            "custom_fields", "GET", CUSTOM_FIELDS, budget=budget, params=[("limit", "1")], repeat=True, expected=(403,)
        )
        if not allowed.ok:
            return None
        return {
            str(one.get("name")): one
            async for items in pages(self._transport, "custom_fields", CUSTOM_FIELDS, (), budget)
            for one in items
        }

    async def field_problems(self, containers: Sequence[Container], *, limit: float) -> list[str]:
        """Why NetBox will refuse prefixes in these containers, or create them without a configured custom field.

        Without the right to view definitions, required custom fields only show when NetBox refuses a prefix.
        """
        settings = self._transport.settings
        constants, inherited = settings.custom_fields, settings.inherit_custom_fields
        known = {name for one in containers for name in one.custom_fields}
        named = sorted({*(constants or ()), *(inherited or ())})
        problems = [missing_field(name) for name in named if containers and name not in known]
        definitions = await self.field_definitions(limit=limit)
        required = required_on_prefixes(definitions or {})
        unfilled = payloads.unfilled_fields(required, containers, constants, inherited)
        return problems + [unfilled_field_problem(name) for name in unfilled]
