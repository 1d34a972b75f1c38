"""`/api/ipam/prefixes/`: list, create, read, change and delete, singly and in bulk.

Each view checks first and returns the write as a function. Between the two NetBox holds no lock: two requests that both
pass the check for duplicates both insert, and of two changes to one prefix the later overwrites the earlier whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netbox_simulator.access import Grant, User, grant
from netbox_simulator.catalog import KINDS
from netbox_simulator.changelog import Changelog
from netbox_simulator.filters import ORDERINGS, find
from netbox_simulator.kinds import ROLE, STATUSES, TAG, TENANT, VRF
from netbox_simulator.listing import ordering, page, selected
from netbox_simulator.render import nested
from netbox_simulator.state import PREFIX, Prefix, State, stamp
from netbox_simulator.validation import clean, prefix_fields
from netbox_simulator.wire import ApiError, Outcome, Reply, Request, Row, check_match, forbidden, not_found

PATH = "ipam/prefixes"
OBJECT_TYPE = "ipam.prefix"
MODEL = "Prefix"
BRIEF = ("id", "url", "display", "family", "prefix", "description", "_depth")


class PrefixViews:
    """The views, over one state."""

    def __init__(self, state: State, changelog: Changelog) -> None:
        self.state = state
        self.changelog = changelog

    def render(self, row: Prefix, base: str, *, fresh: bool = True) -> Row:
        """A prefix as NetBox shows it. `fresh` false is an object that was never read back after its insert."""
        state = self.state
        stored = row.custom_fields
        space = state.prefixes.space(row.vrf, row.family)
        shown = {
            "id": row.id,
            "url": f"{base}/api/{PATH}/{row.id}/",
            "display_url": f"{base}/{PATH}/{row.id}/",
            "display": row.text,
            "family": {"value": row.family, "label": f"IPv{row.family}"},
            "prefix": row.text,
            "vrf": nested(state, KINDS[VRF], row.vrf, base),
            "scope_type": None,
            "scope_id": None,
            "scope": None,
            "tenant": nested(state, KINDS[TENANT], row.tenant, base),
            "vlan": None,
            "status": {"value": row.status, "label": STATUSES[row.status]},
            "role": nested(state, KINDS[ROLE], row.role, base),
            "is_pool": row.is_pool,
            "mark_utilized": row.mark_utilized,
            "description": row.description,
            "owner": None,
            "comments": row.comments,
            "tags": [nested(state, KINDS[TAG], each, base, listed=True) for each in row.tags],
            "custom_fields": {name: stored.get(name) for name in prefix_fields(state)},
            "created": row.created,
            "last_updated": row.last_updated,
            "children": space.count_within(row.first, row.length) if fresh else 0,
            "_depth": sum(1 for _ in space.around(row.first, row.length)) if fresh else 0,
        }
        return state.version.shown(shown, PREFIX)

    def short(self, row: Prefix, base: str) -> Row:
        """The short form of a prefix."""
        full = self.render(row, base)
        return {name: full[name] for name in BRIEF}

    def get(self, user: User, prefix_id: int, action: str) -> Prefix:
        """A prefix that the user may do that to. Raises ApiError 403, or 404 when it is absent or out of sight."""
        sight = grant(self.state, user, action, OBJECT_TYPE)
        row = self.state.prefixes.rows.get(prefix_id)
        if row is None or not sight.covers(self.state, row):
            raise not_found(MODEL)
        return row

    def index(self, user: User, request: Request) -> Outcome:
        """GET of the collection."""
        sight = grant(self.state, user, "view", OBJECT_TYPE)
        rows = self.state.prefixes.rows
        ids = find(self.state, self.changelog, request)
        if sight.constraints:
            ids = [each for each in ids if sight.covers(self.state, rows[each])]

        def key(name: str) -> Any:
            attribute = ORDERINGS.get(name)
            return None if attribute is None else lambda prefix_id: attribute(rows[prefix_id])

        ids = ordering(request, key, ids)
        return page(
            self.state,
            request,
            ids,
            lambda each: selected(self.state, request, self.render(rows[each], request.base), BRIEF),
        )

    def detail(self, user: User, request: Request, prefix_id: int) -> Outcome:
        """GET of one prefix."""
        row = self.get(user, prefix_id, "view")
        return Reply(200, selected(self.state, request, self.render(row, request.base), BRIEF), {"ETag": row.etag})

    def create(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        """POST of one prefix or a list of them; a list is all or nothing, and is not checked against itself."""
        right = grant(self.state, user, "add", OBJECT_TYPE)
        several = isinstance(data, list)
        cleaned = self.clean_all(user, data if several else [data], several=several)
        messages = [message_of(each) for each in (data if several else [data])]

        def write() -> Reply:
            rows = self.insert(user, right, cleaned, request_id, messages)
            shown = [self.render(row, request.base) for row in rows]
            if several:
                return Reply(201, shown)
            location = f"{request.base}/api/{PATH}/{rows[0].id}/"
            return Reply(201, shown[0], {"Location": location, "ETag": rows[0].etag})

        return write

    def clean_all(self, user: User, items: list[Any], *, several: bool) -> list[Prefix]:
        """Every item checked. Raises ApiError 400: one dictionary, or for a list one for each item."""
        cleaned: list[Prefix] = []
        errors: list[Any] = []
        for item in items:
            try:
                cleaned.append(clean(self.state, user, item))
                errors.append({})
            except ApiError as error:
                errors.append(error.payload)
        if any(errors):
            raise ApiError(400, errors if several else errors[0])
        return cleaned

    def insert(
        self, user: User, right: Grant, cleaned: list[Prefix], request_id: str, messages: list[str]
    ) -> list[Prefix]:
        """Store new prefixes. Raises ApiError 403, with ids spent but nothing stored, when one is outside the right."""
        rows = []
        for new in cleaned:
            now = stamp(self.state.now())
            row = new.changed(id=self.state.next_id(PREFIX), created=now, last_updated=now)
            if not right.covers(self.state, row):
                raise forbidden()
            rows.append(row)
        for row, message in zip(rows, messages, strict=True):
            self.state.put_prefix(row)
            self.changelog.note(self.state, user, request_id, "create", after=row, message=message)
        return rows

    def change(
        self, user: User, request: Request, data: Any, request_id: str, prefix_id: int, *, partial: bool
    ) -> Outcome:
        """PATCH and PUT of one prefix. Both merge: what is not given stays."""
        right = grant(self.state, user, "change", OBJECT_TYPE)
        old = self.get(user, prefix_id, "change")
        check_match(request, old.etag)
        new = clean(self.state, user, data, old=old, partial=partial)

        def write() -> Reply:
            row = self.store(user, right, old, new, request_id, message_of(data))
            shown = selected(self.state, request, self.render(row, request.base), BRIEF)
            return Reply(200, shown, {"ETag": row.etag})

        return write

    def store(self, user: User, right: Grant, old: Prefix, new: Prefix, request_id: str, message: str) -> Prefix:
        """Write a changed prefix over whatever is there. One that was deleted meanwhile is inserted again, since
        Django's save() inserts when its update finds no row (docs.djangoproject.com, "How Django knows to UPDATE vs.
        INSERT")."""
        row = new.changed(last_updated=stamp(self.state.now()))
        if not right.covers(self.state, row):
            raise forbidden()
        self.state.put_prefix(row)
        self.changelog.note(self.state, user, request_id, "update", before=old, after=row, message=message)
        return row

    def change_many(self, user: User, request: Request, data: Any, request_id: str, *, partial: bool) -> Outcome:
        """PATCH and PUT of the collection: ids that are gone or outside the right are skipped; a bad item fails all."""
        right = grant(self.state, user, "change", OBJECT_TYPE)
        items = {item["id"]: item for item in _identified(data)}
        found = self._present(right, items)
        found.sort(key=lambda row: (row.vrf or 0, row.family, row.first, row.length, row.id))
        for row in found:
            check_match(request, row.etag)
        cleaned = [clean(self.state, user, items[row.id], old=row, partial=partial) for row in found]

        def write() -> Reply:
            rows = [
                self.store(user, right, old, new, request_id, message_of(items[old.id]))
                for old, new in zip(found, cleaned, strict=True)
            ]
            return Reply(200, [self.render(row, request.base) for row in rows])

        return write

    def _present(self, right: Grant, ids: Iterable[int]) -> list[Prefix]:
        rows = self.state.prefixes.rows
        return [rows[each] for each in ids if each in rows and right.covers(self.state, rows[each])]

    def delete(self, user: User, request: Request, data: Any, request_id: str, prefix_id: int) -> Outcome:
        """DELETE of one prefix; its children stay."""
        row = self.get(user, prefix_id, "delete")
        check_match(request, row.etag)

        def write() -> Reply:
            self._drop(user, row.id, request_id, message_of(data))
            return Reply(204)

        return write

    def delete_many(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        """DELETE of the collection: ids that are gone or outside the right are skipped."""
        right = grant(self.state, user, "delete", OBJECT_TYPE)
        items = {item["id"]: item for item in _identified(data)}
        found = self._present(right, items)
        for row in found:
            check_match(request, row.etag)

        def write() -> Reply:
            for row in found:
                self._drop(user, row.id, request_id, message_of(items[row.id]))
            return Reply(204)

        return write

    def _drop(self, user: User, prefix_id: int, request_id: str, message: str) -> None:
        row = self.state.drop_prefix(prefix_id)
        if row is not None:
            self.changelog.note(self.state, user, request_id, "delete", before=row, message=message)


def message_of(data: Any) -> str:
    """The changelog message of a payload."""
    message = data.get("changelog_message") if isinstance(data, Mapping) else None
    return message if isinstance(message, str) else ""


def _identified(data: Any) -> list[dict[str, Any]]:
    """The items of a bulk payload, each with a whole number as id. Raises ApiError 400."""
    if not isinstance(data, list):
        message = f'Expected a list of items but got type "{type(data).__name__}".'
        raise ApiError(400, {"non_field_errors": [message]})
    items: list[dict[str, Any]] = []
    errors: list[dict[str, list[str]]] = []
    for item in data:
        if not isinstance(item, Mapping):
            errors.append(
                {"non_field_errors": [f"Invalid data. Expected a dictionary, but got {type(item).__name__}."]}
            )
        elif "id" not in item:
            errors.append({"id": ["This field is required."]})
        else:
            try:
                items.append({**item, "id": int(item["id"])})
                errors.append({})
            except (TypeError, ValueError):
                errors.append({"id": ["A valid integer is required."]})
    if any(errors):
        raise ApiError(400, errors)
    return items
