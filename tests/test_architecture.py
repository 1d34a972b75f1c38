"""The arrows between the modules point one way (the contracts are in pyproject.toml)."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True)


def test_the_contracts_are_kept() -> None:
    done = lint_imports(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_only_the_mongo_modules_import_the_driver() -> None:
    graph = grimp.build_graph("ipam_lib", include_external_packages=True, cache_dir=None)
    for driver in ("motor", "pymongo"):
        importers = graph.find_modules_that_directly_import(driver)
        assert importers
        assert all(name.startswith("ipam_lib.storage.mongo") for name in importers), importers


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("registry/register.py", "import aiohttp"),
        ("registry/register.py", "import ipam_lib.schemas"),
        ("registry/register.py", "import ipam_lib.telemetry"),
        ("addresses.py", "import ipam_lib.storage"),
        ("errors.py", "import socket"),
        ("storage/base.py", "import ipam_lib.netbox"),
        ("netbox/base.py", "import motor"),
        ("cli/main.py", "import ipam"),
        ("../netbox_simulator/model.py", "import ipam_lib.models"),
        ("netbox/client.py", "import netbox_simulator"),
        ("unheard_of.py", ""),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, statement: str) -> None:
    for package in ("ipam_lib", "netbox_simulator"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("static", "*.pyc"))
    for name in ("ipam.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    with (tmp_path / "ipam_lib" / module).open("a") as source:
        source.write(f"\n{statement}\n")

    done = lint_imports(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "Broken contracts" in done.stdout
    assert (statement.removeprefix("import ") or "unheard_of") in done.stdout.partition("Broken contracts")[2]
