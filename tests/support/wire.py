"""An HTTP server that plays a script, byte by byte if need be: what a server must do to break a client."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def raw(data: bytes) -> Act:
    """Send these bytes, then close."""

    async def act(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return act


def answer(
    status: int = 200,
    body: Any = None,
    *,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Act:
    """Answer properly, and keep the connection. A body that is no text is sent as JSON."""
    content = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()

    async def act(_request: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
        if content:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()

    return act


async def cut(_request: Received, writer: asyncio.StreamWriter) -> None:
    """Hang up without an answer."""
    writer.transport.abort()


@dataclass
class WireServer:
    """Each request takes the next act of `script`; what arrived is in `received`. A request beyond the end of the
    script is answered with 418, which no client takes for anything else.

    Mind that aiohttp's client sends a GET or DELETE once more by itself when its connection was cut.
    """

    url: str = ""
    script: deque[Act] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    def then(self, *acts: Act) -> None:
        """Add to the script."""
        self.script.extend(acts)

    async def hang(self, _request: Received, _writer: asyncio.StreamWriter) -> None:
        """Never answer, and let the client's patience end at once."""
        jump_loop_time(1000.0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _receive(reader)) is not None:
                self.received.append(request)
                act = self.script.popleft() if self.script else answer(418, {"detail": "the script is over"})
                await act(request, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()


def jump_loop_time(seconds: float) -> None:
    """Let every timer of the running loop that is due within `seconds` fire now."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


@asynccontextmanager
async def wire_server() -> AsyncIterator[WireServer]:
    """Run one while the context lasts, on a port of the system's choice."""
    server = WireServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        listening.close()


async def _receive(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)
