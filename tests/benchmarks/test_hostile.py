"""A hostile client against each limit, for a moment. These tests do not check speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile import LIMITS
from benchmarks.hostile_client import REQUESTS
from tests.support.processes import REPOSITORY
from tests.support.soak import amount

# Of each kind one in a plain run: refused by the network, by a quota, by the secret, before the head has ended.
PLAIN = ["network", "cluster quota", "wrong secrets", "connections"]


def test_there_is_a_hostile_client_for_each_limit() -> None:
    assert LIMITS.keys() == REQUESTS.keys()


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize("limit", amount(PLAIN, list(LIMITS)))
def test_a_limit_holds(tmp_path: Path, limit: str) -> None:
    written = tmp_path / "outcomes.json"
    command = [sys.executable, "-m", "benchmarks.hostile", "--only", limit, "--json", str(written)]
    command += ["--seconds", str(amount(1, 15)), "--connections", "50"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    [outcome] = json.loads(written.read_text())
    assert outcome["kept"], outcome
    assert outcome["owner_requests"] > 0
    assert limit in done.stdout
    if LIMITS[limit].takes:
        before, after = outcome["addresses"]
        assert after - before == LIMITS[limit].takes
