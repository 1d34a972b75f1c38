"""The filters of `GET /api/ipam/prefixes/`.

A filter that NetBox does not know is silently ignored and so returns everything; so does an empty value. Some narrow by
an index first (`_seeds`), the rest are predicates over what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from netbox_simulator.addressspace import AddressSpace
from netbox_simulator.changelog import Changelog
from netbox_simulator.customfilters import custom_field_filters
from netbox_simulator.kinds import ROLE, STATUSES, TAG, TENANT, VRF
from netbox_simulator.state import Prefix, State
from netbox_simulator.validation import Network, parse_network
from netbox_simulator.wire import ApiError, Request, Row, Unhandled

Predicate = Callable[[Prefix], bool]

# What a filter says: the ids that it leaves, or a test for each prefix.
Narrow = set[int] | Predicate
NO_SUCH_CHOICE = "Select a valid choice. {} is not one of the available choices."


def find(state: State, changelog: Changelog, request: Request) -> Sequence[int]:
    """The ids of the prefixes that the query asks for, in NetBox's default order. Raises ApiError 400."""
    names = list(dict.fromkeys(name for name, _ in request.query))
    seeds: list[set[int]] = []
    tests: list[Predicate] = []
    errors: dict[str, list[str]] = {}
    for name in names:
        values = [value for value in request.values(name) if value != ""]
        if not values:
            continue
        try:
            narrow = _narrow(state, changelog, name, values)
        except _Invalid as error:
            errors[name] = [str(error)]
            continue
        if isinstance(narrow, set):
            seeds.append(narrow)
        elif narrow is not None:
            tests.append(narrow)
    if errors:
        raise ApiError(400, errors)
    prefixes = state.prefixes
    if not seeds:
        chosen: Iterable[int] = prefixes.ordered()
        return [each for each in chosen if all(test(prefixes.rows[each]) for test in tests)]
    kept = set.intersection(*seeds)
    rows = [prefixes.rows[each] for each in kept if each in prefixes.rows]
    rows = [row for row in rows if all(test(row) for test in tests)]
    rows.sort(key=lambda row: (row.vrf or 0, row.family, row.first, row.length, row.id))
    return [row.id for row in rows]


class _Invalid(Exception):
    """A value that NetBox refuses; the text is its message."""


def _narrow(state: State, changelog: Changelog, name: str, values: list[str]) -> Narrow | None:
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain(state, values)
    if name.startswith("cf_"):
        return custom_field_filters(state, name.removeprefix("cf_"), values)
    if name.endswith("_by_request"):
        return changelog.touched(name.removesuffix("_by_request"), values)
    stem, _, comparison = name.partition("__")
    if stem in ("created", "last_updated") and comparison in COMPARE:
        return _moment(stem, comparison, values[-1])
    if stem == "id" and comparison in COMPARE:
        bounds = _numbers(values, "Enter a whole number.")
        compare = COMPARE[comparison]
        return lambda row: any(compare(row.id, bound) for bound in bounds)
    return None


def _ids(state: State, values: list[str]) -> set[int]:
    return {number for number in _numbers(values) if number in state.prefixes.rows}


def _numbers(values: list[str], problem: str = "Enter a number.") -> list[int]:
    try:
        return [int(value) for value in values]
    except ValueError:
        raise _Invalid(problem) from None


def _exact(state: State, values: list[str]) -> set[int]:
    found: set[int] = set()
    for value in values:
        network = parse_network(value)
        if network is not None and network[1] == network[2]:
            found.update(_at(state, network))
    return found


def _at(state: State, network: Network) -> list[int]:
    family, _, first, length = network
    return _in_every_table(state, family, lambda space: space.ids_at(first, length))


def _in_every_table(state: State, family: int, query: Callable[[AddressSpace], Iterable[int]]) -> list[int]:
    return [
        prefix_id
        for (_, each_family), space in state.prefixes.spaces.items()
        if each_family == family
        for prefix_id in query(space)
    ]


def _within(state: State, values: list[str], *, itself: bool) -> set[int]:
    network = parse_network(values[-1].strip())
    if network is None:
        return set()
    family, _, first, length = network
    found = set(_in_every_table(state, family, lambda space: space.within(first, length)))
    return found | set(_at(state, network)) if itself else found


def _containing(state: State, values: list[str]) -> set[int]:
    network = parse_network(values[-1].strip())
    if network is None:
        return set()
    family, _, first, length = network
    return set(_in_every_table(state, family, lambda space: space.around(first, length))) | set(_at(state, network))


def _search(state: State, values: list[str]) -> Predicate:
    text = values[-1].strip()
    around = _containing(state, [text])
    return lambda row: row.id in around or text.lower() in row.description.lower() or text in row.text


def _family(state: State, values: list[str]) -> Predicate:
    family = _numbers(values[-1:])[0]
    return lambda row: row.family == family


def _status(state: State, values: list[str]) -> Predicate:
    for value in values:
        if value not in STATUSES:
            raise _Invalid(NO_SUCH_CHOICE.format(value))
    return lambda row: row.status in values


def _mask_length(state: State, values: list[str]) -> Predicate:
    lengths = _numbers(values)
    return lambda row: row.length in lengths


def _flag(attribute: str) -> Callable[[State, list[str]], Predicate]:
    def flag(state: State, values: list[str]) -> Predicate:
        wanted = values[-1].lower() in ("true", "1")
        return lambda row: bool(getattr(row, attribute)) == wanted

    return flag


def _description(state: State, values: list[str]) -> Predicate:
    return lambda row: row.description in values


def _references(kind: str, attribute: str, key: str) -> Callable[[State, list[str]], Narrow]:
    """A filter on a related object, by `key` of its row; `null` stands for none."""

    def filtered(state: State, values: list[str]) -> Narrow:
        chosen = {_resolve(state, kind, key, value) for value in values}
        return lambda row: getattr(row, attribute) in chosen

    return filtered


def _resolve(state: State, kind: str, key: str, value: str) -> int | None:
    if value == "null":
        return None
    if key == "id" and not value.isdigit():
        raise _Invalid(f"“{value}” is not a valid value.")
    for row in state.rows(kind).values():
        if str(row[key]) == value:
            return int(row["id"])
    raise _Invalid(NO_SUCH_CHOICE.format(value))


def _present_in_vrf(state: State, values: list[str]) -> Predicate:
    value = values[-1]
    if value == "null":
        raise Unhandled("AttributeError", "'str' object has no attribute 'import_targets'")
    rows: dict[int, Row] = state.rows(VRF)
    if not value.isdigit() or int(value) not in rows:
        raise _Invalid(NO_SUCH_CHOICE.format("That choice"))
    return lambda row: row.vrf == int(value)


def _tags(key: str, *, wanted: bool) -> Callable[[State, list[str]], Predicate]:
    def tagged(state: State, values: list[str]) -> Predicate:
        ids = [_resolve(state, TAG, key, value) for value in values]
        if wanted:
            return lambda row: all(each in row.tags for each in ids)
        return lambda row: not any(each in row.tags for each in ids)

    return tagged


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gte": lambda left, right: left >= right,
    "gt": lambda left, right: left > right,
    "lte": lambda left, right: left <= right,
    "lt": lambda left, right: left < right,
}


def _moment(attribute: str, comparison: str, value: str) -> Predicate:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _Invalid("Enter a valid date/time.") from None
    bound = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    compare = COMPARE[comparison]
    return lambda row: compare(datetime.fromisoformat(getattr(row, attribute)), bound)


_PLAIN: dict[str, Callable[[State, list[str]], Narrow]] = {
    "id": _ids,
    "prefix": _exact,
    "within": lambda state, values: _within(state, values, itself=False),
    "within_include": lambda state, values: _within(state, values, itself=True),
    "contains": _containing,
    "q": _search,
    "family": _family,
    "status": _status,
    "mask_length": _mask_length,
    "is_pool": _flag("is_pool"),
    "mark_utilized": _flag("mark_utilized"),
    "description": _description,
    "vrf_id": _references(VRF, "vrf", "id"),
    "vrf": _references(VRF, "vrf", "rd"),
    "tenant_id": _references(TENANT, "tenant", "id"),
    "tenant": _references(TENANT, "tenant", "slug"),
    "role_id": _references(ROLE, "role", "id"),
    "role": _references(ROLE, "role", "slug"),
    "present_in_vrf_id": _present_in_vrf,
    "tag": _tags("slug", wanted=True),
    "tag_id": _tags("id", wanted=True),
    "tag__n": _tags("slug", wanted=False),
}

ORDERINGS: dict[str, Callable[[Prefix], Any]] = {
    "id": lambda row: row.id,
    "prefix": lambda row: (row.family, row.first, row.length),
    "status": lambda row: row.status,
    "created": lambda row: datetime.fromisoformat(row.created),
    "last_updated": lambda row: datetime.fromisoformat(row.last_updated),
    "description": lambda row: row.description,
}
