"""Calls made at once end before the request that made them does."""

from __future__ import annotations

import asyncio

import pytest

from ipam_lib.errors import StorageUnavailable
from ipam_lib.registry.concurrency import gather_bounded

LIMIT = 3


class Calls:
    """Calls that take as many seconds as their item says; `failing` ones then fail. What began, and what ended."""

    def __init__(self, **failing: BaseException) -> None:
        self.failing = failing
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.most = 0
        self._began = asyncio.get_running_loop().time()

    def seconds(self) -> float:
        """Since the first could begin."""
        return asyncio.get_running_loop().time() - self._began

    async def __call__(self, seconds: float) -> str:
        self.begun.append(seconds)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            await asyncio.sleep(seconds)
            if (error := self.failing.get(f"after_{seconds}")) is not None:
                raise error
            return f"{seconds} s"
        finally:
            self.ended.append(seconds)


async def test_results_come_in_the_order_of_the_items() -> None:
    calls = Calls()
    assert await gather_bounded(calls, [3, 1, 2, 6, 4], limit=LIMIT) == ["3 s", "1 s", "2 s", "6 s", "4 s"]
    assert calls.ended == [1, 2, 3, 4, 6]
    assert calls.most == LIMIT
    assert calls.seconds() == 7


async def test_there_may_be_none() -> None:
    assert await gather_bounded(Calls(), [], limit=LIMIT) == []


@pytest.mark.parametrize("error", [StorageUnavailable(applied=False), asyncio.CancelledError()])
async def test_after_the_first_error_none_begins_and_those_that_have_begun_end(error: BaseException) -> None:
    calls = Calls(after_1=error, after_5=ValueError("later"))
    with pytest.raises(type(error)):
        await gather_bounded(calls, [5, 1, 3, 2, 4], limit=LIMIT)
    assert calls.begun == [5, 1, 3]
    assert calls.ended == [1, 3, 5]
    assert calls.seconds() == 5


async def test_where_the_first_one_fails_at_once_the_others_do_not_begin() -> None:
    begun: list[int] = []

    async def fail(item: int) -> None:
        begun.append(item)
        raise StorageUnavailable(applied=False)

    with pytest.raises(StorageUnavailable):
        await gather_bounded(fail, [1, 2, 3], limit=LIMIT)
    assert begun == [1]


async def test_when_the_caller_is_cancelled_the_calls_have_ended_with_it() -> None:
    calls = Calls()
    task = asyncio.create_task(gather_bounded(calls, [5, 1, 3, 2, 4], limit=LIMIT))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(calls.begun) == sorted(calls.ended) == [1, 2, 3, 5]
    assert calls.seconds() == 2
