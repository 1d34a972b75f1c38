"""What the tests of backup and restore share: archives made by hand, what is stored, and processes that are killed."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ipam_lib.archive import ArchiveReader, ArchiveWriter, CollectionEntry, Namespace, Prelude, opened
from ipam_lib.storage.bulk_copy import CollectionKind, CopyableStore
from tests.cli.installation import Installation
from tests.storage.samples import LEGACY
from tests.support.processes import REPOSITORY

REAL = LEGACY.parent / "mongodump.archive.gz"
CONFIGURED = "vitistack-ipam-api"


def made(collections: Mapping[Namespace, Sequence[bytes]], *, packed: bool = True, version: str = "7.0.5") -> bytes:
    """An archive of these documents."""
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, Prelude(version, "100.9.4", tuple(CollectionEntry(name) for name in collections)))
    for name, documents in collections.items():
        writer.write(name, documents)
        writer.end(name)
    return gzip.compress(stream.getvalue(), mtime=0) if packed else stream.getvalue()


def read(data: bytes) -> dict[str, list[bytes]]:
    """The documents of an archive by the names of its collections."""
    reader = ArchiveReader(opened(io.BytesIO(data)))
    found: dict[str, list[bytes]] = {one.namespace.collection: [] for one in reader.prelude.collections}
    for namespace, document in reader.documents():
        found[namespace.collection].append(document)
    return found


def stored(installation: Installation) -> dict[CollectionKind, list[bytes]]:
    """Everything that is stored."""

    async def dump() -> dict[CollectionKind, list[bytes]]:
        store = installation.backend.store()
        assert isinstance(store, CopyableStore)
        await store.open()
        try:
            async with store.snapshot() as snapshot:
                return {kind: [one async for page in snapshot.dump(kind) for one in page] for kind in CollectionKind}
        finally:
            await store.close()

    return asyncio.run(dump())


def archive(installation: Installation, content: bytes, name: str = "some.archive.gz") -> str:
    """A file with this content; its path."""
    (installation.directory / name).write_bytes(content)
    return str(installation.directory / name)


def process(
    *arguments: str, cwd: Path, first: str = "", given: bytes = b"", config: str = "config.json"
) -> subprocess.CompletedProcess[bytes]:
    """The program as a process of its own, fed with bytes. `first`: Python that it runs before."""
    code = f"import sys\n{first}\nfrom ipam_lib.cli.main import main\nsys.exit(main())\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments, "--config", config],
        cwd=cwd,
        input=given,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )


def killed_in(target: str, call: int) -> str:
    """Python that has the process killed (SIGKILL) in the given call, 0 for the first, of `module:class.method`."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    return f"""
import os, signal, {module}
calls = 0
owner = {module}{"." + owner if owner else ""}
original = owner.{name}
def call(*args, **kwargs):
    global calls
    calls += 1
    if calls > {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
owner.{name} = call
"""
