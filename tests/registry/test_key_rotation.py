"""`rotate-key` writes nothing after it has reported an error. (The command itself: `tests/cli/test_secrets.py`.)"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.errors import StorageUnavailable
from ipam_lib.registry import writes
from ipam_lib.registry.key_rotation import WRITERS
from tests.registry.watched import Work, fails, storage_lost
from tests.registry.world import CIPHER, KEYS, LONGEST_REQUEST, SECRET, World

NEW = KeySet(b"fedcba9876543210", b"0123456789abcdef")


async def test_after_an_error_no_secret_is_written(world: World) -> None:
    """One write fails while the storage holds up others: the error waits for those, and no other write begins."""
    document = {"zone": "office", "ip_family": "ipv4", "secret": CIPHER.seal(SECRET), "services": []}
    number = 2 * WRITERS
    await world.seed(*({"_id": world.new_id(), "address": f"10.1.0.{one}/32", **document} for one in range(number)))
    registry = world.instance(cipher=Cipher(NEW, previous=KEYS))

    async def slow(work: Work) -> Any:
        await asyncio.sleep(20)
        return await work()

    plans = [*[slow] * (WRITERS - 1), *[fails(storage_lost(applied=False))] * writes.ATTEMPTS]
    world.store.next("replace", *plans)
    with pytest.raises(StorageUnavailable):
        await registry.rotate(Cipher(NEW))
    rotated = [one.id for one in await world.registrations() if Cipher(NEW).is_current(one.secret)]
    assert len(rotated) == WRITERS - 1
    world.forget()
    await asyncio.sleep(2 * LONGEST_REQUEST)
    assert world.store.calls == []
    report = await registry.rotate(Cipher(NEW))
    assert (report.rotated, report.current, report.verified) == (number - len(rotated), len(rotated), True)
