"""docs/commands.md is held to the program: every subcommand is there, with its usage, and its JSON is as it says.

python -m tests.test_commands    writes the list of commands and the usages anew
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipam_lib.cli.commands import COMMANDS, FORMAT, Argument
from ipam_lib.cli.parser import build_parser, command_parser
from tests.support.documents import pages
from tests.support.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "commands.md"
WIDTH = 110
START, END = "<!-- commands: generated, see tests/test_commands.py -->\n", "<!-- end of commands -->\n"
_USAGE = re.compile(r"^## `([\w-]+)`\n\n```text\nusage:.*?```\n", re.DOTALL | re.MULTILINE)

TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def usage(name: str) -> str:
    """The usage of a subcommand, broken between its options."""
    parser = command_parser(COMMANDS[name], "ipam", formatter=lambda prog: argparse.HelpFormatter(prog, width=100_000))
    lines = [f"usage: ipam {name}"]
    for word in re.findall(
        r"\[[^]]*\]|\([^)]*\)|--?[\w-]+ [A-Z]+|\S+", parser.format_usage().partition(f" {name} ")[2]
    ):
        if len(lines[-1]) + len(word) >= WIDTH:
            lines.append("      ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def commands_table() -> str:
    """The list of subcommands, with their options."""
    rows = ["| Subcommand | What |", "|---|---|"]
    for name, command in COMMANDS.items():
        shown = " ".join([f"[`{name}`](#{name})", *(f"`{_shown(one)}`" for one in command.arguments)])
        rows.append(f"| {shown} | {command.help[0].upper()}{command.help[1:]} |")
    return "\n".join(rows) + "\n"


def _shown(argument: Argument) -> str:
    if argument.flags[0].startswith("-"):
        return argument.flags[0]
    metavar = str(argument.options["metavar"])
    return f"[{metavar}]" if argument.options.get("nargs") == "?" else metavar


def with_generated_parts(text: str) -> str:
    """The page with its list of commands and its usages as they should be."""
    assert text.count(START) == text.count(END) == 1
    before, _, rest = text.partition(START)
    text = before + START + commands_table() + END + rest.partition(END)[2]
    return _USAGE.sub(lambda found: f"## `{found[1]}`\n\n```text\n{usage(found[1])}\n```\n", text)


def sections() -> dict[str, str]:
    """The sections of the page by their headings, without backquotes."""
    _, *parts = re.split(r"^## (.+)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return {heading.strip("`"): text for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def fields(section: str) -> dict[str, str]:
    """The documented fields of a section's JSON, by path, with their types; registrations in full."""
    found: dict[str, str] = {}
    table = section.partition("| Field | Type | What |\n|---|---|---|\n")[2].partition("\n\n")[0]
    for name, kind in re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.MULTILINE):
        if kind == "registration":
            found |= {f"{name}.{inner}": type_ for inner, type_ in fields(sections()["A registration"]).items()}
        else:
            found[name] = kind
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a JSON value that is neither list nor object, with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{'KIND' if path.endswith('.summary') else name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


def assert_documented(name: str, *printed: Any) -> None:
    """That what a command printed has just the documented fields, each of its type, and in all of the values together
    every one of them."""
    documented = fields(sections()[name])
    met = set()
    for path, value in (leaf for one in printed for leaf in leaves(one)):
        assert path in documented, f"docs/commands.md: {name} prints {path}"
        assert any(TYPES[kind](value) for kind in documented[path].split(" or ")), (name, path, value)
        met.add(path)
    assert met == set(documented), f"docs/commands.md: {name} does not print {set(documented) - met}"


def test_every_subcommand_has_a_section_in_the_order_of_the_help() -> None:
    assert [heading for heading in sections() if heading in COMMANDS or "-" in heading] == list(COMMANDS)


def test_the_generated_parts_are_current() -> None:
    text = PAGE.read_text("utf-8")
    assert with_generated_parts(text) == text, "run: ./scripts/generate"
    assert len(_USAGE.findall(text)) == len(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_prints_data_has_its_fields_documented(name: str) -> None:
    assert bool(fields(sections()[name])) == (FORMAT in COMMANDS[name].arguments)


def test_what_is_to_be_typed_can_be() -> None:
    """Every line with `ipam` in the examples of the documentation is a command that exists, with its options."""
    tried = 0
    blocks = re.compile(r"^ *```(?:console|sh|bash)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    for page in pages():
        for block in blocks.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.match(r" *(?:\$ )?(?:sudo )?(?:source <\()?ipam ((?:'[^']*'|[^|<>)])*)", line)
                if command is None or line.lstrip().startswith("ipam-api"):
                    continue
                tried += 1
                words = shlex.split(command[1].replace('"$address"', "192.0.2.1"))
                assert build_parser("ipam").parse_args(words).subcommand in COMMANDS, (page.name, line)
    assert tried >= 30


def test_the_order_of_a_rotation_is_where_the_program_says() -> None:
    text = sections()["rotate-key"]
    steps = [text.index(word) for word in ("1. Make", "2. Name", "3. Exchange", "4. `ipam rotate-key", "5. When")]
    assert steps == sorted(steps)


if __name__ == "__main__":
    PAGE.write_text(with_generated_parts(PAGE.read_text("utf-8")), "utf-8")
