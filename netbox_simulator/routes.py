"""Which path leads to which view, with the rights that NetBox asks for before it looks at the body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from netbox_simulator.access import User, grant
from netbox_simulator.available import AvailableViews
from netbox_simulator.catalog import BY_PATH, KINDS
from netbox_simulator.changelog import Changelog
from netbox_simulator.kinds import CHOICE_SET, USER, Kind
from netbox_simulator.listing import page
from netbox_simulator.objects import ObjectViews
from netbox_simulator.prefixes import OBJECT_TYPE, PATH, PrefixViews
from netbox_simulator.render import render
from netbox_simulator.state import State
from netbox_simulator.wire import ApiError, Outcome, Reply, Request

# user, request, decoded body, request id
View = Callable[[User, Request, Any, str], Outcome]

_LIST = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_DETAIL = "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
_READ = "GET, HEAD, OPTIONS"
_RIGHTS = {"GET": "view", "POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}
_APPS = (
    *("circuits", "core", "dcim", "extras", "ipam", "plugins"),
    *("status", "tenancy", "users", "virtualization", "vpn", "wireless"),
)
ALLOCATE = "prefixes.allocate"


@dataclass(frozen=True, slots=True)
class Route:
    """A path that exists: its views by method, each with the operation that it counts as, and the Allow header.
    `anonymous`: a request without valid credentials is served."""

    title: str
    allow: str
    views: Mapping[str, tuple[str, View]]
    object_type: str | None = None
    anonymous: bool = False
    rights: Mapping[str, str] = field(default_factory=lambda: _RIGHTS)


class Router:
    """Finds the route of a path."""

    def __init__(self, state: State, changelog: Changelog) -> None:
        self.state = state
        self.changelog = changelog
        self.prefixes = PrefixViews(state, changelog)
        self.available = AvailableViews(self.prefixes)
        self.objects = {name: ObjectViews(state, kind) for name, kind in KINDS.items()}

    def resolve(self, path: str) -> Route | None:
        """The route of a path with its trailing slash, or None: NetBox has no such path."""
        if not path.startswith("/api/") or not path.endswith("/"):
            return None
        segments = path[len("/api/") : -1].split("/") if path != "/api/" else []
        match segments:
            case []:
                return Route("API Root", _READ, {"GET": ("root", _root)})
            case ["status"]:
                # LOGIN_REQUIRED, which asks for a token here, is NetBox's default since 4.0.
                anonymous = not self.state.version.since("4.2")
                return Route("Status", _READ, {"GET": ("status", self._status)}, anonymous=anonymous)
            case ["authentication-check"]:
                return Route("Authentication Check", _READ, {"GET": ("authentication-check", self._whoami)})
            case [app, "object-changes"] if app == ("core" if self.state.version.since("4.2") else "extras"):
                return Route("Object Change List", _READ, {"GET": ("changes.list", self._changes)}, "core.objectchange")
            case [app, collection, *rest]:
                return self._of_collection(f"{app}/{collection}", rest)
        return None

    def _of_collection(self, path: str, rest: list[str]) -> Route | None:
        if path == PATH:
            return self._of_prefixes(rest)
        kind = BY_PATH.get(path)
        return self._of_kind(kind, rest) if kind is not None else None

    def _of_prefixes(self, rest: list[str]) -> Route | None:
        views = self.prefixes
        match rest:
            case []:
                collection: dict[str, tuple[str, View]] = {
                    "GET": ("prefixes.list", lambda user, request, data, request_id: views.index(user, request)),
                    "POST": ("prefixes.create", views.create),
                    "PATCH": ("prefixes.update_many", partial(views.change_many, partial=True)),
                    "PUT": ("prefixes.replace_many", partial(views.change_many, partial=False)),
                    "DELETE": ("prefixes.delete_many", views.delete_many),
                }
                return Route("Prefix List", _LIST, collection, OBJECT_TYPE)
            case [text]:
                return self._of_prefix(int(text)) if _is_number(text) else _absent("Prefix", OBJECT_TYPE)
            case [text, "available-prefixes"] if _is_number(text):
                available = self.available
                free: dict[str, tuple[str, View]] = {
                    "GET": (
                        "prefixes.available",
                        lambda user, request, data, request_id: available.index(user, request, int(text)),
                    ),
                    "POST": (ALLOCATE, partial(available.allocate, container_id=int(text))),
                }
                return Route("Prefix", "GET, POST, HEAD, OPTIONS", free, OBJECT_TYPE)
        return None

    def _of_prefix(self, prefix_id: int) -> Route:
        views = self.prefixes
        detail: dict[str, tuple[str, View]] = {
            "GET": ("prefixes.get", lambda user, request, data, request_id: views.detail(user, request, prefix_id)),
            "PATCH": ("prefixes.update", partial(views.change, prefix_id=prefix_id, partial=True)),
            "PUT": ("prefixes.replace", partial(views.change, prefix_id=prefix_id, partial=False)),
            "DELETE": ("prefixes.delete", partial(views.delete, prefix_id=prefix_id)),
        }
        return Route("Prefix", _DETAIL, detail, OBJECT_TYPE)

    def _of_kind(self, kind: Kind, rest: list[str]) -> Route | None:
        views = self.objects[kind.name]
        name = kind.path.partition("/")[2]
        match rest:
            case []:
                collection: dict[str, tuple[str, View]] = {
                    "GET": (f"{name}.list", lambda user, request, data, request_id: views.index(user, request)),
                    "POST": (f"{name}.create", views.create),
                }
                return Route(f"{kind.model} List", _LIST, collection, kind.object_type)
            case [text]:
                if not _is_number(text):
                    return _absent(kind.model, kind.object_type)
                row_id = int(text)
                detail: dict[str, tuple[str, View]] = {
                    "GET": (f"{name}.get", lambda user, request, data, request_id: views.detail(user, request, row_id)),
                    "PATCH": (f"{name}.update", partial(views.change, row_id=row_id, partial=True)),
                    "PUT": (f"{name}.replace", partial(views.change, row_id=row_id, partial=False)),
                    "DELETE": (f"{name}.delete", partial(views.delete, row_id=row_id)),
                }
                return Route(kind.model, _DETAIL, detail, kind.object_type)
            case [text, "choices"] if kind.name == CHOICE_SET and _is_number(text):
                choices: View = lambda user, request, data, request_id: views.choices(user, request, int(text))  # noqa: E731
                return Route(kind.model, _READ, {"GET": (f"{name}.choices", choices)}, kind.object_type)
        return None

    def _status(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        version = self.state.version
        shown: dict[str, Any] = {
            "django-version": "6.0.8",
            "netbox-version": version.full,
            "plugins": {},
            "python-version": version.python,
            "rq-workers-running": 0,
        }
        if version.since("4.4"):
            return Reply(
                200, {**shown, "hostname": "simulator", "installed_apps": {}, "netbox-full-version": version.full}
            )
        return Reply(200, {**shown, "installed-apps": {}})

    def _whoami(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        row = self.state.rows(USER)[user.id]
        return Reply(200, render(self.state, KINDS[USER], row, request.base))

    def _changes(self, user: User, request: Request, data: Any, request_id: str) -> Outcome:
        ids = self.changelog.select(request.values)
        base = request.base

        def show(entry_id: int) -> dict[str, Any]:
            return self.changelog.render(self.state, entry_id, base, lambda row: self.prefixes.short(row, base))

        return page(self.state, request, ids, show)


def check_right(state: State, user: User, route: Route, method: str) -> None:
    """What NetBox checks before it reads the body. Raises ApiError 403."""
    if route.object_type is not None:
        grant(state, user, route.rights.get(method, "view"), route.object_type)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _absent(model: str, object_type: str) -> Route:
    def refuse(user: User, request: Request, data: Any, request_id: str) -> Outcome:
        raise ApiError(404, {"detail": "Not found."})

    return Route(model, _DETAIL, {method: ("unknown", refuse) for method in _RIGHTS if method != "POST"}, object_type)


def _root(user: User, request: Request, data: Any, request_id: str) -> Outcome:
    return Reply(200, {app: f"{request.base}/api/{app}/" for app in _APPS})
