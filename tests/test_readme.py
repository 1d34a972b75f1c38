"""The README is held to the program: its tables, its two commands, and its examples, which are run as they are printed.

python -m tests.test_readme    writes the generated parts anew
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

from ipam_lib.cli.parser import COMMANDS, build_parser, subparser
from ipam_lib.config import settings_table
from ipam_lib.schemas import CLUSTER_EXAMPLE
from ipam_lib.version import __version__
from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY, running

README = REPOSITORY / "README.md"
DEMO_URL = "http://127.0.0.1:3000"
DEMO_DATA = "~/.local/share/ipam-api/demo"


def commands_table() -> str:
    """The table of subcommands, with their options."""
    parser = build_parser()
    rows = ["| Subcommand | What |", "|---|---|"]
    for name, (summary, _) in COMMANDS.items():
        found = subparser(parser, name)
        assert found is not None
        options = [
            action.option_strings[-1] if action.option_strings else _positional(action)
            for action in found._actions
            if action.dest not in {"help", "config"}
        ]
        shown = f"`{' '.join([name, *options])}`"
        rows.append(f"| {shown} | {summary[0].upper()}{summary[1:]} |")
    return "\n".join(rows) + "\n"


def _positional(action: argparse.Action) -> str:
    return f"[{action.metavar}]" if action.nargs == "?" else f"{action.metavar}"


GENERATED = {"commands": commands_table, "settings": settings_table}


def with_generated_parts(text: str) -> str:
    """The README with its generated parts as they should be."""
    for name, make in GENERATED.items():
        start = f"<!-- {name}: generated, see tests/test_readme.py -->\n"
        end = f"<!-- end of {name} -->\n"
        assert text.count(start) == text.count(end) == 1
        before, _, rest = text.partition(start)
        text = before + start + make() + end + rest.partition(end)[2]
    return text


def bash_blocks() -> list[str]:
    """The shell examples."""
    return re.findall(r"^```bash\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_generated_parts_are_current() -> None:
    text = README.read_text("utf-8")
    assert with_generated_parts(text) == text, "run: python -m tests.test_readme"


def test_the_two_commands_are_all_that_is_needed() -> None:
    build, _, test = bash_blocks()
    assert build == "python3 build_zipapp.py && ./ipam.pyz demo\n"
    assert test == "./scripts/test\n"
    for path in ("build_zipapp.py", "scripts/test"):
        assert (REPOSITORY / path).is_file()


def test_the_examples_work_as_printed(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        skip_loudly("README examples", "there is no curl; install it")
    example = bash_blocks()[1]
    with running("demo", "--data", str(tmp_path / "data"), "--port", "0", cwd=tmp_path) as demo:
        assert example.count(DEMO_URL) == example.count("curl ") == 4
        assert DEMO_DATA in example
        script = example.replace(DEMO_URL, demo.url).replace(DEMO_DATA, str(tmp_path / "data"))
        done = subprocess.run(
            ["bash", "-euc", script.replace("curl ", "curl --fail-with-body -sS ")], capture_output=True, text=True
        )
    assert done.stderr == ""
    assert done.returncode == 0
    address = "83.118.168.0/32"
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"message": "Address registered successfully", "address": address},
        {"message": "Address updated successfully", "address": address},
        {"message": "Service expiration set successfully", "address": address},
        {"message": "Cluster expiration set successfully", **CLUSTER_EXAMPLE, "expired": 2, "denied": 0},
    ]


def test_every_path_is_documented() -> None:
    # The routes are those that tests/web/test_paths.py lists, which is held to the application.
    from tests.web.test_paths import PATHS

    text = README.read_text("utf-8")
    for path in PATHS:
        if "swagger-ui" not in path and "/assets/" not in path:
            assert f"`{path}`" in text, path


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8")):
        assert (REPOSITORY / target).exists(), target


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == __version__
    assert len(set(headings)) == len(headings)


if __name__ == "__main__":
    README.write_text(with_generated_parts(README.read_text("utf-8")), "utf-8")
