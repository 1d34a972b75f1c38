"""Read a configuration file into `Settings`, or raise one error that lists every problem."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ipam_lib.config.secret_files import SYSTEM_CONFIG, PathResolver, find_config, read_config
from ipam_lib.config.sections import (
    ALWAYS,
    SECTIONS,
    AuthSection,
    CleanupSection,
    EncryptionSection,
    HistorySection,
    LimitsSection,
    LoggingSection,
    MongoDBSection,
    NetBoxSection,
    ServerSection,
    Setting,
    SplunkSection,
    settings_of,
)
from ipam_lib.config.setting_types import ExistingFile, SQLitePath, StorageKind
from ipam_lib.crypto import Secret
from ipam_lib.errors import ConfigError
from ipam_lib.text import json_type

STORAGE = Setting(
    StorageKind(),
    "The database of the registrations: the MongoDB server, or a file of the embedded database.",
    default="mongodb",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked configuration, with the contents of its secret files. `source`: the configuration file, if any."""

    storage: MongoDBSection | SQLitePath
    netbox: NetBoxSection
    encryption_secrets: EncryptionSection
    server: ServerSection
    auth: AuthSection
    cleanup: CleanupSection
    history: HistorySection
    limits: LimitsSection
    logging: LoggingSection
    splunk: SplunkSection
    source: Path | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        system: Path = SYSTEM_CONFIG,
    ) -> tuple[Settings, list[str]]:
        """Read the file `path`, or the first one that `find_config` finds, and every secret file.

        Returns the settings, and warnings for the user. Raises ConfigError with every problem at once.
        """
        environ = os.environ if environ is None else environ
        given = None if path is None else Path(path)
        source = find_config(given, environ, Path.cwd() if cwd is None else cwd, system)
        content, warnings = read_config(source)
        # Symbolic links are not resolved: relative paths start at the link, as in a ConfigMap of Kubernetes.
        reader = _Reader(f"{source}: ", PathResolver(source.parent, _credentials(environ)), warnings)
        return reader.read(content, source), warnings

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], *, base_directory: Path, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Read `content` like the content of a file in `base_directory`. Raises ConfigError."""
        return _Reader("", PathResolver(base_directory, _credentials(environ or {})), []).read(dict(content), None)

    def sections(self) -> dict[str, Any]:
        """The sections in use, by their names in the file."""
        mongodb = {"mongodb": self.storage} if isinstance(self.storage, MongoDBSection) else {}
        return mongodb | {name: getattr(self, name) for name in SECTIONS if name != "mongodb"}

    def secrets(self) -> Iterator[str]:
        """Every text in the settings that must not get into a log: every Secret, and the keys."""
        for section in self.sections().values():
            yield from _secrets(section)
        if isinstance(self.storage, MongoDBSection):
            yield self.storage.connection_string().reveal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A configuration that may have problems. Each section without a problem is present, the others are None.

    `secret_files`: the existing files with secrets, by the name of their setting.
    """

    source: Path
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    secret_files: Mapping[str, Path] = field(default_factory=dict)
    storage: MongoDBSection | SQLitePath | None = None
    netbox: NetBoxSection | None = None
    encryption_secrets: EncryptionSection | None = None
    server: ServerSection | None = None
    auth: AuthSection | None = None
    cleanup: CleanupSection | None = None
    history: HistorySection | None = None
    limits: LimitsSection | None = None
    logging: LoggingSection | None = None
    splunk: SplunkSection | None = None


def inspect(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    system: Path = SYSTEM_CONFIG,
) -> Inspection:
    """Read the same file as `Settings.load`, and report its problems instead of raising an error.

    Raises ConfigError when there is no such file, or when it is not a JSON object.
    """
    environ = os.environ if environ is None else environ
    given = None if path is None else Path(path)
    source = find_config(given, environ, Path.cwd() if cwd is None else cwd, system)
    content, warnings = read_config(source)
    return _Reader("", PathResolver(source.parent, _credentials(environ)), warnings).inspect(content, source)


def _credentials(environ: Mapping[str, str]) -> Path | None:
    name = environ.get("CREDENTIALS_DIRECTORY")
    return Path(name) if name else None


def changed_settings(old: Settings, new: Settings) -> Iterator[tuple[str, Setting, bool]]:
    """The settings that differ, or whose files differ in their contents.

    Gives the name in the file, the setting, and whether it was added or removed.
    """
    before, after = old.sections(), new.sections()
    if before.keys() != after.keys() or (isinstance(old.storage, SQLitePath) and old.storage != new.storage):
        yield "storage", STORAGE, False
    for name in before:
        if name not in after:
            continue
        for key, about in settings_of(SECTIONS[name]).items():
            into = about.kind.into if isinstance(about.kind, ExistingFile) else None
            values = [(getattr(before[name], one), getattr(after[name], one)) for one in (key, into) if one]
            if any(earlier != later for earlier, later in values):
                yield f"{name}.{key}", about, any((earlier is None) != (later is None) for earlier, later in values)


def _secrets(value: Any) -> Iterator[str]:
    """The secrets in a section: every Secret, and every text in bytes, which only keys are."""
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif is_dataclass(value):
        for member in fields(value):
            yield from _secrets(getattr(value, member.name))


class _Reader:
    """Reads one configuration and collects its problems."""

    def __init__(self, prefix: str, paths: PathResolver, warnings: list[str]) -> None:
        self._prefix = prefix
        self._paths = paths
        self._warnings = warnings
        self._problems: list[str] = []
        self._secret_files: dict[str, Path] = {}

    def read(self, content: dict[str, Any], source: Path | None) -> Settings:
        """Raises ConfigError. Its list ends with the warnings: an unknown name may explain a missing one."""
        built = self._build(content)
        if self._problems:
            raise ConfigError(self._problems + self._warnings)
        return Settings(source=source, **built)

    def inspect(self, content: dict[str, Any], source: Path) -> Inspection:
        """The sections without problems, and the problems of the others."""
        built = self._build(content)
        return Inspection(
            source=source,
            problems=tuple(self._problems),
            warnings=tuple(self._warnings),
            secret_files=self._secret_files,
            **built,
        )

    def _build(self, content: dict[str, Any]) -> dict[str, Any]:
        """The sections by name, and `storage`; None for a section with a problem."""
        for name in content:
            if name not in SECTIONS and name != "storage":
                self._unknown(name)
        storage = self._storage(content)
        skipped = {"mongodb"} if isinstance(storage, SQLitePath) or "mongodb" not in content else set()
        built = {
            name: self._section(name, section, content.get(name, {}), skipped=name in skipped)
            for name, section in SECTIONS.items()
        }
        if not self._problems:
            self._compare(built)
        mongodb = built.pop("mongodb")
        return built | {"storage": storage or mongodb}

    def _storage(self, content: Mapping[str, Any]) -> SQLitePath | None:
        if "storage" in content:
            try:
                chosen: SQLitePath | None = STORAGE.kind.read(content["storage"], self._paths)
            except ValueError as error:
                self._problem("storage", str(error))
                return None
            if chosen is not None:
                return chosen
        if "mongodb" not in content:
            self._problem(
                "mongodb", 'is missing: give host, username and password_path; or set storage to {"sqlite": PATH}'
            )
        return None

    def _section(self, name: str, section: type[Any], given: object, *, skipped: bool) -> Any:
        """One section; None when it is skipped or has a problem."""
        if not isinstance(given, dict):
            self._problem(name, f"must be an object, not {json_type(given)}")
            return None
        settings = settings_of(section)
        for key in given:
            if key not in settings:
                self._unknown(f"{name}.{key}")
        if skipped:
            return None
        if name == "splunk" and given.get("enable", False) is False:
            return section()
        before = len(self._problems)
        values: dict[str, Any] = {}
        for key, about in settings.items():
            if key in given:
                self._take(f"{name}.{key}", key, about, given[key], values)
            elif about.required == ALWAYS or key in _needed_too(name, given):
                self._problem(f"{name}.{key}", f"is missing: {about.help[:1].lower()}{about.help[1:].rstrip('.')}")
        return section(**values) if len(self._problems) == before else None

    def _take(self, dotted: str, key: str, about: Setting, value: object, values: dict[str, Any]) -> None:
        """Put the value of a setting, and the content of the file that it names, into `values`."""
        kind = about.kind
        try:
            values[key] = kind.read(value, self._paths)
        except ValueError as error:
            self._problem(dotted, str(error))
            return
        if not isinstance(kind, ExistingFile):
            return
        if kind.secret:
            self._secret_files[dotted] = values[key]
        try:
            if kind.into is not None:
                values[kind.into] = kind.content(values[key])
        except ConfigError as error:
            for problem in error.problems:
                self._problem(f"{dotted}:", problem)

    def _compare(self, built: Mapping[str, Any]) -> None:
        """Check the rules that concern several settings."""
        netbox: NetBoxSection = built["netbox"]
        server: ServerSection = built["server"]
        if netbox.timeout_seconds * 2 >= server.request_timeout_seconds:
            self._problem(
                "netbox.timeout_seconds",
                f"({netbox.timeout_seconds:g}) must be less than half of server.request_timeout_seconds "
                f"({server.request_timeout_seconds:g}), so that a request has time for a second call",
            )
        if both := sorted(set(netbox.custom_fields or ()) & set(netbox.inherit_custom_fields or ())):
            self._problem(
                "netbox.inherit_custom_fields",
                f"and netbox.custom_fields both name {', '.join(both)}: keep one of them",
            )
        scheme = built["encryption_secrets"].scheme
        if scheme == "legacy-ctr" and netbox.warm_addresses:
            self._problem(
                "netbox.warm_addresses",
                "cannot be used while the earlier service runs beside this one (encryption_secrets.scheme is"
                " legacy-ctr): it would release an address that NetBox does not know to be registered yet;"
                " leave it out until then",
            )
        mongodb: MongoDBSection | None = built["mongodb"]
        if mongodb is not None and mongodb.username is not None and mongodb.uri_has_user():
            self._warn("mongodb.username is not used: mongodb.uri names a user itself")
        encryption: EncryptionSection = built["encryption_secrets"]
        if encryption.previous == encryption.keys:
            self._warn("encryption_secrets.previous_path holds the same keys as encryption_secrets.path")

    def _unknown(self, dotted: str) -> None:
        meant = _meant(dotted)
        self._warn(f"{dotted!r} is not a setting" + (f"; did you mean {' or '.join(meant)}?" if meant else ""))

    def _problem(self, dotted: str, text: str) -> None:
        self._problems.append(f"{self._prefix}{dotted} {text}")

    def _warn(self, text: str) -> None:
        self._warnings.append(self._prefix + text)


def _needed_too(name: str, given: Mapping[str, Any]) -> set[str]:
    """The settings of a section that its other settings make necessary."""
    match name:
        case "mongodb":
            needed = {"password_path"} if "username" in given else set()
            needed |= {"username"} if "password_path" in given else set()
            return needed if "uri" in given else needed | {"host"}
        case "server":
            tls = {"tls_cert", "tls_key"} if {"tls_cert", "tls_key", "tls_client_ca"} & given.keys() else set()
            return tls | ({"tls_client_ca"} if "tls_client_names" in given else set())
        case "splunk":
            return {"url", "token_path"}
        case _:
            return set()


def _meant(dotted: str) -> list[str]:
    """The settings that an unknown name may mean: a similar name, else the same name in other sections."""
    known = [*SECTIONS, *(f"{name}.{key}" for name, section in SECTIONS.items() for key in settings_of(section))]
    if close := difflib.get_close_matches(dotted, [*known, "storage"], n=1, cutoff=0.75):
        return close
    last = dotted.rpartition(".")[2]
    return [name for name in known if name.rpartition(".")[2] == last]
