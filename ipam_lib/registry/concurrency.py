"""Several calls at once, none of which outlasts the request that made them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def gather_bounded(
    work: Callable[[Item], Awaitable[Result]], items: Sequence[Item], *, limit: int
) -> list[Result]:
    """What `work` returns for each item, in the order of `items`; at most `limit` calls are under way at once.

    After the first call that fails no other begins. Those that have begun end first; then that error is raised. (Both
    `asyncio.gather` and `asyncio.TaskGroup` do something else: the one returns at the first error and leaves the other
    calls running, the other cancels them, and a write that is cancelled may still be carried out.) When the caller is
    cancelled, the calls are cancelled, and awaited.
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
