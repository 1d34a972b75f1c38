"""What the client makes of bad answers and of none: what may have happened, and what is sent again."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from ipam_lib.errors import (
    NetBoxRejected,
    NetBoxUnavailable,
)
from ipam_lib.netbox import transport
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.transport import Transport
from tests.netbox.clients import (
    BROKEN,
    GONE,
    HANGING_UP,
    INET,
    LIMIT,
    NONE,
    TOKEN,
    UUID,
    Observed,
    bare,
    client_for,
    create,
    page_json,
    prefix_json,
    read,
)
from tests.support.clock import FakeClock
from tests.support.wire import WireServer, answer, cut, jump_loop_time


@pytest.mark.parametrize("act", BROKEN)
async def test_a_creation_with_a_bad_answer_may_have_happened_and_is_not_sent_again(
    wire: WireServer, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire.then(act)
    observed = Observed()
    async with client_for(wire.url, observe=observed) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert caught.value.applied is True
    assert caught.value.timed_out is False
    assert caught.value.detail
    assert len(wire.received) == 1
    assert observed.calls == [("create_next", "error")]
    assert any(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("act", BROKEN)
async def test_reads_are_repeated_after_a_bad_answer(wire: WireServer, act: Any) -> None:
    # aiohttp sends what was cut off once more by itself, unseen.
    times = 2 if act in HANGING_UP else 1
    wire.then(*[act] * times, answer(200, page_json(prefix_json(7, "83.118.168.7/32"))))
    clock = FakeClock()
    async with client_for(wire.url, clock=clock) as client:
        assert [one.id for one in await client.get_many([7], limit=LIMIT)] == [7]
    assert len(wire.received) == times + 1
    [pause] = clock.slept
    assert 0.1 <= pause <= 0.3


async def test_deletions_and_assignments_are_repeated(wire: WireServer) -> None:
    assigned = answer(200, prefix_json(7, "83.118.168.7/32", uuid=UUID))
    wire.then(cut, cut, answer(502), answer(204), NONE, answer(502), GONE, NONE, cut, assigned, answer(503), GONE, NONE)
    async with client_for(wire.url) as client:
        await client.delete_many(bare(1, 2), limit=LIMIT)
        await client.delete_many(bare(7), limit=LIMIT)
        assert await client.assign(7, UUID, limit=LIMIT) is True
        assert await client.assign(7, UUID, limit=LIMIT) is False


async def test_gives_up_after_four_attempts_with_growing_jittered_pauses(wire: WireServer) -> None:
    wire.then(*[answer(502)] * 4)
    clock = FakeClock()
    async with client_for(wire.url, clock=clock) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.get_many([7], limit=LIMIT)
    assert len(clock.slept) == 3
    for pause, middle in zip(clock.slept, [0.2, 0.4, 0.8], strict=True):
        assert middle * 0.5 <= pause <= middle * 1.5
    assert len({pause / middle for pause, middle in zip(clock.slept, [0.2, 0.4, 0.8], strict=True)}) == 3


async def test_netboxs_own_500_is_tried_twice(wire: WireServer) -> None:
    wire.then(*[BROKEN[0]] * 2)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.get_many([7], limit=LIMIT)
    assert "deadlock detected" in caught.value.detail


async def test_no_pause_goes_beyond_the_limit(wire: WireServer) -> None:
    wire.then(answer(502), answer(502))
    clock = FakeClock()
    async with client_for(wire.url, clock=clock) as client:
        with pytest.raises(NetBoxUnavailable):
            await client.get_many([7], limit=0.4)
    assert clock.monotonic() < 0.4


async def test_nothing_is_sent_without_time_left(wire: WireServer) -> None:
    async with client_for(wire.url) as client:
        for limit in (0.0, -3.0):
            with pytest.raises(NetBoxUnavailable) as caught:
                await client.create_next_one(INET, uuid=UUID, limit=limit)
            assert (caught.value.applied, caught.value.timed_out) == (False, False)
    assert not wire.received


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for_within_the_limit(wire: WireServer, status: int) -> None:
    busy = answer(status, {"detail": "throttled"}, headers={"Retry-After": "3"})
    wire.then(busy, answer(200, page_json()))
    clock = FakeClock()
    async with client_for(wire.url, clock=clock) as client:
        assert await client.get_many([7], limit=LIMIT) == []
        assert clock.slept == [3]
        wire.then(busy)
        with pytest.raises(NetBoxUnavailable) as caught:
            await client.get_many([7], limit=2.5)
        assert clock.slept == [3]
        assert caught.value.retry_after == 3
        wire.then(busy)
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert caught.value.retry_after == 3
    assert caught.value.applied is (status == 503)


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "1e3", ""])
async def test_a_retry_after_that_is_no_number_counts_as_absent(wire: WireServer, value: str) -> None:
    wire.then(answer(503, headers={"Retry-After": value}))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert caught.value.retry_after == 5


async def test_no_answer_in_time_may_still_be_carried_out(wire: WireServer) -> None:
    wire.then(wire.hang)
    observed = Observed()
    async with client_for(wire.url, observe=observed) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert (caught.value.applied, caught.value.timed_out) == (True, True)
    assert observed.calls == [("create_next", "timeout")]


async def test_a_gateway_that_did_not_wait_leaves_netbox_at_it(wire: WireServer) -> None:
    wire.then(answer(504, "<html>Gateway Time-out</html>", content_type="text/html"))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert (caught.value.applied, caught.value.timed_out) == (True, True)


async def test_a_body_that_stops_halfway_ends_in_time(wire: WireServer) -> None:
    async def half(_request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        jump_loop_time(1000)

    wire.then(half)
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert (caught.value.applied, caught.value.timed_out) == (True, True)


async def test_an_endless_answer_is_cut_off(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 1000)
    wire.then(answer(201, "x" * 5000))
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxUnavailable, match="unavailable") as caught:
            await create(client)
    assert "more than 1000 bytes" in caught.value.detail


async def test_a_refused_connection_did_surely_not_happen() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    observed = Observed()
    async with client_for(f"http://127.0.0.1:{port}", observe=observed) as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert (caught.value.applied, caught.value.timed_out) == (False, False)
    assert observed.calls == [("create_next", "unreachable")]


async def test_a_name_that_does_not_resolve_did_surely_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    async with client_for("http://netbox.example.com") as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    assert caught.value.applied is False


async def test_a_connection_that_is_never_ready_did_surely_not_happen() -> None:
    """A TLS handshake without an answer."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        jump_loop_time(1000)
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client_for(f"https://127.0.0.1:{port}") as client:
        with pytest.raises(NetBoxUnavailable) as caught:
            await create(client)
    server.close()
    assert (caught.value.applied, caught.value.timed_out) == (False, False)


async def test_a_closed_client_says_so() -> None:
    client = NetBoxClient(Transport(NetBoxSettings("http://127.0.0.1:9", TOKEN), clock=FakeClock()))
    await client.close()
    with pytest.raises(NetBoxUnavailable) as caught:
        await create(client)
    assert caught.value.applied is False


async def test_the_token_is_never_shown(wire: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = answer(403, {"detail": f"Invalid token: {TOKEN}"})
    long = answer(403, {"detail": "x" * 570 + TOKEN})
    wire.then(echo, answer(500, f"you sent {TOKEN}", content_type="text/plain"), long)
    settings = NetBoxSettings(wire.url, TOKEN)
    async with client_for(wire.url) as client:
        shown = [repr(settings), repr(client)]
        for call in (lambda: create(client), lambda: create(client), lambda: read(client)):
            with pytest.raises((NetBoxRejected, NetBoxUnavailable)) as caught:
                await call()
            shown += [caught.value.detail, caught.value.message, repr(caught.value)]
    assert all(TOKEN[:12] not in text for text in [*shown, caplog.text])


async def test_a_cancelled_call_is_told_as_such_and_counts_for_nothing(wire: WireServer) -> None:
    arrived = asyncio.Event()

    async def silent(_request: Any, _writer: asyncio.StreamWriter) -> None:
        arrived.set()

    wire.then(silent)
    observed = Observed()
    async with client_for(wire.url, observe=observed) as client:
        task = asyncio.create_task(create(client))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.available
    assert observed.calls == [("create_next", "cancelled")]
