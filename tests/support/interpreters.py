"""The Python interpreters of this machine: on PATH, and those that pyenv keeps beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# The interpreter below any virtual environment: without the service's packages.
BARE_PYTHON: str = getattr(sys, "_base_executable", sys.executable)
PLACES = "on PATH or among pyenv's versions"

_ASK = "import sys; print(getattr(sys, '_base_executable', sys.executable), sys.version_info[0], sys.version_info[1])"


def _candidates(version: str) -> Iterator[str]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield BARE_PYTHON
    if program := shutil.which(f"python{version}"):
        yield program
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for path in sorted(versions.glob(f"{version}*/bin/python{version}"), reverse=True):
        yield str(path)


@cache
def find_python(version: str) -> str | None:
    """The path of an interpreter of this version, such as "3.12", that runs here; None when there is none."""
    for candidate in _candidates(version):
        asked = subprocess.run([candidate, "-c", _ASK], capture_output=True, text=True)
        said = asked.stdout.split()
        # A shim of pyenv is on PATH also for a version that is not selected; it fails then.
        if asked.returncode == 0 and said[1:] == version.split("."):
            return said[0]
    return None
