"""What systemd is to a service: the socket that it is told at."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60.0


class Listener:
    """Receives what sd_notify(3) sends. `address` is for `$NOTIFY_SOCKET`."""

    def __init__(self, receiver: socket.socket, address: str) -> None:
        self.address = address
        self.receiver = receiver

    def message(self) -> dict[str, str]:
        """The next message: its states by name. Waits for it; raises TimeoutError when none comes."""
        self.receiver.settimeout(SECONDS)
        return dict(line.split("=", 1) for line in self.receiver.recv(65536).decode().split("\n"))

    def wait_for(self, name: str) -> dict[str, str]:
        """The next message with a state of this name; those before it are passed over."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if name in (message := self.message()):
                return message
        raise TimeoutError(f"nothing but other messages than {name}")

    def waiting(self) -> list[dict[str, str]]:
        """All messages that have come and not been received yet."""
        messages: list[dict[str, str]] = []
        self.receiver.setblocking(False)
        while True:
            try:
                received = self.receiver.recv(65536)
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in received.decode().split("\n")))


@contextmanager
def listener(*, abstract: bool = False) -> Iterator[Listener]:
    """One, at a path or at an abstract address. (Paths of sockets are short, so pytest's directories will not do.)"""
    with (
        tempfile.TemporaryDirectory(prefix="notify-", dir="/tmp") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        path = str(Path(directory) / "socket")
        receiver.bind(f"\0{path}" if abstract else path)
        yield Listener(receiver, f"@{path}" if abstract else path)
