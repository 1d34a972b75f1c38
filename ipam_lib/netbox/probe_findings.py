"""The findings that follow from NetBox's answers to the probe. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ipam_lib.crypto import Secret
from ipam_lib.errors import NetBoxError
from ipam_lib.findings import Finding, error, ok, warning
from ipam_lib.netbox import payloads
from ipam_lib.netbox.payloads import ZONE_FIELD, UnexpectedResponse
from ipam_lib.netbox.responses import NetBoxResponse, texts
from ipam_lib.netbox.snapshot import Snapshot
from ipam_lib.netbox.webhook_definitions import Hooks, event_rule_problems, webhook_problems

# Returns what is wrong with a definition.
DefinitionCheck = Callable[[Mapping[str, Any]], list[str]]

NO_RIGHT: Final = "You do not have permission to perform this action."
SETUP: Final = "netbox-setup creates it"


def containers_finding(zone: str, snapshot: Snapshot) -> Finding:
    """The containers of one zone."""
    counts = {family: len(snapshot.containers(zone, family)) for family in ("ipv4", "ipv6")}
    if not any(counts.values()):
        advice = (
            f"create prefixes of status container with {ZONE_FIELD} {zone!r} in NetBox, or nothing can be registered"
        )
        return warning("netbox.containers", f"zone {zone!r} has no container prefixes", advice)
    shown = ", ".join(f"{count or 'no'} {family}" for family, count in counts.items())
    return ok("netbox.containers", f"zone {zone!r} has containers: {shown}")


def field(
    name: str, fields: Mapping[str, Any], problems_of: DefinitionCheck, remarks_of: DefinitionCheck = lambda field: []
) -> Finding:
    """`k8s_zone` or `k8s_uuid`. `problems_of` says why it cannot serve, `remarks_of` what could be better."""
    check = "netbox.custom_fields"
    if name not in fields:
        return error(check, f"there is no custom field {name}", SETUP)
    if problems := problems_of(fields[name]):
        return error(check, f"the custom field {name} cannot be used: {'; '.join(problems)}", "correct it in NetBox")
    if remarks := remarks_of(fields[name]):
        return warning(
            check, f"the custom field {name}: {'; '.join(remarks)}", "set its filter logic to exact in NetBox"
        )
    return ok(check, f"the custom field {name} is as it should be")


def other_fields(names: Sequence[str], missing: Sequence[str]) -> Finding | None:
    """The custom fields that the configuration names; None when it names none."""
    if missing:
        message = f"prefixes have no custom field {', '.join(missing)}: NetBox would refuse every registration"
        advice = "create it in NetBox, or take it out of netbox.custom_fields and netbox.inherit_custom_fields"
        return error("netbox.custom_fields", message, advice)
    return ok("netbox.custom_fields", f"prefixes have {', '.join(names)}") if names else None


def earlier_fields_finding(names: Sequence[str]) -> Finding:
    """The custom fields of the earlier service that new prefixes get without a setting."""
    message = (
        f"new prefixes get the custom fields that the earlier service wrote: {', '.join(names)}"
        " (netbox.custom_fields {} switches that off)"
    )
    return ok("netbox.custom_fields", message)


def unfilled_fields_finding(
    names: Sequence[str], constants: Mapping[str, Any] | None, earlier: Sequence[str]
) -> Finding:
    """The required custom fields that no setting fills, with the line to add to the configuration, which keeps what is
    set already."""
    kept = {name: payloads.EARLIER_VALUE for name in earlier if name in payloads.EARLIER_CONSTANTS}
    line = f'"custom_fields": {json.dumps({**kept, **(constants or {}), **dict.fromkeys(names, "...")})}'
    if inherited := [name for name in earlier if name in payloads.EARLIER_INHERITED and name not in names]:
        line += f', "inherit_custom_fields": {json.dumps(inherited)}'
    message = f"NetBox requires {', '.join(names)} on prefixes, and no setting fills it: it refuses every registration"
    return error("netbox.custom_fields", message, f"add to the section netbox, with a value for ...: {line}")


def webhook(hooks: Hooks, secret: Secret) -> Finding:
    """Whether a webhook of NetBox with our secret gets the events that the service needs."""
    check, found = "netbox.webhook", hooks.signed_with(secret)
    if not found:
        advice = "netbox-setup --webhook URL creates it and its event rule; or correct its secret in NetBox"
        message = "no webhook in NetBox has the secret of netbox.webhook_secret_path, so no event is accepted"
        return warning(check, message, advice)
    problems = {
        str(one.get("payload_url")): [*webhook_problems(one, secret), *event_rule_problems(hooks.rules_of(one))]
        for one in found
    }
    wrong = [f"{url}: {'; '.join(told)}" for url, told in problems.items() if told]
    if wrong:
        return warning(check, f"events are missing: {' / '.join(wrong)}", "correct webhook and event rule in NetBox")
    return ok(check, f"NetBox sends events to {', '.join(problems)}")


def limits_of(release: tuple[int, int]) -> str:
    """What a NetBox of this version cannot do, as the end of a sentence."""
    limits = []
    if release < (4, 5):
        limits.append("no tokens of version 2 (nbt_..., new in 4.5)")
    if release < (4, 6):
        limits.append("no ETag (new in 4.6), so two changes at the same moment are only noticed afterwards")
    return f"; it has {', and '.join(limits)}" if limits else ""


def lacks_right(answer: NetBoxResponse) -> bool:
    """Whether NetBox accepts the token of a refused request (403), and only the right is missing."""
    return next(texts(answer.body), "") == NO_RIGHT


def token(answer: NetBoxResponse, value: str) -> Finding:
    """What the refusal (403) of a request says about its token."""
    words = next(texts(answer.body), "")
    if words == NO_RIGHT:
        advice = "the token is valid; the version of NetBox is unknown"
        return warning("netbox.version", "the token may not ask NetBox for its status", advice)
    advice = "put a valid one into the file of netbox.token_path"
    if value.startswith("nbt_") and not words.startswith("Invalid v2"):
        advice = (
            "tokens of version 2 (nbt_...) need NetBox 4.5: put one of version 1 into the file of netbox.token_path"
        )
    return error("netbox.token", f"NetBox refuses the token: {words}", advice)


def failed(check: str, what: str, problem: NetBoxError | UnexpectedResponse) -> Finding:
    """A check that failed because NetBox did not answer it."""
    detail = problem.detail if isinstance(problem, NetBoxError) else str(problem)
    return error(check, f"{what}: {detail}", "look at NetBox's own log, and try again")


def items(answer: NetBoxResponse) -> list[Any]:
    """The objects of a listing. Raises UnexpectedResponse."""
    return [item for item in payloads.page(answer.body).items if isinstance(item, dict)] if answer.ok else []


def named(answer: NetBoxResponse, name: str) -> Any:
    """The object of exactly this name, or None. Raises UnexpectedResponse."""
    return next((item for item in items(answer) if item.get("name") == name), None)
