"""The man page says what the program does, is current, and is what a reader of man pages takes."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.cli import main as cli
from ipam_lib.cli.commands import COMMANDS, CONFIG
from ipam_lib.cli.parser import build_parser, command_parser
from ipam_lib.config import settings_rows
from scripts import man
from tests.support.not_run import skip_loudly


def rendered(text: str) -> str:
    """The page as it is read, each paragraph on one line."""
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        skip_loudly("man page tests", "there is no mandoc; install it (Debian: apt-get install mandoc)")
    done = subprocess.run([mandoc, "-Tutf8", "-Owidth=1000"], input=text, capture_output=True, text=True, check=True)
    return re.sub(r".\x08", "", done.stdout)


def test_the_page_is_current() -> None:
    assert man.PAGE.read_text("utf-8") == man.page(), "run: ./scripts/generate"


def test_the_page_does_not_depend_on_terminal_or_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = man.page()
    for name, value in {"COLUMNS": "33", "SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}.items():
        monkeypatch.setenv(name, value)
    assert man.page() == before


def test_mandoc_finds_nothing_wrong() -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        skip_loudly("man page tests", "there is no mandoc; install it (Debian: apt-get install mandoc)")
    done = subprocess.run([mandoc, "-Tlint", "-Wwarning", str(man.PAGE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_has_the_sections_that_readers_look_for() -> None:
    headings = re.findall(r"^\.SH\s+(.+)", man.PAGE.read_text("utf-8"), re.MULTILINE)
    assert headings == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "SUBCOMMANDS",
        "CONFIGURATION",
        "SIGNALS",
        "ENVIRONMENT",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ]


def test_every_subcommand_stands_there_with_every_option_and_its_help() -> None:
    _, *parts = re.split(r"^   ipam ([\w-]+)$", rendered(man.PAGE.read_text("utf-8")), flags=re.MULTILINE)
    told = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(told) == list(COMMANDS)
    for name, command in COMMANDS.items():
        description = command_parser(command, "ipam").description
        assert description is not None
        assert description in told[name]
        shown = " ".join(told[name].split())
        for argument in (CONFIG, *command.arguments):
            assert " ".join(argument.help.split()) in shown, (name, argument.flags)
            for flag in argument.flags:
                assert flag in shown or not flag.startswith("-")


def test_every_setting_stands_there() -> None:
    shown = " ".join(rendered(man.PAGE.read_text("utf-8")).split())
    for row in settings_rows():
        assert f"{row.name} (" in shown
        assert " ".join(row.help.replace("`", "").split()) in shown


def test_the_examples_are_commands_that_exist() -> None:
    section = rendered(man.PAGE.read_text("utf-8")).partition("\nEXAMPLES\n")[2].partition("\nSEE ALSO\n")[0]
    commands = re.findall(r"\bipam (\w[^|)<\n]*)", section)
    assert len(commands) >= len(man.EXAMPLES)
    for command in commands:
        assert build_parser("ipam").parse_args(command.split()).subcommand in COMMANDS


def test_text_that_looks_like_a_request_of_roff_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(man.EXAMPLES, "Innocent:", "ipam help\n.so /etc/passwd\n'so /etc/passwd")
    assert "\n\\&.so /etc/passwd\n\\(aqso /etc/passwd\n" in man.page()

    def parser(prog: str, **options: Any) -> argparse.ArgumentParser:
        made = build_parser(prog, **options)
        made.add_argument("--evil", help=".so /etc/passwd")
        return made

    monkeypatch.setattr(man, "build_parser", parser)
    with pytest.raises(ValueError, match="request of roff"):
        man.page()


def test_the_one_file_prints_it(capsys: pytest.CaptureFixture[str], pyz: Path, tmp_path: Path) -> None:
    assert cli.main(["help", "--man"]) == 0
    assert capsys.readouterr().out == man.PAGE.read_text("utf-8")
    environment = {**os.environ, "SHIV_ROOT": str(tmp_path)}
    done = subprocess.run([str(pyz), "help", "--man"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == man.PAGE.read_text("utf-8")
