"""Small HTTP servers on threads of their own, for processes of the program to talk to."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Stub:
    """A server that answers every request with `status` and `body` (`{token}` in it stands for what came in the header
    Authorization), and keeps what it was sent."""

    status: int = 200
    body: str = "{}"
    url: str = ""
    received: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What came as lines of JSON."""
        return [json.loads(line) for _, _, _, body in self.received for line in body.splitlines()]


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """The stub, on a port that the system chose."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            stub.received.append((self.command, self.path, dict(self.headers), body))
            token = self.headers.get("Authorization", "").rpartition(" ")[2]
            content = stub.body.replace("{token}", token).encode()
            self.send_response(stub.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815 (http.server's own names)

        def log_message(self, *arguments: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
