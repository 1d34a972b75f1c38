"""Completion, in the shells themselves: what is typed, and what comes when Tab is pressed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from ipam_lib.cli import main as cli
from ipam_lib.cli.commands import COMMANDS
from ipam_lib.cli.completion import SHELLS, script
from scripts import completions
from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY

SECONDS = 60

# Completes the last word of each line of standard input.
BASH = """
source "$1"
while IFS= read -r typed; do
    read -ra COMP_WORDS <<<"$typed"
    [[ $typed == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    [[ $(complete -p "${COMP_WORDS[0]}") =~ -F\\ ([^ ]+) ]]
    "${BASH_REMATCH[1]}" "${COMP_WORDS[0]}" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[@]}"
done
"""
FISH = """
source $argv[1]
while read -l typed
    echo (complete -C "$typed" | string replace -r '\\t.*' '')
end
"""
# zsh completes only where somebody types: in a shell of its own, whose Tab and Enter are pressed, and in which the
# program prints what it was called with: the one completion, or what all have in common.
ZSH = """
zmodload zsh/zpty
zpty shell "PS1= RPS1= zsh -f -i"
zpty -w shell 'autoload -Uz compinit && compinit -D -u; unsetopt auto_list list_beep; setopt no_beep'
zpty -w shell "source ${(q)1}"
for name in ipam.pyz ipam-cli ipam; do
    zpty -w shell "functions[$name]='print -r -- \\"<\\${*[-1]}>\\"'"
done
zpty -w shell 'print -r -- "<rea"dy">"'
zpty -r shell seen '*<ready>*'
while IFS= read -r typed; do
    zpty -n -w shell "$typed"$'\\t\\n'
    zpty -r shell seen '*<*>*'
    print -r -- "$seen" | sed -n 's/.*<\\(.*\\)>.*/\\1/p'
done
"""
RUN = {
    "bash": ["bash", "--norc", "-c", BASH, "-"],
    "zsh": ["zsh", "-f", "-c", ZSH, "-"],
    "fish": ["fish", "-N", "-c", FISH],
}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        skip_loudly("completion tests", f"there is no {name}; install it (Debian: apt-get install {name})")
    return name


def complete(shell: str, directory: Path, *typed: str) -> list[list[str]]:
    """What each of the texts, typed in the directory, can be completed to."""
    done = subprocess.run(
        [*RUN[shell], str(script(shell))],
        input="".join(f"{one}\n" for one in typed),
        cwd=directory,
        env={"HOME": str(directory), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [sorted(line.split()) for line in done.stdout.splitlines()]


def test_the_scripts_are_current(shell: str) -> None:
    assert script(shell).read_text("utf-8") == completions.completion(shell), "run: ./scripts/generate"


def test_every_name_of_the_program_is_completed(shell: str, tmp_path: Path) -> None:
    names = ("ipam.pyz", "ipam-cli", "ipam")
    assert complete(shell, tmp_path, *(f"{name} show-ser" for name in names)) == [["show-services"]] * 3


def test_subcommands_options_choices_and_files(shell: str, tmp_path: Path) -> None:
    (tmp_path / "my-config.json").touch()
    (tmp_path / "my-logs").mkdir()
    cases = {
        "ipam.pyz list-a": "list-addresses",
        "ipam.pyz --conf": "--config",
        "ipam.pyz --config my-c": "my-config.json",
        "ipam.pyz --config my-config.json rot": "rotate-key",
        "ipam.pyz show-services --addr": "--address",
        "ipam.pyz show-services --zone inet --addr": "--address",
        "ipam.pyz show-services --zone inet --format j": "json",
        "ipam.pyz list-addresses --ip-family ipv6 --expi": "--expiring",
        "ipam.pyz delete-cluster --dry": "--dry-run",
        "ipam.pyz serve --config my-c": "my-config.json",
        "ipam.pyz serve --log-dir my-l": "my-logs",
        "ipam.pyz rotate-key --new-secrets my-c": "my-config.json",
        "ipam.pyz completion z": "zsh",
        "ipam.pyz help rec": "reconcile",
    }
    found = complete(shell, tmp_path, *cases)
    assert {one: [word.rstrip("/") for word in words] for one, words in zip(cases, found, strict=True)} == {
        one: [word] for one, word in cases.items()
    }


@pytest.mark.parametrize("name", ["bash", "fish"])
def test_all_subcommands_are_offered(name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        skip_loudly("completion tests", f"there is no {name}; install it (Debian: apt-get install {name})")
    assert complete(name, tmp_path, "ipam.pyz ") == [sorted(COMMANDS)]


def test_a_changed_shtab_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shtab, "complete", lambda parser, shell: "# something else")
    with pytest.raises(ValueError, match="not what it used to be"):
        completions.completion("zsh")


def test_the_command_prints_them_without_any_library(capsys: pytest.CaptureFixture[str]) -> None:
    for one in SHELLS:
        assert cli.main(["completion", one]) == 0
        assert capsys.readouterr().out == script(one).read_text("utf-8")
    # -S: without what is installed beside Python.
    done = subprocess.run(
        [sys.executable, "-S", str(REPOSITORY / "ipam.py"), "completion", "bash"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, script("bash").read_text("utf-8")), done.stderr
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "tcsh"])
    assert caught.value.code == 2
