"""A client that costs next to nothing: one connection that stays open, requests as bytes, answers read by their length.

What a service takes is what is to be measured, not what a client library takes.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.figures import say

SECONDS = 300.0


class Client:
    """One connection to a server."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._head = f"Host: {parts.netloc}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in (headers or {}).items()
        )
        self._socket = socket.create_connection((parts.hostname, parts.port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request; `body` becomes JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if content else ""
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        return f"{method} {path} HTTP/1.1\r\n{self._head}{kind}{length}\r\n".encode() + content

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send, and read the answer: status and body."""
        self._socket.sendall(request)
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            self._more()
        head, self._received = self._received[:end], self._received[end + 4 :]
        status = int(head[9:12])
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return status, body

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer as JSON, which must be a good one."""
        status, content = self.exchange(self.request(method, path, body))
        if status >= 300:
            raise SystemExit(f"{method} {path} was answered {status}: {content[:500]!r}")
        return json.loads(content) if content else None

    def timed(self, requests: Sequence[bytes]) -> list[float]:
        """Milliseconds of each, sent one after the other. Each must be answered well."""
        samples = []
        for request in requests:
            began = time.perf_counter()
            status, body = self.exchange(request)
            samples.append((time.perf_counter() - began) * 1000)
            if status >= 300:
                raise SystemExit(f"{request!r} was answered {status}: {body[:500]!r}")
        return samples

    def _more(self) -> None:
        more = self._socket.recv(1 << 18)
        if not more:
            raise SystemExit("the server hung up")
        self._received += more


def throughput(clients: Sequence[Client], request: Callable[[Client], bytes], each: int) -> float:
    """Answers a second of these clients together, each of which sends so many requests, one after the other."""
    requests = [[request(client) for _ in range(each)] for client in clients]
    failures: list[BaseException] = []

    def run(client: Client, own: Sequence[bytes]) -> None:
        try:
            client.timed(own)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(clients, requests, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        say(f"failed: {failures[0]}")
        raise failures[0]
    return len(clients) * each / seconds
