"""Several processes on one SQLite file, and processes that are killed."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ipam_lib.models import Filter, Registration
from ipam_lib.storage.sqlite import SQLiteStore
from tests.storage.samples import object_id

ROOT = Path(__file__).parents[2]
LIMIT = 120

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ipam.sqlite"


@pytest.fixture
async def start(path: Path) -> AsyncIterator[Start]:
    """A function that starts a worker on the file."""
    async with AsyncExitStack() as stack:

        async def started(*command: str) -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.storage.sqlite_worker", str(path), *command),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )

            async def end() -> None:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

            stack.push_async_callback(end)
            return process

        yield started


async def everything(path: Path) -> list[Registration]:
    store = SQLiteStore(path)
    await store.open()
    found = await store.page(Filter(states=None), after=None, limit=1_000_000)
    # What the queries go by says the same as the documents.
    assert await store.find_cluster(["cluster"], after=None, limit=1_000_000) == [one for one in found if one.services]
    await store.close()
    return found


async def test_processes_start_on_a_new_file_together_and_share_one_registration(start: Start, path: Path) -> None:
    async with asyncio.timeout(LIMIT):
        workers = [await start("add", name, "25") for name in "abcd"]
        outputs = await asyncio.gather(*(worker.communicate() for worker in workers))
    assert [output.strip() for output, _ in outputs] == [b"25"] * 4
    [one] = await everything(path)
    assert one.revision == 101
    assert sorted(service.key.service_name for service in one.services) == sorted(
        f"{name}-{number}" for name in "abcd" for number in range(25)
    )


async def test_what_was_acknowledged_outlives_a_killed_process(start: Start, path: Path) -> None:
    """Three times over on the same file, while another process goes on writing."""
    acknowledged: list[str] = []
    async with asyncio.timeout(LIMIT):
        other = await start("fill", "500000")
        assert other.stdout is not None
        for first in (1, 1001, 2001):
            victim = await start("fill", str(first))
            assert victim.stdout is not None
            acknowledged += [(await victim.stdout.readline()).decode().strip() for _ in range(20)]
            victim.send_signal(signal.SIGKILL)
            rest, _ = await victim.communicate()
            # The last line may be cut short.
            acknowledged += [line for line in rest.decode().split("\n")[:-1] if line]
            acknowledged.append((await other.stdout.readline()).decode().strip())
        other.send_signal(signal.SIGKILL)
        rest, _ = await other.communicate()
        acknowledged += [line for line in rest.decode().split("\n")[:-1] if line]
    stored = [one.id for one in await everything(path)]
    assert set(acknowledged) <= set(stored)
    # At most the one insert that each was at is there without an acknowledgement.
    assert len(stored) - len(acknowledged) <= 4
    firsts = [1, 1001, 2001, 500_000]
    runs = {
        first: [number for number in map(number_of, stored) if first <= number < first + 400_000] for first in firsts
    }
    assert all(run[0] == first for first, run in runs.items())
    assert all(late - early == 1 for early, late in itertools.pairwise(runs[500_000]))


def number_of(registration_id: str) -> int:
    return int(registration_id, 16) - int(object_id(0), 16)
