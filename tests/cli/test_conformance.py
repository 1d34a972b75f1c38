"""The running service against its own specification, by a tool that knows nothing else of it (schemathesis)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.soak import amount


@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize("specification", ["openapi.json", "swagger/doc.json"])
def test_the_service_does_what_its_specification_says(tmp_path: Path, specification: str) -> None:
    with running("demo", "--data", str(tmp_path / "data"), "--port", "0", cwd=tmp_path) as demo:
        url = demo.url
        token: str = demo.wait_until(
            lambda: next((line.removeprefix("Bearer token: ") for line in demo.lines if "Bearer token" in line), "")
        )
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/{specification}"]
        done = subprocess.run(
            [
                *command,
                *("--header", f"Authorization: Bearer {token}"),
                *("--max-examples", str(amount(10, 60))),
                *("--seed", "1"),
                # That an address lies in the zone and is of the family cannot be said in a specification.
                *("--exclude-checks", "positive_data_acceptance"),
                # Nor what an address is: most texts of that form are refused, and half of them hold a slash, which
                # a path cannot.
                *("--suppress-health-check", "filter_too_much"),
                *("--warnings", "off"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "No issues found" in done.stdout
        assert not any("Traceback" in line for line in demo.errors)
        assert demo.stop() == 0
