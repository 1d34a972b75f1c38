"""A hostile client: connections that all do the same to a service, each as fast as it is answered.

    python3 -m benchmarks.hostile_client PLAN.json

PLAN.json: the members of `Plan`. Prints one JSON object: how often each status and code was answered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

# Another source than that of the owner. All of 127.0.0.0/8 is this machine.
SOURCE: Final = "127.0.0.2"
LARGE: Final = 100_000
UNREAD: Final = "unread"
NO_ANSWER: Final = "no answer"
_SECONDS_FOR_ANSWER: Final = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`kind`: one of KINDS. `target`: the request of the owner of a registration, which `kind` changes."""

    kind: str
    port: int
    connections: int
    seconds: float
    target: dict[str, Any]


def _request(method: str, path: str, body: Any = None, *, length: int | None = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    length = len(content) if length is None else length
    return f"{method} {path} HTTP/1.1\r\nHost: ipam\r\nContent-Length: {length}\r\n\r\n".encode() + content


def _posts(change: Callable[[int], dict[str, Any]]) -> Callable[[dict[str, Any]], Iterator[bytes]]:
    """POST requests for the next free address, or for the address of the target; `change` gives other fields."""

    def requests(target: dict[str, Any]) -> Iterator[bytes]:
        for number in itertools.count():
            changed = change(number)
            service = target["service"] | changed.pop("service", {})
            yield _request("POST", "/", target | changed | {"service": service})

    return requests


def _new_service(**fields: str) -> dict[str, Any]:
    """A new service with these fields."""
    names = {name: str(uuid.uuid4()) for name in ("service_name", "namespace_id", "cluster_id")}
    return {"address": "", "secret": str(uuid.uuid4()), "service": names | fields}


CLUSTER: Final = "11111111-2222-4333-8444-555555555555"
REQUESTS: Final[dict[str, Callable[[dict[str, Any]], Iterator[bytes]]]] = {
    "wrong secrets": _posts(lambda number: {"secret": f"wrong-secret-{number}"}),
    "cluster quota": _posts(lambda _: _new_service(cluster_id=CLUSTER)),
    "namespace quota": _posts(lambda _: _new_service(namespace_id=CLUSTER)),
    "network": _posts(lambda _: _new_service()),
    "bearer token": lambda _: itertools.repeat(_request("GET", "/v2/addresses")),
    "invalid body": lambda _: itertools.repeat(_request("POST", "/", {"zone": 1})),
    "large body": lambda _: itertools.repeat(_request("POST", "/", "x" * LARGE)),
    "slow head": lambda _: itertools.repeat(b"POST / HTTP/1.1\r\nHost: ip"),
    "slow body": lambda _: itertools.repeat(_request("POST", "/", length=300) + b'{"zone"'),
    UNREAD: lambda _: itertools.repeat(_request("GET", "/swagger/swagger-ui-bundle.js") * 8),
    # Heads that never end, from more connections than the service takes.
    "connections": lambda _: itertools.repeat(b"POST / HTTP/1.1\r\nHost: ip"),
}


class _Connection:
    """One connection at a time, opened again whenever the service has closed it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, answers: Counter[str]) -> None:
        """Send and count until cancelled."""
        try:
            for request in REQUESTS[self._plan.kind](self._plan.target):
                try:
                    answers[await self._exchange(request)] += 1
                except (ConnectionError, asyncio.IncompleteReadError):
                    answers[NO_ANSWER] += 1
                    await self._close()
        finally:
            await self._close()

    async def _exchange(self, request: bytes) -> str:
        reader, writer = self._streams or await self._open()
        writer.write(request)
        # The service may answer, and close, before it has read everything.
        with suppress(ConnectionError):
            await writer.drain()
        if self._plan.kind == UNREAD:
            await writer.wait_closed()
            raise ConnectionResetError
        async with asyncio.timeout(_SECONDS_FOR_ANSWER):
            head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        body = await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            await self._close()
        return f"{head[9:12].decode()} {json.loads(body).get('code', '')}".strip()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        peer = socket.socket()
        peer.setblocking(False)
        if self._plan.kind == UNREAD:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            peer.bind((SOURCE, 0))
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self._plan.port))
            limit = 4096 if self._plan.kind == UNREAD else 1 << 16
            self._streams = await asyncio.open_connection(sock=peer, limit=limit)
        except BaseException:
            peer.close()
            raise
        return self._streams

    async def _close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def attack(plan: Plan) -> Counter[str]:
    """Do it for `plan.seconds`; how often each status and code was answered."""
    answers: Counter[str] = Counter()
    tasks = [asyncio.create_task(_Connection(plan).run(answers)) for _ in range(plan.connections)]
    done, _ = await asyncio.wait(tasks, timeout=plan.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    return answers


def write(plan: Plan, path: Path) -> None:
    """Write a plan for a process of its own."""
    path.write_text(json.dumps(asdict(plan)))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(attack(Plan(**json.loads(Path(sys.argv[1]).read_text()))))))
