"""A server that speaks as much of MongoDB's wire protocol as it takes to answer what a test tells it to.

For what no healthy server does: errors of a primary stepping down, lost replies, silence. The protocol:
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import bson

Command = dict[str, Any]


class Instead(Enum):
    """What to do instead of replying."""

    CUT = "cut the connection"
    HANG = "say nothing"


Script = Callable[[Command], Command | Instead]

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013


class ScriptedMongo:
    """commands: all that clients have sent, but for those of the connection itself. `script` is asked for each reply.

    replica_set: whether to pass for the primary of one (PyMongo then repeats writes) or for a server by itself.
    """

    def __init__(self, *, replica_set: bool = False) -> None:
        self.commands: list[Command] = []
        self.script: Script = lambda command: {"ok": 1}
        self._replica_set = replica_set
        self._server: asyncio.Server | None = None
        self._address = ""
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"mongodb://{self._address}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedMongo]:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self._address = f"{host}:{port}"
        try:
            yield self
        finally:
            self._server.close()

    def vanish(self) -> Instead:
        """Cut every connection, and take none any more."""
        assert self._server is not None
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        return Instead.CUT

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                length, request_id, _, opcode = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                body = await reader.readexactly(length - _HEADER.size)
                reply = await self._reply(_parse(opcode, body))
                if reply is Instead.CUT:
                    return
                if isinstance(reply, dict):
                    writer.write(_message(opcode, request_id, bson.encode(reply)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _reply(self, command: Command) -> Command | Instead:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return self._hello()
        if name == "endSessions":
            return {"ok": 1}
        self.commands.append(command)
        return self.script(command)

    def _hello(self) -> Command:
        member = {
            "setName": "rs",
            "hosts": [self._address],
            "me": self._address,
            "setVersion": 1,
            "primary": self._address,
        }
        return {
            "ok": 1,
            "ismaster": True,
            "isWritablePrimary": True,
            "helloOk": True,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "logicalSessionTimeoutMinutes": 30,
            **(member if self._replica_set else {}),
        }


def _parse(opcode: int, body: bytes) -> Command:
    if opcode == _OP_QUERY:
        start = body.index(b"\0", 4) + 9
        return _decode(body[start:])
    # Flags, then sections: kind 0 is the command, kind 1 a list of documents that belongs into it.
    command: Command = {}
    lists: Command = {}
    at = 4
    while at < len(body):
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        section = body[at + 1 : at + 1 + size]
        if kind == 0:
            command = _decode(section)
        else:
            end = section.index(b"\0", 4)
            lists[section[4:end].decode()] = [dict(one) for one in bson.decode_all(section[end + 1 :])]
        at += 1 + size
    return command | lists


def _decode(data: bytes) -> Command:
    (size,) = struct.unpack_from("<i", data)
    return dict(bson.decode(data[:size]))


def _message(opcode: int, request_id: int, reply: bytes) -> bytes:
    if opcode == _OP_QUERY:
        body, replied = struct.pack("<iqii", 8, 0, 0, 1) + reply, _OP_REPLY
    else:
        body, replied = struct.pack("<iB", 0, 0) + reply, _OP_MSG
    return _HEADER.pack(_HEADER.size + len(body), 0, request_id, replied) + body
