"""The views of every kind but prefixes: look-ups by name, and as much of writing as sets a NetBox up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netbox_simulator.access import User, check_constraints, grant
from netbox_simulator.filters import COMPARE
from netbox_simulator.hosts import KINDS_OF_HOSTS, ends, passes
from netbox_simulator.kinds import CHOICE_SET, CUSTOM_FIELD, TAG, TOKEN, USER, Field, Kind
from netbox_simulator.listing import ordering, page, selected
from netbox_simulator.render import render
from netbox_simulator.state import State, stamp
from netbox_simulator.validation import related
from netbox_simulator.wire import (
    ApiError,
    FieldError,
    Outcome,
    Reply,
    Request,
    Row,
    check_match,
    not_found,
)

_KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_KEY_LENGTH, _SECRET_LENGTH = 12, 40


class ObjectViews:
    """The views of one kind, over one state."""

    def __init__(self, state: State, kind: Kind) -> None:
        self.state = state
        self.kind = kind
        self.brief = ("id", "url", "display", *kind.nested)

    def get(self, user: User, row_id: int, action: str) -> Row:
        """An object that the user may do that to. Raises ApiError 403 or 404."""
        sight = grant(self.state, user, action, self.kind.object_type)
        row = self.state.rows(self.kind.name).get(row_id)
        if row is None or not sight.covers(self.state, row):
            raise not_found(self.kind.model)
        return row

    def index(self, user: User, request: Request) -> Outcome:
        """GET of the collection."""
        sight = grant(self.state, user, "view", self.kind.object_type)
        rows = self.state.rows(self.kind.name)
        chosen = [row for row in rows.values() if sight.covers(self.state, row) and self._matches(row, request)]
        if self.kind.name in KINDS_OF_HOSTS:
            chosen.sort(key=ends)
        else:
            chosen.sort(key=lambda row: tuple((row.get(name) is not None, row.get(name)) for name in self.kind.order))
        ids = ordering(request, self._ordering, [row["id"] for row in chosen])
        return page(
            self.state,
            request,
            ids,
            lambda each: selected(
                self.state, request, render(self.state, self.kind, rows[each], request.base), self.brief
            ),
        )

    def _ordering(self, name: str) -> Callable[[int], Any] | None:
        rows = self.state.rows(self.kind.name)
        if name not in ("id", "name", "slug", "created", "last_updated"):
            return None
        return lambda row_id: str(rows[row_id].get(name, "")) if name != "id" else row_id

    def _matches(self, row: Row, request: Request) -> bool:
        """Whether the row passes the filters of the query; unknown ones are ignored."""
        for name in {name for name, _ in request.query}:
            values = [value for value in request.values(name) if value != ""]
            if values and not self._passes(row, name, values):
                return False
        return True

    def _passes(self, row: Row, name: str, values: list[str]) -> bool:
        field, _, lookup = name.partition("__")
        if name == "q":
            return any(values[-1].lower() in str(row[each] or "").lower() for each in self.kind.search)
        if name == "choice" and self.kind.name == CHOICE_SET:
            return any(choice[0] in values for choice in row["extra_choices"])
        if name in ("object_type", "object_type_id") and self.kind.name == CUSTOM_FIELD:
            return any(value in row["object_types"] for value in values)
        if self.kind.name in KINDS_OF_HOSTS and (passed := passes(row, name, values)) is not None:
            return passed
        if field not in ("id", "name", "slug", "rd", "username", "address", "key", "type"):
            return True
        if field not in row:
            return True
        if field == "id" and lookup in COMPARE:
            return any(COMPARE[lookup](row["id"], int(value)) for value in values)
        text = str(row[field])
        test = _LOOKUPS.get(lookup)
        return test is None or any(test(text, value) for value in values)

    def detail(self, user: User, request: Request, row_id: int) -> Outcome:
        """GET of one object."""
        row = self.get(user, row_id, "view")
        shown = selected(self.state, request, render(self.state, self.kind, row, request.base), self.brief)
        return Reply(200, shown, self._headers(row))

    def choices(self, user: User, request: Request, row_id: int) -> Outcome:
        """GET of the choices of a choice set."""
        row = self.get(user, row_id, "view")
        wanted = (request.value("q") or "").lower()
        found = [choice for choice in row["extra_choices"] if wanted in str(choice[1]).lower()]
        return page(
            self.state, request, range(len(found)), lambda each: {"id": found[each][0], "display": found[each][1]}
        )

    def create(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        """POST of one object or a list of them."""
        right = grant(self.state, user, "add", self.kind.object_type)
        several = isinstance(data, list)
        cleaned: list[Row] = []
        errors: list[Any] = []
        for item in data if several else [data]:
            try:
                cleaned.append(self._clean(user, item, None, partial=False))
                errors.append({})
            except ApiError as error:
                errors.append(error.payload)
        if any(errors):
            raise ApiError(400, errors if several else errors[0])

        def write() -> Reply:
            shown = []
            row: Row = {}
            for new in cleaned:
                row = self._stamped({**new, "id": self.state.next_id(self.kind.name)}, new=True)
                if not right.covers(self.state, row):
                    raise ApiError(403, {"detail": "You do not have permission to perform this action."})
                self.state.put(self.kind.name, row)
                shown.append(render(self.state, self.kind, row, request.base))
                if self.kind.name == TAG and not self.state.version.since("4.5"):
                    del shown[-1]["tagged_items"]
            if several:
                return Reply(201, shown)
            location = f"{request.base}/api/{self.kind.path}/{row['id']}/"
            return Reply(201, shown[0], {"Location": location, **self._headers(row)})

        return write

    def change(
        self, user: User, request: Request, data: Any, request_id: str, row_id: int, *, partial: bool
    ) -> Outcome:
        """PATCH and PUT of one object."""
        old = self.get(user, row_id, "change")
        if (tag := self.kind.etag(old)) is not None:
            check_match(request, tag)
        new = self._clean(user, data, old, partial=partial)

        def write() -> Reply:
            row = self._stamped(new, new=False)
            self.state.put(self.kind.name, row)
            return Reply(200, render(self.state, self.kind, row, request.base), self._headers(row))

        return write

    def delete(self, user: User, request: Request, data: Any, request_id: str, row_id: int) -> Outcome:
        """DELETE of one object. A custom field takes its values along; what else points to an object protects it."""
        row = self.get(user, row_id, "delete")
        if (tag := self.kind.etag(row)) is not None:
            check_match(request, tag)
        prefixes = self.state.prefixes
        if any(row_id == getattr(prefix, self.kind.name, None) for prefix in prefixes.rows.values()):
            raise ApiError(409, {"detail": f"Unable to delete object: {self.kind.verbose} is used by prefixes"})

        def write() -> Reply:
            self.state.drop(self.kind.name, row_id)
            for prefix in list(prefixes.rows.values()):
                if self.kind.name == CUSTOM_FIELD and row["name"] in prefix.custom_fields:
                    rest = {name: value for name, value in prefix.custom_fields.items() if name != row["name"]}
                    self.state.put_prefix(prefix.changed(custom_fields=rest))
                elif self.kind.name == TAG and row_id in prefix.tags:
                    tags = tuple(each for each in prefix.tags if each != row_id)
                    self.state.put_prefix(prefix.changed(tags=tags))
            return Reply(204)

        return write

    def _headers(self, row: Row) -> dict[str, str]:
        tag = self.kind.etag(row)
        return {"ETag": tag} if tag else {}

    def _stamped(self, row: Row, *, new: bool) -> Row:
        now = stamp(self.state.now())
        if new and self.kind.name == USER:
            row["date_joined"] = now
        if self.kind.stamped and self.kind.name != TOKEN:
            row |= {"last_updated": now, **({"created": now} if new else {})}
        if new and self.kind.name == TOKEN:
            row["created"] = now
        return row

    def _clean(self, user: User, data: Any, old: Row | None, *, partial: bool) -> Row:
        """The row that a payload makes, or makes of `old`. Raises ApiError 400."""
        if not isinstance(data, Mapping):
            message = f"Invalid data. Expected a dictionary, but got {type(data).__name__}."
            raise ApiError(400, {"non_field_errors": [message]})
        row = dict(old) if old is not None else self.kind.defaults()
        data = self.state.version.given(data, self.kind.name)
        errors: dict[str, Any] = {}
        for each in self.kind.fields:
            if each.computed is not None or each.name in ("created", "last_updated", "date_joined"):
                continue
            if each.name not in data:
                if each.required and not partial:
                    renamed = each.name == "object_types" and not self.state.version.since("4.2")
                    errors["content_types" if renamed else each.name] = ["This field is required."]
                continue
            try:
                row[each.name] = self._convert(user, each, data[each.name], row.get("id"))
            except FieldError as error:
                errors[each.name] = error.messages
        if errors:
            raise ApiError(400, errors)
        if self.kind.name == TOKEN and old is None:
            self._complete_token(row)
        return row

    def _convert(self, user: User, each: Field, value: Any, own_id: int | None) -> Any:
        if each.choices is not None and value not in each.choices and (value is not None or each.default is not None):
            raise FieldError(f"{value} is not a valid choice.")
        if each.ref is not None:
            if each.many:
                return [related(self.state, user, each.ref, item) for item in value]
            return None if value is None else related(self.state, user, each.ref, value)
        if each.unique and value is not None:
            for other in self.state.rows(self.kind.name).values():
                if other[each.name] == value and other["id"] != own_id:
                    raise FieldError(f"{self.kind.verbose} with this {each.name} already exists.")
        if each.name == "constraints" and value is not None:
            try:
                check_constraints(value)
            except (ValueError, TypeError) as error:
                raise FieldError(f"Invalid filter for this object type: {error}") from None
        return value

    def _complete_token(self, row: Row) -> None:
        """Make the key and secret of a new token as its version needs them."""
        if row["version"] == 2:
            row["key"] = self._letters(_KEY_LENGTH)
            row["pepper_id"] = 1
        row["token"] = row["token"] or self._letters(_SECRET_LENGTH)

    def _letters(self, count: int) -> str:
        return "".join(self.state.rng.choices(_KEY_LETTERS, k=count))


_LOOKUPS: dict[str, Callable[[str, str], bool]] = {
    "": lambda text, value: text == value,
    "ie": lambda text, value: text.lower() == value.lower(),
    "ic": lambda text, value: value.lower() in text.lower(),
    "isw": lambda text, value: text.lower().startswith(value.lower()),
    "n": lambda text, value: text != value,
}
