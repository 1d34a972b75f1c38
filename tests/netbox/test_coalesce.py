"""Coalesced creation: what goes together, what each waiter gets, and what becomes of those that cannot wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from ipam_lib.errors import ContainerFull, ContainerGone, NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.coalesce import LARGEST_LIST, Coalescer
from tests.support.plain_netbox import PlainNetBox
from tests.support.virtual_loop import VirtualClock, VirtualLoop, run_virtually

BOX = Container(1, "10.0.0.0/24", "ipv4", "inet", 1)
SMALL = Container(2, "10.0.1.0/30", "ipv4", "inet", 1)


class SlowNetBox:
    """A NetBox whose every call takes a second, and which remembers them."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.inner = PlainNetBox([BOX, SMALL])
        self.calls: list[list[str]] = []
        self.seconds = seconds
        self.refuse: str | None = None
        self.fail: Exception | None = None

    async def one(self, container: Container, *, uuid: str, limit: float, description: str) -> Prefix:
        (prefix,) = await self.many(container, [uuid], limit=limit, descriptions={uuid: description})
        return prefix

    async def many(
        self, container: Container, uuids: Sequence[str], *, limit: float, descriptions: Mapping[str, str]
    ) -> list[Prefix]:
        self.calls.append(list(uuids))
        if limit < self.seconds:
            await asyncio.sleep(limit)
            raise NetBoxUnavailable(timed_out=True)
        await asyncio.sleep(self.seconds)
        if self.fail is not None:
            raise self.fail
        if self.refuse in uuids:
            raise NetBoxRejected("refused")
        return await self.inner.create_next_many(container, uuids, limit=limit, descriptions=descriptions)


def virtually(test: Callable[[SlowNetBox, Coalescer], Coroutine[Any, Any, None]], netbox: SlowNetBox) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        coalescer = Coalescer(netbox.one, netbox.many, VirtualClock(loop))
        await test(netbox, coalescer)
        await coalescer.close()

    run_virtually(main(), loop)


def creations(coalescer: Coalescer, names: str, container: Container = BOX, limit: float = 10.0) -> list[Any]:
    return [asyncio.ensure_future(coalescer.create_next(container, uuid=name, limit=limit)) for name in names]


def test_one_alone_goes_at_once_and_those_that_come_meanwhile_go_together() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        first = creations(coalescer, "a")
        await asyncio.sleep(0.5)
        made = await asyncio.gather(*first, *creations(coalescer, "bcd"))
        assert netbox.calls == [["a"], ["b", "c", "d"]]
        assert [one.uuid for one in made] == list("abcd")
        assert len({one.prefix for one in made}) == 4
        await asyncio.gather(*creations(coalescer, "e"))
        assert netbox.calls[-1] == ["e"]

    virtually(check, SlowNetBox())


def test_containers_do_not_wait_for_each_other() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*creations(coalescer, "a"), *creations(coalescer, "b", SMALL))
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)
        assert sorted(netbox.calls) == [["a"], ["b"]]

    virtually(check, SlowNetBox())


def test_a_list_is_not_longer_than_the_largest() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        names = [f"{number:03}" for number in range(LARGEST_LIST * 2 + 3)]
        waiters = [asyncio.ensure_future(coalescer.create_next(BOX, uuid=name, limit=60)) for name in names]
        made = await asyncio.gather(*waiters)
        assert [one.uuid for one in made] == names
        assert max(len(call) for call in netbox.calls) == LARGEST_LIST

    virtually(check, SlowNetBox(0.1))


def test_a_list_that_fits_only_partly_goes_one_by_one() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        outcomes = await asyncio.gather(*creations(coalescer, "abcdef", SMALL, limit=20), return_exceptions=True)
        assert [type(one) for one in outcomes] == [Prefix] * 4 + [ContainerFull] * 2
        assert len(netbox.inner.prefixes) == 4
        assert netbox.calls[0] == list("abcdef")

    virtually(check, SlowNetBox())


def test_one_bad_element_does_not_spoil_the_others() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        netbox.refuse = "c"
        outcomes = await asyncio.gather(*creations(coalescer, "abcd"), return_exceptions=True)
        assert [type(one) for one in outcomes] == [Prefix, Prefix, NetBoxRejected, Prefix]

    virtually(check, SlowNetBox())


def test_a_lost_reply_is_lost_for_every_waiter() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        netbox.fail = NetBoxUnavailable(applied=True, timed_out=True)
        outcomes = await asyncio.gather(*creations(coalescer, "abc"), return_exceptions=True)
        assert all(isinstance(one, NetBoxUnavailable) and one.applied and one.timed_out for one in outcomes)
        assert len({id(one) for one in outcomes}) == 3
        netbox.fail = ContainerGone("gone")
        (outcome,) = await asyncio.gather(*creations(coalescer, "d"), return_exceptions=True)
        assert isinstance(outcome, ContainerGone)

    virtually(check, SlowNetBox())


def test_who_has_no_time_left_is_told_that_nothing_was_sent() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        first = creations(coalescer, "a")
        await asyncio.sleep(0)
        impatient, patient = creations(coalescer, "b", limit=1.5) + creations(coalescer, "c", limit=10)
        with pytest.raises(NetBoxUnavailable) as caught:
            await impatient
        assert not caught.value.applied
        assert (await patient).uuid == "c"
        await asyncio.gather(*first)
        assert netbox.calls == [["a"], ["c"]]

    virtually(check, SlowNetBox())


def test_a_cancelled_waiter_is_not_sent_and_one_in_flight_leaves_the_list_to_the_others() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        first = creations(coalescer, "a")
        await asyncio.sleep(0.1)
        waiting = creations(coalescer, "bcd")
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        await asyncio.sleep(1)  # the list of c and d is under way now
        waiting[1].cancel()
        assert (await waiting[2]).uuid == "d"
        await asyncio.gather(*first)
        assert netbox.calls == [["a"], ["c", "d"]]
        assert {one.uuid for one in netbox.inner.prefixes.values()} == {"a", "c", "d"}

    virtually(check, SlowNetBox())


def test_closing_tells_those_under_way_that_it_may_have_happened_and_the_others_that_it_did_not() -> None:
    async def check(netbox: SlowNetBox, coalescer: Coalescer) -> None:
        first = creations(coalescer, "a")
        await asyncio.sleep(0.5)
        second = creations(coalescer, "b")
        await asyncio.sleep(0.1)
        await coalescer.close()
        outcomes = await asyncio.gather(*first, *second, return_exceptions=True)
        assert [type(one) for one in outcomes] == [NetBoxUnavailable] * 2
        assert [one.applied for one in outcomes if isinstance(one, NetBoxUnavailable)] == [True, False]

    virtually(check, SlowNetBox())
