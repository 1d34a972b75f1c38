"""Where the time of the service goes: cProfile over what it does for one kind of request.

    python3 -m benchmarks.profile [again|next|expire] [--requests N] [--lines N] [--out FILE]

The service runs in this process on the embedded database, its NetBox and its client in processes of their own, so that
only the service is in the profile. NetBox answers at once: what is to be seen is what the service does, not what it
waits for. `--out` keeps the profile for other programs (`python3 -m pstats FILE`).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import site
from benchmarks.figures import say
from benchmarks.host import hosted
from benchmarks.service import Comparison, zones
from benchmarks.wire import Client
from ipam_lib.config import Settings

WARM_UP = 200


def _requests(client: Client, what: str, number: int) -> list[bytes]:
    """The requests of one kind. Services that must be there are registered."""
    if what == "next":
        return [client.request("POST", "/", Comparison.body("ours")) for _ in range(number)]
    body = Comparison.body("ours")
    client.ask("POST", "/", body)
    return [client.request("POST" if what == "again" else "DELETE", "/", body)] * number


def _send(url: str, what: str, number: int) -> list[bytes]:
    with Client(url) as client:
        requests = _requests(client, what, number + WARM_UP)
        client.timed(requests[:WARM_UP])
        return requests[WARM_UP:]


def _drive(url: str, requests: list[bytes]) -> float:
    with Client(url) as client:
        began = time.perf_counter()
        client.timed(requests)
        return (time.perf_counter() - began) * 1e6 / len(requests)


async def profiled(directory: Path, netbox: str, what: str, number: int) -> tuple[cProfile.Profile, float, float]:
    """The profile, and microseconds a request without and with it."""
    storage = {"storage": {"sqlite": str(directory / "profile.sqlite")}}
    settings, _ = Settings.load(site.write_config(directory, netbox, storage))
    profile = cProfile.Profile()
    async with hosted(settings) as urls:
        await asyncio.to_thread(site.ready, urls["ours"])
        requests = await asyncio.to_thread(_send, urls["ours"], what, number * 2)
        plain = await asyncio.to_thread(_drive, urls["ours"], requests[:number])
        profile.enable()
        slowed = await asyncio.to_thread(_drive, urls["ours"], requests[number:])
        profile.disable()
    return profile, plain, slowed


def main(arguments: list[str] | None = None) -> int:
    """Profile and print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.profile", description="Show where the time goes.")
    parser.add_argument("what", nargs="?", choices=("again", "next", "expire"), default="again", help="(again)")
    parser.add_argument("--requests", type=int, default=2_000, metavar="N", help="how many (2000)")
    parser.add_argument("--lines", type=int, default=45, metavar="N", help="lines of the table (45)")
    parser.add_argument("--sort", choices=("tottime", "cumtime", "ncalls"), default="tottime", help="(tottime)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the profile here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="profile-") as name:
        directory = Path(name)
        filled: dict[str, Any] = {"zones": zones()}
        with site.netbox(directory, filled) as netbox:
            profile, plain, slowed = asyncio.run(profiled(directory, netbox, options.what, options.requests))
    if options.out is not None:
        profile.dump_stats(options.out)
    say(f"{options.what}: {plain:.0f} microseconds a request; {slowed:.0f} while it is profiled")
    pstats.Stats(profile).strip_dirs().sort_stats(options.sort).print_stats(options.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
