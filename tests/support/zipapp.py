"""ipam.pyz for the tests: built once for one state of the sources, kept in .cache/zipapp.

A pytest plugin: tests/conftest.py loads it. Fixture: `pyz`, the path of the archive.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import build_zipapp
from tests.support.no_cover import COVERAGE_VARIABLE

CACHE = build_zipapp.REPOSITORY / ".cache" / "zipapp"
ARCHIVES_KEPT = 4


def sources_digest() -> str:
    """A digest of everything that goes into the archive."""
    digest = hashlib.sha256()
    files = build_zipapp.own_files()
    for pattern in ("bootstrap/*.py", "build_zipapp.py", "requirements*.txt"):
        for path in build_zipapp.REPOSITORY.glob(pattern):
            files[str(path.relative_to(build_zipapp.REPOSITORY))] = path.read_bytes()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def built_archive(*options: str) -> Path:
    """The path of an archive built from the present sources by the build's own command, with these options of it. Safe
    to call at once."""
    archive = CACHE / "-".join([sources_digest(), *(one.strip("-") for one in options)]) / "ipam.pyz"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            archive.parent.mkdir(exist_ok=True)
            build = [sys.executable, str(build_zipapp.REPOSITORY / "build_zipapp.py"), "--output", str(archive)]
            environment = {name: value for name, value in os.environ.items() if name != COVERAGE_VARIABLE}
            subprocess.run([*build, *options], check=True, env=environment)
            older = sorted(CACHE.glob("*/ipam.pyz"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in older[ARCHIVES_KEPT:]:
                path.unlink()
                path.parent.rmdir()
    return archive


@pytest.fixture(scope="session")
def pyz() -> Path:
    """The path of ipam.pyz, built from the present sources."""
    return built_archive()
