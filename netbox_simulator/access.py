"""Authentication and permissions: tokens of both versions, object permissions, and their constraints.

Every failure is a 403, as in NetBox; there is no 401.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any

from netbox_simulator.kinds import PERMISSION, TAG, TOKEN, USER
from netbox_simulator.state import Prefix, State
from netbox_simulator.wire import ApiError, Request, Row, forbidden

ADMIN = 1

NOT_PROVIDED = "Authentication credentials were not provided."
BAD_HEADER = 'Invalid authorization header: Must be in the form "Bearer <key>.<token>" or "Token <token>"'
NO_KEY = (
    "Invalid authorization header: Could not parse key from v2 token. Did you mean to use 'Token' instead of 'Bearer'?"
)
V2_MARK = "nbt_"


@dataclass(frozen=True, slots=True)
class User:
    """The user of a request. `writes` is false with a read-only token."""

    id: int
    name: str
    superuser: bool
    writes: bool = True


def ensure_admin(state: State) -> None:
    """Create the superuser that every NetBox has, if there is none."""
    if ADMIN not in state.rows(USER):
        row = {"id": ADMIN, "username": "admin", "first_name": "", "last_name": "", "email": "", "is_active": True}
        joined = state.now().isoformat().replace("+00:00", "Z")
        state.put(
            USER,
            row | {"date_joined": joined, "last_login": None, "groups": [], "password": None, "is_superuser": True},
        )


def authenticate(state: State, request: Request, superuser_tokens: frozenset[str]) -> User:
    """The user of a request. Raises ApiError 403 in NetBox's words.

    `superuser_tokens` are given from outside and belong to the superuser; those in the state were made through the API.
    The keyword does not matter to NetBox, only whether the token itself begins with `nbt_`.
    """
    words = request.headers.get("authorization", "").split()
    if not words or words[0].lower() not in ("token", "bearer"):
        raise forbidden(NOT_PROVIDED)
    if len(words) != 2:
        raise forbidden(BAD_HEADER)
    given = words[1]
    if not state.version.since("4.5"):
        return _user_of_old_token(state, request, words[0], given, superuser_tokens)
    version = 2 if given.startswith(V2_MARK) else 1
    if version == 2 and "." not in given:
        raise forbidden(NO_KEY)
    if any(hmac.compare_digest(given.encode(), token.encode()) for token in superuser_tokens):
        return _user(state, ADMIN)
    row = _find(state, given, version)
    if row is None:
        raise forbidden(f"Invalid v{version} token")
    _check_usable(state, row, request)
    return _user(state, row["user"], writes=row["write_enabled"])


def _user_of_old_token(
    state: State, request: Request, keyword: str, given: str, superuser_tokens: frozenset[str]
) -> User:
    """As `authenticate`, for NetBox before 4.5, which knows no tokens of version 2 and no keyword but `Token`."""
    if keyword.lower() != "token":
        raise forbidden(NOT_PROVIDED)
    if given in superuser_tokens and not given.startswith(V2_MARK):
        return _user(state, ADMIN)
    row = _find(state, given, 1)
    if row is None:
        raise forbidden("Invalid token")
    _check_usable(state, row, request)
    return _user(state, row["user"], writes=row["write_enabled"])


def _find(state: State, given: str, version: int) -> Row | None:
    for row in state.rows(TOKEN).values():
        whole = f"{V2_MARK}{row['key']}.{row['token']}" if row["version"] == 2 else row["token"]
        if row["version"] == version and hmac.compare_digest(given.encode(), str(whole).encode()):
            return row
    return None


def _check_usable(state: State, row: Row, request: Request) -> None:
    if row["allowed_ips"]:
        source = ip_address(request.remote)
        networks = [ip_network(each) for each in row["allowed_ips"]]
        if not any(source in network for network in networks if network.version == source.version):
            raise forbidden(f"Source IP {request.remote} is not permitted to authenticate using this token.")
    if not row["enabled"]:
        raise forbidden("Token disabled")
    if row["expires"] and datetime.fromisoformat(row["expires"]) <= state.now():
        raise forbidden("Token expired")


def _user(state: State, user_id: int, *, writes: bool = True) -> User:
    row = state.rows(USER)[user_id]
    return User(user_id, row["username"], bool(row["is_superuser"]), writes)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user may do with one kind of object: everything, or what meets one of the constraints."""

    constraints: tuple[Mapping[str, Any], ...] = ()

    def covers(self, state: State, row: Row | Prefix) -> bool:
        """Whether the object is within the grant."""
        return not self.constraints or any(_meets(state, row, each) for each in self.constraints)


EVERYTHING = Grant()


def grant(state: State, user: User, action: str, object_type: str) -> Grant:
    """What the user may do. Raises ApiError 403 when it is nothing."""
    if action != "view" and not user.writes:
        raise forbidden()
    if user.superuser:
        return EVERYTHING
    constraints: list[Mapping[str, Any]] = []
    granted = False
    for row in state.rows(PERMISSION).values():
        if (
            row["enabled"]
            and user.id in row["users"]
            and action in row["actions"]
            and object_type in row["object_types"]
        ):
            granted = True
            if not row["constraints"]:
                return EVERYTHING
            given = row["constraints"]
            constraints += given if isinstance(given, list) else [given]
    if not granted:
        raise forbidden()
    return Grant(tuple(constraints))


def allowed(state: State, user: User, action: str, object_type: str) -> bool:
    """Whether the user has any grant of that kind."""
    try:
        grant(state, user, action, object_type)
    except ApiError:
        return False
    return True


def check_constraints(constraints: Any) -> None:
    """Raise ValueError for a constraint that this simulator cannot check."""
    for each in constraints if isinstance(constraints, list) else [constraints]:
        for path in each or {}:
            if not path.startswith("custom_field_data__") and path not in _PATHS:
                raise ValueError(path)


_PATHS = (
    *("id", "name", "slug", "status", "vrf", "vrf_id", "tenant", "tenant_id", "role", "role_id"),
    *("tags", "tags__id", "tags__name", "tags__slug"),
)


def _meets(state: State, row: Row | Prefix, constraint: Mapping[str, Any]) -> bool:
    return all(expected in _attribute(state, row, path) for path, expected in constraint.items())


def _attribute(state: State, row: Row | Prefix, path: str) -> list[Any]:
    """The values that a constraint's path leads to (several for tags)."""
    name, _, rest = path.partition("__")
    if name == "tags":
        ids = row.tags if isinstance(row, Prefix) else row.get("tags", ())
        tags = [state.rows(TAG)[each] for each in ids]
        return [tag[rest or "id"] for tag in tags]
    if name == "custom_field_data":
        fields = row.custom_fields if isinstance(row, Prefix) else {}
        return [fields.get(rest)]
    name = name.removesuffix("_id")
    return [getattr(row, name, None) if isinstance(row, Prefix) else row.get(name)]
