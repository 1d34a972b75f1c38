"""Lives that Hypothesis invents (https://hypothesis.readthedocs.io/en/latest/stateful.html): a world on a store of each
kind, whose rules and invariants a subclass has."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ipam_lib.errors import IPAMError
from tests.registry.world import World, world_on
from tests.storage.backends import Backend, MemoryBackend, MongoBackend, SQLiteBackend
from tests.support.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from pymongo import MongoClient

LIVES_VARIABLE: Final = "IPAM_TEST_LIVES"
"""So many times as many lives, and other ones each time. Without it they are the same in every run."""

HOSTS: Final[dict[tuple[str, str], list[str]]] = {
    ("inet", "ipv4"): [f"192.0.2.{n}/32" for n in range(8)] + [f"198.51.100.{n}/32" for n in range(4)],
    ("inet", "ipv6"): ["2001:db8::/128", "2001:db8::1/128", "2001:db8::2/128", "2001:db8::3/128"],
    ("tiny", "ipv4"): ["203.0.113.0/32", "203.0.113.1/32"],
}
"""The addresses of `world.ZONES` that lives use, in the order in which NetBox hands them out."""


class Life(RuleBasedStateMachine):
    """One life, on virtual time. `on_memory`, `on_sqlite` and `on_mongodb` say on which store."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.stack = AsyncExitStack()
        self.directory = tempfile.TemporaryDirectory()
        self.world: World = self.run(self.stack.enter_async_context(world_on(self.backend(), self.loop)))

    def backend(self) -> Backend:
        """The database of this life."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it to its end."""
        return self.loop.run_until_complete(work)

    def outcome(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it returned, or the error that it raised."""
        try:
            return self.run(work)
        except IPAMError as error:
            return error

    def teardown(self) -> None:
        """End the world."""
        self.run(self.stack.aclose())
        self.loop.close()
        self.directory.cleanup()


def on_memory(kind: type[Life]) -> type[Life]:
    """Such lives on the store in memory."""
    return _on(kind, "OnMemory", lambda _life: MemoryBackend())


def on_sqlite(kind: type[Life]) -> type[Life]:
    """Such lives on SQLite, each in a file of its own."""
    return _on(kind, "OnSQLite", lambda life: SQLiteBackend(Path(life.directory.name) / "ipam.sqlite"))


def on_mongodb(kind: type[Life], admin: MongoClient[dict[str, Any]], uri: str, database: str) -> type[Life]:
    """Such lives on MongoDB, each in a database of its own."""
    numbers = itertools.count()

    class OnMongoDB(kind):  # type: ignore[misc, valid-type]
        def backend(self) -> Backend:
            self.database = f"{database}_{next(numbers)}"
            return MongoBackend(admin, uri, self.database)

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                admin.drop_database(self.database)

    return OnMongoDB


def _on(kind: type[Life], name: str, backend: Callable[[Life], Backend]) -> type[Life]:
    return type(name, (kind,), {"backend": backend})


def live(machine: type[Life], lives: int) -> None:
    """So many lives on this machine, of forty steps each."""
    wanted = os.environ.get(LIVES_VARIABLE)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives * int(wanted or 1),
            derandomize=not wanted,
            database=None,
            print_blob=False,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
