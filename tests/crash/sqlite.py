"""The SQLite store on a loop with virtual time: while its thread works, time stands still."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from ipam_lib.storage.base import Store
from ipam_lib.storage.sqlite import SQLiteStore
from tests.support.virtual_loop import VirtualLoop


def on_virtual_time(store: Store, loop: VirtualLoop) -> Store:
    """The same store; each of its operations holds the loop's time while it is under way."""

    def held(operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(operation)
        async def run(*args: Any, **kwargs: Any) -> Any:
            loop.real += 1
            try:
                return await operation(*args, **kwargs)
            finally:
                loop.real -= 1

        return run

    for name in Store.__abstractmethods__:
        operation = getattr(store, name)
        assert inspect.iscoroutinefunction(operation)
        setattr(store, name, held(operation))
    return store


def sqlite_on_virtual_time(path: Path, loop: VirtualLoop) -> Store:
    """A SQLite store on this file."""
    return on_virtual_time(SQLiteStore(path), loop)
