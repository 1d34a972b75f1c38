"""`install` and `uninstall`: the program, its units, man page, completions and a first configuration, on this machine.

Both show a plan and ask first. `install` again is an upgrade: it replaces what differs and never touches the
configuration and the data.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ipam_lib.cli import check_config, terminal
from ipam_lib.cli import install_files as files
from ipam_lib.cli.completion import SHELLS
from ipam_lib.cli.exit_codes import DONE, FAILED, CommandError, UsageError
from ipam_lib.cli.install_files import File, Target
from ipam_lib.config import inspect
from ipam_lib.errors import ConfigError

INSTALL_ROOT: Final = Path("/usr/local")
# It is there where systemd is the init system (sd_booted(3)).
RUNNING_SYSTEMD: Final = Path("/run/systemd/system")
HEADINGS: Final = ("WHAT", "PATH", "TO DO")
# Where the units look for python3: systemd's own path, without sbin.
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_TO_DO: Final = {
    "create": "create",
    "replace": "replace",
    "unchanged": "nothing: up to date",
    "keep": "nothing: kept as it is",
    "masked": "nothing: masked",
}


def install(arguments: argparse.Namespace) -> int:
    """`install`: show the plan, ask, write, check the configuration, and say the next two steps.

    Exit status 1 when the service is enabled, and the check has found errors: do not restart it then. Raises
    CommandError, UsageError.
    """
    terminal.set_up()
    archive = _archive()
    target = _target(arguments)
    # A system below --root may get systemd later; on this one, units are of no use without it.
    units = not arguments.no_systemd and (target.root != Path("/") or _has_systemctl())
    program = _program(archive, target, units=units)
    shells = files.shells_of(target)
    planned = [*files.program_files(target, program, shells=shells, units=units), *files.first_configuration(target)]
    try:
        plan = [(file, files.action(file, target)) for file in planned]
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be read: {error.strerror}") from None
    changes = [file for file, action in plan if action in ("create", "replace")]
    rows = [(file.what, str(target.on_disk(file.path)), _TO_DO[action]) for file, action in plan]
    if not any(file.configuration for file in planned):
        rows.append(("configuration", str(target.on_disk(target.config)), _TO_DO["keep"]))
    _show(rows)
    _require_rights([target.on_disk(file.path) for file in changes])
    earlier = files.installed_target(target.root)
    if earlier is not None and earlier.prefix != target.prefix:
        terminal.warn(f"the program in {earlier.prefix} stays: remove it there by hand")
    if arguments.dry_run:
        terminal.say("Nothing was changed: this was a dry run.")
        return DONE
    if changes:
        terminal.confirm(f"Write {_count(len(changes))}?", yes=arguments.yes)
        _apply(changes, target)
        if units and target.root == Path("/"):
            _reload_units()
    print(f"{_count(len(changes))} written" if changes else "everything is up to date", flush=True)
    healthy = _check(target)
    enabled = os.path.lexists(target.on_disk(files.ENABLED))
    _next_steps(target, units=units, enabled=enabled)
    return FAILED if enabled and not healthy else DONE


def uninstall(arguments: argparse.Namespace) -> int:
    """`uninstall`: remove what `install` wrote. Configuration and data stay, unless `--purge` is given.

    Raises CommandError, UsageError.
    """
    terminal.set_up()
    target = _target(arguments)
    programs = [("program", target.program), ("program before the upgrade", target.previous_program)]
    doomed = [(what, path) for what, path in programs if _is_ours(target.on_disk(path))]
    installed = files.program_files(target, b"", shells=SHELLS, units=not arguments.no_systemd)
    doomed += [(file.what, file.path) for file in installed if file.path != target.program]
    doomed += [("unpacked program", path) for path in files.CACHES]
    if arguments.purge:
        doomed += [("configuration", path) for path in files.configuration_files(target)]
        doomed += [("data", path) for path in files.DATA]
    doomed = [(what, path) for what, path in doomed if os.path.lexists(target.on_disk(path))]
    if not doomed:
        print("nothing is installed")
        return DONE
    _show([(what, str(target.on_disk(path)), "remove") for what, path in doomed])
    _require_rights([target.on_disk(path) for _, path in doomed])
    if arguments.dry_run:
        terminal.say("Nothing was changed: this was a dry run.")
        return DONE
    loss = " The keys are removed too: no backup can be read without them." if arguments.purge else ""
    terminal.confirm(f"Remove {_count(len(doomed))}?{loss}", yes=arguments.yes)
    here = target.root == Path("/") and not arguments.no_systemd and _has_systemctl()
    if here:
        _systemctl("disable", "--now", *files.ENABLED_UNITS)
    for _, path in doomed:
        _remove(target.on_disk(path))
    if arguments.purge:
        with suppress(OSError):  # Files of the administrator are left in it.
            target.on_disk(target.config.parent).rmdir()
    if here:
        _systemctl("daemon-reload")
    print(f"{_count(len(doomed))} removed", flush=True)
    if not arguments.purge:
        kept = [path for path in (target.config.parent, *files.DATA) if target.on_disk(path).exists()]
        terminal.say(f"Configuration and data are kept: {', '.join(map(str, kept)) or 'there are none'}")
    return DONE


# --- Where, and what


def _archive() -> Path:
    """ipam.pyz, as it runs. Raises CommandError in a source tree."""
    boot = sys.modules.get("_ipam_boot")
    if boot is None or boot.__file__ is None:
        raise CommandError("only ipam.pyz can install itself; build it with: python3 build_zipapp.py")
    return Path(boot.__file__).absolute().parent


def _target(arguments: argparse.Namespace) -> Target:
    """Where to install: what the options say, else where it is installed already, else the defaults."""
    root = Path(os.path.abspath(arguments.root))
    if not root.is_dir():
        raise UsageError(f"--root: {root} is not a directory")
    found = files.installed_target(root)
    prefix = arguments.prefix or (found.prefix if found else INSTALL_ROOT)
    config = getattr(arguments, "config", None) or (found.config if found else files.UNIT_CONFIG)
    for name, path in (("--prefix", prefix), ("--config", config)):
        # Units would read a percent sign, a quote or a blank in another way.
        if not re.fullmatch(r"/[\w./+@-]+", str(path), re.ASCII) or ".." in path.parts:
            raise UsageError(f"{name}: give an absolute path of letters, digits and ./_+@-, not {str(path)!r}")
    if config.parent == Path("/"):
        raise UsageError("--config: name a file in a directory of its own")
    return Target(prefix=prefix, config=config, root=root)


def _program(archive: Path, target: Target, *, units: bool) -> bytes:
    """ipam.pyz, with a first line that finds a Python that fits it. Raises CommandError."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise CommandError(f"{archive} cannot be read: {error.strerror}") from None
    line, _, rest = content.partition(b"\n")
    default = b"#!/usr/bin/env python3"
    if target.root != Path("/") or _runs(archive, shutil.which("python3", path=_PATH)):
        return default + b"\n" + rest
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if units and python.startswith(("/root/", "/home/", "/run/user/")):
        raise CommandError(
            f"python3 in {_PATH} cannot run this program, and the service has no access to {python} (ProtectHome=);"
            " install a Python that fits for all users, or use --no-systemd"
        )
    terminal.warn(f"python3 in {_PATH} cannot run this program: {python} will run it, which must stay where it is")
    return f"#!{python}\n".encode() + rest if line.startswith(b"#!") else content


def _runs(archive: Path, python: str | None) -> bool:
    if python is None:
        return False
    done = subprocess.run([python, str(archive), "version"], capture_output=True)
    return done.returncode == 0


def _is_ours(path: Path) -> bool:
    """Whether a file is this program."""
    try:
        with zipfile.ZipFile(path) as packed:
            return "_ipam_boot.py" in packed.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _show(rows: Sequence[Sequence[str]]) -> None:
    terminal.print_table(HEADINGS, rows)
    sys.stdout.flush()  # Questions and advice follow on standard error.


def _require_rights(paths: Sequence[Path]) -> None:
    for path in paths:
        directory = files.nearest_directory(path)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise CommandError(f"this user may not write in {directory}: run this with sudo")


# --- Doing it


def _apply(changes: Sequence[File], target: Target) -> None:
    for number, file in enumerate(changes):
        try:
            if file.path == target.program:
                files.keep_previous_program(target)
            files.write(file, target)
        except OSError as error:
            done = f"{number} of {_count(len(changes))} written; run it again to go on"
            raise CommandError(f"{target.on_disk(file.path)} cannot be written: {error.strerror} ({done})") from None


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{path} cannot be removed: {error.strerror}; run it again to go on") from None


def _has_systemctl() -> bool:
    return shutil.which("systemctl") is not None


def _systemctl(*arguments: str) -> None:
    """Run systemctl where systemd runs. A failure is a warning: the files are as they should be."""
    if not RUNNING_SYSTEMD.is_dir():
        return
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    if done.returncode:
        terminal.warn(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip()}")


def _reload_units() -> None:
    _systemctl("daemon-reload")
    # A unit that is enabled gets the links that its new [Install] section asks for.
    for unit in files.ENABLED_UNITS:
        asked = subprocess.run(["systemctl", "is-enabled", unit], capture_output=True, text=True)
        if asked.stdout.strip() == "enabled":
            _systemctl("reenable", unit)


# --- Afterwards


def _check(target: Target) -> bool:
    """Check the configuration, and print what is found. Returns whether there is no error.

    That of another system (`--root`) names files of that system: only its settings are checked.
    """
    if target.root == Path("/"):
        terminal.say(f"\nChecking {target.config}:")
        healthy = check_config.run(argparse.Namespace(config=target.config, format="text")) == DONE
        sys.stdout.flush()
        return healthy
    try:
        problems = inspect(target.on_disk(target.config), environ={}).problems
    except ConfigError as error:
        problems = tuple(error.problems)
    for problem in problems:
        terminal.warn(problem)
    return not problems


def _next_steps(target: Target, *, units: bool, enabled: bool) -> None:
    program, config = target.program, target.config
    say: Callable[[str], None] = terminal.say
    say("\nNext:")
    if enabled:
        say("  1. Correct what the check has found, if anything. Until the restart, the service runs as before.")
        say("  2. sudo systemctl restart ipam-api")
        if target.on_disk(target.previous_program).exists():
            say(f"  To go back to the version before: sudo mv {target.previous_program} {program}, and restart again.")
        return
    say(f"  1. Put the address of NetBox into {config} and its API token into {config.parent / 'netbox.secret'}:")
    say(f"       sudo editor {config}")
    say(f"       sudo install -m 600 /dev/stdin {config.parent / 'netbox.secret'}    # type the token, Enter, Ctrl-D")
    say(f"       sudo {program} netbox-setup --config {config} --zone inet --token-file ADMIN_TOKEN_FILE")
    say(f"       sudo {program} check-config --config {config}")
    if units:
        say(f"  2. sudo systemctl enable --now {' '.join(files.ENABLED_UNITS)}")
    else:
        say(f"  2. {program} serve --config {config}")


def _count(number: int) -> str:
    return f"{number} file{'s' * (number != 1)}"
