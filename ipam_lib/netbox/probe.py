"""Checks a NetBox, and this service's access to it, without changing anything.

NetBox checks the right first (403), then the object (404), then the body (400). So a creation without a body, and a
change and a deletion of prefix 0, which never exists, show what the token may do.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ipam_lib.clock import SystemClock
from ipam_lib.crypto import Secret
from ipam_lib.errors import NetBoxError, NetBoxRejected, NetBoxUnavailable
from ipam_lib.findings import Finding, error, ok, stays_here, warning
from ipam_lib.netbox import definitions, payloads, probe_findings
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.breaker import Breaker
from ipam_lib.netbox.definitions import CHOICE_SET
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.payloads import UUID_FIELD, ZONE_FIELD, UnexpectedResponse
from ipam_lib.netbox.prefix_reader import PREFIXES
from ipam_lib.netbox.probe_findings import SETUP
from ipam_lib.netbox.responses import NetBoxResponse
from ipam_lib.netbox.snapshot import Snapshot
from ipam_lib.netbox.space_reader import IP_ADDRESSES, IP_RANGES
from ipam_lib.netbox.transport import Transport
from ipam_lib.netbox.webhook_definitions import read_hooks
from ipam_lib.netbox.zone_reader import ZoneReader

OLDEST: Final = (3, 7)
NEWEST: Final = (4, 6)
_NEVER: Final = f"{PREFIXES}0/"
_RIGHTS: Final[tuple[tuple[str, str, str, Any], ...]] = (
    ("add", "POST", PREFIXES, {}),
    ("change", "PATCH", _NEVER, {}),
    ("delete", "DELETE", _NEVER, None),
)


def probe_transport(settings: NetBoxSettings) -> Transport:
    """A transport for the probe. Its breaker never opens: a failed check must not stop the next one.

    Raises ConfigError when the URL, the token or the CA file cannot be used.
    """
    clock = SystemClock()
    return Transport(settings, clock=clock, breaker=Breaker(clock, threshold=10_000))


class NetBoxProbe:
    """Checks NetBox over an open transport. `zones_named`: the zones that the configuration names. `webhook_secret`: of
    the webhook, if the service has one."""

    def __init__(
        self, transport: Transport, *, zones_named: Collection[str] = (), webhook_secret: Secret | None = None
    ) -> None:
        self._transport = transport
        self._settings = transport.settings
        self._zones_named = zones_named
        self._webhook_secret = webhook_secret

    async def findings(self) -> AsyncIterator[Finding]:
        """All findings, each as soon as it is known."""
        yield self._transport_security()
        unwell = False
        try:
            status = await self._status()
            yield status
            if status.check == "netbox.token":
                return
        except NetBoxError as problem:
            advice = "are netbox.url and netbox.ca_file right, and does NetBox run?"
            yield error("netbox.connection", f"{self._transport.url}: {problem.detail}", advice)
            if isinstance(problem, NetBoxUnavailable) and (problem.timed_out or not problem.applied):
                return
            unwell = True
        shown = NetBoxResponse(0)
        try:
            shown = await self._ask("GET", PREFIXES, params=(("limit", "1"), ("fields", "id,custom_fields")))
        except NetBoxError as problem:
            if unwell:
                return  # every request fails, not only this one
            yield probe_findings.failed("netbox.rights", "whether the token may view prefixes", problem)
        if shown.status == 403 and not probe_findings.lacks_right(shown):
            # NetBox 3.7 answers status/ without a token.
            yield probe_findings.token(shown, self._settings.token)
            return
        if shown.status:
            async for finding in self._rights(shown):
                yield finding
            yield await self._ip_addresses()
        zones: Sequence[str] | None = None
        async for finding, found in self._choice_set():
            zones = found
            yield finding
        containers = await self._load_containers()
        async for finding in self._custom_fields(shown, containers if isinstance(containers, list) else []):
            yield finding
        yield await self._tag_there()
        async for finding in self._containers(zones, containers):
            yield finding
        if self._webhook_secret is not None:
            yield await self._webhook(self._webhook_secret)

    # -- connection ----------------------------------------------------------------------------------------------------

    def _transport_security(self) -> Finding:
        parts = urlsplit(self._transport.url)
        if parts.scheme == "https":
            trusted = "the authorities in netbox.ca_file" if self._settings.ca_file else "the system's authorities"
            return ok("netbox.tls", f"TLS, with {trusted}")
        if stays_here(parts.hostname or ""):
            return ok("netbox.tls", "no TLS, within this machine")
        return warning(
            "netbox.tls",
            "no TLS: the token can be read on its way",
            "let netbox.url begin with https://",
        )

    async def _status(self) -> Finding:
        """Whether NetBox accepts the token, and its version. Raises NetBoxError when it does not answer."""
        answer = await self._ask("GET", "api/status/")
        if answer.status == 403:
            return probe_findings.token(answer, self._settings.token)
        version = answer.body.get("netbox-version") if isinstance(answer.body, dict) else None
        number = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
        if number is None:
            advice = "is netbox.url the address of NetBox itself?"
            return error("netbox.version", f"{self._transport.url} does not say which version of NetBox it is", advice)
        release = (int(number[1]), int(number[2]))
        if release < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            advice = f"update NetBox to {wanted} or newer"
            return error("netbox.version", f"NetBox {version} is older than {wanted}, and cannot be used", advice)
        if release > NEWEST:
            advice = "look into the changelog for a newer version of this program"
            return warning("netbox.version", f"NetBox {version} is newer than any that was tried", advice)
        return ok("netbox.version", f"NetBox {version} at {self._transport.url}{probe_findings.limits_of(release)}")

    async def _ask(
        self, method: str, path: str, *, params: Sequence[tuple[str, str]] = (), body: Any = None
    ) -> NetBoxResponse:
        """One request, sent once. Raises NetBoxError for anything but an answer of NetBox itself."""
        return await self._transport.call(
            "check-config",
            method,
            path,
            budget=self._transport.budget(),
            params=params,
            body=body,
            expected=(400, 403, 404),
        )

    # -- rights --------------------------------------------------------------------------------------------------------

    async def _rights(self, view: NetBoxResponse) -> AsyncIterator[Finding]:
        """The four rights on prefixes."""
        refused: list[str] = [] if view.ok else ["view"]
        for action, method, path, body in _RIGHTS:
            try:
                answer = await self._ask(method, path, body=body)
            except NetBoxError as problem:
                yield probe_findings.failed("netbox.rights", f"whether the token may {action} prefixes", problem)
                continue
            if answer.status == 403:
                refused.append(action)
        if not refused:
            yield ok("netbox.rights", "the token may view, add, change and delete prefixes")
            return
        advice = f"give the token's user {', '.join(refused)} on ipam.prefix"
        if set(refused) == {"add", "change", "delete"}:
            advice += ", and have the token be one that may write"
        yield error("netbox.rights", f"the token may not {', '.join(refused)} prefixes", advice)

    async def _ip_addresses(self) -> Finding:
        """Whether new addresses can avoid the IP addresses and IP ranges in NetBox."""
        check = "netbox.ip_addresses"
        if self._settings.ip_addresses == "ignore":
            return ok(check, "a new address may be an IP address in NetBox: netbox.ip_addresses is ignore")
        refused = []
        for object_type, path in (("ipam.ipaddress", IP_ADDRESSES), ("ipam.iprange", IP_RANGES)):
            try:
                answer = await self._ask("GET", path, params=(("limit", "1"), ("fields", "id")))
            except NetBoxError as problem:
                return probe_findings.failed(check, f"whether the token may view {object_type}", problem)
            if answer.status == 403:
                refused.append(object_type)
        if not refused:
            return ok(check, "the token may view IP addresses and IP ranges, so new addresses avoid them")
        objects = " and ".join(refused)
        return warning(
            check,
            f"the token may not view {objects}, so a new address may be in use by a device",
            f"give the token's user view on {objects}, or set netbox.ip_addresses to ignore",
        )

    # -- definitions ---------------------------------------------------------------------------------------------------

    async def _choice_set(self) -> AsyncIterator[tuple[Finding, Sequence[str] | None]]:
        """The choice set, and its zones if they can be read."""
        check = "netbox.choice_set"
        try:
            answer = await self._ask("GET", definitions.CHOICE_SETS, params=(("name", CHOICE_SET),))
            if answer.status == 403:
                advice = "give the token's user view on extras.customfieldchoiceset"
                yield error(check, f"the token may not view choice sets, so {CHOICE_SET} cannot be read", advice), None
                return
            found = probe_findings.named(answer, CHOICE_SET)
            if found is None:
                yield error(check, f"there is no choice set {CHOICE_SET}", f"{SETUP}: netbox-setup --zone NAME"), None
                return
            zones = payloads.choices(found)
        except (NetBoxError, UnexpectedResponse) as problem:
            yield probe_findings.failed(check, f"the choice set {CHOICE_SET}", problem), None
            return
        if not zones:
            yield error(check, f"{CHOICE_SET} has no zones", "netbox-setup --zone NAME adds one"), zones
            return
        yield ok(check, f"{CHOICE_SET}: {', '.join(zones)}"), zones
        if unknown := sorted(set(self._zones_named) - set(zones)):
            message = f"the configuration names zones that are none in NetBox: {', '.join(unknown)}"
            yield warning("netbox.choice_set", message, "correct netbox.warm_addresses, or add them to NetBox"), zones

    async def _custom_fields(self, shown: NetBoxResponse, containers: Sequence[Container]) -> AsyncIterator[Finding]:
        """`k8s_zone`, `k8s_uuid`, the custom fields that the configuration sets or copies, and those that NetBox
        requires."""
        constants, inherited = self._settings.custom_fields, self._settings.inherit_custom_fields
        others = sorted({*(constants or ()), *(inherited or ())})
        earlier = payloads.earlier_fields(containers, constants, inherited)
        if earlier:
            yield probe_findings.earlier_fields_finding(earlier)
        try:
            fields = await ZoneReader(self._transport).field_definitions(limit=self._settings.timeout_seconds)
        except NetBoxError as problem:
            yield probe_findings.failed("netbox.custom_fields", "the custom fields", problem)
            return
        if fields is None:
            async for finding in self._custom_fields_by_prefix(shown, others):
                yield finding
            return
        yield probe_findings.field(ZONE_FIELD, fields, definitions.zone_field_problems)
        yield probe_findings.field(UUID_FIELD, fields, definitions.uuid_field_problems, definitions.uuid_field_remarks)
        missing = [name for name in others if name not in fields or not definitions.on_prefixes(fields[name])]
        if others_found := probe_findings.other_fields(others, missing):
            yield others_found
        required = definitions.required_on_prefixes(fields)
        if unfilled := payloads.unfilled_fields(required, containers, constants, inherited):
            yield probe_findings.unfilled_fields_finding(unfilled, constants, earlier)

    async def _custom_fields_by_prefix(self, shown: NetBoxResponse, others: Sequence[str]) -> AsyncIterator[Finding]:
        """The same for a token that may not view definitions: by the names that a prefix shows."""
        check = "netbox.custom_fields"
        first = next(iter(probe_findings.items(shown)), None) if shown.ok else None
        names = first.get("custom_fields") if first is not None else None
        if not isinstance(names, Mapping):
            message = "the custom fields cannot be seen: the token may not view them, and sees no prefix"
            yield warning(check, message, "give the token's user view on extras.customfield while this runs")
            return
        for name in (ZONE_FIELD, UUID_FIELD):
            if name in names:
                yield ok(check, f"{name} is there on prefixes; its type is not shown to this token, nor need it be")
            else:
                yield error(check, f"prefixes have no custom field {name}", SETUP)
        if others_found := probe_findings.other_fields(others, [name for name in others if name not in names]):
            yield others_found
        message = "which custom fields NetBox requires is not shown to this token; a refusal would name them"
        yield ok(check, message)

    async def _tag_there(self) -> Finding:
        check, name = "netbox.tag", self._settings.constraint_tag
        try:
            answer = await self._ask("GET", definitions.TAGS, params=(("name", name or ""),))
            if name is None:
                return ok(check, "no tag is put on prefixes (netbox.constraint_tag is not set)")
            if answer.status == 403:
                advice = "give the token's user view on extras.tag"
                return error(check, f"the token may not view tags, so {name!r} cannot be found", advice)
            if probe_findings.named(answer, name) is None:
                advice = f"{SETUP}; or correct netbox.constraint_tag"
                return error(check, f"there is no tag {name!r}", advice)
        except (NetBoxError, UnexpectedResponse) as problem:
            return probe_findings.failed(check, "the tag", problem)
        return ok(check, f"the tag {name!r} is there")

    async def _webhook(self, secret: Secret) -> Finding:
        try:
            return probe_findings.webhook(await read_hooks(self._transport, "check-config"), secret)
        except NetBoxRejected:
            message = "the token may not view webhooks and event rules, nor need it; so they were not looked at"
            return ok("netbox.webhook", message)
        except NetBoxError as problem:
            return probe_findings.failed("netbox.webhook", "the webhooks", problem)

    # -- containers ----------------------------------------------------------------------------------------------------

    async def _load_containers(self) -> list[Container] | NetBoxError:
        try:
            return await ZoneReader(self._transport).containers(limit=self._settings.timeout_seconds)
        except NetBoxError as problem:
            return problem

    async def _containers(
        self, zones: Sequence[str] | None, found: list[Container] | NetBoxError
    ) -> AsyncIterator[Finding]:
        check = "netbox.containers"
        if isinstance(found, NetBoxError):
            yield probe_findings.failed(check, "the containers", found)
            return
        known = zones if zones is not None else sorted({one.zone for one in found})
        snapshot = Snapshot(known, found, self._transport.clock.now())
        for zone in known:
            yield probe_findings.containers_finding(zone, snapshot)
        for one in snapshot.problems():
            if one.kind != "no_containers":  # each zone has a finding of its own
                advice = "correct k8s_zone on the container, the choice set, or the container's prefix"
                yield warning(check, one.text, advice)
        async for finding in self._vrfs(found):
            yield finding

    async def _vrfs(self, containers: Sequence[Container]) -> AsyncIterator[Finding]:
        """Whether NetBox refuses a prefix that exists already. The storage keeps registrations apart; this keeps people
        from using an address a second time."""
        check = "netbox.vrf"
        for vrf_id in sorted({one.vrf_id for one in containers if one.vrf_id is not None}):
            try:
                answer = await self._ask("GET", f"{definitions.VRFS}{vrf_id}/")
            except NetBoxError as problem:
                yield probe_findings.failed(check, f"VRF {vrf_id}", problem)
                continue
            if not answer.ok or not isinstance(answer.body, dict):
                yield ok(check, f"VRF {vrf_id} is not shown to this token, nor need it be")
                continue
            name = f"VRF {answer.body.get('display') or vrf_id}"
            if answer.body.get("enforce_unique") is True:
                yield ok(check, f"{name} refuses a prefix that is there already")
            else:
                message = f"{name} takes the same prefix twice (enforce unique space is off)"
                yield warning(check, message, "switch it on in NetBox, so that people do not take an address twice")
        if any(one.vrf_id is None for one in containers):
            yield ok(check, "there are containers in the global table; ENFORCE_GLOBAL_UNIQUE of NetBox holds there")
