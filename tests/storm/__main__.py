"""Storms by hand, as big as wanted: `python -m tests.storm --clients 200 --seconds 60 --seed 1 --faults --kill`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ipam_lib.cli.argtypes import NETBOX_VERSIONS
from tests.storm.proxy import FaultProxy
from tests.storm.site import SHORT, MongoStorage, Site, SQLiteStorage, Storage, Timing, standing
from tests.storm.storm import Storm
from tests.support.mongo import URI_VARIABLE, NoMongoError, own_server


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--clients", type=int, default=200, metavar="N", help="how many services want an address")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long it rages")
    parser.add_argument("--seed", type=int, default=None, help="of every choice (default: a new one, printed)")
    parser.add_argument("--faults", action="store_true", help="a proxy between services and NetBox breaks things")
    parser.add_argument("--late", action="store_true", help="it also delivers requests after the caller has given up")
    parser.add_argument("--kill", action="store_true", help="kill -9 services and NetBox in turn")
    parser.add_argument("--database", action="store_true", help="stop and kill the database, too")
    parser.add_argument("--sqlite", action="store_true", help="both services over one SQLite file")
    parser.add_argument(
        "--warm", type=int, default=0, metavar="N", help="so many addresses of each zone are kept ready"
    )
    parser.add_argument(
        "--cooldown", type=int, default=0, metavar="MINUTES", help="how long released addresses cool down"
    )
    parser.add_argument(
        "--netbox-version", choices=NETBOX_VERSIONS, default=NETBOX_VERSIONS[-1], help="what the simulator answers as"
    )
    parser.add_argument("--services", type=int, default=2, metavar="N", help="how many services")
    parser.add_argument(
        "--usual-times", action="store_true", help="the service's own time limits instead of short ones"
    )
    parser.add_argument("--keep-logs", type=Path, metavar="PATH", help="directory for what the services logged")
    arguments = parser.parse_args(argv)
    if arguments.sqlite and arguments.database:
        parser.error("--database needs a database that is a process")
    if arguments.database and os.environ.get(URI_VARIABLE):
        parser.error(f"--database does not stop a server that is yours: unset {URI_VARIABLE}")
    return arguments


def open_storage(arguments: argparse.Namespace, directory: Path, stack: ExitStack) -> Storage:
    """The storage that is wanted. Raises NoMongoError."""
    if arguments.sqlite:
        return SQLiteStorage(directory / "registrations.sqlite")
    uri = os.environ.get(URI_VARIABLE)
    server = None
    if not uri:
        (directory / "mongodb").mkdir()
        server = own_server(directory / "mongodb", keep_data=arguments.database)
        server.start()
        stack.callback(server.stop)
        uri = server.uri
    storage = MongoStorage(uri, server=server)
    stack.callback(storage.close)
    return storage


async def run(arguments: argparse.Namespace, storage: Storage, directory: Path) -> int:
    """Run the storm, and print what came of it. Returns the exit status."""
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    proxy = FaultProxy("", seed=seed) if arguments.faults or arguments.late else None
    timing = Timing() if arguments.usual_times else SHORT
    storm = Storm(
        clients=arguments.clients,
        seconds=arguments.seconds,
        most=sys.maxsize,
        seed=seed,
        faults=arguments.faults,
        late=arguments.late,
        kill=arguments.kill,
        database=arguments.database,
    )
    wanted = Site(
        directory,
        storage,
        timing,
        proxy=proxy,
        count=arguments.services,
        warm=arguments.warm,
        cooldown_minutes=arguments.cooldown,
        netbox_version=arguments.netbox_version,
    )
    async with standing(wanted) as site:
        ledger = await storm.run(site)
    if arguments.keep_logs is not None:
        arguments.keep_logs.mkdir(parents=True, exist_ok=True)
        for service in site.services:
            (arguments.keep_logs / f"{service.name.replace(' ', '-')}.log").write_text("\n".join(service.log))
    for problem in ledger.problems[:20]:
        print(problem)
    print(storm.summary(site, ledger))
    return 1 if ledger.problems else 0


def main() -> int:
    """Returns the exit status: 1 when anything was wrong, or there is no server."""
    arguments = parse()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            storage = open_storage(arguments, directory, stack)
        except NoMongoError as error:
            print(error, file=sys.stderr)
            return 1
        return asyncio.run(run(arguments, storage, directory))


if __name__ == "__main__":
    sys.exit(main())
