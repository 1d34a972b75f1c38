"""The connection itself, byte by byte: what is not HTTP, what is slow, what is too much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ipam_lib.web.connection import Connection, Limits
from tests.web.service import BODY, Service, json_of, service, status_of

RAW_BODY = json.dumps(BODY).encode()
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n"


def posted(body: bytes = RAW_BODY, more: bytes = b"") -> bytes:
    """A whole request."""
    return HEAD + CLOSE + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    async with service() as started:
        yield started


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer " + b"t" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(300)) + b"\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: +5\r\n\r\nabcde",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:48]),
)
async def test_what_is_not_http_is_400_in_json_and_not_repeated(
    running: Service, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ipam_lib")
    answer = await running.raw(sent)
    assert status_of(answer) == 400
    assert json_of(answer).keys() == {"message"}
    assert b"X-Request-ID: " in answer
    assert b"tttttttt" not in answer
    assert "tttttttt" not in caplog.text
    assert not running.registry.asked


async def test_a_broken_chunk_after_good_ones_is_400(running: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"zon\r\n')
    await writer.drain()
    writer.write(b"nonsense\r\n")
    answer = await reader.read()
    writer.close()
    assert status_of(answer) == 400
    assert "message" in json_of(answer)


async def test_a_chunked_body_is_stopped_at_64_kib(running: Service) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = await running.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
    assert status_of(answer) == 413
    assert json_of(answer) == {"message": "the body is larger than 64 KiB"}
    assert b"Connection: close" in answer


async def test_a_body_too_large_is_refused_before_it_is_sent(running: Service) -> None:
    answer = await running.raw(HEAD + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
    assert status_of(answer) == 413


async def test_a_client_that_expects_100_is_told_to_continue(running: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + CLOSE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(RAW_BODY))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(RAW_BODY)
    answer = await reader.read()
    writer.close()
    assert status_of(answer) == 200


@pytest.mark.parametrize("path", [b"/", b"/nope"])
async def test_another_expectation_is_417(running: Service, path: bytes) -> None:
    answer = await running.raw(b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 9\r\n\r\n")
    assert status_of(answer) == 417
    assert json_of(answer).keys() == {"message"}


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ],
)
async def test_an_offer_to_upgrade_is_ignored(running: Service, upgrade: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(RAW_BODY) + RAW_BODY)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert status_of(head) == 200


async def test_requests_one_after_the_other_on_one_connection(running: Service) -> None:
    good = HEAD + b"Content-Length: %d\r\n\r\n" % len(RAW_BODY) + RAW_BODY
    bad = HEAD + b"Content-Length: 1\r\n\r\n{"
    answer = await running.raw(good + bad + good + posted())
    assert [status_of(b"HTTP/1.1" + part) for part in answer.split(b"HTTP/1.1")[1:]] == [200, 400, 200, 200]


async def test_http_1_0_without_a_host(running: Service) -> None:
    answer = await running.raw(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(RAW_BODY) + RAW_BODY)
    assert status_of(answer) == 200


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_a_head_that_does_not_arrive_in_time_is_408(begun: bytes) -> None:
    async with service(limits=Limits(seconds_for_head=0.05)) as running:
        answer = await running.raw(begun)
    assert status_of(answer) == 408
    assert json_of(answer) == {"message": "the request did not arrive in time"}


async def test_a_second_head_that_does_not_arrive_in_time_is_408_too() -> None:
    async with service(limits=Limits(seconds_for_head=0.05)) as running:
        reader, writer = await _connected(running)
        writer.write(b"GET /hea")
        assert status_of(await reader.read()) == 408
        writer.close()


async def test_an_idle_connection_is_not_a_slow_one() -> None:
    async with service(limits=Limits(seconds_for_head=0.05)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert status_of(await reader.readuntil(b"}\n")) == 200
            # Long past the limit for a head: had the idle connection counted as slow, it would be closed by now.
            await asyncio.sleep(0.2)
        writer.close()


async def test_a_body_that_does_not_arrive_in_time_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipam_lib.web.operation.SECONDS_FOR_BODY", 0.05)
    async with service() as running:
        answer = await running.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert status_of(answer) == 408
        assert json_of(answer)["message"] == "the body did not arrive within 0.05 seconds"
        assert not running.registry.asked


async def test_a_slow_body_does_not_make_the_answer_late() -> None:
    async with service(request_timeout_seconds=0.1) as running:
        answer = await running.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert status_of(answer) == 408


async def test_a_bug_outside_of_every_handler_is_500_in_our_shape(
    running: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: object, answer: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ipam_lib.web.middlewares.add_common_headers", broken)
    status, content, answer = await running.call("GET", "/healthz")
    assert status == 500
    assert content["request_id"] == answer.headers["X-Request-ID"]
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_hangs_up_in_the_body_leaves_nothing_behind(
    running: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ipam_lib.http")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    # An answer to another client says that the first request has been taken up meanwhile.
    await running.call("GET", "/healthz")
    writer.transport.abort()
    del reader
    async with asyncio.timeout(20):
        while not any(record.__dict__.get("method") == "POST" for record in caplog.records):
            await running.call("GET", "/healthz")
    assert not running.registry.asked
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_one_connection_too_many_takes_the_place_of_an_idle_one() -> None:
    async with service(limits=Limits(connections=2)) as running:
        idle = await _connected(running)
        busy = await _connected(running)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            entered.set()
            await leave.wait()

        running.registry.work = work
        busy[1].write(posted())
        await entered.wait()
        third = await _connected(running)
        assert await idle[0].read() == b""
        leave.set()
        assert status_of(await busy[0].read()) == 200
        for _, writer in (idle, busy, third):
            writer.close()


async def test_one_connection_too_many_is_refused_when_all_are_busy() -> None:
    async with service(limits=Limits(connections=1)) as running:
        busy = await _connected(running)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            entered.set()
            await leave.wait()

        running.registry.work = work
        busy[1].write(posted())
        await entered.wait()
        refused = await running.raw(b"")
        assert status_of(refused) == 503
        assert b"Retry-After: 5\r\n" in refused
        assert json_of(refused) == {"message": "too many connections; try again"}
        leave.set()
        assert status_of(await busy[0].read()) == 200
        busy[1].close()


HOSTILE = ("127.0.0.2", 0)
"""Another source than the other connections."""


async def _begun(running: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of the other source that never ends its head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, local_addr=HOSTILE)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
    return reader, writer


async def test_a_source_with_many_connections_closes_its_own_only() -> None:
    async with service(limits=Limits(connections=3)) as running:
        owner = await _connected(running)
        others = [await _connected(running, local_addr=HOSTILE) for _ in range(6)]
        for reader, _ in others[:4]:
            assert await reader.read() == b""
        owner[1].write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert status_of(await owner[0].read()) == 200
        for _, writer in (owner, *others):
            writer.close()


async def test_a_source_whose_heads_never_end_makes_room_for_others() -> None:
    async with service(limits=Limits(connections=3)) as running:
        begun = [await _begun(running) for _ in range(3)]
        head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert status_of(await running.raw(head)) == 200
        refused = await _begun(running)
        owner = await _connected(running)
        one_more = await _begun(running)
        assert status_of(await one_more[0].read()) == 503, "its own source has the most connections"
        owner[1].write(head)
        assert status_of(await owner[0].read()) == 200
        for _, writer in (*begun, refused, owner, one_more):
            writer.close()


async def test_an_answer_that_nobody_reads_is_not_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    stuck = asyncio.Event()
    pause = Connection.pause_writing

    def paused(connection: Connection) -> None:
        pause(connection)
        assert isinstance(connection.transport, asyncio.Transport)
        waiting.append(connection.transport.get_write_buffer_size())
        stuck.set()

    monkeypatch.setattr(Connection, "pause_writing", paused)
    async with service() as running:
        writer = await _deaf(running)
        await stuck.wait()
        writer.close()
    assert 0 < max(waiting) <= 192 * 1024


async def _deaf(running: Service) -> asyncio.StreamWriter:
    """A client that asks for more than fits into any buffer, and reads nothing of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n" * 30)
    await writer.drain()
    return writer


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when an answer does not get on, since its client takes nothing."""
    event = asyncio.Event()
    pause = Connection.pause_writing

    def paused(connection: Connection) -> None:
        pause(connection)
        event.set()

    monkeypatch.setattr(Connection, "pause_writing", paused)
    return event


async def test_a_client_that_does_not_take_its_answer_is_hung_up_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ipam_lib.web")
    limits = Limits(seconds_for_answer=0.05)
    async with service(limits=limits) as running:
        writer = await _deaf(running)
        async with asyncio.timeout(20):
            while "did not read its answer" not in caplog.text or limits.open:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        writer.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_who_begins_to_read_late_gets_all_of_it(stuck: asyncio.Event) -> None:
    async with service(limits=Limits(seconds_for_answer=20)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        writer.transport.pause_reading()
        writer.write(b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n" * 9)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await stuck.wait()
        writer.transport.resume_reading()
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 10
    assert answer.endswith(b'{"status": "ok"}\n')


async def test_one_connection_too_many_takes_the_place_of_one_that_does_not_take_its_answer(
    stuck: asyncio.Event,
) -> None:
    async with service(limits=Limits(connections=1)) as running:
        writer = await _deaf(running)
        await stuck.wait()
        served = await running.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert status_of(served) == 200
        writer.close()


async def _connected(running: Service, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, **options)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status_of(await reader.readuntil(b"}\n")) == 200
    return reader, writer
