"""The measurement of what logs and metrics cost runs to its end. These tests do not check speed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import REPOSITORY


@pytest.mark.slow
@pytest.mark.no_cover
def test_the_figure_comes_out() -> None:
    command = [sys.executable, "-m", "benchmarks.telemetry", "--rounds", "2", "--requests", "3"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "register again, with logs and metrics / without" in done.stdout
    assert "requests/s" in done.stdout
    assert done.returncode == int("MISSED" in done.stdout)
