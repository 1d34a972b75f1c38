"""Claims that come at once do not fight for the same entry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ipam_lib.storage.claim_batching import ClaimBatcher


class Entries:
    """Numbers that are ready, each call on which takes its turn; every call is noted."""

    def __init__(self, ready: Sequence[int]) -> None:
        self.ready = sorted(ready)
        self.calls: list[str] = []
        self.batcher: ClaimBatcher[int, int] = ClaimBatcher()
        self.stolen: list[int] = []
        self.fail: list[Exception] = []

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        for _ in range(3):
            await asyncio.sleep(0)
        if self.fail:
            raise self.fail.pop()

    async def lowest(self) -> int | None:
        await self._call("lowest")
        return self.ready.pop(0) if self.ready else None

    async def several(self, number: int) -> Sequence[int]:
        await self._call(f"several {number}")
        return self.ready[:number]

    async def this(self, candidate: int) -> int | None:
        await self._call(f"this {candidate}")
        if candidate in self.stolen and candidate in self.ready:
            self.ready.remove(candidate)  # another instance was faster
        if candidate not in self.ready:
            return None
        self.ready.remove(candidate)
        return candidate

    async def claim(self) -> int | None:
        return await self.batcher.claim("inet", lowest=self.lowest, several=self.several, this=self.this)


async def test_one_alone_takes_the_lowest_in_one_step() -> None:
    entries = Entries([3, 1, 2])
    assert [await entries.claim() for _ in range(4)] == [1, 2, 3, None]
    assert entries.calls == ["lowest"] * 4


async def test_those_that_come_meanwhile_share_one_read_and_fight_for_nothing() -> None:
    entries = Entries(range(10))
    claimed = await asyncio.gather(*(entries.claim() for _ in range(8)))
    assert sorted(one for one in claimed if one is not None) == list(range(8))
    assert [call for call in entries.calls if call.startswith("several")] == ["several 7"]
    assert len([call for call in entries.calls if call.startswith("this")]) == 7, "each had one of its own"


async def test_more_that_come_while_claims_are_under_way_are_shown_others() -> None:
    entries = Entries(range(40))
    first = [asyncio.ensure_future(entries.claim()) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    second = [asyncio.ensure_future(entries.claim()) for _ in range(5)]
    claimed = await asyncio.gather(*first, *second)
    assert len(set(claimed)) == 10
    assert len([call for call in entries.calls if call.startswith("this")]) <= 10


async def test_when_there_are_too_few_the_others_get_none() -> None:
    entries = Entries([1, 2])
    claimed = await asyncio.gather(*(entries.claim() for _ in range(5)))
    assert sorted(claimed, key=str) == [1, 2, None, None, None]


async def test_what_another_instance_took_is_passed_over() -> None:
    entries = Entries(range(10))
    entries.stolen = [1, 2, 4]
    claimed = await asyncio.gather(*(entries.claim() for _ in range(5)))
    assert len({*claimed}) == 5
    assert not {*claimed} & {1, 2, 4, None}


async def test_a_failure_is_its_callers_own() -> None:
    entries = Entries(range(10))
    entries.fail = [TimeoutError()]
    outcomes = await asyncio.gather(*(entries.claim() for _ in range(4)), return_exceptions=True)
    assert [type(one) for one in outcomes].count(TimeoutError) == 1
    assert len({one for one in outcomes if isinstance(one, int)}) == 3


@pytest.mark.parametrize("turns", range(14))
async def test_one_that_is_cancelled_hinders_nobody(turns: int) -> None:
    entries = Entries(range(10))
    work = [asyncio.ensure_future(entries.claim()) for _ in range(4)]
    for _ in range(turns):
        await asyncio.sleep(0)
    work[0].cancel()
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    others = [one for one in outcomes[1:] if isinstance(one, int)]
    assert len(set(others)) == 3
    assert await entries.claim() is not None
    assert entries.calls[-1] == "lowest", "nothing is left over"


async def test_places_do_not_wait_for_each_other() -> None:
    entries, others = Entries([1]), Entries([2])
    others.batcher = entries.batcher

    def claim(of: Entries, place: str) -> asyncio.Future[int | None]:
        claiming = of.batcher.claim(place, lowest=of.lowest, several=of.several, this=of.this)
        return asyncio.ensure_future(claiming)

    assert await asyncio.gather(claim(entries, "inet"), claim(others, "hnet")) == [1, 2]
    assert (entries.calls, others.calls) == (["lowest"], ["lowest"])
