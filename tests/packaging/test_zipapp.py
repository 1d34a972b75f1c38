"""ipam.pyz runs from anywhere, on every Python that it was packed for, and says in one line where it cannot."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import build_zipapp
from ipam_lib.version import __version__
from tests.support.interpreters import BARE_PYTHON, PLACES, find_python
from tests.support.not_run import skip_loudly
from tests.support.systemd import listener
from tests.support.zipapp import built_archive

pytestmark = pytest.mark.no_cover  # the archive runs copies of the modules

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
FEWEST_PYTHONS = 3
UNFIT = 78  # EX_CONFIG of sysexits.h


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
def packed_python(request: pytest.FixtureRequest) -> str:
    """Each interpreter that the archive is packed for, where this machine has it."""
    version: str = request.param
    if (python := find_python(version)) is None:
        skip_loudly(f"ipam.pyz under Python {version}", f"no python{version} {PLACES}")
    return python


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


def test_packs_for_another_processor() -> None:
    """It cannot run here: what is in it must be for that processor, and nothing may be missing."""
    machine, number = ("x86_64", 62) if os.uname().machine == "aarch64" else ("aarch64", 183)
    version = build_zipapp.PYTHONS[-1]
    suffix = f".cpython-3{version[2:]}-{machine}-linux-gnu.so"
    with zipfile.ZipFile(built_archive("--platform", machine, "--python", version)) as packed:
        names = packed.namelist()
        compiled = [name for name in names if name.endswith(".so")]
        # ELF-64 object file format: e_machine at 18.
        assert {int.from_bytes(packed.read(name)[18:20], "little") for name in compiled} == {number}
        assert f"PLATFORM = '{machine}-linux-gnu'\nMACHINES" in packed.read("_ipam_build.py").decode()
    assert [name for name in compiled if not name.endswith((suffix, ".abi3.so", ".abi3t.so"))] == []
    for module in ("aiohttp/_http_parser", "bson/_cbson", "multidict/_multidict", "yarl/_quoting_c", "_cffi_backend"):
        assert f"site-packages/{module}{suffix}" in names


def test_a_module_for_another_processor_is_not_packed() -> None:
    module = b"\x7fELF\x02\x01" + bytes(12) + (62).to_bytes(2, "little")
    build_zipapp.check_machine({"fits.so": module, "not-compiled.py": b"pass"}, build_zipapp.Platform.of("x86_64"))
    with pytest.raises(build_zipapp.BuildError, match=r"other\.so is not for aarch64"):
        build_zipapp.check_machine({"other.so": module}, build_zipapp.Platform.of("aarch64"))


def test_carries_no_tests_sources_in_c_or_old_swagger_ui(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as packed:
        names = packed.namelist()
    unwanted = [name for name in names if name.endswith((".c", ".h", ".pyx", ".pyi", ".pyc")) or "/tests/" in name]
    assert unwanted == []
    assert [name for name in names if name.startswith("site-packages/aiohttp_apispec/static/")] == []
    assert "site-packages/ipam_lib/static/swagger/LICENSE" in names


def test_enough_pythons_are_here_to_try_it_with() -> None:
    found = [version for version in build_zipapp.PYTHONS if find_python(version)]
    if len(found) < FEWEST_PYTHONS:
        few = f"only {', '.join(found) or 'none'} of {', '.join(build_zipapp.PYTHONS)} {PLACES}"
        skip_loudly(f"ipam.pyz under {FEWEST_PYTHONS} Pythons or more", few)


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
    only_here = f"import _ipam_copies; _ipam_copies.temporary_directories = lambda: [{str(tmp_path)!r}]"
    assert_works(run("version", environment={}, before=only_here))
    assert list(tmp_path.iterdir()) == [squatted]
    assert list(squatted.iterdir()) == []


def test_no_directory_at_all_is_one_line(run: Run) -> None:
    nowhere = "import _ipam_copies; _ipam_copies.temporary_directories = lambda: ['/dev/null']"
    done = run("version", environment={"HOME": "/dev/null"}, before=nowhere)
    assert_refuses(done, "SHIV_ROOT", "/dev/null/.cache/ipam-api: Not a directory")


def test_a_directory_without_execution_is_passed_over(run: Run, tmp_path: Path) -> None:
    """As systemd's cache directory from 257 on: neither a new copy nor one that is there already can be loaded."""
    inside_a_mount_of_its_own = """
mount -t tmpfs -o mode=0700 tmpfs "$SHIV_ROOT" && "$@" && [ "$(ls "$SHIV_ROOT" | wc -l)" = 1 ] || exit 3
mount -o remount,noexec "$SHIV_ROOT" || exit 3
"$@" && [ "$(ls "$TMPDIR"/ipam-api-* | wc -l)" = 1 ] || exit 4
rm -r "$SHIV_ROOT"/* "$TMPDIR"/* && "$@" && [ "$(ls "$SHIV_ROOT" | wc -l)" = 0 ]
"""
    for directory in (run.cache, tmp_path / "temporary"):
        directory.mkdir()
    environment = run.environment | {"TMPDIR": str(tmp_path / "temporary")}
    program = [BARE_PYTHON, str(run.archive), "version"]
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*namespace, "sh", "-c", inside_a_mount_of_its_own, "sh", *program]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        skip_loudly("ipam.pyz in a directory mounted noexec", "there is no unshare (Debian: util-linux)")
    if done.returncode in (1, 3):
        skip_loudly("ipam.pyz in a directory mounted noexec", f"it cannot be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT * 3, "")


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
            if "/" in entry.filename:
                continue  # The refusal comes before anything is unpacked.
            content = packed.read(entry)
            if entry.filename == "_ipam_build.py":
                content += "".join(f"{name} = {value!r}\n" for name, value in changes.items()).encode()
            changed.writestr(entry, content)
    return target


def unfit(run: Run, tmp_path: Path, **changes: object) -> None:
    """Let the archive say that it was made for another interpreter of this platform, unless `changes` say otherwise."""
    made_for = {"SUFFIXES": [".cpython-399-x.so"], "VERSIONS": ["3.98", "3.99"], "PLATFORM": this_platform()}
    run.archive = rebuilt(run.archive, tmp_path / "ipam.pyz", **made_for | changes)


def test_another_python_version_is_told_which_one_fits(run: Run, tmp_path: Path) -> None:
    unfit(run, tmp_path)
    fitting = tmp_path / "bin" / "python3.99"
    fitting.parent.mkdir()
    fitting.touch(mode=0o755)
    done = run("version", environment=run.environment | {"PATH": str(fitting.parent)})
    assert_refuses(done, "CPython 3.98, 3.99", f"run it with one of those, for example: python3.99 {run.archive}")
    assert run.copies() == []


def test_where_no_python_fits_it_is_told_to_install_one_or_to_build(run: Run, tmp_path: Path) -> None:
    unfit(run, tmp_path)
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    done = run("version", environment=run.environment | {"PATH": str(tmp_path)})
    assert_refuses(done, "install one, for example python3.99", f"python3 build_zipapp.py --python {this}\n")
    free_threaded = f"import _imp; _imp.extension_suffixes = lambda: ['.cpython-398t-{this_platform()}.so']"
    done = run("version", environment=run.environment | {"PATH": str(tmp_path)}, before=free_threaded)
    assert_refuses(done, "this is free-threaded cpython", "install one, for example python3.99\n")


def test_another_processor_is_told_to_build(run: Run, tmp_path: Path) -> None:
    unfit(run, tmp_path, PLATFORM="aarch64-linux-gnu" if os.uname().machine != "aarch64" else "x86_64-linux-gnu")
    option = f" --platform {os.uname().machine}" if this_platform().endswith("-linux-gnu") else ""
    assert_refuses(run("version"), f"on {run_platform(run)}", this_platform(), f"python3 build_zipapp.py{option}\n")


def run_platform(run: Run) -> str:
    """What the archive says that it is for."""
    with zipfile.ZipFile(run.archive) as packed:
        return packed.read("_ipam_build.py").decode().split("PLATFORM = '")[-1].split("'")[0]


def test_a_service_that_a_restart_cannot_help_tells_systemd_so(run: Run, tmp_path: Path) -> None:
    unfit(run, tmp_path)
    for address in (False, True):
        with listener(abstract=address) as systemd:
            environment = run.environment | {"PATH": str(tmp_path), "NOTIFY_SOCKET": systemd.address}
            done = run("--config", "x", "serve", environment=environment)
            assert done.returncode == UNFIT
            assert systemd.message()["STATUS"] in done.stderr
    systemd_has_gone = run.environment | {"NOTIFY_SOCKET": "/nowhere"}
    assert run("serve", environment=systemd_has_gone).returncode == UNFIT


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
    found = [program for version in ("2.7", "3.6", "3.8", "3.9", "3.10") if (program := find_python(version))]
    if not found:
        skip_loudly("ipam.pyz refusing a Python that is too old", f"no Python 2.7 to 3.10 {PLACES}")
    for program in found:
        assert_refuses(run("version", python=program, environment=dict(os.environ)), "Python 3.11 or newer")


def this_platform() -> str:
    return build_zipapp.Platform.of_this_machine().triplet
