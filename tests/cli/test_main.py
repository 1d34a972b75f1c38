"""The command line itself: what starts at once, what it says, and how it ends."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import netbox_simulator
from ipam_lib.cli import main as cli
from ipam_lib.cli.argtypes import NETBOX_VERSIONS
from ipam_lib.cli.commands import COMMANDS
from ipam_lib.cli.exit_codes import CommandError
from ipam_lib.cli.parser import build_parser
from ipam_lib.errors import CannotListen, ConfigError
from ipam_lib.version import __version__
from tests.support.processes import REPOSITORY, run

HEAVY = (
    "aiohttp",
    "motor",
    "pymongo",
    "marshmallow",
    "webargs",
    "apispec",
    "aiohttp_apispec",
    "cryptography",
    "asyncio",
)


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"ipam-api {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["help"],
        ["help", "serve"],
        ["help", "--man"],
        ["completion", "bash"],
        ["serve", "--help"],
        ["frob"],
        ["serve", "--port", "x"],
        [],
    ],
)
def test_what_must_start_at_once_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from ipam_lib.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        f"sys.stderr.write('HEAVY ' + ' '.join(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "HEAVY "


def test_the_file_ipam_py_is_the_same_program(tmp_path: Path) -> None:
    assert run("version", cwd=tmp_path) == (0, f"ipam-api {__version__}", "")
    import ipam

    assert ipam.main is cli.main


def test_every_subcommand_has_a_target_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        assert callable(cli.load(command.target))
        assert cli.main(["help", name]) == 0
        said = capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == said
        assert said.startswith(f"usage: {cli.program_name()} {name}")
        assert "--config PATH" in said


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help"]) == 0
    said = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"\n    {name}\s", said)
    assert "Exit status" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frob"],
        ["help", "frob"],
        ["serve", "--frob"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["serve", "--port", "٣"],
        ["serve", "--host", " "],
        ["serve", "extra"],
        ["serve", "--po", "1"],
        ["simulate-netbox", "--latency-ms", "-1"],
        ["simulate-netbox", "--latency-ms", "nan"],
        ["simulate-netbox", "--latency-ms", "x"],
        ["simulate-netbox", "--cost-model", "netbox-1.0"],
        ["simulate-netbox", "--netbox-version", "4.3"],
        ["simulate-netbox", "--time-scale", "0"],
        ["simulate-netbox", "--time-scale", "x"],
        ["--config"],
    ],
)
def test_wrong_usage_is_2_and_says_so_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage:" in said.err
    assert "error:" in said.err


def test_the_netbox_versions_are_those_of_the_simulator() -> None:
    assert tuple(netbox_simulator.VERSIONS) == NETBOX_VERSIONS


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "a.json", "serve"],
        ["serve", "--config", "a.json"],
        ["--config", "b", "serve", "--config", "a.json"],
    ],
)
def test_config_may_stand_before_or_after_the_subcommand(arguments: list[str]) -> None:
    assert build_parser().parse_args(arguments).config == Path("a.json")
    assert not hasattr(build_parser().parse_args(["serve"]), "config")


@pytest.mark.parametrize(
    ("argv0", "name"),
    [
        ("/opt/ipam.pyz", "ipam.pyz"),
        ("/usr/bin/ipam-cli", "ipam-cli"),
        ("ipam.py", "ipam.py"),
        ("/x/ipam_lib/cli/main.py", "ipam.pyz"),
        ("", "ipam.pyz"),
        ("-c", "ipam.pyz"),
    ],
)
def test_it_is_called_what_it_was_called_as(argv0: str, name: str) -> None:
    assert cli.program_name(argv0) == name


def _fails(error: BaseException) -> cli.Target:
    def command(arguments: argparse.Namespace) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ConfigError(["one thing", "another"]), [": one thing", ": another"]),
        (CommandError("it went wrong"), [": it went wrong"]),
        (KeyboardInterrupt(), [""]),
    ],
)
def test_a_failed_command_is_1_and_says_why(
    error: BaseException, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load", lambda target: _fails(error))
    assert cli.main(["list-addresses"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.removeprefix(build_parser(cli.program_name()).prog) for line in said.err.splitlines()] == lines


def test_only_the_service_has_a_status_for_a_configuration_that_must_be_corrected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load", lambda target: _fails(ConfigError(["one thing"])))
    assert (cli.main(["serve"]), cli.main(["check-config"])) == (78, 1)
    # A restart may help: the port may be free again.
    monkeypatch.setattr(cli, "load", lambda target: _fails(CannotListen(["a port"])))
    assert cli.main(["serve"]) == 1
    assert capsys.readouterr().err.count("one thing") == 2


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load", lambda target: _fails(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["serve"])


def test_a_reader_that_has_left_is_no_traceback() -> None:
    code = "import sys; from ipam_lib.cli.main import main; sys.exit(main(['help']))"
    piped = subprocess.run(
        f'{sys.executable} -c "{code}" | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}',
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in piped.stderr


@pytest.mark.parametrize("command", [["--version"], ["version"], ["help"], ["completion", "bash"]])
def test_output_that_cannot_be_written_is_a_failure(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "ipam.py"), *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath},
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("standard output cannot be written: No space left on device")
