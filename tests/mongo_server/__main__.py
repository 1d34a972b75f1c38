"""Run the test server by hand until Ctrl-C: `python -m tests.mongo_server --port 27017 --data PATH`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.mongo_server import BuildError, command


def main() -> int:
    """Start the server, print its URI, wait for it. Returns the exit code: 1 when it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.mongo_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (0: the system chooses)")
    parser.add_argument("--data", type=Path, help="file that keeps the data; without it they live in memory")
    arguments = parser.parse_args()
    try:
        server_command = command(arguments.port, arguments.data)
    except BuildError as error:
        print(f"The test server cannot be built: {error}", file=sys.stderr)
        return 1
    with subprocess.Popen(server_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if port:
            print(f"mongodb://127.0.0.1:{port}", flush=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return 0


if __name__ == "__main__":
    sys.exit(main())
