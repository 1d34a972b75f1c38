"""Builds and runs the MongoDB-compatible server that the tests use where no `mongod` is at hand.

The server is mongo-java-server (jars by Maven, from pom.xml) behind Server.java. It is built once into `build/`, which
git ignores; several test runs at a time share one build. Run by hand: `python -m tests.mongo_server [--data PATH]`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
SOURCES = (HERE / "pom.xml", HERE / "Server.java")
BUILD_TIMEOUT_SECONDS = 600

# Small, quick to start, and quiet about the logger that it does not have.
JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dslf4j.internal.verbosity=ERROR")


class BuildError(Exception):
    """The server cannot be built here; the message says in one line what is missing."""


def build() -> Path:
    """Build the server unless this very version is built already.

    Returns the directory with `jars/` and `classes/`. Raises BuildError without a JDK or Maven, or when Maven cannot
    fetch the jars. Safe to call from several processes at once.
    """
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
    target = BUILD / digest
    if target.is_dir():
        return target
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if missing:
        raise BuildError(f"no {', '.join(missing)} on PATH (a JDK 11 or newer and Maven are needed)")
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            unfinished = BUILD / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _run(
                *("mvn", "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml")),
                *("dependency:copy-dependencies", f"-DoutputDirectory={unfinished / 'jars'}"),
            )
            _run(
                *("javac", "--release", "11", "-cp", f"{unfinished / 'jars'}/*", "-d", str(unfinished / "classes")),
                str(HERE / "Server.java"),
            )
            unfinished.rename(target)
    return target


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not end within {BUILD_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["no output"]
        said = next((line for line in lines if "ERROR" in line or "error:" in line), lines[-1])
        raise BuildError(f"{command[0]} failed: {said}")


def command(port: int = 0, data: Path | None = None, heap: str = "512m") -> list[str]:
    """The command that runs the server on 127.0.0.1, built first if need be.

    port: TCP port; 0 lets the system choose, and the server prints its choice as its first line.
    data: file that keeps the data beyond the process, even beyond `kill -9`; None keeps them in memory.
    heap: the most memory that it may take for its data, as `java -Xmx` reads it.

    The server ends when its standard input does. Raises BuildError as `build` does.
    """
    built = build()
    path = os.pathsep.join((f"{built / 'jars'}/*", str(built / "classes")))
    arguments = [str(port)] if data is None else [str(port), str(data)]
    return ["java", f"-Xmx{heap}", *JVM_OPTIONS, "-cp", path, "Server", *arguments]
