"""Hypothesis sends bytes: requests that are cut, mended, doubled and mixed up. Whatever comes, every answer is a whole
one in our shape, none is a 500, no bug is logged, and the next client is served."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipam_lib.web.connection import Limits
from tests.support.soak import amount
from tests.web.service import BODY, Service, service

RAW_BODY = json.dumps(BODY).encode()
LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NEWLINES = [b"\r\n", b"\n", b"\r", b""]

METHODS = st.sampled_from(
    [b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PUT", b"TRACE", b"CONNECT", b"get", b"", b"\x00"]
)
TARGETS = st.sampled_from(
    [
        b"/",
        b"/v2/address",
        b"/v2/service",
        b"/v2/cluster",
        b"/v2/addresses?limit=\xff",
        b"/healthz",
        b"/%",
        b"/%00",
        b"//",
        b"*",
        b"http://a/",
        b"a:1",
        b"/../",
        b"/\xc3\xa5",
        b"/" + b"a" * 9000,
        b"",
    ]
)
VERSIONS = st.sampled_from([b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/1.1 ", b"", b" http/1.1", b" HTTP/1.1x"])
LENGTHS = st.sampled_from(
    [b"%d" % len(RAW_BODY), b"0", b"5", b"-1", b"+5", b"5, 5", b"0x10", b"9" * 40, b"", b" 3 ", b"\xb2"]
)
CODINGS = st.sampled_from(
    [b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"x", b""]
)
HEADERS = st.one_of(
    st.tuples(st.just(b"Content-Length"), LENGTHS),
    st.tuples(st.just(b"Transfer-Encoding"), CODINGS),
    st.tuples(st.just(b"Connection"), st.sampled_from([b"close", b"keep-alive", b"upgrade", b""])),
    st.tuples(st.just(b"Expect"), st.sampled_from([b"100-continue", b"nonsense"])),
    st.tuples(st.just(b"Authorization"), st.sampled_from([b"Bearer", b"Bearer \xff", b"Basic eDp4", b"a" * 9000])),
    st.tuples(st.just(b"Content-Encoding"), st.sampled_from([b"gzip", b"deflate", b"br", b"identity"])),
    st.tuples(st.just(b"X-Request-ID"), st.sampled_from([b"\x01", b"a" * 500, b"\r", "æ".encode()])),
    st.tuples(st.sampled_from([b"Host", b"", b"X y", b"X\x00", b" X", b"X"]), st.binary(max_size=8)),
)
CHUNK_SIZES = st.sampled_from(
    [b"5", b"0", b"ffffffffffffffffff", b"-1", b"5;ext=1", b"5 ", b"0x5", b"G", b"", b"00005"]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request."""
    line = draw(METHODS) + b" " + draw(TARGETS) + draw(VERSIONS)
    head = [line, *(name + b": " + value for name, value in draw(st.lists(HEADERS, max_size=5)))]
    newline = draw(st.sampled_from([NEWLINES[0]] * 6 + NEWLINES))
    chunks = b"".join(
        size + b"\r\n" + data + b"\r\n"
        for size, data in draw(st.lists(st.tuples(CHUNK_SIZES, st.binary(max_size=6)), max_size=3))
    )
    body = draw(st.sampled_from([RAW_BODY, RAW_BODY[:40], b"", b"{", chunks, chunks + b"0\r\n\r\n"]))
    return newline.join(head) + newline * 2 + body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good request with a few of its bytes cut out, doubled or exchanged."""
    path = draw(st.sampled_from([b"POST /", b"DELETE /v2/service", b"POST /v2/address"]))
    sent = path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(RAW_BODY) + RAW_BODY
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(sent)))
        until = draw(st.integers(at, min(len(sent), at + 12)))
        sent = (
            sent[:at] + draw(st.sampled_from([b"", sent[at:until] * 2, b"\x00", b"\r\n", b"\xff", b" "])) + sent[until:]
        )
    return sent


def answers(raw: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """The answers one after the other, as a client with the message framing of RFC 9112 reads them."""
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        line, *lines = head.decode("ascii").split("\r\n")
        version, status, _reason = line.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), line
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        if int(status) < 200:
            raw = rest
            continue
        length = int(headers.get("content-length", "0"))
        body, raw = rest[:length], rest[length:]
        yield int(status), headers, body


async def exchange(running: Service, parts: Sequence[bytes]) -> bytes:
    """Send these bytes, each part by itself; everything that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        for part in parts:
            if reader.at_eof():
                break
            writer.write(part)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.fixture
def unblocked() -> None:
    """Not here: Hypothesis traces every line, and each life of the service begins with making its specification."""


@pytest.mark.soak
@settings(max_examples=amount(40, 400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.one_of(requests(), damaged()), min_size=1, max_size=3), min_size=1, max_size=8),
    st.integers(1, 200),
)
def test_whatever_is_sent_is_answered_properly(batch: list[list[bytes]], size: int) -> None:
    caught: list[logging.LogRecord] = []

    class Catcher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            caught.append(record)

    async def send_all() -> None:
        # What does not come to an end is answered 408 soon, so this test does not wait.
        limits = Limits(seconds_for_head=0.2)
        async with service(limits=limits, request_timeout_seconds=0.2) as running:
            for pipeline in batch:
                sent = b"".join((*pipeline, LAST))
                parts = [sent[at : at + size] for at in range(0, len(sent), size)]
                # HEAD is answered without the body that its length speaks of.
                if b"HEAD" in sent:
                    await exchange(running, parts)
                    continue
                for status, headers, body in answers(await exchange(running, parts)):
                    assert status < 500, (status, body)
                    if status >= 400:
                        assert "message" in json.loads(body), body
                        assert headers["content-type"].startswith("application/json")
                        assert headers["x-request-id"]
            status, content, _ = await running.call("GET", "/healthz")
            assert (status, content) == (200, {"status": "ok"})

    handler = Catcher(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        asyncio.run(send_all())
    finally:
        logging.getLogger().removeHandler(handler)
    assert [record.getMessage() for record in caught] == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_reader_of_answers_knows_a_real_one(method: str) -> None:
    async with service() as running:
        raw = await exchange(running, [f"{method} /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode(), LAST])
    if method == "HEAD":
        assert raw.count(b"HTTP/1.1 200 OK") == 2
    else:
        assert [(status, json.loads(body)) for status, _, body in answers(raw)] == [(200, {"status": "ok"})] * 2
