"""What this service needs NetBox to define beside prefixes: the choice set of zones, two custom fields, a tag.

Checks of the definitions that NetBox shows, and the definitions that `netbox-setup` creates. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ipam_lib.netbox.payloads import UUID_FIELD, ZONE_FIELD
from ipam_lib.netbox.responses import texts

CHOICE_SET: Final = "k8s_zone_choices"
PREFIX_TYPE: Final = "ipam.prefix"
CHOICE_SETS: Final = "api/extras/custom-field-choice-sets/"
CUSTOM_FIELDS: Final = "api/extras/custom-fields/"
TAGS: Final = "api/extras/tags/"
VRFS: Final = "api/ipam/vrfs/"

_FIELD_IN_TEXT: Final = re.compile(r"(?:custom field|field name) '([^']+)'", re.IGNORECASE)

# The types of custom fields that hold one text unchanged.
_TEXTS: Final = ("text", "longtext")


def value_of(choice: Any) -> str:
    """The value of a choice as NetBox shows one: `{"value": ..., "label": ...}`."""
    value = choice.get("value") if isinstance(choice, Mapping) else choice
    return value if isinstance(value, str) else ""


def on_prefixes(field: Mapping[str, Any]) -> bool:
    """Whether prefixes have this custom field."""
    return PREFIX_TYPE in object_types(field)


def object_types(definition: Mapping[str, Any]) -> Any:
    """The types of objects that it applies to; NetBox before 4.0 calls them content types."""
    return definition.get("object_types") or definition.get("content_types") or ()


def zone_field_problems(field: Mapping[str, Any]) -> list[str]:
    """Why this custom field cannot serve as `k8s_zone`; empty when it can."""
    problems = _common(field)
    if value_of(field.get("type")) != "select":
        problems.append(f"its type is {value_of(field.get('type')) or 'unknown'}, not select")
    else:
        chosen = field.get("choice_set")
        name = chosen.get("name") if isinstance(chosen, Mapping) else None
        if name != CHOICE_SET:
            problems.append(f"its choices are those of {name!r}, not of {CHOICE_SET!r}")
    return problems


def uuid_field_problems(field: Mapping[str, Any]) -> list[str]:
    """Why this custom field cannot serve as `k8s_uuid`; empty when it can."""
    problems = _common(field)
    if value_of(field.get("type")) not in _TEXTS:
        problems.append(f"its type is {value_of(field.get('type')) or 'unknown'}, not text")
    if field.get("unique"):
        # While one creation swaps an address that two were given, both its prefixes carry its id.
        problems.append("its values must be unique, and for a moment two prefixes may carry one registration's id")
    return problems


def uuid_field_remarks(field: Mapping[str, Any]) -> list[str]:
    """What makes this custom field slow as `k8s_uuid`."""
    logic = value_of(field.get("filter_logic"))
    return [] if logic == "exact" else [f"its filter logic is {logic or 'unknown'}: with exact, NetBox finds it faster"]


def required_on_prefixes(definitions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The custom fields without which NetBox refuses a prefix."""
    return [name for name, one in definitions.items() if one.get("required") and on_prefixes(one)]


def missing_field(name: str) -> str:
    """What to say about a configured custom field that prefixes do not have."""
    return f"prefixes have no custom field {name}, which the configuration names"


def unfilled_field_problem(name: str) -> str:
    """What to say about a required custom field that no setting fills."""
    return f"NetBox requires the custom field {name} on prefixes, and no setting fills it: new addresses are refused"


def refused_field(body: Any) -> str | None:
    """What to say about the custom field because of which NetBox refused a prefix (400); None for another reason.

    The text names the field and not NetBox's own words, which are for the log.
    """
    for text in texts(body):
        if (found := _FIELD_IN_TEXT.search(text)) is not None:
            name = found[1]
            if "required" in text.lower():
                return unfilled_field_problem(name)
            if "does not exist" in text or "unknown" in text.lower():
                return missing_field(name)
            return f"NetBox refuses the value of the custom field {name}: new addresses are refused"
    return None


def _common(field: Mapping[str, Any]) -> list[str]:
    return [] if on_prefixes(field) else ["prefixes do not have it (object types)"]


# NetBox before 4.0 requires the second key, later versions the first; each ignores the other one.
_ON_PREFIXES: Final = {"object_types": [PREFIX_TYPE], "content_types": [PREFIX_TYPE]}
ZONE_FIELD_WANTED: Final[Mapping[str, Any]] = {
    "name": ZONE_FIELD,
    "type": "select",
    **_ON_PREFIXES,
    "filter_logic": "exact",
    "description": "Zone of Kubernetes services (IPAM-API)",
}
# Not unique: see `uuid_field_problems`.
UUID_FIELD_WANTED: Final[Mapping[str, Any]] = {
    "name": UUID_FIELD,
    "type": "text",
    **_ON_PREFIXES,
    "filter_logic": "exact",
    "description": "Registration that holds the prefix (IPAM-API)",
}
