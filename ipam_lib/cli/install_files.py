"""What `install` puts where: the program, its units, man page and completions, and a first configuration."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ipam_lib.cli.completion import SHELLS, script

STATIC: Final = Path(__file__).parents[1] / "static"
UNIT_DIRECTORY: Final = Path("/etc/systemd/system")
UNITS: Final = ("ipam-api.socket", "ipam-api.service", "ipam-api-backup.service", "ipam-api-backup.timer")
ENABLED_UNITS: Final = ("ipam-api.socket", "ipam-api.service", "ipam-api-backup.timer")
# As they stand in systemd/, in the source tree.
UNIT_PROGRAM: Final = "/usr/local/bin/ipam"
UNIT_CONFIG: Final = Path("/etc/ipam-api/config.json")
ENABLED: Final = UNIT_DIRECTORY / "multi-user.target.wants" / "ipam-api.service"
# What systemd makes for the service; with DynamicUser=, the directory itself is in private/, behind a link.
DATA: Final = tuple(
    map(
        Path,
        (
            "/var/lib/ipam-api",
            "/var/lib/private/ipam-api",
            "/var/lib/ipam-api-backup",
            "/var/lib/private/ipam-api-backup",
            "/var/log/ipam-api",
            "/var/log/private/ipam-api",
        ),
    )
)
CACHES: Final = (Path("/var/cache/ipam-api"), Path("/var/cache/private/ipam-api"))
_COMPLETIONS: Final = {
    "bash": "share/bash-completion/completions/ipam",
    "zsh": "share/zsh/site-functions/_ipam",
    "fish": "share/fish/vendor_completions.d/ipam.fish",
}
_PROGRAMS: Final = ("usr/local/bin", "usr/bin", "bin")

Action = Literal["create", "replace", "unchanged", "keep", "masked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to install: paths as the installed system has them, below `root` (`/`, or the root of another system)."""

    prefix: Path
    config: Path
    root: Path = Path("/")

    @property
    def program(self) -> Path:
        return self.prefix / "bin" / "ipam"

    @property
    def previous_program(self) -> Path:
        """The program before the last upgrade."""
        return self.prefix / "bin" / "ipam.before"

    def on_disk(self, path: Path) -> Path:
        """Where a path of the installed system is on this one."""
        return self.root / path.relative_to("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file to install. `configuration`: it belongs to the administrator as soon as it exists."""

    what: str
    path: Path
    content: bytes
    mode: int = 0o644
    configuration: bool = False


def installed_target(root: Path) -> Target | None:
    """What the installed unit says about an earlier installation; None when there is none."""
    unit = root / UNIT_DIRECTORY.relative_to("/") / "ipam-api.service"
    with suppress(OSError, UnicodeDecodeError):
        if found := re.search(
            r"^ExecStart=(/\S+)/bin/ipam serve --config (/\S+)", unit.read_text("utf-8"), re.MULTILINE
        ):
            return Target(prefix=Path(found[1]), config=Path(found[2]), root=root)
    return None


def shells_of(target: Target) -> list[str]:
    """The shells that are there, of those that there is a completion script for."""
    return [shell for shell in SHELLS if any((target.root / place / shell).exists() for place in _PROGRAMS)]


def program_files(target: Target, program: bytes, *, shells: Iterable[str], units: bool) -> Iterator[File]:
    """Everything but the configuration. program: the content of ipam.pyz. units: whether to install systemd's."""
    yield File(what="program", path=target.program, content=program, mode=0o755)
    share = target.prefix / "share"
    yield File(what="man page", path=share / "man/man1/ipam.1", content=(STATIC / "man" / "ipam.1").read_bytes())
    for shell in shells:
        content = script(shell).read_bytes()
        yield File(what=f"completion for {shell}", path=target.prefix / _COMPLETIONS[shell], content=content)
    if units:
        for name in UNITS:
            yield File(what="unit", path=UNIT_DIRECTORY / name, content=_unit(name, target).encode())


def _unit(name: str, target: Target) -> str:
    text = (STATIC / "systemd" / name).read_text("utf-8")
    text = text.replace(f"{UNIT_PROGRAM} ", f"{target.program} ").replace(str(UNIT_CONFIG), str(target.config))
    return text.replace(f":{UNIT_CONFIG.parent}/", f":{target.config.parent}/")


def first_configuration(target: Target) -> Iterator[File]:
    """A commented configuration, new keys and a new bearer token; nothing where there is a configuration already."""
    if target.on_disk(target.config).exists():
        return
    directory = target.config.parent
    example = (STATIC / "config" / "config.json").read_bytes()
    yield File(what="configuration", path=target.config, content=example, configuration=True)
    keys = f'{{"enc_key": "{secrets.token_hex(16)}", "enc_iv": "{secrets.token_hex(8)}"}}\n'
    for what, name, content in (
        ("new keys", "secrets.json", keys),
        ("new bearer token", "auth.secret", f"{secrets.token_hex(24)}\n"),
    ):
        yield File(what=what, path=directory / name, content=content.encode(), mode=0o600, configuration=True)


def action(file: File, target: Target) -> Action:
    """What is to be done for a file. Raises OSError when the file there cannot be read."""
    path = target.on_disk(file.path)
    if path.is_symlink() and os.readlink(path) == os.devnull:
        return "masked"
    if not path.exists() and not path.is_symlink():
        return "create"
    if file.configuration:
        return "keep"
    same = path.is_file() and not path.is_symlink() and path.read_bytes() == file.content
    return "unchanged" if same and path.stat().st_mode & 0o777 == file.mode else "replace"


def nearest_directory(path: Path) -> Path:
    """The directory of a path, or the nearest one above it that exists."""
    return next(directory for directory in path.parents if directory.exists())


def write(file: File, target: Target) -> None:
    """Write a file in one step, with its directories. Raises OSError; then the file is as it was before."""
    path = target.on_disk(file.path)
    for directory in reversed([one for one in path.parents if not one.exists()]):
        directory.mkdir()
        directory.chmod(
            0o755
        )  # Whatever the umask is: other users read the man page, and the service its configuration.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
            os.fchmod(stream.fileno(), file.mode)
            stream.flush()
            os.fsync(stream.fileno())
        if file.configuration:
            os.link(name, path)  # Never over a file that another process has made meanwhile.
        else:
            os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def keep_previous_program(target: Target) -> None:
    """Keep the installed program beside the one that replaces it, to go back. Raises OSError."""
    program, previous = target.on_disk(target.program), target.on_disk(target.previous_program)
    if program.is_file():
        previous.unlink(missing_ok=True)
        os.link(program, previous)


def configuration_files(target: Target) -> list[Path]:
    """The configuration, and the files of it that the unit passes on."""
    names = re.findall(r"^LoadCredential=([^:]+):", _unit("ipam-api.service", target), re.MULTILINE)
    return [target.config, *(target.config.parent / name for name in names)]
