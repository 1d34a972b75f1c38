"""The completion scripts, made from the parser by shtab.

python -m scripts.completions    writes them anew
"""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from ipam_lib.cli.commands import COMMANDS
from ipam_lib.cli.completion import SHELLS, script
from ipam_lib.cli.parser import build_parser

# What the program may be called: as it is built, as the earlier service's command was, and as the man page is.
NAME, OTHER_NAMES = "ipam.pyz", ("ipam-cli", "ipam")
DIRECTORIES = {"--log-dir", "--data", "--prefix", "--root"}


def hint(action: argparse.Action) -> None:
    """Add to an argument what shtab cannot know: that its value is a file, a directory or a subcommand."""
    if action.type is Path:
        kind = shtab.DIRECTORY if DIRECTORIES & set(action.option_strings) else shtab.FILE
        action.complete = kind  # type: ignore[attr-defined]
    if action.metavar == "SUBCOMMAND":
        action.choices = list(COMMANDS)


def completion(shell: str) -> str:
    """The script for one of `SHELLS`, under every name of the program."""
    text = shtab.complete(build_parser(NAME, adapt=hint), shell).rstrip("\n") + "\n"
    others = " ".join(OTHER_NAMES)
    if shell == "fish":
        return text + "".join(f"complete -c {name} -w {NAME}\n" for name in OTHER_NAMES)
    edits = {"bash": [(f" {NAME}\n", f" {NAME} {others}\n")]}
    edits["zsh"] = [
        (f"#compdef {NAME}\n", f"#compdef {NAME} {others}\n"),
        (f" -N {NAME}\n", f" -N {NAME} {others}\n"),
        # What is read by `source` has the context `file`.
        ("[[ $zsh_eval_context[-1] == eval ]]", "[[ $zsh_eval_context[-1] == (eval|file) ]]"),
    ]
    for before, after in edits[shell]:
        if text.count(before) != 1:
            raise ValueError(f"shtab's script for {shell} is not what it used to be: {before!r} is not in it once")
        text = text.replace(before, after)
    return text


def main() -> None:
    """Write the scripts."""
    for shell in SHELLS:
        script(shell).parent.mkdir(parents=True, exist_ok=True)
        script(shell).write_text(completion(shell), "utf-8")


if __name__ == "__main__":
    main()
