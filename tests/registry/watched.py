"""A store or a NetBox whose calls are noted, and each of which can be made to go wrong, or to meet something else."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ipam_lib.errors import NetBoxUnavailable, StorageUnavailable
from tests.support.virtual_loop import VirtualLoop

Work = Callable[[], Awaitable[Any]]
Plan = Callable[[Work], Awaitable[Any]]


class Died(BaseException):
    """The process ended here: like `kill -9`, nothing that follows is done."""


class Watched:
    """What stands in front of `inner`. `calls` holds the names of its calls in their order.

    `loop`: for what works on real threads. While a call is under way, virtual time stands still.
    """

    def __init__(self, inner: Any, loop: VirtualLoop | None = None) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.always: Callable[[str], Plan | None] = lambda _name: None
        """What becomes of a call for which nothing is planned, by its name."""
        self._loop = loop
        self._plans: defaultdict[str, list[Plan | None]] = defaultdict(list)

    def next(self, name: str, *plans: Plan | None) -> None:
        """What becomes of the next calls of this name, one after the other; None: nothing special."""
        self._plans[name] += plans

    def calm(self) -> None:
        """Nothing special any more."""
        self._plans.clear()
        self.always = lambda _name: None

    @property
    def counted(self) -> Counter[str]:
        """How often each was called."""
        return Counter(self.calls)

    def forget(self) -> None:
        """Count from here."""
        self.calls.clear()

    async def unseen(self, name: str, *args: Any, **options: Any) -> Any:
        """A call of the test's own: neither counted nor planned for."""
        return await self._work(getattr(self.inner, name), *args, **options)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        return partial(self._call, name, member) if inspect.iscoroutinefunction(member) else member

    async def _call(self, name: str, member: Any, *args: Any, **options: Any) -> Any:
        self.calls.append(name)
        plan = self._plans[name].pop(0) if self._plans[name] else self.always(name)
        work = partial(self._work, member, *args, **options)
        return await (work() if plan is None else plan(work))

    async def _work(self, member: Any, *args: Any, **options: Any) -> Any:
        if self._loop is None:
            return await member(*args, **options)
        self._loop.real += 1
        try:
            return await member(*args, **options)
        finally:
            self._loop.real -= 1


def fails(error: BaseException) -> Plan:
    """It is not done, and fails."""

    async def plan(_work: Work) -> Any:
        raise error

    return plan


def done_but(error: BaseException) -> Plan:
    """It is done, and its reply is lost."""

    async def plan(work: Work) -> Any:
        await work()
        raise error

    return plan


async def landed_late(work: Work) -> Any:
    """A plan: what seemed lost the last time arrives just before it is sent again."""
    await work()
    return await work()


def before(action: Work) -> Plan:
    """Something else happens just before it."""

    async def plan(work: Work) -> Any:
        await action()
        return await work()

    return plan


def after(action: Work) -> Plan:
    """Something else happens just after it, before the caller continues."""

    async def plan(work: Work) -> Any:
        result = await work()
        await action()
        return result

    return plan


def storage_lost(*, applied: bool = True) -> StorageUnavailable:
    """The storage's reply did not come."""
    return StorageUnavailable(applied=applied)


def netbox_lost(*, applied: bool = True, timed_out: bool = False) -> NetBoxUnavailable:
    """NetBox's reply did not come."""
    return NetBoxUnavailable(applied=applied, timed_out=timed_out)
