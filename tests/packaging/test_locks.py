"""The lock files pin everything with hashes, agree with what was asked for, and name no place to fetch from."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt", "requirements-assets.txt")


def asked(lock: str) -> set[str]:
    """Names of the packages in the .in file of a lock."""
    lines = (REPOSITORY / lock).with_suffix(".in").read_text().splitlines()
    return {normal(re.split(r"[=~<>!\[; ]", line)[0]) for line in lines if line and not line.startswith(("#", "-"))}


def pinned(lock: str) -> dict[str, tuple[str, int]]:
    """{name: (version, number of hashes)} of a lock."""
    text = (REPOSITORY / lock).read_text()
    pins = {}
    for requirement in re.split(r"\n(?=[A-Za-z])", "\n" + text)[1:]:
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)", requirement)
        assert match is not None, requirement
        pins[normal(match[1])] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}", requirement)))
    return pins


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_each_lock_pins_what_was_asked_for_with_hashes(lock: str) -> None:
    pins = pinned(lock)
    assert asked(lock) <= set(pins)
    assert [name for name, (_, hashes) in pins.items() if hashes == 0] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_place_to_fetch_from(lock: str) -> None:
    for path in (REPOSITORY / lock, (REPOSITORY / lock).with_suffix(".in")):
        assert (
            re.findall(r"https?:|git\+|file://|--(?:extra-)?index-url|--find-links|--trusted-host", path.read_text())
            == []
        )


def test_the_locks_agree_with_each_other_and_with_what_is_installed() -> None:
    runtime, tools = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert {name for name in runtime.keys() & tools.keys() if runtime[name] != tools[name]} == set()
    installed = {name: metadata.version(name) for name in runtime | tools}
    assert installed == {name: version for name, (version, _) in (runtime | tools).items()}
