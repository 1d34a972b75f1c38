"""The client with its circuit breaker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.errors import (
    NetBoxUnavailable,
)
from tests.netbox.clients import (
    INET,
    LIMIT,
    MADE,
    UUID,
    Observed,
    client_for,
    create,
)
from tests.support.clock import FakeClock
from tests.support.wire import WireServer, answer, cut, jump_loop_time


async def test_the_breaker_opens_fails_fast_and_lets_one_probe_through(wire: WireServer) -> None:
    clock = FakeClock(auto=False)
    observed = Observed()
    wire.then(*[cut] * 5)
    async with client_for(wire.url, clock=clock, observe=observed) as client:
        for _ in range(5):
            assert client.available
            assert not client.away
            with pytest.raises(NetBoxUnavailable):
                await create(client)
        assert not client.available
        assert client.away
        assert client.breaker.state == "open"
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
        assert (caught.value.applied, caught.value.timed_out) == (False, False)
        assert 1 <= caught.value.retry_after <= 2
        assert observed.calls[-1] == ("create_next", "breaker")
        assert len(wire.received) == 5
        clock.advance(1.25)

        async def slow(request: Any, writer: asyncio.StreamWriter) -> None:
            assert not client.available, "one probe at a time"
            with pytest.raises(NetBoxUnavailable):
                await create(client)
            await MADE(request, writer)

        assert client.available
        assert client.away, "that it may be tried does not mean that it answers"
        wire.then(slow)
        await create(client)
        assert client.breaker.state == "closed"
        assert not client.away


async def test_a_repeated_read_stops_when_the_breaker_opens(wire: WireServer) -> None:
    wire.then(*[answer(502)] * 5)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.get_many([1], limit=LIMIT)
        with pytest.raises(NetBoxUnavailable):
            await client.get_many([1], limit=LIMIT)
        assert client.breaker.state == "open"
    assert len(wire.received) == 5


async def test_a_caller_in_a_hurry_does_not_open_the_breaker(wire: WireServer) -> None:
    wire.then(*[wire.hang] * 6)
    async with client_for(wire.url) as client:
        for _ in range(6):
            with pytest.raises(NetBoxUnavailable):
                await client.create_next_one(INET, uuid=UUID, limit=0.9)
        assert client.available
        wire.then(*[wire.hang] * 5)
        for _ in range(5):
            with pytest.raises(NetBoxUnavailable):
                await client.create_next_one(INET, uuid=UUID, limit=1.0)
        assert not client.available


async def test_throttling_is_an_answer(wire: WireServer) -> None:
    wire.then(*[answer(429, {"detail": "slow down"}, headers={"Retry-After": "1"})] * 7)
    async with client_for(wire.url) as client:
        for _ in range(7):
            with pytest.raises(NetBoxUnavailable):
                await create(client)
        assert client.available


async def test_waiting_for_a_free_connection_counts_as_not_sent(wire: WireServer) -> None:
    arrived = asyncio.Event()

    async def silent(_request: Any, _writer: asyncio.StreamWriter) -> None:
        arrived.set()

    wire.then(silent)
    observed = Observed()
    async with client_for(wire.url, connections=1, observe=observed) as client:
        first = asyncio.create_task(create(client))
        await arrived.wait()
        others = [asyncio.create_task(create(client)) for _ in range(10)]
        await FakeClock.settle()
        jump_loop_time(1000)
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
        assert client.available, "a queue of our own says nothing about NetBox"
    told = [(one.applied, one.timed_out) for one in outcomes if isinstance(one, NetBoxUnavailable)]
    assert told == [(True, True)] + [(False, False)] * 10
    assert sorted(result for _, result in observed.calls) == ["crowded"] * 10 + ["timeout"]
