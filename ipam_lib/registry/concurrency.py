"""Run several calls at once, and wait for every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def gather_bounded(
    work: Callable[[Item], Awaitable[Result]], items: Sequence[Item], *, limit: int
) -> list[Result]:
    """Call `work` for each item, at most `limit` calls at once. Returns the results in the order of `items`.

    After the first error no further call begins. The calls that have begun run to their end; then the error is raised.
    `asyncio.gather` returns at the first error and leaves the other calls running. `asyncio.TaskGroup` cancels them,
    and a cancelled write may still happen. If the caller is cancelled, the calls are cancelled and awaited.
    """
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    waiting = iter(enumerate(items))

    async def take_turns() -> None:
        while not errors and (turn := next(waiting, None)) is not None:
            number, item = turn
            try:
                results[number] = await work(item)
            except BaseException as error:  # also where this call alone was cancelled
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(items))):
            group.create_task(take_turns())
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]
