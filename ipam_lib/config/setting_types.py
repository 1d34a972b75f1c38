"""The types of settings: each one reads a JSON value.

No JSON type is coerced into another. No error repeats the value: a secret in the wrong place must not get into a log.
"""

from __future__ import annotations

import ipaddress
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipam_lib.config.secret_files import PathResolver, read_keys, read_secret
from ipam_lib.crypto import KeySet, Secret
from ipam_lib.description import DescriptionTemplate
from ipam_lib.text import json_type

# NetBox allows lower-case letters, digits and single underscores in the name of a custom field.
_FIELD_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*", re.ASCII)
_OWN_FIELDS = ("k8s_uuid", "k8s_zone")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?", re.ASCII)


class SettingType(ABC):
    """A type of settings. `name` is its name in the documentation."""

    name: str

    @abstractmethod
    def read(self, value: object, paths: PathResolver) -> Any:
        """The value for the program. Raises ValueError, which says what the JSON value must be instead."""

    def shown(self, default: Any) -> str:
        """A default value, as JSON."""
        return json.dumps(str(default) if isinstance(default, Path) else default)


class Text(SettingType):
    """A string that is not empty. `check` raises ValueError for further rules."""

    name = "string"

    def __init__(self, check: Callable[[str], None] | None = None) -> None:
        self._check = check

    def read(self, value: object, paths: PathResolver) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"must be a string, not {json_type(value)}")  # noqa: TRY004
        if not value.strip():
            raise ValueError("must not be empty")
        if not value.isprintable():  # excludes line breaks, NUL and lone surrogates
            raise ValueError("must hold printable characters only")
        if self._check is not None:
            self._check(value)
        return value


class DescriptionText(SettingType):
    """A template for the descriptions of prefixes, or an empty string for none."""

    name = "string"

    def read(self, value: object, paths: PathResolver) -> str:
        if value == "":
            return ""
        template: str = Text().read(value, paths)
        return DescriptionTemplate(template).template


class Hosts(SettingType):
    """A host name or address, or a list of them."""

    name = "string, or list of strings"

    def read(self, value: object, paths: PathResolver) -> str | tuple[str, ...]:
        if not isinstance(value, list):
            host: str = Text().read(value, paths)
            return host
        if not value or len(set(map(str, value))) != len(value):
            raise ValueError("must hold at least one address, and none twice")
        return tuple(Text().read(one, paths) for one in value)


class Networks(SettingType):
    """A list of networks in CIDR notation."""

    name = "list of networks"

    def read(self, value: object, paths: PathResolver) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of networks, not {json_type(value)}")  # noqa: TRY004
        networks = []
        for one in value:
            try:
                networks.append(ipaddress.ip_network(Text().read(one, paths)))
            except ValueError:
                raise ValueError("must hold networks without host bits, such as 10.0.0.0/8") from None
        return tuple(networks)


class Names(SettingType):
    """A list of names."""

    name = "list of names"

    def read(self, value: object, paths: PathResolver) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of names, not {json_type(value)}")  # noqa: TRY004
        return tuple(Text().read(one, paths) for one in value)


class Integer(SettingType):
    """A whole number from `low` to `high`."""

    def __init__(self, low: int, high: int) -> None:
        self.name = f"integer, {low} to {high}"
        self._low, self._high = low, high

    def read(self, value: object, paths: PathResolver) -> int:
        if type(value) is not int or not self._low <= value <= self._high:
            kind = "a fraction" if type(value) is float else json_type(value)
            what = "" if type(value) is int else f", not {kind}"
            raise ValueError(f"must be an integer from {self._low} to {self._high}{what}")
        return value


class Seconds(SettingType):
    """A time in seconds, whole or not, from `low` to `high`."""

    def __init__(self, low: float, high: float) -> None:
        self.name = f"seconds, {low:g} to {high:g}"
        self._low, self._high = low, high

    def read(self, value: object, paths: PathResolver) -> float:
        if type(value) not in (int, float):
            raise ValueError(
                f"must be a number of seconds from {self._low:g} to {self._high:g}, not {json_type(value)}"
            )
        assert isinstance(value, (int, float))
        if not self._low <= value <= self._high:
            raise ValueError(f"must be from {self._low:g} to {self._high:g} seconds")
        return float(value)

    def shown(self, default: Any) -> str:
        return f"{default:g}"


class Switch(SettingType):
    """true or false."""

    name = "boolean"

    def read(self, value: object, paths: PathResolver) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {json_type(value)}")  # noqa: TRY004
        return value


class OneOf(SettingType):
    """One of a few words, in upper or lower case."""

    def __init__(self, *choices: str) -> None:
        self.name = ", ".join(f"`{choice}`" for choice in choices[:-1]) + f" or `{choices[-1]}`"
        self._choices = choices

    def read(self, value: object, paths: PathResolver) -> str:
        if not isinstance(value, str) or value.lower() not in self._choices:
            raise ValueError("must be one of: " + ", ".join(self._choices))
        return value.lower()


class Url(SettingType):
    """The http or https URL of a service, without the path `tail` that the program adds."""

    name = "URL"

    def __init__(self, tail: str, example: str) -> None:
        self._tail, self._example = tail, example

    def read(self, value: object, paths: PathResolver) -> str:
        url: str = Text().read(value, paths)
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
            parts = urlsplit("")
        if not usable or " " in url:
            raise ValueError(f"must be an http or https address, such as {self._example}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or password")
        if "?" in url or "#" in url:
            raise ValueError("must end with the path: no query, no fragment")
        if self._tail in f"{parts.path}/":
            raise ValueError(f"must not hold {self._tail.rstrip('/')}: the program adds it, as in {self._example}")
        return url.rstrip("/")


class ExistingFile(SettingType):
    """A file that must exist, relative to the configuration file, or by its name in `$CREDENTIALS_DIRECTORY`.

    `secret`: whether only the service may read it. `into`: the field of the section that gets its content, if any.
    """

    name = "path"

    def __init__(self, *, secret: bool = False, into: str | None = None) -> None:
        self.secret = secret
        self.into = into

    def read(self, value: object, paths: PathResolver) -> Path:
        return paths.find(Text().read(value, paths))

    def content(self, path: Path) -> Any:
        """The content for the field `into`. Raises ConfigError."""
        raise NotImplementedError


class SecretFile(ExistingFile):
    """A file that holds one secret. A `token` goes into an HTTP header, so it must be one word."""

    def __init__(self, into: str, *, token: bool = True) -> None:
        super().__init__(secret=True, into=into)
        self._token = token

    def content(self, path: Path) -> Secret:
        return read_secret(path, token=self._token)


class KeyFile(ExistingFile):
    """A `secrets.json`: the keys for stored secrets."""

    def __init__(self, into: str) -> None:
        super().__init__(secret=True, into=into)

    def content(self, path: Path) -> KeySet:
        return read_keys(path)


class NewPath(SettingType):
    """A file or directory that the program creates, relative to the configuration file."""

    name = "path"

    def read(self, value: object, paths: PathResolver) -> Path:
        return paths.resolve(Text().read(value, paths))

    def shown(self, default: Any) -> str:
        return json.dumps(f"./{default}")


class ConnectionString(SettingType):
    """A MongoDB connection string (https://www.mongodb.com/docs/manual/reference/connection-string/).

    It may hold a password, so it is a secret.
    """

    name = "string"

    def read(self, value: object, paths: PathResolver) -> Secret:
        text: str = Text().read(value, paths)
        match = re.fullmatch(
            r"mongodb(?:\+srv)?://(?:(?P<user>[^/?]*)@)?[^@/?\s]+(?:/(?P<database>[^?]*))?(?:\?.*)?", text
        )
        if match is None:
            raise ValueError("must be a connection string: mongodb://host:port/?options or mongodb+srv://host/?options")
        if "@" in (match["user"] or "") + (match["database"] or ""):
            raise ValueError(
                "must have the special characters in user and password percent-encoded (@ is %40, / is %2F)"
            )
        return Secret(text)


class FieldNames(SettingType):
    """A list of names of NetBox custom fields."""

    name = "list of names"

    def read(self, value: object, paths: PathResolver) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError('must be a list of names of custom fields, such as ["infra"]')
        _check_field_names(value)
        if len(set(value)) != len(value):
            raise ValueError("must not hold a name twice")
        return tuple(value)


class FieldValues(SettingType):
    """Values for NetBox custom fields, by name."""

    name = "object"

    def read(self, value: object, paths: PathResolver) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError('must be an object of names and values, such as {"domain": "na"}')  # noqa: TRY004
        _check_field_names(value)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("must hold JSON values") from None
        return value

    def shown(self, default: Any) -> str:
        return "{}"


class PerZone(SettingType):
    """One integer for all zones, or an object with an integer for each zone."""

    def __init__(self, high: int) -> None:
        self._number = Integer(0, high)
        self.name = f"{self._number.name}, or an object with one for each zone"

    def read(self, value: object, paths: PathResolver) -> int | dict[str, int]:
        if not isinstance(value, dict):
            try:
                return self._number.read(value, paths)
            except ValueError as error:
                raise ValueError(f'{error}; or an object, such as {{"inet": 50}}') from None
        numbers: dict[str, int] = {}
        for zone, number in value.items():
            try:
                numbers[zone] = self._number.read(number, paths)
            except ValueError as error:
                raise ValueError(f"of zone {zone!r} {error}") from None
        return numbers


def _check_field_names(names: Collection[str]) -> None:
    if not all(_FIELD_NAME.fullmatch(name) for name in names):
        raise ValueError("must hold names of custom fields: lower-case letters, digits and single underscores")
    if any(name in _OWN_FIELDS for name in names):
        raise ValueError("must not hold " + " or ".join(_OWN_FIELDS) + ": the program sets them itself")


@dataclass(frozen=True, slots=True)
class SQLitePath:
    """The file of the embedded database."""

    path: Path


class StorageKind(SettingType):
    """The choice of the database."""

    name = '`"mongodb"` or `{"sqlite": PATH}`'

    def read(self, value: object, paths: PathResolver) -> SQLitePath | None:
        """The path of the embedded database; None for MongoDB."""
        match value:
            case "mongodb":
                return None
            case {"sqlite": path, **others} if not others:
                try:
                    return SQLitePath(NewPath().read(path, paths))
                except ValueError as error:
                    raise ValueError(f"names a path for sqlite that {error}") from None
            case _:
                raise ValueError('must be "mongodb" or {"sqlite": "path of the database file"}')


def check_host(text: str) -> None:
    """Check for one host name or address without a port. Raises ValueError."""
    if "," in text:
        raise ValueError("must be one host; for several of them, use mongodb.uri")
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        if ":" in text:
            raise ValueError("must be a host without a port; the port is mongodb.port") from None
        if _HOST_NAME.fullmatch(text) is None:
            raise ValueError("must be a host name or an IP address") from None


def check_database(text: str) -> None:
    """Check for a MongoDB database name. Raises ValueError.

    https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
    """
    if set(text) & set('/\\. "$*<>:|?') or len(text.encode()) > 63:
        raise ValueError(
            'must be the name of a database: at most 63 bytes, and none of / \\ . " $ * < > : | ? or spaces'
        )


def check_collection(text: str) -> None:
    """Check for a MongoDB collection name. Raises ValueError."""
    if "$" in text or text.startswith("system.") or len(text.encode()) > 200:
        raise ValueError("must be the name of a collection: at most 200 bytes, no $, and not one of `system.`")
