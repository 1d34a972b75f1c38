"""A process of its own on a SQLite store: `python -m tests.storage.sqlite_worker PATH COMMAND ...`.

add NAME COUNT: adds COUNT services to the registration 1, each by compare-and-set, reading again when it was refused;
prints how many revisions it won. fill FIRST: inserts registrations from FIRST on, printing the id of each when it is
acknowledged, until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from ipam_lib.errors import StoreConflict
from ipam_lib.storage.sqlite import SQLiteStore
from tests.storage.samples import object_id, registration, service


async def main(path: str, command: str, *arguments: str) -> None:
    """Run one command."""
    store = SQLiteStore(path, timeout_seconds=60)
    await store.open()
    await store.prepare()
    if command == "add":
        name, count = arguments
        print(await add(store, name, int(count)))
    else:
        for number in range(int(arguments[0]), 1_000_000):
            await store.insert(registration(number, services=(service("a"), service("b"))))
            print(object_id(number), flush=True)
    await store.close()


async def add(store: SQLiteStore, name: str, count: int) -> int:
    """See the module."""
    with contextlib.suppress(StoreConflict):
        await store.insert(registration(1, services=()))
    won = 0
    while won < count:
        current = await store.get(object_id(1))
        assert current is not None
        changed = current.changed(services=(*current.services, service(f"{name}-{won}")))
        won += await store.replace(current, changed)
    return won


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
