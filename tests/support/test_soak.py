"""What a plain run and the soak run of the random tests, and what the last lines say about it."""

from __future__ import annotations

import pytest

from tests.support.processes import REPOSITORY

TESTS = """
import pytest

from tests.support.soak import amount

def test_of_every_plain_run():
    pass

@pytest.mark.soak
@pytest.mark.parametrize("number", range(amount(2, 5)))
def test_random(number, record_amount):
    record_amount("schedules", 100)

@pytest.mark.soak(only=True)
def test_of_the_soak():
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory with these tests and the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeconftest('pytest_plugins = ["tests.support.soak"]')
    pytester.makeini("[pytest]\nmarkers = soak")
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("options", "passed", "done"), [((), 3, "200 schedules"), (("--soak",), 6, "500 schedules")], ids=["plain", "soak"]
)
def test_what_runs(project: pytest.Pytester, options: tuple[str, ...], passed: int, done: str) -> None:
    ran = project.runpytest_subprocess("-n", "1", *options)
    assert ran.ret == 0
    assert ran.parseoutcomes()["passed"] == passed
    assert done in ran.outlines
    assert ("./scripts/test --soak runs many more of them" in ran.outlines) is (options == ())
