"""`install` and `uninstall`, in a root of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ipam_lib.cli import install, install_files, terminal
from ipam_lib.cli import main as cli
from ipam_lib.cli.completion import script
from ipam_lib.config import Settings
from tests.support.interpreters import BARE_PYTHON
from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY

UNITS = REPOSITORY / "systemd"
PROGRAM = "usr/local/bin/ipam"

Install = Callable[..., int]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the place of ipam.pyz, which is the program that runs."""
    path = tmp_path / "ipam.pyz"
    pack(path, "first")
    monkeypatch.setattr(install, "_archive", lambda: path)
    return path


def pack(path: Path, text: str) -> None:
    """Make an archive that passes for this program."""
    with path.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w") as packed:
            packed.writestr("_ipam_boot.py", f"# {text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system to install on: with bash and fish, without zsh."""
    root = tmp_path / "root"
    for program in ("bin/sh", "bin/kill", "bin/bash", "usr/bin/fish"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).touch(0o755)
    return root


@pytest.fixture
def run(archive: Path, root: Path) -> Install:
    """Runs `install` or `uninstall` on that system. Returns the exit status."""
    return lambda name, *options: cli.main([name, "--root", str(root), *options])


def tree(root: Path) -> dict[str, bytes]:
    """All files below the root, but the programs of the system."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.stat().st_size
    }


def test_installs_everything_on_an_empty_system(
    run: Install, root: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    umask = os.umask(0o077)
    try:
        assert run("install", "--yes") == 0
    finally:
        os.umask(umask)
    share = "usr/local/share"
    installed = {
        PROGRAM: archive.read_bytes(),
        f"{share}/man/man1/ipam.1": (REPOSITORY / "man" / "ipam.1").read_bytes(),
        f"{share}/bash-completion/completions/ipam": script("bash").read_bytes(),
        f"{share}/fish/vendor_completions.d/ipam.fish": script("fish").read_bytes(),
        **{f"etc/systemd/system/{path.name}": path.read_bytes() for path in UNITS.iterdir()},
    }
    found = tree(root)
    assert {name: found[name] for name in installed} == installed
    configuration = {"etc/ipam-api/config.json", "etc/ipam-api/secrets.json", "etc/ipam-api/auth.secret"}
    assert found.keys() - installed.keys() == configuration
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in found}
    assert modes == {
        name: 0o600 if name.endswith(("secrets.json", ".secret")) else 0o755 if name == PROGRAM else 0o644
        for name in found
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()} == {0o755}
    said = capsys.readouterr()
    assert "11 files written" in said.out
    assert "/etc/ipam-api/netbox.secret" in said.err
    assert re.findall(r"^  [12]\. ", said.err, re.MULTILINE) == ["  1. ", "  2. "]
    assert "systemctl enable --now ipam-api.socket ipam-api.service ipam-api-backup.timer" in said.err


def test_the_first_configuration_needs_only_the_token_of_netbox(run: Install, root: Path) -> None:
    assert run("install", "--yes") == 0
    directory = root / "etc" / "ipam-api"
    (directory / "netbox.secret").write_text("0123456789abcdef0123456789abcdef01234567\n")
    settings, warnings = Settings.load(directory / "config.json", environ={})
    assert warnings == []
    assert settings.auth.token is not None
    assert len(settings.auth.token.reveal()) == 48
    assert len(settings.encryption_secrets.keys.enc_key) == 32
    # What is commented out is right as well.
    content = json.loads((directory / "config.json").read_text())
    uncommented = {name.lstrip("/"): value for name, value in content.items() if isinstance(value, dict)}
    uncommented["netbox"] = {name.lstrip("/"): value for name, value in content["netbox"].items() if name != "//url"}
    del uncommented["storage"]
    for name in ("mongodb.secret", "webhook.secret", "server.crt", "server.key"):
        (directory / name).write_text("x")
    (directory / "config.json").write_text(json.dumps(uncommented))
    assert Settings.load(directory / "config.json", environ={})[1] == []


def test_keys_and_tokens_are_never_the_same(run: Install, root: Path, tmp_path: Path) -> None:
    assert run("install", "--yes") == 0
    first = tree(root / "etc" / "ipam-api")
    shutil.rmtree(root / "etc" / "ipam-api")
    assert run("install", "--yes") == 0
    second = tree(root / "etc" / "ipam-api")
    assert first["config.json"] == second["config.json"]
    assert first["secrets.json"] != second["secrets.json"]
    assert first["auth.secret"] != second["auth.secret"]


def test_the_secrets_are_never_printed(run: Install, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", "--yes") == 0
    said = capsys.readouterr()
    keys = json.loads((root / "etc/ipam-api/secrets.json").read_text())
    for secret in (*keys.values(), (root / "etc/ipam-api/auth.secret").read_text().strip()):
        assert secret not in said.out + said.err


def test_again_is_an_upgrade_that_keeps_the_configuration(
    run: Install, root: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install", "--yes") == 0
    before = tree(root)
    capsys.readouterr()
    assert run("install") == 0  # Nothing to do: no question.
    assert tree(root) == before
    assert "everything is up to date" in capsys.readouterr().out

    old = archive.read_bytes()
    pack(archive, "second")
    (root / "etc/ipam-api/config.json").write_text('{"mine": {}}')
    (root / "etc/ipam-api/secrets.json").unlink()
    (root / "etc/systemd/system/ipam-api.service").write_text("[Unit]\n")
    (root / "etc/systemd/system/ipam-api.socket").unlink()
    (root / "etc/systemd/system/ipam-api.socket").symlink_to("/dev/null")
    (root / PROGRAM).chmod(0o700)
    assert run("install", "--yes") == 0
    after = tree(root)
    assert after[PROGRAM] == archive.read_bytes()
    assert after[f"{PROGRAM}.before"] == old
    assert after["etc/systemd/system/ipam-api.service"] == (UNITS / "ipam-api.service").read_bytes()
    assert os.readlink(root / "etc/systemd/system/ipam-api.socket") == "/dev/null"
    assert after["etc/ipam-api/config.json"] == b'{"mine": {}}'
    assert "etc/ipam-api/secrets.json" not in after
    said = capsys.readouterr().out
    assert "2 files written" in said
    rows = {tuple(line.split(maxsplit=2)[::2]) for line in said.splitlines() if str(root) in line}
    assert ("program", "replace") in rows
    assert ("configuration", "nothing: kept as it is") in rows


def test_an_upgrade_of_an_enabled_service_fails_where_its_configuration_has_errors(
    run: Install, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install", "--yes") == 0
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "ipam-api.service").symlink_to("/etc/systemd/system/ipam-api.service")
    capsys.readouterr()
    assert run("install") == 1
    said = capsys.readouterr().err
    assert "netbox.token_path" in said
    assert "2. sudo systemctl restart ipam-api" in said
    (root / "etc/ipam-api/netbox.secret").write_text("0123456789abcdef0123456789abcdef01234567")
    assert run("install") == 0


def test_a_dry_run_changes_nothing(run: Install, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", "--dry-run") == 0
    assert tree(root) == {}
    said = capsys.readouterr()
    assert str(root / PROGRAM) in said.out
    assert "dry run" in said.err
    run("install", "--yes")
    before = tree(root)
    assert run("uninstall", "--dry-run", "--purge") == 0
    assert tree(root) == before


def test_without_an_answer_nothing_is_changed(
    run: Install, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install") == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(terminal, "confirm", lambda question, yes: pytest.fail("asked") if yes else _refuse())
    assert run("install") == 1
    assert tree(root) == {}


def _refuse() -> None:
    raise terminal.CommandError("nothing was changed")


def test_without_systemd_there_are_no_units(run: Install, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", "--yes", "--no-systemd") == 0
    assert not (root / "etc" / "systemd").exists()
    assert "ipam serve --config /etc/ipam-api/config.json" in capsys.readouterr().err


def test_the_units_have_the_paths_that_install_was_told(run: Install, root: Path) -> None:
    config = "/srv/ipam/etc/my.json"
    assert run("install", "--yes", "--prefix", "/opt/ipam", "--config", config) == 0
    units = "".join(path.read_text() for path in (root / "etc/systemd/system").iterdir())
    assert "/usr/local" not in units
    assert "/etc/ipam-api" not in units
    assert units.count("/opt/ipam/bin/ipam ") == 2
    assert units.count(f" --config {config} ") == 2
    assert "LoadCredential=netbox.secret:/srv/ipam/etc/netbox.secret" in units
    assert {"opt/ipam/bin/ipam", "srv/ipam/etc/my.json", "srv/ipam/etc/secrets.json"} <= tree(root).keys()
    # Upgrade and removal find it without being told again.
    before = tree(root)
    assert run("install") == 0
    assert tree(root) == before
    assert run("uninstall", "--yes", "--purge") == 0
    assert tree(root) == {}


def test_systemd_finds_nothing_wrong_with_the_installed_units(run: Install, root: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        skip_loudly("systemd unit tests", "there is no systemd-analyze; install systemd")
    assert run("install", "--yes", "--prefix", "/opt/ipam", "--config", "/srv/ipam/config.json") == 0
    names = [path.name for path in (root / "etc/systemd/system").iterdir()]
    assert len(names) == 4
    verify = [analyze, "verify", "--man=no", "--recursive-errors=no", f"--root={root}"]
    done = subprocess.run([*verify, *names], capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        skip_loudly(
            "systemd unit tests", "this systemd-analyze cannot look below a root; it takes systemd 250 or newer"
        )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "ipam" in line]) == (0, [])
    (root / "opt/ipam/bin/ipam").unlink()
    assert (
        "/opt/ipam/bin/ipam is not executable"
        in subprocess.run([*verify, *names], capture_output=True, text=True).stderr
    )


@pytest.mark.parametrize("option", ["--prefix", "--config"])
@pytest.mark.parametrize("path", ["relative", "/with blank/x", "/per%cent/x", "/up/../x", "/quo'te/x"])
def test_a_path_that_units_would_misread_is_refused(
    run: Install, root: Path, option: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install", "--yes", option, path) == 2
    assert option in capsys.readouterr().err
    assert tree(root) == {}


def test_a_directory_that_may_not_be_written_is_told_before_anything_is_written(
    run: Install, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "etc" not in str(path) and access(path, mode))
    (root / "etc").mkdir()
    assert run("install", "--yes") == 1
    assert f"may not write in {root / 'etc'}: run this with sudo" in capsys.readouterr().err
    assert tree(root) == {}


def test_a_full_disk_is_told_and_leaves_whole_files(
    run: Install, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    write = install_files.write

    def limited(file: install_files.File, target: install_files.Target) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        write(file, target)
        written.append(file)

    monkeypatch.setattr(install_files, "write", limited)
    assert run("install", "--yes") == 1
    assert "No space left on device (3 of 11 files written; run it again to go on)" in capsys.readouterr().err
    assert len(tree(root)) == 3
    monkeypatch.undo()


def test_a_failed_write_leaves_the_file_as_it_was(root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = install_files.Target(prefix=Path("/usr/local"), config=Path("/etc/ipam-api/config.json"), root=root)
    file = install_files.File(what="x", path=Path("/etc/x"), content=b"new")
    (root / "etc").mkdir()
    (root / "etc/x").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        install_files.write(file, target)
    assert tree(root / "etc") == {"x": b"old"}


def test_uninstall_keeps_configuration_data_and_what_is_not_its_own(
    run: Install, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install", "--yes") == 0
    others = {
        "var/lib/private/ipam-api/registrations.sqlite": b"data",
        "var/lib/private/ipam-api-backup/a.archive.gz": b"backup",
        "etc/systemd/system/ipam-api.service.d/override.conf": b"[Service]",
        "etc/systemd/system/other.service": b"[Service]",
    }
    for name, content in {**others, "var/cache/private/ipam-api/copy": b"x"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    configuration = {name: content for name, content in tree(root).items() if name.startswith("etc/ipam-api/")}
    capsys.readouterr()
    assert run("uninstall", "--yes") == 0
    assert tree(root) == configuration | others
    assert "/etc/ipam-api" in capsys.readouterr().err
    assert run("uninstall", "--yes") == 0
    assert "nothing is installed" in capsys.readouterr().out
    (root / "etc/ipam-api/note.txt").write_text("the administrator's")
    assert run("uninstall", "--yes", "--purge") == 0
    kept = ("etc/systemd/system/ipam-api.service.d/override.conf", "etc/systemd/system/other.service")
    assert tree(root) == {name: others[name] for name in kept} | {"etc/ipam-api/note.txt": b"the administrator's"}


def test_uninstall_leaves_another_program_of_that_name(run: Install, root: Path) -> None:
    (root / PROGRAM).parent.mkdir(parents=True)
    (root / PROGRAM).write_text("#!/bin/sh\n")
    assert run("uninstall", "--yes") == 0
    assert (root / PROGRAM).exists()


def test_units_that_are_enabled_get_the_links_that_new_ones_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"""#!/bin/sh
echo "$@" >>{log}
case "$*" in
    "is-enabled ipam-api.socket") echo enabled;;
    is-enabled*) echo disabled; exit 1;;
    reenable*) echo "it cannot be reached" >&2; exit 4;;
esac
""")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(install, "RUNNING_SYSTEMD", tmp_path)
    install._reload_units()
    changing = [line for line in log.read_text().splitlines() if not line.startswith("is-enabled")]
    assert changing == ["daemon-reload", "reenable ipam-api.socket"]
    assert "systemctl reenable ipam-api.socket failed: it cannot be reached" in capsys.readouterr().err
    # Where systemd does not run, as in a container, there is nothing to tell.
    log.unlink()
    monkeypatch.setattr(install, "RUNNING_SYSTEMD", tmp_path / "none")
    install._systemctl("daemon-reload")
    assert not log.exists()


def test_a_python_that_fits_is_named_where_python3_does_not(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program is run by `python3` on the path of systemd, which may be older than the one that installs it."""
    target = install_files.Target(prefix=tmp_path, config=tmp_path / "config.json")
    program = tmp_path / "python3"
    monkeypatch.setattr(install, "_PATH", str(tmp_path))
    for script_text, runs in (("exit 0", True), ("exit 1", False)):
        program.write_text(f"#!/bin/sh\n{script_text}\n")
        program.chmod(0o755)
        content = install._program(archive, target, units=False)
        first, _, rest = content.partition(b"\n")
        expected = "/usr/bin/env python3" if runs else os.path.realpath(BARE_PYTHON)
        assert first == f"#!{expected}".encode()
        assert rest == archive.read_bytes().partition(b"\n")[2]
    assert "must stay where it is" in capsys.readouterr().err
    monkeypatch.setattr(os.path, "realpath", lambda path: "/home/me/bin/python3.13")
    with pytest.raises(install.CommandError, match=r"no access to /home/me/bin/python3\.13"):
        install._program(archive, target, units=True)


def test_a_source_tree_cannot_install_itself(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["install", "--root", str(root), "--yes"]) == 1
    assert "python3 build_zipapp.py" in capsys.readouterr().err


def test_the_one_file_installs_itself_and_what_it_installs_runs(pyz: Path, root: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(tmp_path / "cache")}
    command = [str(pyz), "install", "--root", str(root), "--yes"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    installed = root / PROGRAM
    assert installed.read_bytes() == pyz.read_bytes()
    said = subprocess.run([str(installed), "version"], env=environment, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    removed = subprocess.run(
        [str(installed), "uninstall", "--root", str(root), "--yes", "--purge"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert removed.returncode == 0, removed.stderr
    assert tree(root) == {}
