"""The documentation as tests read it: its pages, its links, and its examples, run against a demo."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY, running

DEMO_URL = "http://127.0.0.1:3000"
DEMO_DATA = "~/.local/share/ipam-api/demo"

# A shell block, and the JSON block that shows its answer, with text between them but no other block.
_EXAMPLE = re.compile(
    r"^```bash\n(?P<command>(?:(?!^```).)*?curl .*?)^```$(?:(?!^```).)*?^```json\n(?P<answer>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]


def examples(page: Path) -> list[tuple[str, object]]:
    """The requests with curl on a page, each with the answer that the page shows."""
    text = page.read_text("utf-8")
    found = [(one["command"], json.loads(one["answer"])) for one in _EXAMPLE.finditer(text)]
    requests = [
        block for block in re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "curl " in block
    ]
    assert [command for command, _ in found] == requests, f"{page.name}: a request without its answer"
    return found


def run_examples(page: Path, directory: Path) -> None:
    """Run the requests of a page in their order against a demo that has just been started, and compare the answers."""
    if shutil.which("curl") is None:
        skip_loudly(f"examples of {page.name}", "there is no curl; install it")
    with running("demo", "--data", str(directory / "data"), "--port", "0", cwd=directory) as demo:
        for command, answer in examples(page):
            assert command.count(DEMO_URL) == command.count("curl ") == 1
            script = command.replace(DEMO_URL, demo.url).replace(DEMO_DATA, str(directory / "data"))
            done = subprocess.run(
                ["bash", "-euc", script.replace("curl ", "curl -sS ")], capture_output=True, text=True, timeout=60
            )
            assert (done.returncode, done.stderr) == (0, ""), command
            assert json.loads(done.stdout) == answer, command


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[str, str]]:
    """The links of a page into this repository: path (empty for the page itself) and anchor (empty for none)."""
    found = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", _FENCED.sub("", page.read_text("utf-8")))
    return [(path, anchor) for path, anchor in found if ":" not in path]
