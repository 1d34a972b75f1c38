"""What NetBox checks before it stores a prefix, and the words in which it refuses.

Two rounds, as there: the fields of the payload, each with its own list of messages, then the object as a whole.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from netbox_simulator.access import EVERYTHING, Grant, User, allowed, grant
from netbox_simulator.catalog import KINDS
from netbox_simulator.kinds import CHOICE_SET, CUSTOM_FIELD, ROLE, STATUSES, TAG, TENANT, VRF
from netbox_simulator.state import FieldIndex, Prefix, State, cidr, index_key
from netbox_simulator.wire import ApiError, FieldError, Row, Unhandled

NOT_A_DICTIONARY = (
    "Invalid data format. Custom field data must be passed as a dictionary mapping field names to their values."
)
MAX_DESCRIPTION = 200

Network = tuple[int, int, int, int]


def parse_network(text: Any) -> Network | None:
    """(family, address, first address of the network, mask length) of CIDR text or a bare address; None for garbage."""
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        interface = ipaddress.ip_interface(text.strip())
    except ValueError:
        return None
    network = interface.network
    return interface.version, int(interface.ip), int(network.network_address), network.prefixlen


def prefix_fields(state: State) -> dict[str, Row]:
    """The custom fields of prefixes, by name, in alphabetical order (the order in which NetBox shows them)."""
    rows = [row for row in state.rows(CUSTOM_FIELD).values() if "ipam.prefix" in row["object_types"]]
    return {row["name"]: row for row in sorted(rows, key=lambda row: str(row["name"]))}


def related(state: State, user: User, kind: str, value: Any) -> int:
    """The id of the object that a payload points to, by number or by attributes. Raises FieldError.

    Looking up by attributes sees only what the user may view; by number everything.
    """
    rows = state.rows(kind)
    if isinstance(value, Mapping):
        sight = EVERYTHING
        if not user.superuser:
            object_type = KINDS[kind].object_type
            sight = grant(state, user, "view", object_type) if allowed(state, user, "view", object_type) else _NOTHING
        for row in rows.values():
            if all(row.get(name) == wanted for name, wanted in value.items()) and sight.covers(state, row):
                return int(row["id"])
        raise FieldError(f"Related object not found using the provided attributes: {dict(value)}")
    try:
        row_id = int(value)
    except (TypeError, ValueError):
        raise FieldError(
            "Related objects must be referenced by numeric ID or by dictionary of attributes. "
            f"Received an unrecognized value: {value}"
        ) from None
    if row_id not in rows:
        raise FieldError(f"Related object not found using the provided numeric ID: {row_id}")
    return row_id


# A constraint that nothing meets.
_NOTHING = Grant(({"id": -1},))


def clean(state: State, user: User, data: Any, *, old: Prefix | None = None, partial: bool = False) -> Prefix:
    """The prefix that a payload makes, or makes of `old`; its id and times are the caller's to set.

    Raises ApiError 400 with NetBox's messages by field.
    """
    if not isinstance(data, Mapping):
        message = f"Invalid data. Expected a dictionary, but got {type(data).__name__}."
        raise ApiError(400, {"non_field_errors": [message]})
    errors: dict[str, Any] = {}
    changes: dict[str, Any] = {}

    def take(name: str, convert: Callable[[Any], Any]) -> None:
        if name in data:
            try:
                changes[name] = convert(data[name])
            except FieldError as error:
                errors[name] = error.messages

    def reference(kind: str) -> Callable[[Any], int | None]:
        return lambda value: None if value is None else related(state, user, kind, value)

    take("prefix", lambda value: _network(state, value))
    if "prefix" not in data and not partial:
        errors["prefix"] = ["This field is required."]
    take("vrf", reference(VRF))
    take("tenant", reference(TENANT))
    take("role", reference(ROLE))
    take("status", _status)
    take("is_pool", _boolean)
    take("mark_utilized", _boolean)
    take("description", lambda value: _text(value, MAX_DESCRIPTION))
    take("comments", lambda value: _text(value, None))
    take("tags", lambda value: _tags(state, user, value))
    take("add_tags", lambda value: _tags(state, user, value))
    take("remove_tags", lambda value: _tags(state, user, value))
    take("custom_fields", lambda value: _custom_fields(state, value))
    if errors:
        raise ApiError(400, errors)
    return _whole(state, changes, old)


def _whole(state: State, changes: dict[str, Any], old: Prefix | None) -> Prefix:
    network: Network | None = changes.pop("prefix", None)
    added, removed = changes.pop("add_tags", ()), changes.pop("remove_tags", ())
    custom = changes.pop("custom_fields", None)
    if network is not None:
        changes |= {"family": network[0], "first": network[2], "length": network[3]}
    if old is None:
        new = Prefix(id=0, **changes)
        # Without any custom field given, NetBox stores the default of each; else only those given.
        fields = {name: row["default"] for name, row in prefix_fields(state).items()} if custom is None else custom
    else:
        new = old.changed(**changes)
        fields = {**old.custom_fields, **(custom or {})}
    tags = [tag for tag in dict.fromkeys((*new.tags, *added)) if tag not in removed]
    new = new.changed(custom_fields=fields, tags=tuple(tags))
    _check(state, new, network)
    return new


def _check(state: State, new: Prefix, network: Network | None) -> None:
    """What NetBox checks of the object as a whole: the network itself, then custom fields, then duplicates."""
    if network is not None and network[1] != network[2]:
        given = cidr(network[0], network[1], network[3])
        raise ApiError(400, {"prefix": [f"{given} is not a valid prefix. Did you mean {new.text}?"]})
    _check_custom_fields(state, new)
    if new.length == 0:
        raise ApiError(400, {"prefix": ["Cannot create prefix with /0 mask."]})
    duplicate = _duplicate(state, new)
    if duplicate is not None:
        raise ApiError(400, {"prefix": [duplicate]})


def _duplicate(state: State, new: Prefix) -> str | None:
    if new.vrf is None:
        if not state.enforce_global_unique:
            return None
        place = "global table"
    else:
        vrf = state.rows(VRF)[new.vrf]
        if not vrf["enforce_unique"]:
            return None
        place = f"VRF {KINDS[VRF].display(vrf)}"
    twins = state.prefixes.space(new.vrf, new.family).ids_at(new.first, new.length)
    if any(twin != new.id for twin in twins):
        return f"Duplicate prefix found in {place}: {new.text}"
    return None


def _check_custom_fields(state: State, new: Prefix) -> None:
    known = prefix_fields(state)
    for name, value in new.custom_fields.items():
        row = known.get(name)
        if row is None:
            continue
        problem = _value_problem(state, row, value)
        if problem is not None:
            raise ApiError(400, {"__all__": [f"Invalid value for custom field '{name}': {problem}"]})
        if row["unique"] and value not in (None, ""):
            index = state.prefixes.by_field.get(name) or FieldIndex()
            if index.exact.get(index_key(value), set()) - {new.id}:
                raise ApiError(400, {"__all__": [f"Custom field '{name}' must have a unique value."]})
    for name, row in known.items():
        if row["required"] and name not in new.custom_fields:
            raise ApiError(400, {"__all__": [f"Missing required custom field '{name}'."]})


def _value_problem(state: State, row: Row, value: Any) -> str | None:
    if value in (None, ""):
        return "Required field cannot be empty." if row["required"] else None
    kind = row["type"]
    if kind in ("text", "longtext"):
        return None if isinstance(value, str) else "Value must be a string."
    if kind == "integer":
        return None if type(value) is int else "Value must be an integer."
    if kind == "boolean":
        return None if isinstance(value, bool) else "Value must be true or false."
    if kind == "select":
        choices = state.rows(CHOICE_SET)[row["choice_set"]]
        if value not in [choice[0] for choice in choices["extra_choices"]]:
            return f"Invalid choice ({value}) for choice set {choices['name']}."
    return None


def _network(state: State, value: Any) -> Network:
    if value is None:
        raise FieldError("This field may not be null.")
    if value == "":
        raise FieldError("This field may not be blank.")
    network = parse_network(value)
    if network is None:
        if not state.version.since("4.6"):
            raise Unhandled("KeyError", "'data'")
        raise FieldError(f"Invalid IP prefix format: {value}")
    return network


def _status(value: Any) -> str:
    if isinstance(value, str) and value in STATUSES:
        return value
    if value is None:
        raise FieldError("This field may not be null.")
    raise FieldError(f"{value} is not a valid choice.")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise FieldError("Must be a valid boolean.")


def _text(value: Any, longest: int | None) -> str:
    if value is None:
        raise FieldError("This field may not be null.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FieldError("Not a valid string.")
    text = str(value).strip()
    if longest is not None and len(text) > longest:
        raise FieldError(f"Ensure this field has no more than {longest} characters.")
    return text


def _tags(state: State, user: User, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise FieldError(f'Expected a list of items but got type "{type(value).__name__}".')
    try:
        return tuple(dict.fromkeys(related(state, user, TAG, each) for each in value))
    except FieldError as error:
        raise error if state.version.since("4.2") else FieldError([error.messages]) from None


def _custom_fields(state: State, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError(NOT_A_DICTIONARY)
    known = prefix_fields(state)
    for name in value:
        if name not in known:
            if state.version.since("4.5"):
                raise FieldError({name: f"Custom field '{name}' does not exist for this object type."})
            if not state.version.since("4.4"):
                raise ApiError(400, {"__all__": [f"Unknown field name '{name}' in custom field data."]})
    # NetBox 4.4 drops the unknown ones without a word.
    return {name: given for name, given in value.items() if name in known}
