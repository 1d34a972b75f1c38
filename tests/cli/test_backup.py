"""`mongo-backup`: what it writes, that it is whole or not there, and what it says."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bson import json_util

from ipam_lib.archive import ArchiveReader, opened
from ipam_lib.storage.bson_documents import to_bson
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.mongo_queries import COLLECTION_INDEXES
from tests.cli.archives import killed_in, process, read, stored
from tests.cli.installation import Installation, document
from tests.storage.samples import legacy_documents
from tests.support.processes import REPOSITORY
from tests.support.pseudo_terminal import at_terminal

DOCUMENTS = [to_bson(one) for one in legacy_documents()]
PARTIAL = ".*.ipam-partial"


def leftovers(directory: Path) -> list[Path]:
    return list(directory.glob(PARTIAL))


def test_what_is_stored_is_backed_up(legacy: Installation) -> None:
    done = legacy.run("mongo-backup", "--out", "backup.archive.gz")
    path = legacy.directory / "backup.archive.gz"
    size = path.stat().st_size
    said = f"{len(DOCUMENTS)} registrations ({size} bytes) backed up to backup.archive.gz\n"
    assert (done.status, done.out, done.err) == (0, said, "")
    assert read(path.read_bytes())["addresses"] == DOCUMENTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert leftovers(legacy.directory) == []


def test_as_json(legacy: Installation) -> None:
    done = legacy.run("mongo-backup", "--out", "backup.archive.gz", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert done.json["out"] == "backup.archive.gz"
    assert done.json["bytes"] == (legacy.directory / "backup.archive.gz").stat().st_size
    assert done.json["collections"][0] == {"name": "addresses", "documents": len(DOCUMENTS)}
    assert done.json.keys() == {"out", "bytes", "database", "collections"}


def test_every_part_is_in_it_with_its_indexes(legacy: Installation) -> None:
    """As the service leaves its database, so that mongorestore makes all of it again."""
    assert legacy.run("mongo-restore", "--drop", "--in", backup(legacy)).status == 0
    with open(backup(legacy), "rb") as file:
        prelude = ArchiveReader(opened(file)).prelude
    assert prelude.server_version == legacy.backend.server_version()
    assert len({one.namespace.database for one in prelude.collections}) == 1
    described = {one.namespace.collection: one.described() for one in prelude.collections}
    kinds = [kind for kind in CollectionKind if f"addresses{kind}" in described]
    # MongoDB makes a collection when something comes into it, and nothing has come into that of small documents.
    assert kinds == [
        kind for kind in CollectionKind if kind is not CollectionKind.DOCUMENTS or legacy.backend.name == "sqlite"
    ]
    for kind in kinds:
        metadata = json_util.loads(json.dumps(described[f"addresses{kind}"]))
        assert metadata["collectionName"] == f"addresses{kind}"
        indexes = {one["name"]: (list(one["key"]), one.get("unique", False)) for one in metadata["indexes"]}
        wanted = {index.name: (list(index.fields), index.unique) for index in COLLECTION_INDEXES[kind]}
        assert indexes == {"_id_": (["_id"], False), **wanted}


def backup(installation: Installation) -> str:
    path = installation.directory / "backup.archive.gz"
    assert installation.run("mongo-backup", "--out", str(path)).status == 0
    return str(path)


def test_to_standard_output(legacy: Installation) -> None:
    done = process("mongo-backup", "--out", "-", cwd=legacy.directory)
    assert done.returncode == 0
    assert read(done.stdout)["addresses"] == DOCUMENTS
    assert done.stderr.decode() == f"{len(DOCUMENTS)} registrations ({len(done.stdout)} bytes) backed up\n"


def test_not_to_a_terminal(legacy: Installation) -> None:
    status, _, shown = at_terminal("mongo-backup", "--out", "-", cwd=legacy.directory, output=True)
    assert (status, len(shown.splitlines())) == (2, 1)
    assert "terminal" in shown


@pytest.mark.parametrize(
    "arguments", [(), ("--out",), ("--out", "-", "--format", "json"), ("--out", "x", "--format", "xml")]
)
def test_wrong_usage(legacy: Installation, arguments: tuple[str, ...]) -> None:
    done = legacy.run("mongo-backup", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err


def test_a_database_that_was_never_used(installation: Installation) -> None:
    if installation.backend.name == "sqlite":
        (installation.directory / "registrations.sqlite").unlink()
    done = installation.run("mongo-backup", "--out", "backup.archive.gz")
    assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "configuration" in done.err
    assert not (installation.directory / "backup.archive.gz").exists()
    assert leftovers(installation.directory) == []


@pytest.mark.parametrize("before", [None, b"the last backup"])
def test_a_storage_that_is_away_leaves_the_last_backup(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    if before:
        (installation.directory / "backup").write_bytes(before)
    storage = {"sqlite": "."} if installation.backend.name == "sqlite" else "mongodb"
    content = json.loads(installation.config.read_text())
    content |= {"storage": storage, "mongodb": {"uri": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100"}}
    installation.config.write_text(json.dumps(content))
    monkeypatch.setattr(
        "ipam_lib.storage.mongo.MongoStore.__init__.__kwdefaults__",
        {
            "coexist": False,
            "timeout_seconds": 0.5,
            "prepare_seconds": 0.5,
        },
        raising=False,
    )
    done = installation.run("mongo-backup", "--out", "backup")
    assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1)
    path = installation.directory / "backup"
    assert (path.read_bytes() if path.exists() else None) == before
    assert leftovers(installation.directory) == []


# --- the file


def test_it_takes_the_place_of_the_last_one(legacy: Installation) -> None:
    path = legacy.directory / "backup.archive.gz"
    path.write_bytes(b"the last backup")
    path.chmod(0o644)
    backup(legacy)
    assert read(path.read_bytes())["addresses"] == DOCUMENTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(legacy: Installation) -> None:
    (legacy.directory / "elsewhere").mkdir()
    link = legacy.directory / "backup.archive.gz"
    link.symlink_to("elsewhere/newest")
    backup(legacy)
    assert link.is_symlink()
    assert read((legacy.directory / "elsewhere" / "newest").read_bytes())["addresses"] == DOCUMENTS


@pytest.mark.parametrize("name", ["pipe", "directory", "absent/backup", "x" * 300])
def test_what_is_no_place_for_a_file(legacy: Installation, name: str) -> None:
    os.mkfifo(legacy.directory / "pipe")
    (legacy.directory / "directory").mkdir()
    before = set(legacy.directory.rglob("*"))
    done = legacy.run("mongo-backup", "--out", name)
    assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert set(legacy.directory.rglob("*")) == before


# More than SQLite needs for its own files.
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"


def test_a_full_disk(legacy: Installation) -> None:
    legacy.seed(document(1, padding=os.urandom(100_000).hex()))
    path = legacy.directory / "backup.archive.gz"
    path.write_bytes(b"the last backup")
    done = process("mongo-backup", "--out", path.name, cwd=legacy.directory, first=LIMITED)
    assert (done.returncode, done.stdout) == (1, b"")
    # Whoever measures coverage cannot write either, and says so afterwards.
    line = done.stderr.decode().splitlines()[0]
    assert "backup.archive.gz cannot be written: File too large; the earlier file is unchanged" in line
    assert path.read_bytes() == b"the last backup"
    assert leftovers(legacy.directory) == []


def test_standard_output_that_is_full(legacy: Installation) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "ipam.py"), "mongo-backup", "--out", "-"],
            cwd=legacy.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("standard output cannot be written: No space left on device")


def test_killed_half_way_and_run_again(legacy: Installation) -> None:
    path = legacy.directory / "backup.archive.gz"
    path.write_bytes(b"the last backup")
    for call in range(3):
        kill = killed_in("ipam_lib.archive:ArchiveWriter.end", call)
        done = process("mongo-backup", "--out", path.name, cwd=legacy.directory, first=kill)
        if done.returncode == 0:  # it was never made ready, so there is but one collection
            assert call > 0
            break
        assert done.returncode == -signal.SIGKILL
        assert path.read_bytes() == b"the last backup"
        assert len(leftovers(legacy.directory)) == 1
    backup(legacy)
    assert read(path.read_bytes())["addresses"] == DOCUMENTS
    assert leftovers(legacy.directory) == []


def test_what_another_run_is_writing_stays(legacy: Installation) -> None:
    live = legacy.directory / ".backup.0123.ipam-partial"
    dead = legacy.directory / ".other.4567.ipam-partial"
    dead.touch()
    with live.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        backup(legacy)
    assert (live.exists(), dead.exists()) == (True, False)


def test_it_changes_nothing(legacy: Installation) -> None:
    before = stored(legacy)
    backup(legacy)
    assert stored(legacy) == before


def test_progress_is_for_a_terminal(legacy: Installation) -> None:
    status, out, shown = at_terminal("mongo-backup", "--out", "x", cwd=legacy.directory)
    assert status == 0
    assert out.endswith("backed up to x\n")
    assert f"{len(DOCUMENTS)} of {len(DOCUMENTS)} documents" in shown
