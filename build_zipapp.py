#!/usr/bin/env python3
"""Build ipam.pyz: the service and everything it needs, in one file that runs on any Python it was packed for.

Needs Python 3.11 or newer with pip, or with venv, which brings pip (Debian: python3-venv), and the package index.
Everything fetched is pinned and hash-checked: requirements.txt (what runs), requirements-build.txt (setuptools, for the
one package that exists as source only) and requirements-assets.txt (a package that carries Swagger UI).

What is in the file:

- bootstrap/*.py, which start it, and the generated _ipam_build.py, which says what it was packed for;
- site-packages/: ipam.py, ipam_lib/ (Swagger UI is in ipam_lib/static/swagger/), netbox_simulator/ and the locked
  packages. Compiled modules are there once for each Python version, side by side: their names carry version and
  platform, and all else in those wheels is the same.

shiv or pex would pack for one Python version only and start slower: their bootstraps import more than `version`
does. The same inputs give the same bytes, whatever the machine's paths, umask and clock.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent
OUTPUT = REPOSITORY / "ipam.pyz"
SWAGGER = "ipam_lib/static/swagger"
PACKAGES = ("ipam_lib", "netbox_simulator")
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
OLDEST_PYTHON = (3, 11)

SOURCE_ONLY = "aiohttp-apispec"
STABLE_ABI = re.compile(r"([^-]+-[^-]+)-cp3\d+-abi3[.-]")

# Wheels of both kinds name the oldest C library that they run on. These cover every system that is still maintained.
NEWEST_GLIBC = (2, 28)
GLIBC_PLATFORMS = (
    "manylinux2014",
    "manylinux_2_17",
    "manylinux_2_24",
    "manylinux_2_26",
    "manylinux_2_27",
    "manylinux_2_28",
)
MUSL_PLATFORMS = ("musllinux_1_1", "musllinux_1_2")
# The processors that every compiled package has wheels for, and their numbers in compiled modules (e_machine of ELF).
MACHINES = {"x86_64": 62, "aarch64": 183}

SWAGGER_SOURCE = "drf_spectacular_sidecar/static/drf_spectacular_sidecar/swagger-ui-dist/"
SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png", "LICENSE")

UNNEEDED_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".hash", ".typed", ".map"})
UNNEEDED_PATHS = re.compile(
    r"""
      ^aiohttp_apispec/static/          # a Swagger UI of 2020, with known holes
    | ^(pycparser|cffi)/                # cryptography needs cffi's compiled part only
    | ^multidict/_testcapi
    | (^|/)tests?/
    | \.dist-info/(?!METADATA$|licenses/|LICEN[CS]E|NOTICE|COPYING|AUTHORS)
    | ^[^/]+\.data/(scripts|headers|data)/
    """,
    re.VERBOSE,
)

# The oldest time that a zip file can hold; the same for every file, so that builds can be compared.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)


class BuildError(Exception):
    """The file cannot be built here; the message says why and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Build, and print what was built. Returns the exit code: 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise BuildError(f"needs Python 3.11 or newer, this is {platform.python_version()}")
        with tempfile.TemporaryDirectory(prefix="build-zipapp-") as directory:
            if options.assets:
                assets = fetch_assets(Path(directory))
                for name, content in assets.items():
                    write_if_changed(REPOSITORY / name, content)
                print(f"{SWAGGER}: {', '.join(SWAGGER_FILES)}")
            else:
                target = Platform.of(options.platform) if options.platform else Platform.of_this_machine()
                build(options.output, options.python or default_pythons(), target, Path(directory))
    except BuildError as error:
        print(f"build_zipapp.py: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Build ipam.pyz, the service in one file, from pinned and hash-checked packages.",
        epilog="Needs Python 3.11 or newer with pip, or with venv (Debian: apt-get install python3-venv).",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="PATH", help="the file to write (./ipam.pyz)")
    parser.add_argument(
        "--python",
        action="append",
        type=_python_version,
        metavar="VERSION",
        help=f"pack for this Python version; may be repeated ({', '.join(PYTHONS)} and the one that builds)",
    )
    parser.add_argument(
        "--platform",
        choices=MACHINES,
        help="pack for this processor, on Linux with glibc (the one of this machine)",
    )
    parser.add_argument(
        "--assets",
        action="store_true",
        help=f"build nothing: only put Swagger UI into {SWAGGER}, to run and test from a source tree",
    )
    return parser


def _python_version(text: str) -> str:
    match = re.fullmatch(r"3\.(\d{1,2})", text)
    if match is None or (3, int(match[1])) < OLDEST_PYTHON:
        raise argparse.ArgumentTypeError(f"{text!r} is not a Python version from 3.11 on, such as 3.12")
    return text


def default_pythons() -> list[str]:
    """The versions that are tested, and the one that runs this, oldest first."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sorted({*PYTHONS, running}, key=_minor)


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def build(output: Path, pythons: list[str], target: Platform, directory: Path) -> None:
    """Build the file and print a line about it.

    output: where to write it (replaced in one step). pythons: versions to pack for, such as ["3.11", "3.12"].
    target: the platform to pack for. directory: an empty directory to work in. Raises BuildError.
    """
    files = own_files()
    files.update(fetch_assets(directory))
    tools = unpack_requirements(directory, "requirements-build.txt")
    for wheel in fetch_wheels(directory, pythons, target, tools):
        add_wheel(files, wheel)
    missing = [version for version in pythons if not any(f".cpython-3{_minor(version)}-" in name for name in files)]
    if missing:
        raise BuildError(f"no compiled modules came for Python {', '.join(missing)}")
    check_machine(files, target)
    write_archive(output, files, describe(files, pythons, target))
    size = output.stat().st_size
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f"{output}: {size / 1e6:.1f} MB, for CPython {', '.join(pythons)} on {target.triplet}, sha256 {digest}")


class Platform:
    """What the compiled modules are for.

    triplet: as in the names of compiled modules, such as "x86_64-linux-gnu". tags: as in the names of wheels.
    """

    def __init__(self, machine: str, libc: str) -> None:
        self.machine = machine
        self.triplet = f"{machine}-linux-{libc}"
        families = GLIBC_PLATFORMS if libc == "gnu" else MUSL_PLATFORMS
        self.tags = tuple(f"{family}_{machine}" for family in families)

    @classmethod
    def of(cls, machine: str) -> Platform:
        """The platform of one of `MACHINES` with Linux and glibc."""
        return cls(machine, "gnu")

    @classmethod
    def of_this_machine(cls) -> Platform:
        """Raises BuildError on anything but CPython on Linux."""
        suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
        match = re.fullmatch(r"\.cpython-\d+t?-(\w+)-linux-(gnu|musl)\.so", suffix)
        if match is None:
            raise BuildError(f"builds with CPython on Linux only; this is {platform.platform()} ({suffix})")
        return cls(match[1], match[2])


def check_machine(files: dict[str, bytes], target: Platform) -> None:
    """Raise BuildError for a compiled module of another processor. (ELF-64 object file format: e_machine at 18.)"""
    wanted = MACHINES.get(target.machine)
    for name, content in files.items():
        if wanted is not None and content[:4] == b"\x7fELF" and struct.unpack_from("<H", content, 18) != (wanted,):
            raise BuildError(f"{name} is not for {target.machine}")


# --- What comes from the package index


@cache
def pip(directory: Path) -> list[str]:
    """The command that runs pip: this interpreter's, else one from a virtual environment. Raises BuildError."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    environment = directory / "pip"
    try:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise BuildError(
            f"{sys.executable} has neither pip nor venv; install one of them (Debian: apt-get install python3-venv)"
        ) from None
    return [str(environment / "bin" / "python"), "-m", "pip"]


def run_pip(directory: Path, *arguments: str, python_path: Path | None = None) -> None:
    """Run pip quietly. python_path: a directory whose packages it sees. Raises BuildError with pip's own words."""
    environment = os.environ | {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    done = subprocess.run([*pip(directory), *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        errors = [re.sub(r" \(from versions: .*\)", "", line) for line in said if line.startswith("ERROR: ")]
        if not errors or errors[-1] == "ERROR: Exception:":
            errors = said[-1:]
        unreachable = any(word in done.stderr for word in ("from versions: none", "Max retries", "timed out"))
        advice = "; is the package index within reach, and has it a wheel for that?" if unreachable else ""
        raise BuildError(f"pip {arguments[0]} failed: {errors[-1]}{advice}")


def unpack_requirements(directory: Path, lock: str) -> Path:
    """Fetch the wheels of a lock file, and unpack them. Returns the directory to import from. Raises BuildError."""
    wheels, unpacked = directory / f"{lock}-wheels", directory / f"{lock}-unpacked"
    run_pip(
        directory,
        *("download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--dest", str(wheels), "--requirement", str(REPOSITORY / lock)),
    )
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(unpacked)
    return unpacked


def fetch_assets(directory: Path) -> dict[str, bytes]:
    """Swagger UI, as {path in the source tree and in the archive: content}. Raises BuildError."""
    source = unpack_requirements(directory, "requirements-assets.txt") / SWAGGER_SOURCE
    return {f"{SWAGGER}/{name}": _read(source / name) for name in SWAGGER_FILES}


def _download(directory: Path, version: str, target: Platform, tools: Path) -> list[Path]:
    """Fetch what requirements.txt pins for one Python version. Returns wheels and sources. Raises BuildError."""
    fetched = directory / f"wheels-{version}"
    try:
        run_pip(
            directory,
            *("download", "--quiet", "--no-deps", "--no-build-isolation", "--require-hashes"),
            *("--only-binary=:all:", f"--no-binary={SOURCE_ONLY}"),
            *("--implementation", "cp", "--python-version", version, "--dest", str(fetched)),
            *(f"--platform={tag}" for tag in target.tags),
            *("--requirement", str(REPOSITORY / "requirements.txt")),
            python_path=tools,
        )
    except BuildError as error:
        raise BuildError(f"for Python {version} on {target.triplet}: {error}") from None
    return sorted(fetched.iterdir())


def fetch_wheels(directory: Path, pythons: Iterable[str], target: Platform, tools: Path) -> list[Path]:
    """Fetch requirements.txt for each Python version, and build what exists as source only.

    tools: where setuptools is. Returns the wheels, sorted by name, each once. Raises BuildError.
    """
    wheels: dict[str, Path] = {}
    sources: dict[str, Path] = {}
    stable: set[str] = set()
    versions = sorted(pythons, key=_minor)
    pip(directory)
    with ThreadPoolExecutor() as pool:
        fetched = pool.map(lambda version: _download(directory, version, target, tools), versions)
        for path in chain.from_iterable(fetched):
            # One wheel of the stable ABI runs on every later Python: another for those would only make the file larger.
            if match := STABLE_ABI.match(path.name):
                if match[1] in stable and path.name not in wheels:
                    continue
                stable.add(match[1])
            (wheels if path.suffix == ".whl" else sources)[path.name] = path
    built = directory / "wheels-built"
    for source in sources.values():
        run_pip(
            directory,
            *("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
            *("--wheel-dir", str(built), str(source)),
            python_path=tools,
        )
    for path in built.glob("*.whl"):
        if not path.name.endswith("-none-any.whl"):
            raise BuildError(f"{path.name} was compiled here and would run with one Python only")
        wheels[path.name] = path
    return [wheels[name] for name in sorted(wheels)]


def add_wheel(files: dict[str, bytes], wheel: Path) -> None:
    """Add what is needed at run time. Raises BuildError when a file is there already with another content."""
    with zipfile.ZipFile(wheel) as packed:
        for entry in packed.infolist():
            name = entry.filename
            if entry.is_dir() or PurePosixPath(name).suffix in UNNEEDED_SUFFIXES or UNNEEDED_PATHS.search(name):
                continue
            content = without_debug_information(packed.read(entry))
            if files.setdefault(name, content) != content and ".dist-info/" not in name:
                raise BuildError(f"{name} differs between the wheels of different Python versions")


def without_debug_information(content: bytes) -> bytes:
    """A compiled module without what the dynamic loader never reads: debug information, symbols, section headers.

    These come last in a file, after all that the program headers name, and make up half of some wheels. (ELF-64
    object file format: e_phoff at 32, e_shoff at 40, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx from 54.)
    Anything but a little-endian 64-bit ELF file comes back unchanged.
    """
    if content[:6] != b"\x7fELF\x02\x01":
        return content
    (headers,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    end = headers + size * count
    for number in range(count):
        offset, _, _, in_file = struct.unpack_from("<QQQQ", content, headers + number * size + 8)
        end = max(end, offset + in_file)
    stripped = bytearray(content[:end])
    struct.pack_into("<Q", stripped, 40, 0)
    struct.pack_into("<HHH", stripped, 58, 0, 0, 0)
    return bytes(stripped)


# --- What is ours


def own_files() -> dict[str, bytes]:
    """ipam.py and `PACKAGES` with their data, as {path: content}; without caches and what is fetched."""
    files = {"ipam.py": _read(REPOSITORY / "ipam.py")}
    for path in sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*")):
        name = path.relative_to(REPOSITORY).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and not name.startswith(f"{SWAGGER}/"):
            files[name] = path.read_bytes()
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from None


def describe(files: dict[str, bytes], pythons: Iterable[str], target: Platform) -> str:
    """The source of _ipam_build.py: what the archive is, and which interpreters can run it."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    suffixes = sorted({f".cpython-3{_minor(version)}-{target.triplet}.so" for version in pythons})
    return (
        '"""What this archive is; written by build_zipapp.py."""\n\n'
        f"ID = {digest.hexdigest()[:16]!r}\n"
        f"VERSIONS = {list(pythons)!r}\n"
        f"PLATFORM = {target.triplet!r}\n"
        f"MACHINES = {list(MACHINES)!r}\n"
        f"SUFFIXES = {suffixes!r}\n"
        f"GLIBC = {NEWEST_GLIBC!r}\n"
    )


def write_archive(output: Path, files: dict[str, bytes], description: str) -> None:
    """Write the executable zip file, whole or not at all. Raises BuildError when it cannot be written."""
    entries = {path.name: path.read_bytes() for path in (REPOSITORY / "bootstrap").glob("*.py")}
    entries["_ipam_build.py"] = description.encode()
    entries.update({f"site-packages/{name}": content for name, content in files.items()})
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            stream.write(b"#!/usr/bin/env python3\n")
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
                for name in sorted(entries):
                    entry = zipfile.ZipInfo(name, TIMESTAMP)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.create_system = 3
                    entry.external_attr = 0o100644 << 16
                    packed.writestr(entry, entries[name])
        unfinished.chmod(0o755)
        unfinished.replace(output)
    except OSError as error:
        raise BuildError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file, with its directories, unless it holds just that."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
