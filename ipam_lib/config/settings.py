"""A configuration file becomes `Settings`, or one error that lists everything that is wrong with it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipam_lib.config.secret_files import SYSTEM_CONFIG, PathResolver, find_config, read_config, read_keys, read_secret
from ipam_lib.config.sections import (
    ALWAYS,
    SECTIONS,
    AuthSection,
    CleanupSection,
    EncryptionSection,
    HistorySection,
    LoggingSection,
    MongoDBSection,
    NetBoxSection,
    ServerSection,
    Setting,
    SplunkSection,
    settings_of,
)
from ipam_lib.config.setting_types import ExistingFile, KeyFile, SecretFile, SQLitePath, StorageKind
from ipam_lib.errors import ConfigError
from ipam_lib.text import json_type

STORAGE = Setting(
    StorageKind(),
    "Which database holds the registrations: the MongoDB server, or a file of the embedded database.",
    default="mongodb",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration, checked, its secret files read. `source` is the file that it came from, if any."""

    storage: MongoDBSection | SQLitePath
    netbox: NetBoxSection
    encryption_secrets: EncryptionSection
    server: ServerSection
    auth: AuthSection
    cleanup: CleanupSection
    history: HistorySection
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
        """The settings in the file `path`, or in the first one there is (see `find_config`), and warnings for the user.

        Loading again reads every secret file anew.

        Raises ConfigError with every problem at once.
        """
        environ = os.environ if environ is None else environ
        given = None if path is None else Path(path)
        source = find_config(given, environ, Path.cwd() if cwd is None else cwd, system)
        content, warnings = read_config(source)
        # Not resolved: where the file is a link (as in a ConfigMap of Kubernetes), its neighbours are the link's.
        reader = _Reader(f"{source}: ", PathResolver(source.parent, _credentials(environ)), warnings)
        return reader.read(content, source), warnings

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], *, base_directory: Path, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """The settings in `content`, which is like a file's in `base_directory`. Raises ConfigError."""
        return _Reader("", PathResolver(base_directory, _credentials(environ or {})), []).read(dict(content), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A configuration of which parts may be wrong: `problems` says which, and each part that is not None can be used.

    `secret_files`: those that hold secrets and are there, by the setting that names each.
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
    logging: LoggingSection | None = None
    splunk: SplunkSection | None = None


def inspect(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    system: Path = SYSTEM_CONFIG,
) -> Inspection:
    """What can be used of the file that `Settings.load` would read, and everything that is wrong with it.

    Raises ConfigError when there is no such file, or it is no JSON object.
    """
    environ = os.environ if environ is None else environ
    given = None if path is None else Path(path)
    source = find_config(given, environ, Path.cwd() if cwd is None else cwd, system)
    content, warnings = read_config(source)
    return _Reader("", PathResolver(source.parent, _credentials(environ)), warnings).inspect(content, source)


def _credentials(environ: Mapping[str, str]) -> Path | None:
    name = environ.get("CREDENTIALS_DIRECTORY")
    return Path(name) if name else None


class _Reader:
    """Reads one configuration, and gathers what is wrong with it."""

    def __init__(self, prefix: str, paths: PathResolver, warnings: list[str]) -> None:
        self._prefix = prefix
        self._places = paths
        self._warnings = warnings
        self._problems: list[str] = []
        self._secret_files: dict[str, Path] = {}

    def read(self, content: dict[str, Any], source: Path | None) -> Settings:
        """Raises ConfigError; its problems end with the warnings, since a misspelt name may be behind a missing one."""
        built = self._build(content)
        if self._problems:
            raise ConfigError(self._problems + self._warnings)
        return Settings(source=source, **built)

    def inspect(self, content: dict[str, Any], source: Path) -> Inspection:
        """The parts that can be used, and what is wrong with the others."""
        built = self._build(content)
        return Inspection(
            source=source,
            problems=tuple(self._problems),
            warnings=tuple(self._warnings),
            secret_files=self._secret_files,
            **built,
        )

    def _build(self, content: dict[str, Any]) -> dict[str, Any]:
        """The sections by name, and `storage`; None for one with which something is wrong."""
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
                chosen: SQLitePath | None = STORAGE.kind.read(content["storage"], self._places)
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
        """One section, or None when it is skipped or something is wrong with it."""
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
        try:
            values[key] = about.kind.read(value, self._places)
        except ValueError as error:
            self._problem(dotted, str(error))
            return
        if isinstance(about.kind, SecretFile | KeyFile) or (isinstance(about.kind, ExistingFile) and about.kind.secret):
            self._secret_files[dotted] = values[key]
        try:
            if isinstance(about.kind, SecretFile):
                values[about.kind.into] = read_secret(values[key], token=about.kind.token)
            elif isinstance(about.kind, KeyFile):
                values[about.kind.into] = read_keys(values[key])
        except ConfigError as error:
            for problem in error.problems:
                self._problem(f"{dotted}:", problem)

    def _compare(self, built: Mapping[str, Any]) -> None:
        """What can only be said of several settings together."""
        netbox: NetBoxSection = built["netbox"]
        server: ServerSection = built["server"]
        if netbox.timeout_seconds * 2 >= server.request_timeout_seconds:
            self._problem(
                "netbox.timeout_seconds",
                f"({netbox.timeout_seconds:g}) must be less than half of server.request_timeout_seconds "
                f"({server.request_timeout_seconds:g}), so that a request has time for a second call",
            )
        if both := sorted(set(netbox.custom_fields) & set(netbox.inherit_custom_fields)):
            self._problem(
                "netbox.inherit_custom_fields",
                f"and netbox.custom_fields both name {', '.join(both)}: keep one of them",
            )
        scheme = built["encryption_secrets"].scheme
        if scheme == "legacy-ctr" and netbox.warm_addresses:
            self._problem(
                "netbox.warm_addresses",
                "cannot be used while the earlier service runs beside this (encryption_secrets.scheme is legacy-ctr):"
                " it would release an address that NetBox does not know to be registered yet; leave it out until then",
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
    """The settings of a section that others of it make necessary."""
    match name:
        case "mongodb":
            needed = {"password_path"} if "username" in given else set()
            needed |= {"username"} if "password_path" in given else set()
            return needed if "uri" in given else needed | {"host"}
        case "server":
            return {"tls_cert", "tls_key"} if {"tls_cert", "tls_key"} & given.keys() else set()
        case "splunk":
            return {"url", "token_path"}
        case _:
            return set()


def _meant(dotted: str) -> list[str]:
    """The settings that an unknown name may stand for: one of like spelling, else those of that name elsewhere."""
    known = [*SECTIONS, *(f"{name}.{key}" for name, section in SECTIONS.items() for key in settings_of(section))]
    if close := difflib.get_close_matches(dotted, [*known, "storage"], n=1, cutoff=0.75):
        return close
    last = dotted.rpartition(".")[2]
    return [name for name in known if name.rpartition(".")[2] == last]
