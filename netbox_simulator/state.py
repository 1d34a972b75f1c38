"""What the simulated NetBox holds: prefixes with their indexes, and rows of every other kind. No I/O.

Each change is noted, so that `journal` can write it down before the answer goes out.
"""

from __future__ import annotations

import ipaddress
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from netbox_simulator.addressspace import AddressSpace
from netbox_simulator.versions import NEWEST, VERSIONS, Version
from netbox_simulator.wire import Row

BITS = {4: 32, 6: 128}
MAX_PAGE_SIZE = 1000
Now = Callable[[], datetime]
PREFIX = "prefix"


def stamp(moment: datetime) -> str:
    """A time as NetBox writes it: ISO 8601 with microseconds and Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A stored prefix. `first` and `length` are its network as numbers; VRF None is the global table."""

    id: int
    family: int
    first: int
    length: int
    vrf: int | None = None
    tenant: int | None = None
    role: int | None = None
    status: str = "active"
    is_pool: bool = False
    mark_utilized: bool = False
    description: str = ""
    comments: str = ""
    tags: tuple[int, ...] = ()
    custom_fields: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    last_updated: str = ""

    @property
    def text(self) -> str:
        """The prefix in canonical CIDR text."""
        return cidr(self.family, self.first, self.length)

    @property
    def etag(self) -> str:
        """The weak entity tag, made of the time of the last change."""
        return etag(self.last_updated)

    def changed(self, **changes: Any) -> Self:
        """A copy with changes."""
        return replace(self, **changes)


_PREFIX_FIELDS = tuple(each.name for each in fields(Prefix))


def cidr(family: int, first: int, length: int) -> str:
    """Canonical CIDR text of a prefix given as numbers."""
    address = ipaddress.IPv4Address(first) if family == 4 else ipaddress.IPv6Address(first)
    return f"{address.compressed}/{length}"


def etag(last_updated: str) -> str:
    """NetBox's weak entity tag of an object last changed then."""
    return f'W/"{last_updated.replace("Z", "+00:00")}"'


def index_key(value: Any) -> Any:
    """Something hashable that stands for a custom field's value."""
    return value if isinstance(value, str | int | bool) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Change:
    """What one request has done to an object: what it was and is, None before its creation and after its deletion."""

    kind: str
    id: int
    before: Row | Prefix | None
    after: Row | Prefix | None

    @property
    def stored(self) -> Row | None:
        """What it is now, as JSON values."""
        return prefix_row(self.after) if isinstance(self.after, Prefix) else self.after


class FieldIndex:
    """The values of one custom field, and which prefixes have them. Empty values are not in it."""

    def __init__(self) -> None:
        self.exact: dict[Any, set[int]] = {}
        self._lower: dict[str, set[int]] = {}
        self._lengths: Counter[int] = Counter()

    def add(self, value: Any, prefix_id: int) -> None:
        """Note a prefix's value."""
        key = index_key(value)
        lower = str(key).lower()
        self.exact.setdefault(key, set()).add(prefix_id)
        self._lower.setdefault(lower, set()).add(prefix_id)
        self._lengths[len(lower)] += 1

    def remove(self, value: Any, prefix_id: int) -> None:
        """Forget a prefix's value."""
        key = index_key(value)
        lower = str(key).lower()
        for index, entry in ((self.exact, key), (self._lower, lower)):
            ids = index[entry]
            ids.discard(prefix_id)
            if not ids:
                del index[entry]
        self._lengths[len(lower)] -= 1
        if not self._lengths[len(lower)]:
            del self._lengths[len(lower)]

    def matching(self, test: Callable[[str], bool]) -> set[int]:
        """The prefixes whose value, in lower case, passes the test."""
        return {prefix_id for value, ids in self._lower.items() if test(value) for prefix_id in ids}

    def containing(self, text: str) -> set[int]:
        """The prefixes whose value contains the text, in any case."""
        needle = text.lower()
        if all(length <= len(needle) for length in self._lengths):
            # Nothing is longer, so whatever contains it is equal to it; no need to look at all.
            return set(self._lower.get(needle, ()))
        return {prefix_id for value, ids in self._lower.items() if needle in value for prefix_id in ids}


class PrefixTable:
    """Every prefix, with the indexes that make look-ups by network, VRF and custom field cheap."""

    def __init__(self) -> None:
        self.rows: dict[int, Prefix] = {}
        self.spaces: dict[tuple[int | None, int], AddressSpace] = {}
        self.by_field: dict[str, FieldIndex] = {}

    def space(self, vrf: int | None, family: int) -> AddressSpace:
        """The prefixes of one table and family; an empty one when there are none yet."""
        try:
            return self.spaces[vrf, family]
        except KeyError:
            space = self.spaces[vrf, family] = AddressSpace(BITS[family])
            return space

    def tables(self) -> list[tuple[int | None, int]]:
        """Every (VRF, family) that has prefixes, in NetBox's default order: the global table first, IPv4 first."""
        return sorted((key for key, space in self.spaces.items() if space.keys), key=lambda key: (key[0] or 0, key[1]))

    def ordered(self) -> Iterator[int]:
        """Every id in the default order of lists: VRF (global first), then prefix, then id."""
        for key in self.tables():
            for _, _, prefix_id in self.spaces[key].keys:
                yield prefix_id

    def put(self, row: Prefix) -> None:
        """Insert a prefix, or write it over the one with its id."""
        self.drop(row.id)
        self.rows[row.id] = row
        self.space(row.vrf, row.family).add(row.first, row.length, row.id)
        for name, value in row.custom_fields.items():
            if value not in (None, ""):
                self.by_field.setdefault(name, FieldIndex()).add(value, row.id)

    def drop(self, prefix_id: int) -> Prefix | None:
        """Take a prefix out; None when it is not there."""
        row = self.rows.pop(prefix_id, None)
        if row is None:
            return None
        self.space(row.vrf, row.family).remove(row.first, row.length, row.id)
        for name, value in row.custom_fields.items():
            if value not in (None, ""):
                self.by_field[name].remove(value, row.id)
        return row


class State:
    """The whole content of the simulated NetBox.

    `now` gives the time (aware, UTC), `rng` every random value; with both fixed the simulator is deterministic.
    `enforce_global_unique` is NetBox's setting ENFORCE_GLOBAL_UNIQUE: whether the global table refuses duplicates.
    `version` is the NetBox version, which `dump` and `load` keep. `max_page_size` is its setting MAX_PAGE_SIZE.
    """

    def __init__(
        self,
        now: Now | None = None,
        rng: random.Random | None = None,
        *,
        enforce_global_unique: bool = True,
        version: Version = NEWEST,
    ) -> None:
        self.version = version
        self.max_page_size = MAX_PAGE_SIZE
        self._now: Now = now or (lambda: datetime.now(UTC))
        self._last = datetime.min.replace(tzinfo=UTC)
        self.rng = rng or random.Random()
        self.enforce_global_unique = enforce_global_unique
        self.prefixes = PrefixTable()
        self.kinds: dict[str, dict[int, Row]] = {}
        self.sequences: dict[str, int] = {}
        self._changes: dict[tuple[str, int], Change] = {}

    def now(self) -> datetime:
        """The time, later than at any call before: entity tags tell versions apart even when the clock stands still."""
        moment = self._now()
        if moment <= self._last:
            moment = self._last + timedelta(microseconds=1)
        self._last = moment
        return moment

    def request_id(self) -> str:
        """A fresh X-Request-ID."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def next_id(self, kind: str) -> int:
        """The next id of a kind. Like a database sequence it does not go back when the insert fails."""
        self.sequences[kind] = self.sequences.get(kind, 0) + 1
        return self.sequences[kind]

    def rows(self, kind: str) -> dict[int, Row]:
        """The rows of a kind by id."""
        return self.kinds.setdefault(kind, {})

    def put(self, kind: str, row: Row) -> None:
        """Insert or overwrite a row of any kind but prefixes."""
        before = self.rows(kind).get(row["id"])
        self.rows(kind)[row["id"]] = row
        self.sequences[kind] = max(self.sequences.get(kind, 0), row["id"])
        self._note(kind, row["id"], before, row)

    def drop(self, kind: str, row_id: int) -> Row | None:
        """Delete a row of any kind but prefixes."""
        row = self.rows(kind).pop(row_id, None)
        if row is not None:
            self._note(kind, row_id, row, None)
        return row

    def put_prefix(self, row: Prefix) -> None:
        """Insert or overwrite a prefix."""
        before = self.prefixes.rows.get(row.id)
        self.prefixes.put(row)
        self.sequences[PREFIX] = max(self.sequences.get(PREFIX, 0), row.id)
        self._note(PREFIX, row.id, before, row)

    def drop_prefix(self, prefix_id: int) -> Prefix | None:
        """Delete a prefix; None when it is gone already."""
        row = self.prefixes.drop(prefix_id)
        if row is not None:
            self._note(PREFIX, prefix_id, row, None)
        return row

    def _note(self, kind: str, row_id: int, before: Row | Prefix | None, after: Row | Prefix | None) -> None:
        earlier = self._changes.get((kind, row_id))
        self._changes[kind, row_id] = Change(kind, row_id, earlier.before if earlier else before, after)

    def take_changes(self) -> list[Change]:
        """What changed since the last call."""
        taken = list(self._changes.values())
        self._changes.clear()
        return taken

    def dump(self) -> Row:
        """Everything, as JSON values."""
        rows = {kind: list(rows.values()) for kind, rows in self.kinds.items() if rows}
        rows[PREFIX] = [prefix_row(row) for row in self.prefixes.rows.values()]
        return {"version": self.version.name, "sequences": dict(self.sequences), "rows": rows}

    def load(self, dump: Mapping[str, Any]) -> None:
        """Replace everything by what `dump` gave. Raises ValueError for an unknown version."""
        self.prefixes = PrefixTable()
        self.kinds = {}
        self.sequences = {}
        name = dump.get("version", NEWEST.name)
        if name not in VERSIONS:
            raise ValueError(f"it is of NetBox {name}, which is none of {', '.join(VERSIONS)}")
        self.version = VERSIONS[name]
        self.apply((kind, row["id"], row) for kind, rows in dump["rows"].items() for row in rows)
        self.sequences.update(dump["sequences"])
        self._changes.clear()

    def apply(self, changes: Iterable[tuple[str, int, Row | None]]) -> None:
        """Do changes that were noted earlier."""
        for kind, row_id, row in changes:
            if kind == PREFIX:
                if row is None:
                    self.drop_prefix(row_id)
                else:
                    self.put_prefix(prefix_from(row))
            elif row is None:
                self.drop(kind, row_id)
            else:
                self.put(kind, row)


def prefix_row(row: Prefix) -> Row:
    """A prefix as JSON values, for dumps and the journal."""
    plain = {name: getattr(row, name) for name in _PREFIX_FIELDS}
    # 128 bits are more than some JSON readers keep.
    return plain | {"first": str(row.first), "tags": list(row.tags), "custom_fields": dict(row.custom_fields)}


def prefix_from(row: Mapping[str, Any]) -> Prefix:
    """The prefix that `prefix_row` made JSON of."""
    known = {name: value for name, value in row.items() if name in _PREFIX_FIELDS}
    return Prefix(**known | {"first": int(row["first"]), "tags": tuple(row["tags"])})
