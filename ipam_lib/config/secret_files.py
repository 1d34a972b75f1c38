"""Find and read the configuration file and the files that it names."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ipam_lib.crypto import KeySet, Secret
from ipam_lib.errors import ConfigError
from ipam_lib.text import json_problem

SYSTEM_CONFIG = Path("/etc/ipam-api/config.json")
COMMENT = "//"
_LARGEST_SECRET = 64 * 1024


@dataclass(frozen=True, slots=True)
class PathResolver:
    """Resolves the relative paths of a configuration.

    `base`: the directory of the configuration file. `credentials`: `$CREDENTIALS_DIRECTORY` of systemd, searched by
    file name for a file that is missing or unreadable in `base`.
    """

    base: Path
    credentials: Path | None = None

    def resolve(self, name: str) -> Path:
        """`name`, relative to the configuration file."""
        return self.base / name

    def find(self, name: str) -> Path:
        """The existing file of this name. Raises ValueError when there is none, or it is a directory."""
        wanted = self.resolve(name)
        credential = None if self.credentials is None else self.credentials / wanted.name
        tried = [wanted] if credential is None else [wanted, credential]
        present = []
        for path in tried:
            try:
                if path.is_dir():
                    raise ValueError("must name a file, not a directory")
                if path.exists():
                    present.append(path)
            except OSError as error:
                if path is tried[-1] and not present:
                    raise ValueError(f"names a file that cannot be reached ({error.strerror})") from None
        if present == [credential] and _is_stand_in(present[0]):
            present, tried = [], [wanted]
        # The file next to the configuration is often readable for root only; systemd then passes a copy.
        if present:
            return next((path for path in present if os.access(path, os.R_OK)), present[0])
        # The value may be a secret instead of a file name: only a plain file name is repeated.
        if _is_plain(name, wanted):
            raise ValueError("names a file that is not there; looked for " + " and ".join(map(str, tried)))
        raise ValueError("must name a file, and there is none of that name; is it the content instead of the name?")


def _is_stand_in(path: Path) -> bool:
    """Whether a credential is what the unit's SetCredential= puts in place of a file that is not there."""
    try:
        return path.stat().st_size <= len("\n")
    except OSError:
        return False


def _is_plain(name: str, path: Path) -> bool:
    """Whether a name is certainly a file name: it has a suffix, or its directory exists."""
    in_directory = "/" in name and path.parent != Path(path.anchor) and path.parent.is_dir()
    return in_directory or re.search(r"\.[a-z]{1,8}$", name) is not None


def read_secret(path: Path, *, token: bool = True) -> Secret:
    """The secret in a file, without the line break at its end.

    A `token` goes into HTTP headers: it must be one word of printable characters.

    Raises ConfigError, which does not show the secret.
    """
    text = _read_text(path, _LARGEST_SECRET).removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ConfigError([f"{path} is empty; it must hold the {'token' if token else 'password'}"])
    if token and not (text.isprintable() and text.split() == [text]):
        raise ConfigError([f"{path} must hold one token: a single word, on one line"])
    return Secret(text)


def read_keys(path: Path) -> KeySet:
    """The keys in a `secrets.json`. Raises ConfigError with every problem; none shows a key."""
    text = _read_text(path, _LARGEST_SECRET)
    try:
        return KeySet.from_json(text)
    except ConfigError as error:
        problems = error.problems
    raise ConfigError([f"{path}: {problem}" for problem in problems])


def find_config(given: Path | None, environ: Mapping[str, str], directory: Path, system: Path = SYSTEM_CONFIG) -> Path:
    """The configuration file: `given`, else `$IPAM_CONFIG`, else `config.json` in `directory`, else `system`.

    With `given` or `$IPAM_CONFIG`, no other place is searched. Raises ConfigError when there is no file.
    """
    if given is not None:
        return directory / given
    if named := environ.get("IPAM_CONFIG"):
        return directory / named
    here = directory / "config.json"
    for path in (here, system):
        if path.exists():
            return path
    raise ConfigError(
        [f"there is no configuration: looked for {here} and {system}; give one with --config or $IPAM_CONFIG"]
    )


def read_config(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The JSON object in a configuration file, and warnings about it. A byte order mark is allowed. Members whose names
    begin with `//` are comments: they are left out, in every object.

    Raises ConfigError, with line and column of the problem.
    """
    text = _read_text(path).removeprefix("\ufeff")
    warnings: list[str] = []

    def take(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs = [pair for pair in pairs if not pair[0].startswith(COMMENT)]
        content = dict(pairs)
        if len(content) != len(pairs):
            twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
            warnings.extend(f"{path}: {name!r} stands twice in one object; the last one counts" for name in twice)
        return content

    def refuse(name: str) -> NoReturn:
        raise ConfigError([f"{path} is not valid JSON: {name} is no JSON number"])

    try:
        content = json.loads(text, object_pairs_hook=take, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ConfigError([f"{path} is not valid JSON: {json_problem(error)}"]) from None
    except RecursionError:
        raise ConfigError([f"{path} is nested too deeply"]) from None
    except ValueError:
        raise ConfigError([f"{path} holds a number with too many digits"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path} must hold one JSON object"])
    return content, warnings


def _read_text(path: Path, largest: int | None = None) -> str:
    """The text of a file. Raises ConfigError when it is unreadable, not UTF-8, or has more than `largest` bytes."""
    try:
        with path.open("rb") as file:
            raw = file.read() if largest is None else file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no usable path"
        raise ConfigError([f"{path} cannot be read: {reason}"]) from None
    if largest is not None and len(raw) > largest:
        raise ConfigError([f"{path} is larger than {largest // 1024} KiB"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path} is not UTF-8 (line {line})"]) from None
