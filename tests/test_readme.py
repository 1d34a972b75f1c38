"""The README is held to the program: its two commands, and its first request with its answer, run as printed."""

from __future__ import annotations

import re
from pathlib import Path

from ipam_lib.version import __version__
from tests.support.documents import examples, run_examples
from tests.support.processes import REPOSITORY

README = REPOSITORY / "README.md"
MOST_LINES = 130


def bash_blocks() -> list[str]:
    """The shell examples."""
    return re.findall(r"^```bash\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_two_commands_are_all_that_is_needed() -> None:
    build, _, test = bash_blocks()
    assert build == "python3 build_zipapp.py && ./ipam.pyz demo\n"
    assert test == "./scripts/test\n"
    for path in ("build_zipapp.py", "scripts/test"):
        assert (REPOSITORY / path).is_file()


def test_the_first_request_gets_the_answer_as_printed(tmp_path: Path) -> None:
    assert len(examples(README)) == 1
    run_examples(README, tmp_path)


def test_it_is_a_front_page() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= MOST_LINES


def test_every_page_is_named() -> None:
    text = README.read_text("utf-8")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == __version__
    assert len(set(headings)) == len(headings)
