"""`mongo-restore`: what it takes, what it refuses with nothing written, and that it can be run again."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipam_lib.archive import ArchiveError, ArchiveReader, Namespace, opened
from ipam_lib.cli import archive_check, terminal
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.models import PoolEntry, PoolState
from ipam_lib.storage import pool_store
from ipam_lib.storage.bson_documents import to_bson
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.sqlite import SQLiteStore
from tests.cli.archives import CONFIGURED, REAL, archive, killed_in, made, process, read, stored
from tests.cli.installation import Installation, document
from tests.storage.backends import MongoBackend
from tests.storage.samples import legacy_documents, object_id
from tests.support.processes import call, running
from tests.support.pseudo_terminal import at_terminal
from tests.support.soak import amount

DOCUMENTS = [to_bson(one) for one in legacy_documents()]
OURS = Namespace(CONFIGURED, "addresses")
ONE = to_bson(document(1, secret="s"))
TWO = to_bson(document(2, secret="s"))
ENTRY = to_bson(
    pool_store.to_document(PoolEntry(object_id(1), "inet", "ipv4", "192.0.2.9/32", PoolState.READY, netbox_id=9))
)


def names(installation: Installation) -> Namespace:
    """What the registrations of this installation are called."""
    database = installation.backend.database if hasattr(installation.backend, "database") else CONFIGURED
    return Namespace(database, "addresses")


def registrations(installation: Installation) -> list[bytes]:
    return stored(installation)[CollectionKind.REGISTRATIONS]


def refused(installation: Installation, *arguments: str, status: int = 1) -> str:
    """The line that says why a restore is refused; nothing was changed."""
    before = stored(installation)
    done = installation.run("mongo-restore", *arguments)
    assert (done.status, done.out) == (status, ""), done
    assert stored(installation) == before
    *_, line = done.err.splitlines()
    return line


# --- what it takes


def test_what_mongodump_wrote(installation: Installation) -> None:
    done = installation.run("mongo-restore", "--in", str(REAL))
    assert done.status == 0
    assert [installation.raw(one["_id"]) for one in legacy_documents()] == legacy_documents()
    assert registrations(installation) == DOCUMENTS
    assert done.lines[0].startswith(f"{len(DOCUMENTS)} registrations restored into ")
    assert [line.split() for line in done.lines[1:]] == [
        ["COLLECTION", "BEFORE", "IN", "THE", "ARCHIVE"],
        ["addresses", "0", str(len(DOCUMENTS))],
        ["addresses_pool", "0", "0"],
    ]
    assert "its collection legacy-sample.addresses is taken for it" in done.err
    assert "reconcile" in done.err


def test_unpacked_too(installation: Installation) -> None:
    unpacked = gzip.decompress(REAL.read_bytes())
    assert installation.run("mongo-restore", "--in", archive(installation, unpacked)).status == 0
    assert registrations(installation) == DOCUMENTS


def test_as_json(installation: Installation) -> None:
    done = installation.run("mongo-restore", "--in", str(REAL), "--format", "json")
    assert done.status == 0
    assert done.json == {
        "dry_run": False,
        "archive": {
            "path": str(REAL),
            "database": "legacy-sample",
            "collection": "addresses",
            "server_version": "4.4.0",
            "tool_version": "built-without-version-string",
        },
        "place": done.json["place"],
        "collections": [
            {"name": "addresses", "before": 0, "documents": len(DOCUMENTS)},
            {"name": "addresses_pool", "before": 0, "documents": 0},
        ],
        "not_restored": [],
        "strange": 0,
        "unreadable_secrets": 0,
        "duplicates": [],
    }
    assert installation.backend.name in done.json["place"].replace("embedded", "sqlite").lower()


def test_the_service_starts_on_it(installation: Installation) -> None:
    assert installation.run("mongo-restore", "--in", str(REAL)).status == 0
    done = installation.run("list-addresses", "--format", "json")
    assert done.json["count"] == len(DOCUMENTS)
    first = legacy_documents()[0]
    done = installation.run("show-secret", "--zone", first["zone"], "--address", first["address"])
    assert done.status == 0


def test_its_own_backup(legacy: Installation) -> None:
    before = stored(legacy)
    assert legacy.run("mongo-backup", "--out", "backup").status == 0
    assert legacy.run("mongo-restore", "--in", "backup", "--drop").status == 0
    assert stored(legacy) == before


def test_several_collections_and_databases(installation: Installation) -> None:
    ours = names(installation)
    content = made(
        {
            Namespace("admin", "system.users"): [bson.encode({"_id": "root"})],
            Namespace("shop", "addresses"): [bson.encode({"_id": 1, "street": "x"})],
            ours: [ONE],
            Namespace(ours.database, "addresses_pool"): [ENTRY],
            Namespace(ours.database, "users"): [bson.encode({"_id": 1})],
        }
    )
    done = installation.run("mongo-restore", "--in", archive(installation, content), "--format", "json")
    assert done.status == 0
    found = stored(installation)
    assert (found[CollectionKind.REGISTRATIONS], found[CollectionKind.POOL]) == ([ONE], [ENTRY])
    assert done.json["not_restored"] == ["admin.system.users", "shop.addresses", f"{ours.database}.users"]
    assert "is taken for it" not in done.err
    text = installation.run("mongo-restore", "--in", archive(installation, content), "--drop")
    assert "3 other collections of the archive left out" in text.out


def test_one_that_is_named(installation: Installation) -> None:
    content = made({Namespace("a", "things"): [ONE], Namespace("b", "addresses.old"): [TWO]})
    path = archive(installation, content)
    assert "(--from): a.things, b.addresses.old" in refused(installation, "--in", path)
    assert "a.things, b.addresses.old" in refused(installation, "--in", path, "--from", "a.nothing")
    done = installation.run("mongo-restore", "--in", path, "--from", "b.addresses.old")
    assert done.status == 0
    assert registrations(installation) == [TWO]
    assert "is taken for it" not in done.err


def test_from_standard_input(installation: Installation) -> None:
    """A pipe can be read but once."""
    done = process("mongo-restore", "--in", "-", cwd=installation.directory, given=REAL.read_bytes())
    assert done.returncode == 0, done.stderr
    assert registrations(installation) == DOCUMENTS


def test_from_a_file_as_standard_input(installation: Installation) -> None:
    assert installation.run("mongo-restore", "--in", "-", stdin=REAL.read_bytes()).status == 0
    assert registrations(installation) == DOCUMENTS


def test_standard_input_that_has_no_room(installation: Installation) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    done = process("mongo-restore", "--in", "-", cwd=installation.directory, first=limited, given=REAL.read_bytes())
    assert (done.returncode, done.stdout) == (1, b"")
    assert "TMPDIR" in done.stderr.decode().splitlines()[0]


def test_none_at_all(installation: Installation) -> None:
    done = installation.run("mongo-restore", "--in", archive(installation, made({OURS: []})))
    assert done.status == 0
    assert registrations(installation) == []


def test_what_stands_twice(installation: Installation) -> None:
    twins = [to_bson(document(number, address="192.0.2.1/32", secret="s")) for number in (2, 1)]
    path = archive(installation, made({OURS: twins}))
    done = installation.run("mongo-restore", "--in", path, "--format", "json")
    first, second = (document(number)["_id"] for number in (1, 2))
    assert done.json["duplicates"] == [{"zone": "inet", "address": "192.0.2.1/32", "kept": first, "marked": [second]}]
    assert (installation.raw(first).get("duplicate"), installation.raw(second)["duplicate"]) == (None, second)
    done = installation.run("mongo-restore", "--in", path, "--drop")
    assert "1 address held more than once" in done.out


def test_notes_of_somebody_else_are_kept(installation: Installation) -> None:
    note = bson.encode({"_id": "note", "text": "x"})
    done = installation.run("mongo-restore", "--in", archive(installation, made({OURS: [ONE, note]})))
    assert done.status == 0
    assert sorted(registrations(installation)) == sorted([ONE, note])
    assert "1 document without a zone or an address" in done.err


def test_secrets_of_other_keys_are_told_of(installation: Installation) -> None:
    sealed = [
        to_bson(document(number, secret=installation.cipher(file).seal("a-secret")))
        for number, file in enumerate(("secrets.json", "new.json", "new.json"), 1)
    ]
    done = installation.run("mongo-restore", "--in", archive(installation, made({OURS: sealed})), "--format", "json")
    assert (done.status, done.json["unreadable_secrets"]) == (0, 2)
    assert "2 secrets cannot be read with the keys of encryption_secrets.path" in done.err


def test_the_log_says_who_did_it(installation: Installation) -> None:
    installation.seed(document(1))
    assert installation.run("mongo-restore", "--in", str(REAL), "--drop").status == 0
    [line] = installation.log
    assert line["message"].startswith("mongo-restore: ")
    assert (line["registrations_before"], line["registrations"]) == (1, len(DOCUMENTS))
    assert line["archive"] == str(REAL)
    assert "uid" in line


# --- what it refuses


def test_what_is_there_stays_without_drop(installation: Installation) -> None:
    installation.seed(document(1))
    line = refused(installation, "--in", str(REAL))
    assert "(1 in addresses)" in line
    assert "--drop" in line
    assert refused(installation, "--in", str(REAL), "--yes") == line
    assert refused(installation, "--in", str(REAL), "--dry-run") == line


def test_a_pool_is_not_dropped_either(installation: Installation) -> None:
    path = archive(installation, made({OURS: [], Namespace(OURS.database, "addresses_pool"): [ENTRY]}))
    assert installation.run("mongo-restore", "--in", path).status == 0
    assert "(1 in addresses_pool)" in refused(installation, "--in", str(REAL))
    assert installation.run("mongo-restore", "--in", str(REAL), "--drop").status == 0
    # Its addresses may be registered in the archive.
    assert stored(installation)[CollectionKind.POOL] == []


def test_a_dry_run(installation: Installation) -> None:
    if installation.backend.name == "sqlite":
        (installation.directory / "registrations.sqlite").unlink()
    done = installation.run("mongo-restore", "--in", str(REAL), "--dry-run")
    assert done.status == 0
    assert done.lines[0].startswith(f"{len(DOCUMENTS)} registrations would be restored into ")
    assert registrations(installation) == []
    assert not (installation.directory / "registrations.sqlite").exists()
    assert installation.log == []
    done = installation.run("mongo-restore", "--in", str(REAL), "--dry-run", "--format", "json")
    assert done.json["dry_run"] is True


def test_a_database_that_is_not_there_is_made(installation: Installation) -> None:
    if installation.backend.name == "sqlite":
        (installation.directory / "registrations.sqlite").unlink()
    assert installation.run("mongo-restore", "--in", str(REAL)).status == 0
    assert registrations(installation) == DOCUMENTS


FOREIGN = {
    "empty": b"",
    "text": b"hello",
    "zip": b"PK\3\4" + bytes(100),
    "json": b'{"_id": 1}',
    "packed text": gzip.compress(b"hello"),
    "a BSON file": DOCUMENTS[0],
    "of another program": made({Namespace("shop", "orders"): [bson.encode({"_id": bson.ObjectId(), "total": 5})]}),
    "of a newer version": made({OURS: [to_bson(document(1, state="of tomorrow"))]}),
    "one id twice": made({OURS: [ONE, ONE]}),
    "no id": made({OURS: [bson.encode({"zone": "inet"})]}),
    "no BSON": made({OURS: [b"\x0c\0\0\0\x99a\0bcde\0"]}),
    "a pool of another program": made({OURS: [], Namespace(CONFIGURED, "addresses_pool"): [bson.encode({"_id": 1})]}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_archive(installation: Installation, content: bytes) -> None:
    installation.seed(document(7))
    line = refused(installation, "--in", archive(installation, content), "--drop", "--yes")
    assert "nothing was changed" in line


@pytest.mark.parametrize("name", ["absent", "."])
def test_no_file(installation: Installation, name: str) -> None:
    assert f"{name} cannot be read" in refused(installation, "--in", name)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--in",), ("--in", "x", "--from", "x"), ("--in", "x", "--from", ".x"), ("--in", "x", "--format", "xml")],
)
def test_wrong_usage(installation: Installation, arguments: tuple[str, ...]) -> None:
    done = installation.run("mongo-restore", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err


SMALL = made({OURS: [ONE, TWO]})
PLAIN = made({OURS: [ONE, TWO]}, packed=False)


@pytest.mark.soak
@pytest.mark.parametrize("content", [SMALL, PLAIN], ids=["gzip", "plain"])
def test_every_truncation(installation: Installation, content: bytes) -> None:
    installation.seed(document(7))
    before = stored(installation)
    # In the soak every byte, or one in seven where looking at the server takes long.
    step = amount(11, 1) if installation.backend.name == "sqlite" else amount(29, 7)
    for length in range(0, len(content), step):
        done = installation.run("mongo-restore", "--in", archive(installation, content[:length]), "--drop", "--yes")
        assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1), length
    assert stored(installation) == before
    assert installation.run("mongo-restore", "--in", archive(installation, content), "--drop").status == 0
    assert registrations(installation) == [ONE, TWO]


@pytest.mark.soak
@settings(max_examples=amount(20, 200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.sampled_from([SMALL, PLAIN]), data=st.data())
def test_flipped_bits(installation: Installation, content: bytes, data: st.DataObject) -> None:
    """What no checksum covers (a version, the time in gzip's header) may be flipped; a document never is."""
    position = data.draw(st.integers(0, len(content) * 8 - 1))
    reset = archive(installation, made({OURS: [to_bson(document(7))]}), "reset")
    assert installation.run("mongo-restore", "--in", reset, "--drop").status == 0
    before = stored(installation)
    flipped = bytearray(content)
    flipped[position // 8] ^= 1 << position % 8
    done = installation.run("mongo-restore", "--in", archive(installation, bytes(flipped)), "--drop")
    if done.status:
        assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1)
        assert stored(installation) == before
    else:
        assert registrations(installation) == [ONE, TWO]


@pytest.mark.parametrize("other", [[ONE], [ONE, TWO, to_bson(document(3))]])
async def test_an_archive_that_changes_between_the_two_reads(tmp_path: Path, other: Sequence[bytes]) -> None:
    store = SQLiteStore(tmp_path / "x")
    cipher = Cipher(KeySet(b"k" * 32, b"i" * 16))
    shown = terminal.Progress()
    with (tmp_path / "one").open("w+b") as file:
        file.write(SMALL)
        file.seek(0)
        checked = archive_check.check(
            ArchiveReader(opened(file)), store, cipher, configured=OURS, named=None, shown=shown
        )
        file.seek(0)
        file.truncate()
        file.write(made({OURS: other}))
        file.seek(0)
        with pytest.raises(ArchiveError, match="changed while it was read"):
            async for _ in archive_check.pages(ArchiveReader(opened(file)), checked, shown):
                pass


# --- asking


def test_it_asks_on_a_terminal(legacy: Installation) -> None:
    before = stored(legacy)
    path = archive(legacy, SMALL)
    arguments = ("mongo-restore", "--in", path, "--drop")
    status, out, shown = at_terminal(*arguments, cwd=legacy.directory, answers=[(r"\[y/N\] ", "n\n")])
    assert (status, out) == (1, "")
    assert f"and lose the {len(DOCUMENTS)} documents that are there? [y/N]" in shown
    assert "No instance of the service may be running on it." in shown
    assert stored(legacy) == before
    status, out, shown = at_terminal(*arguments, cwd=legacy.directory, answers=[(r"\[y/N\] ", "y\n")])
    assert status == 0
    assert out.startswith("2 registrations restored into ")
    assert registrations(legacy) == [ONE, TWO]
    assert "2 of 2 documents" in shown
    status, _, shown = at_terminal(*arguments, "--yes", cwd=legacy.directory)
    assert (status, "[y/N]" in shown) == (0, False)


def test_standard_input_must_not_be_a_terminal(installation: Installation) -> None:
    status, _, shown = at_terminal("mongo-restore", "--in", "-", cwd=installation.directory)
    assert (status, len(shown.splitlines())) == (2, 1)


# --- killed


KILLED = {
    "sqlite": [
        "ipam_lib.storage.sqlite_rows:insert_document",
        "ipam_lib.storage.sqlite_file:commit",
        "ipam_lib.storage.sqlite_rows:duplicates",
    ],
    "mongodb": [
        "motor.motor_asyncio:AsyncIOMotorCollection.insert_many",
        "motor.motor_asyncio:AsyncIOMotorCollection.create_index",
        "motor.motor_asyncio:AsyncIOMotorCollection.rename",
        "motor.motor_asyncio:AsyncIOMotorCollection.drop",
    ],
}


@pytest.mark.parametrize("drop", [(), ("--drop",)], ids=["into an empty one", "in place of another"])
def test_killed_half_way_and_run_again(installation: Installation, drop: tuple[str, ...]) -> None:
    """SIGKILL at every step of the way: the old or, once it changes over, the new; run again, it is the new."""
    old = [TWO] if drop else []
    first = archive(installation, made({OURS: old}), "first")
    kills = 0
    for target in KILLED[installation.backend.name]:
        for number in range(2):
            assert installation.run("mongo-restore", "--in", first, "--drop").status == 0
            kill = killed_in(target, number)
            done = process("mongo-restore", "--in", str(REAL), *drop, cwd=installation.directory, first=kill)
            if done.returncode == 0:  # it takes this step but once
                break
            assert done.returncode == -signal.SIGKILL, done.stderr
            kills += 1
            found = registrations(installation)
            assert found in (old, DOCUMENTS)
            # What has come to its end is not begun again without --drop.
            ended = not drop and found == DOCUMENTS
            again = installation.run("mongo-restore", "--in", str(REAL), *drop)
            assert again.status == (1 if ended and "--drop" in again.err else 0), again
            assert registrations(installation) == DOCUMENTS
            assert installation.run("mongo-backup", "--out", "backup").status == 0
    assert kills > 3


@pytest.mark.parametrize("installation", [pytest.param("mongodb", marks=pytest.mark.mongodb)], indirect=True)
def test_what_was_cut_off_while_it_changed_over_must_be_ended(legacy: Installation) -> None:
    assert isinstance(legacy.backend, MongoBackend)
    legacy.backend.collection.database["addresses_changing"].insert_one({})
    done = legacy.run("mongo-backup", "--out", "backup")
    assert (done.status, done.out) == (1, "")
    assert "run mongo-restore again" in done.err
    assert not (legacy.directory / "backup").exists()
    with running("serve", "--config", str(legacy.config), cwd=legacy.directory) as service:
        service.wait_until(lambda: any("cut off half-way; run mongo-restore again" in line for line in service.errors))
        assert not any("Traceback" in line for line in service.errors)
        assert call("GET", f"{service.url}/readyz")[0] == 503
    done = legacy.run("mongo-restore", "--in", archive(legacy, SMALL))
    assert done.status == 0
    assert "an earlier restore was cut off half-way: this one takes its place" in done.err
    assert registrations(legacy) == [ONE, TWO]
    assert legacy.run("mongo-backup", "--out", "backup").status == 0


# --- from one store to the other


def fields(content: Mapping[str, Any], **changes: Any) -> str:
    return json.dumps({name: value for name, value in content.items() if name not in ("storage", "mongodb")} | changes)


@pytest.mark.mongodb
@pytest.mark.parametrize("installation", ["sqlite"], indirect=True)
def test_from_one_store_to_the_other_and_back(
    installation: Installation, mongodb_uri: str, mongodb_database: str
) -> None:
    """Also: all that the service keeps beside the registrations."""
    pages = {
        OURS: [*DOCUMENTS, to_bson(document(1, unknown=bson.Int64(1)))],
        Namespace(CONFIGURED, "addresses_pool"): [ENTRY],
        Namespace(CONFIGURED, "addresses_documents"): [bson.encode({"_id": "zones", "content": "{}"})],
    }
    assert installation.run("mongo-restore", "--in", archive(installation, made(pages))).status == 0
    before = stored(installation)
    content = json.loads(installation.config.read_text())
    configs = {
        "sqlite.json": installation.config.read_text(),
        "mongodb.json": fields(content, mongodb={"uri": mongodb_uri, "database": mongodb_database}),
        "back.json": fields(content, storage={"sqlite": "back.sqlite"}),
    }
    for name, text in configs.items():
        (installation.directory / name).write_text(text)
    archives = []
    for name in configs:
        if archives:
            source = str(installation.directory / f"{len(archives)}.gz")
            done = process("mongo-restore", "--in", source, cwd=installation.directory, config=name)
            assert done.returncode == 0, done.stderr
        out = installation.directory / f"{len(archives) + 1}.gz"
        done = process("mongo-backup", "--out", str(out), cwd=installation.directory, config=name)
        assert done.returncode == 0, done.stderr
        archives.append(read(out.read_bytes()))
    assert archives[0] == archives[1] == archives[2]
    assert archives[0]["addresses"] == before[CollectionKind.REGISTRATIONS]
    assert archives[0]["addresses_pool"] == [ENTRY]


def test_through_the_one_file(installation: Installation, pyz: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(pyz), *arguments], cwd=installation.directory, capture_output=True, text=True)

    assert run("mongo-restore", "--in", str(REAL)).returncode == 0
    assert registrations(installation) == DOCUMENTS
    assert run("mongo-restore", "--in", str(REAL)).returncode == 1
    done = run("mongo-backup", "--out", "backup", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["out"]) == (0, "backup")
    assert read((installation.directory / "backup").read_bytes())["addresses"] == DOCUMENTS
    assert run("mongo-restore", "--in", "backup", "--drop", "--yes").returncode == 0
    assert run("mongo-restore", "--drop").returncode == 2
