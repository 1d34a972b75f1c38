"""The units: what systemd-analyze says of them, and that their command lines do what they are for."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipam_lib.cli.exit_codes import UNFIT, USAGE
from ipam_lib.cli.parser import build_parser
from ipam_lib.config import Settings
from ipam_lib.errors import ConfigError
from ipam_lib.web import server
from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY, TOKEN, running, write_config
from tests.support.systemd import listener

UNITS = REPOSITORY / "systemd"
SERVICES = ("ipam-api.service", "ipam-api-backup.service")
PROGRAM = "/usr/local/bin/ipam"
EXPOSURE = 2.0


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def command(unit: str, setting: str, **places: str) -> list[str]:
    """The words of a command line, as systemd makes them: `%S` and `${NAMES}` are `places`."""
    [line] = settings(unit)[setting]
    line = re.sub(r"%(.)", lambda specifier: {"%": "%", "S": places.get("STATE", "%S")}[specifier[1]], line)
    line = re.sub(r"(?<!\$)\$\{(\w+)\}", lambda name: places[name[1]], line)
    return [word.replace("$$", "$") for word in shlex.split(line)]


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        skip_loudly("systemd unit tests", "there is no systemd-analyze; install systemd")
    return program


def test_systemd_finds_nothing_wrong(analyze: str, tmp_path: Path) -> None:
    # The program is not installed here; what else is wrong with a unit is said on standard error, with status 0.
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    assert len(units) == 4
    verify = [analyze, "verify", "--man=no", "--recursive-errors=no"]
    done = subprocess.run([*verify, *units], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "ipam-api" in line]
    assert (done.returncode, said) == (0, [])
    broken = tmp_path / "ipam-api.service"
    broken.write_text(broken.read_text().replace("WatchdogSec=30", "WatchdogSec=soon"))
    assert "ipam-api.service:" in subprocess.run([*verify, str(broken)], capture_output=True, text=True).stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_services_are_hardened(analyze: str, unit: str) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}", str(UNITS / unit)],
        capture_output=True,
        text=True,
    )
    if "unrecognized option" in done.stderr:
        skip_loudly("systemd unit tests", "this systemd-analyze cannot look at files; it takes systemd 250 or newer")
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE
    assert done.returncode == 0


def test_it_may_stop_for_longer_than_it_takes() -> None:
    [limit] = settings("ipam-api.service")["TimeoutStopSec"]
    takes = server.SECONDS_FOR_PENDING_REQUESTS + server.SECONDS_TO_FINISH + 2 * server.SECONDS_TO_CLOSE
    assert int(limit) >= 2 * takes


def test_the_timer_and_the_socket_belong_to_a_service() -> None:
    for unit in ("ipam-api-backup.timer", "ipam-api.socket"):
        assert (UNITS / unit).with_suffix(".service").is_file()


def test_both_services_read_the_same_files() -> None:
    one, other = (settings(unit) for unit in SERVICES)
    for setting in ("LoadCredential", "SetCredential", "User", "DynamicUser"):
        assert one[setting] == other[setting]


def test_the_program_can_be_loaded_from_the_cache_directory() -> None:
    """From systemd 257 on, a CacheDirectory= of a DynamicUser= is mounted noexec, unless ExecPaths= names it."""
    for unit in SERVICES:
        found = settings(unit)
        assert found["ExecPaths"] == [f"%C/{found['CacheDirectory'][0]}"]


def test_starting_the_service_starts_its_socket_first() -> None:
    assert "ipam-api.service" in settings("ipam-api.socket")["WantedBy"][0].split()
    assert settings("ipam-api.service")["PartOf"] == ["ipam-api.socket"]


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    """systemd puts the value of SetCredential= in the place of a file that it cannot load."""
    defaults = dict(line.split(":", 1) for line in settings("ipam-api.service")["SetCredential"])
    names = dict(line.split(":", 1) for line in settings("ipam-api.service")["LoadCredential"])
    assert names.keys() == defaults.keys()
    assert all(path == f"/etc/ipam-api/{name}" for name, path in names.items())
    config = write_config(tmp_path, "http://127.0.0.1:9", {"storage": {"sqlite": "x"}})
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    secrets = ("netbox.secret", "secrets.json", "auth.secret")
    for name in secrets:
        (tmp_path / name).rename(credentials / name)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert Settings.load(config, environ=environ)[0].auth.token is not None
    for name in secrets:
        (credentials / name).write_text(defaults[name].encode().decode("unicode_escape"))
    with pytest.raises(ConfigError) as caught:
        Settings.load(config, environ=environ)
    for name in secrets:
        absent = f"names a file that is not there; looked for {tmp_path / name}"
        assert any(problem.endswith(absent) for problem in caught.value.problems), caught.value.problems
    # One that is there, and empty, is told as such.
    (tmp_path / "netbox.secret").touch()
    with pytest.raises(ConfigError, match=r"netbox\.secret is empty"):
        Settings.load(config, environ=environ)


def test_a_configuration_that_must_be_corrected_is_told_in_the_status_and_not_tried_again(tmp_path: Path) -> None:
    config = write_config(
        tmp_path, "http://127.0.0.1:9", {"storage": {"sqlite": "x"}}, auth={"token_path": "no.secret"}
    )
    command = [sys.executable, str(REPOSITORY / "ipam.py"), "serve", "--config", str(config)]
    with listener() as systemd:
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": systemd.address}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        one_problem = systemd.message()["STATUS"]
        assert done.stderr == f"ipam.py: {one_problem}\n"
        assert str(tmp_path / "no.secret") in one_problem
        config.write_text("{}")
        again = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        status = systemd.message()["STATUS"]
    first, *others = again.stderr.splitlines()
    assert others
    assert first == f"ipam.py: {status.removesuffix(f' (and {len(others)} more: see journalctl)')}"
    [not_again] = settings("ipam-api.service")["RestartPreventExitStatus"]
    assert {str(done.returncode), str(again.returncode)} == {str(UNFIT)}
    assert {str(USAGE), str(UNFIT)} == set(not_again.split())


def test_the_command_of_the_service_runs_the_one_file(tmp_path: Path, pyz: Path) -> None:
    # The directories as `DynamicUser=` makes them: links to what only this user may enter.
    for name in ("cache", "logs"):
        (tmp_path / "private" / name).mkdir(mode=0o700, parents=True)
        (tmp_path / name).symlink_to(tmp_path / "private" / name)
    (tmp_path / "credentials").mkdir()
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as netbox, listener() as systemd:
        config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
        for name in ("netbox.secret", "secrets.json", "auth.secret"):
            (tmp_path / name).rename(tmp_path / "credentials" / name)
        words = command("ipam-api.service", "ExecStart", LOGS_DIRECTORY=str(tmp_path / "logs"))
        assert words[0] == PROGRAM
        assert build_parser().parse_args(words[1:]).subcommand == "serve"
        words = [str(pyz), *(str(config) if word == "/etc/ipam-api/config.json" else word for word in words[1:])]
        environment = {
            "PATH": os.environ["PATH"],
            "CACHE_DIRECTORY": str(tmp_path / "cache"),
            "LOGS_DIRECTORY": str(tmp_path / "logs"),
            "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
            "NOTIFY_SOCKET": systemd.address,
        }
        process = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            assert systemd.wait_for("READY")["STATUS"].startswith("listening on http://127.0.0.1:")
            reload = command("ipam-api.service", "ExecReload")
            subprocess.run([str(process.pid) if word == "$MAINPID" else word for word in reload], check=True)
            systemd.wait_for("RELOADING")
            systemd.wait_for("READY")
            process.send_signal(signal.SIGTERM)
            systemd.wait_for("STOPPING")
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert len(list((tmp_path / "private" / "cache").iterdir())) == 1
    assert "stopped" in (tmp_path / "private" / "logs" / "ipam-api.log").read_text()


def test_backups_are_named_by_their_time_and_the_newest_stay(tmp_path: Path) -> None:
    state = tmp_path / "state"
    backups = state / "ipam-api-backup"
    backups.mkdir(parents=True)
    program = tmp_path / "ipam"
    seen = tmp_path / "arguments"
    program.write_text(f"""#!/bin/sh
printf '%s\\n' "$@" >{seen}
while [ "$1" != --out ]; do shift; done
echo backup >"$2"
""")
    program.chmod(0o755)
    [keep] = settings("ipam-api-backup.service")["Environment"]
    assert int(keep.removeprefix("KEEP=")) > 1

    def run(setting: str) -> None:
        words = command("ipam-api-backup.service", setting, STATE=str(state))
        words = [word.replace(PROGRAM, str(program)) for word in words]
        subprocess.run(words, check=True, env={"PATH": os.environ["PATH"], "KEEP": "3"})

    run("ExecStartPost")  # nothing to delete yet
    older = [backups / f"ipam-api-2020010{day}T023000Z.archive.gz" for day in range(1, 6)]
    for path in older:
        path.touch()
    (backups / "something-else").touch()
    run("ExecStart")
    arguments = seen.read_text().splitlines()
    assert build_parser().parse_args(arguments).subcommand == "mongo-backup"
    assert arguments[:3] == ["mongo-backup", "--config", "/etc/ipam-api/config.json"]
    made = Path(arguments[-1])
    assert re.fullmatch(r"ipam-api-\d{8}T\d{6}Z\.archive\.gz", made.name)
    run("ExecStartPost")
    assert sorted(backups.iterdir()) == sorted([*older[-2:], made, backups / "something-else"])


def test_the_backup_unit_makes_a_backup(tmp_path: Path, pyz: Path) -> None:
    (tmp_path / "ipam-api-backup").mkdir()
    config = write_config(tmp_path, "http://127.0.0.1:9", {"storage": {"sqlite": "registrations.sqlite"}})
    legacy = REPOSITORY / "tests" / "data" / "legacy" / "mongodump.archive.gz"
    subprocess.run([pyz, "mongo-restore", "--config", config, "--in", legacy], check=True, capture_output=True)
    words = command("ipam-api-backup.service", "ExecStart", STATE=str(tmp_path))
    words = [word.replace(PROGRAM, str(pyz)).replace("/etc/ipam-api/config.json", str(config)) for word in words]
    environment = {"PATH": os.environ["PATH"], "CACHE_DIRECTORY": str(tmp_path / "cache")}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    [made] = (tmp_path / "ipam-api-backup").iterdir()
    assert done.stdout == f"23 registrations ({made.stat().st_size} bytes) backed up to {made}\n"
    assert made.stat().st_mode & 0o777 == 0o600


def test_the_documented_configuration_names_files_that_are_passed_on() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    [example] = re.findall(r"^```json\n(\{.*?)^```$", page, re.DOTALL | re.MULTILINE)
    named = {
        value
        for section in json.loads(example).values()
        for name, value in section.items()
        if name.endswith("path") or name in ("tls_cert", "tls_key")
    }
    assert named
    assert named <= {line.split(":")[0] for line in settings("ipam-api.service")["LoadCredential"]}
