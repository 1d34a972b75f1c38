"""ipam.pyz runs from anywhere, on every Python that it was packed for, and says in one line where it cannot."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import build_zipapp
from ipam_lib.version import __version__
from tests.support.not_run import skip_loudly

LARGEST = 15_000_000
HEAVY = {
    "aiohttp",
    "aiohttp_apispec",
    "apispec",
    "cryptography",
    "marshmallow",
    "motor",
    "pymongo",
    "webargs",
}
OUTPUT = f"ipam-api {__version__}\n"

# The interpreter below any virtual environment: without the service's packages.
BARE_PYTHON: str = getattr(sys, "_base_executable", sys.executable)


class Run:
    """Runs an archive in an environment of its own, unpacking below `cache`."""

    def __init__(self, archive: Path, cache: Path) -> None:
        self.archive = archive
        self.cache = cache
        self.environment = {"SHIV_ROOT": str(cache), "PATH": os.defpath}

    def __call__(
        self,
        *arguments: str,
        python: str = BARE_PYTHON,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        before: str = "",
        after: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run `ipam.pyz ARGUMENTS`.

        options: of the interpreter. environment: instead of the usual one. before, after: Python code to run in the
        same process, ahead of the archive (which is on sys.path by then) and when it has ended.
        """
        script = str(self.archive)
        if before or after:
            inside = [
                f"import runpy, sys; sys.argv = {[script, *arguments]!r}; sys.path.insert(0, {script!r})",
                before,
                f"try: runpy.run_path({script!r}, run_name='__main__')",
                "except SystemExit as end: status = end.code",
                after,
                "sys.exit(status)",
            ]
            command = [python, *options, "-c", "\n".join(inside)]
        else:
            command = [python, *options, script, *arguments]
        return subprocess.run(
            command,
            cwd="/",
            env=self.environment if environment is None else environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def copies(self) -> list[Path]:
        """Everything below the cache."""
        return sorted(self.cache.iterdir()) if self.cache.exists() else []


@pytest.fixture
def run(pyz: Path, tmp_path: Path) -> Run:
    return Run(pyz, tmp_path / "cache")


@pytest.fixture(scope="module")
def warm(pyz: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Run whose archive is unpacked already."""
    warm = Run(pyz, tmp_path_factory.mktemp("warm"))
    assert_works(warm("version"))
    return warm


@pytest.fixture(params=build_zipapp.PYTHONS)
def packed_python(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each interpreter that the archive is packed for, and that works here."""
    version: str = request.param
    for candidate in (BARE_PYTHON, f"python{version}"):
        program = shutil.which(candidate)
        if program is None:
            continue
        asked = [program, "-c", "import sys; print(sys._base_executable, *sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
        if said[1:] == version.split("."):
            yield said[0]
            return
    skip_loudly(f"ipam.pyz under Python {version}", f"no python{version} on PATH")


def assert_works(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT, "")


def assert_refuses(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr with these words, nothing on stdout, exit code 1."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    for word in words:
        assert word in done.stderr


# --- Where and how it runs


def test_is_one_executable_file_of_at_most_15_mb(pyz: Path) -> None:
    assert pyz.stat().st_size <= LARGEST
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(pyz, os.X_OK)


def test_carries_no_tests_sources_in_c_or_old_swagger_ui(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as packed:
        names = packed.namelist()
    unwanted = [name for name in names if name.endswith((".c", ".h", ".pyx", ".pyi", ".pyc")) or "/tests/" in name]
    assert unwanted == []
    assert [name for name in names if name.startswith("site-packages/aiohttp_apispec/static/")] == []
    assert "site-packages/ipam_lib/static/swagger/LICENSE" in names


def test_runs_on_each_python_without_the_packages(run: Run, packed_python: str) -> None:
    assert_works(run("version", python=packed_python, options=("-I",)))
    assert_works(run("version", python=packed_python, options=("-I", "-S")))
    assert len(run.copies()) == 1


def test_everything_that_it_needs_imports_from_the_copy(run: Run, packed_python: str) -> None:
    """With warnings as errors, and from the unpacked copy only, whatever else is installed."""
    modules = (
        *("ipam", "ipam_lib.storage.mongo", "ipam_lib.storage.sqlite", "aiohttp_apispec", "motor.motor_asyncio"),
        *("aiohttp._http_parser", "aiohttp._http_writer", "aiohttp._websocket.reader_c", "bson._cbson"),
        *("pymongo._cmessage", "multidict._multidict", "yarl._quoting_c", "frozenlist._frozenlist"),
        *("propcache._helpers_c", "markupsafe._speedups", "dns.resolver", "prometheus_client", "_cffi_backend"),
        "cryptography.hazmat.primitives.ciphers.aead",
    )
    after = f"""
import importlib
for name in {modules!r}:
    print(importlib.import_module(name).__file__)
"""
    done = run("version", python=packed_python, options=("-W", "error"), after=after)
    assert done.returncode == 0, done.stderr
    (copy,) = run.copies()
    files = done.stdout.removeprefix(OUTPUT).split()
    assert len(files) == len(modules)
    assert [file for file in files if not Path(file).is_relative_to(copy)] == []


def test_swagger_ui_is_package_data(warm: Run) -> None:
    after = """
from importlib import resources
folder = resources.files("ipam_lib") / "static" / "swagger"
print(*(len((folder / name).read_bytes()) > 500 for name in ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE")))
"""
    assert warm("version", after=after).stdout == f"{OUTPUT}True True True\n"


def test_version_and_help_import_nothing_heavy(warm: Run) -> None:
    for command in ("version", "help"):
        done = warm(command, options=("-X", "importtime"))
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "argparse" in imported
        assert imported & HEAVY == set()


def test_runs_through_a_symlink_under_its_name(warm: Run, tmp_path: Path) -> None:
    link = tmp_path / "ipam-cli"
    link.symlink_to(warm.archive)
    path = f"{Path(BARE_PYTHON).parent}{os.pathsep}{os.defpath}"
    done = subprocess.run([str(link), "help"], env=warm.environment | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ipam-cli ")


def test_runs_by_a_relative_path(warm: Run) -> None:
    command = [BARE_PYTHON, warm.archive.name, "version"]
    done = subprocess.run(command, cwd=warm.archive.parent, env=warm.environment, capture_output=True, text=True)
    assert_works(done)


def test_a_copy_of_the_archive_uses_the_same_unpacked_files(warm: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "service.pyz"
    moved.parent.mkdir()
    shutil.copy(warm.archive, moved)
    moved.chmod(0o444)
    moved.parent.chmod(0o555)
    copies = warm.copies()
    assert_works(Run(moved, warm.cache)("version"))
    assert warm.copies() == copies


def test_passes_the_exit_code_on(warm: Run) -> None:
    done = warm("no-such-command")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# --- Where it unpacks


def test_without_a_home_it_unpacks_into_the_temporary_directory(run: Run, tmp_path: Path) -> None:
    assert_works(run("version", environment={"TMPDIR": str(tmp_path)}))
    private = tmp_path / f"ipam-api-{os.geteuid()}"
    assert private.stat().st_mode & 0o777 == 0o700
    assert len(list(private.iterdir())) == 1


@pytest.mark.parametrize(
    ("variable", "below"),
    [("SHIV_ROOT", ""), ("CACHE_DIRECTORY", ""), ("XDG_CACHE_HOME", "ipam-api"), ("HOME", ".cache/ipam-api")],
)
def test_where_it_unpacks(run: Run, tmp_path: Path, variable: str, below: str) -> None:
    assert_works(run("version", environment={variable: str(tmp_path), "TMPDIR": "/nowhere"}))
    (copy,) = (tmp_path / below).iterdir()
    assert (copy / "ipam_lib" / "version.py").is_file()


@pytest.mark.parametrize("variable", ["SHIV_ROOT", "CACHE_DIRECTORY"])
def test_it_unpacks_behind_a_link_that_was_named(run: Run, tmp_path: Path, variable: str) -> None:
    # With `DynamicUser=`, systemd's /var/cache/ipam-api is a link to private/ipam-api.
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("private")
    assert_works(run("version", environment={variable: str(tmp_path / "link"), "TMPDIR": "/nowhere"}))
    (copy,) = (tmp_path / "private").iterdir()
    assert (copy / "ipam_lib" / "version.py").is_file()


def test_a_home_that_cannot_be_written_is_passed_over(run: Run, tmp_path: Path) -> None:
    assert_works(run("version", environment={"HOME": "/dev/null", "SHIV_ROOT": "/dev/null/x", "TMPDIR": str(tmp_path)}))
    assert (tmp_path / f"ipam-api-{os.geteuid()}").is_dir()


def test_a_directory_that_others_can_write_is_not_trusted(run: Run, tmp_path: Path) -> None:
    """Code of theirs would run as this user."""
    assert_works(run("version"))
    run.cache.chmod(0o777)
    planted = run.copies()[0] / "ipam_lib" / "version.py"
    planted.write_text(planted.read_text().replace(__version__, "6" * len(__version__)))
    assert_works(run("version", environment=run.environment | {"TMPDIR": str(tmp_path)}))
    assert (tmp_path / f"ipam-api-{os.geteuid()}").is_dir()


def test_a_squatted_temporary_directory_gives_way_to_one_that_is_deleted(run: Run, tmp_path: Path) -> None:
    squatted = tmp_path / f"ipam-api-{os.geteuid()}"
    squatted.mkdir()
    squatted.chmod(0o777)
    only_here = f"import _ipam_boot; _ipam_boot.temporary_directories = lambda: [{str(tmp_path)!r}]"
    assert_works(run("version", environment={}, before=only_here))
    assert list(tmp_path.iterdir()) == [squatted]
    assert list(squatted.iterdir()) == []


def test_no_directory_at_all_is_one_line(run: Run) -> None:
    nowhere = "import _ipam_boot; _ipam_boot.temporary_directories = lambda: ['/dev/null']"
    done = run("version", environment={"HOME": "/dev/null"}, before=nowhere)
    assert_refuses(done, "SHIV_ROOT", "/dev/null/.cache/ipam-api: Not a directory")


def test_reads_a_copy_that_it_cannot_write(run: Run) -> None:
    assert_works(run("version", options=("-B",)))
    (copy,) = run.copies()
    for path in (*copy.rglob("*"), copy, run.cache):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert_works(run("version"))
        assert run.copies() == [copy]
    finally:
        for path in (run.cache, copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


# --- What can go wrong meanwhile


def test_many_first_starts_at_once(run: Run) -> None:
    command = [BARE_PYTHON, str(run.archive), "version"]
    started = [
        subprocess.Popen(command, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(6)
    ]
    assert [process.communicate()[0] for process in started] == [OUTPUT] * 6
    assert len(run.copies()) == 1


@pytest.mark.parametrize("files_before", [0, 1, 200])
def test_killed_in_the_middle_of_unpacking(run: Run, files_before: int) -> None:
    suicide = f"""
import os, signal, zipfile
read, reads = zipfile.ZipFile.read, []
def read_or_die(self, entry):
    reads.append(entry)
    if len(reads) > {files_before}:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, entry)
zipfile.ZipFile.read = read_or_die
"""
    assert run("version", before=suicide).returncode < 0
    (left,) = run.copies()
    assert left.name.startswith(".unpacking-")

    assert_works(run("version"))

    (copy,) = run.copies()
    assert not copy.name.startswith(".")


def test_a_full_disk_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    full = f"""
import errno, pathlib
write = pathlib.Path.write_bytes
def refuse(self, content):
    if str(self).startswith({str(run.cache)!r}) and len(content) > 100_000:
        raise OSError(errno.ENOSPC, "No space left on device")
    return write(self, content)
pathlib.Path.write_bytes = refuse
"""
    assert_works(run("version", environment=run.environment | {"TMPDIR": str(tmp_path)}, before=full))
    assert run.copies() == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 0)], ids=["deleted", "cut"])
def test_a_damaged_copy_is_replaced(run: Run, damage: object) -> None:
    assert callable(damage)
    assert_works(run("version"))
    damage(run.copies()[0] / "ipam_lib" / "version.py")
    assert_works(run("version"))
    assert len(run.copies()) == 1


def test_old_copies_go_unless_they_are_in_use(run: Run) -> None:
    run.cache.mkdir()
    for age, name in enumerate(("newest", "newer", "old-in-use", "oldest")):
        copy = run.cache / name
        copy.mkdir()
        (copy / ".files").touch()
        os.utime(copy, (1_000_000 - age, 1_000_000 - age))
    (run.cache / "not-a-copy").mkdir()
    descriptor = os.open(run.cache / "old-in-use", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert_works(run("version"))
    finally:
        os.close(descriptor)
    names = {path.name for path in run.copies()}
    assert len(names) == 5
    assert names > {"newest", "newer", "old-in-use", "not-a-copy"}


def test_a_running_program_holds_its_copy(run: Run) -> None:
    held = f"""
import fcntl, os
(name,) = os.listdir({str(run.cache)!r})
descriptor = os.open(os.path.join({str(run.cache)!r}, name), os.O_RDONLY)
try: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: print("held")
"""
    assert run("version", after=held).stdout == f"{OUTPUT}held\n"
    descriptor = os.open(run.copies()[0], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


# --- Where it cannot run


def rebuilt(archive: Path, target: Path, **changes: object) -> Path:
    """A copy of the archive that says that it was made for something else."""
    with zipfile.ZipFile(archive) as packed, zipfile.ZipFile(target, "w") as changed:
        for entry in packed.infolist():
            content = packed.read(entry)
            if entry.filename == "_ipam_build.py":
                content += "".join(f"{name} = {value!r}\n" for name, value in changes.items()).encode()
            changed.writestr(entry, content)
    return target


def test_another_python_version_is_told_which_ones_fit(run: Run, tmp_path: Path) -> None:
    changes = {"SUFFIXES": [".cpython-399-x.so"], "VERSIONS": ["3.98", "3.99"], "PLATFORM": this_platform()}
    run.archive = rebuilt(run.archive, tmp_path / "ipam.pyz", **changes)
    fitting = tmp_path / "bin" / "python3.99"
    fitting.parent.mkdir()
    fitting.touch(mode=0o755)
    done = run("version", environment=run.environment | {"PATH": str(fitting.parent)})
    assert_refuses(done, "CPython 3.98, 3.99", f"run it with one of those, for example: python3.99 {run.archive}")
    assert run.copies() == []


def test_another_architecture_is_told_to_build(run: Run, tmp_path: Path) -> None:
    changes = {"SUFFIXES": [".cpython-312-pdp11-linux-gnu.so"], "PLATFORM": "pdp11-linux-gnu"}
    run.archive = rebuilt(run.archive, tmp_path / "ipam.pyz", **changes)
    assert_refuses(run("version"), "pdp11-linux-gnu", this_platform(), "python3 build_zipapp.py")


def test_an_old_c_library_is_named(run: Run, tmp_path: Path) -> None:
    if not this_platform().endswith("-gnu"):
        skip_loudly("the check of glibc's version", "this system has another C library")
    run.archive = rebuilt(run.archive, tmp_path / "ipam.pyz", GLIBC=(99, 1))
    assert_refuses(run("version"), "glibc 99.1 or newer")


@pytest.mark.parametrize("version", ["2.7.18", "3.6.15", "3.10.13"])
def test_a_python_that_is_too_old(run: Run, version: str) -> None:
    info = tuple(int(part) for part in version.split("."))
    done = run("version", before=f"sys.version_info = {info!r}")
    assert_refuses(done, "Python 3.11 or newer", f"this is Python {info[0]}.{info[1]}")


def test_the_refusal_is_no_syntax_error_in_an_old_python(run: Run) -> None:
    found = []
    for name in ("python2", "python2.7", "python3.6", "python3.8", "python3.9", "python3.10"):
        program = shutil.which(name)
        if program and subprocess.run([program, "-c", "pass"], capture_output=True).returncode == 0:
            found.append(program)
    if not found:
        skip_loudly("ipam.pyz refusing a Python that is too old", "no python2 to python3.10 on PATH")
    for program in found:
        assert_refuses(run("version", python=program, environment=dict(os.environ)), "Python 3.11 or newer")


def this_platform() -> str:
    return build_zipapp.Platform.of_this_machine().triplet
