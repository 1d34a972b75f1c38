"""The private parts of aiohttp that `ipam_lib.web.aiohttp_internals` uses are still there, and mean the same."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import HttpVersion, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from ipam_lib.web.aiohttp_internals import answer_in_spoken_version, waits_for_head

ADVICE = (
    f"aiohttp {aiohttp.__version__} has changed a private part that ipam_lib/web/aiohttp_internals.py uses: {{}}. Look"
    " for its successor in aiohttp/web_protocol.py or aiohttp/web_request.py, and change that module only."
)


async def test_a_connection_waits_for_a_head_before_and_after_but_not_during_a_request() -> None:
    connections: list[web.RequestHandler] = []
    seen: list[bool] = []
    connected = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append(waits_for_head(connections[0]))
        return web.Response()

    server = web.Server(handle)

    def connect() -> web.RequestHandler:
        connections.append(server())
        connected.set()
        return connections[-1]

    listener = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        await connected.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        assert waits_for_head(connections[0]), ADVICE.format("RequestHandler._waiter, while a head is incomplete")
        writer.write(b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert seen == [False], ADVICE.format("RequestHandler._waiter, while a request is handled")
        for _ in range(3):
            await asyncio.sleep(0)
        assert waits_for_head(connections[0]), ADVICE.format("RequestHandler._waiter, after a request")
    finally:
        writer.close()
        listener.close()
        await server.shutdown(1)


@pytest.mark.parametrize(("sent", "answered"), [((1, 0), (1, 0)), ((1, 1), (1, 1)), ((1, 2), (1, 1)), ((0, 9), (1, 1))])
def test_a_request_is_answered_in_the_spoken_version(sent: tuple[int, int], answered: tuple[int, int]) -> None:
    request = make_mocked_request("GET", "/", version=HttpVersion(*sent))
    assert request.version == HttpVersion(*sent)
    answer_in_spoken_version(request)
    assert request.version == HttpVersion(*answered), ADVICE.format("BaseRequest._version and _cache")
    assert HttpVersion11 == HttpVersion(1, 1)
