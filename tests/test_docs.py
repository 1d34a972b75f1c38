"""The pages in docs/ are held to the program: settings, paths, statuses, examples, and the links between all pages.

python -m tests.test_docs    writes the tables of settings and of error codes anew
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipam_lib.config import settings_table
from ipam_lib.errors import CODES
from tests.support.documents import anchors, examples, links, pages, run_examples
from tests.support.processes import REPOSITORY
from tests.web.service import service
from tests.web.test_paths import PATHS

HTTP = REPOSITORY / "docs" / "http.md"
CONFIGURATION = REPOSITORY / "docs" / "configuration.md"
_DIRECTORIES = ("ipam_lib", "netbox_simulator", "bootstrap", "benchmarks", "docs", "scripts", "tests")
# Every file and directory of the tree, with a slash before.
FILES = [
    f"/{path.relative_to(REPOSITORY)}"
    for directory in _DIRECTORIES
    for path in [REPOSITORY / directory, *(REPOSITORY / directory).rglob("*")]
] + [f"/{path.name}" for path in REPOSITORY.glob("*.py")]


def codes_table() -> str:
    """The table of error codes in Markdown."""
    rows = [f"| `{code}` | {row.status} | {row.meaning} |" for code, row in CODES.items()]
    return "\n".join(["| Code | Status | Meaning |", "|---|---|---|", *rows]) + "\n"


GENERATED = {"settings": (CONFIGURATION, settings_table), "codes": (HTTP, codes_table)}


def generated(name: str) -> str:
    """The page with this table, with the table as it should be."""
    path, table = GENERATED[name]
    start, end = f"<!-- {name}: generated, see tests/test_docs.py -->\n", f"<!-- end of {name} -->\n"
    text = path.read_text("utf-8")
    assert text.count(start) == text.count(end) == 1
    before, _, rest = text.partition(start)
    return before + start + table() + end + rest.partition(end)[2]


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_tables_are_current(name: str) -> None:
    assert generated(name) == GENERATED[name][0].read_text("utf-8"), "run: ./scripts/generate"


def test_every_path_is_documented() -> None:
    # The routes are those that tests/web/test_paths.py lists, which is held to the application.
    text = HTTP.read_text("utf-8")
    for path in PATHS:
        if "swagger-ui" not in path and "/assets/" not in path:
            assert f"`{path}`" in text, path


async def test_every_status_and_field_of_the_specification_is_documented() -> None:
    text = HTTP.read_text("utf-8")
    async with service() as running:
        _, specification, _ = await running.call("GET", "/swagger/doc.json")
    operations = [one for path in specification["paths"].values() for one in path.values() if "responses" in one]
    statuses = {status for one in operations for status in one["responses"]}
    assert len(statuses) > 10
    # 405 is of no operation: it is the answer to a method that there is none for.
    documented = set(re.findall(r"^\| (\d{3}) \|", text, re.MULTILINE))
    assert documented | {str(row.status) for row in CODES.values()} == statuses | {"405"}
    definitions = specification["definitions"]
    fields = {*definitions["Register"]["properties"], *definitions["Expire"]["properties"]} - {"service"}
    fields |= {f"service.{name}" for name in definitions["Service"]["properties"]}
    table = text.partition("| Field | Required | Rule |\n")[2].partition("\n\n")[0]
    named = {
        name for first in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall("`([^`]+)`", first)
    }
    assert named == fields
    parameters = {each["name"] for one in operations for each in one.get("parameters", ()) if each["in"] == "query"}
    assert {"zone", "limit", "cursor"} < parameters
    for name in parameters:
        assert f"`{name}`" in text, name


def test_the_examples_work_as_printed(tmp_path: Path) -> None:
    assert len(examples(HTTP)) == 5
    run_examples(HTTP, tmp_path)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_files_that_are_named_exist(page: Path) -> None:
    """A module or directory is named by the end of its path, such as `registry/context.py`, `tests/crash`."""
    text = page.read_text("utf-8")
    spans = [word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()]
    layout = text.partition("## Layout\n\n```\n")[2].partition("```")[0].split()
    found = [word.rstrip(":;,)") for word in spans + layout]
    named = {
        word.rstrip("/")
        for word in found
        if re.fullmatch(r"[\w/]+\.(py|js)|(tests|ipam_lib|docs|scripts)/[\w/]+", word)
    }
    for one in named | {word.rstrip("/") for word in layout if re.fullmatch(r"[a-z_]+/", word)}:
        assert any(path.endswith(f"/{one}") for path in FILES), one


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / path).resolve() for page in pages() for path, _ in links(page)}
    assert set((REPOSITORY / "docs" / "screenshots").iterdir()) <= shown


if __name__ == "__main__":
    for table in GENERATED:
        GENERATED[table][0].write_text(generated(table), "utf-8")
