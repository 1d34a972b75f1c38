"""What commands work with: the settings, the store and the registry."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from ipam_lib.addresses import spellings
from ipam_lib.assembly import make_context, make_netbox, make_store
from ipam_lib.cli import terminal
from ipam_lib.cli.exit_codes import CommandError
from ipam_lib.clock import SystemClock
from ipam_lib.config import Settings, SQLitePath
from ipam_lib.errors import IPAMError, Unavailable
from ipam_lib.models import Registration, State
from ipam_lib.netbox.zones import ZoneCache
from ipam_lib.registry import Registry
from ipam_lib.storage.base import Store
from ipam_lib.storage.bulk_copy import CopyableStore
from ipam_lib.telemetry import logs, redaction
from ipam_lib.text import printable

T = TypeVar("T")

SEE_CHECK_CONFIG = "check-config tells what is wrong"


def load_settings(arguments: argparse.Namespace) -> Settings:
    """Read the configuration and print its warnings. Raises ConfigError."""
    terminal.set_up()
    logs.set_up("ERROR")  # the command prints everything else itself
    settings, warnings = Settings.load(getattr(arguments, "config", None))
    redaction.add_secrets(settings.secrets())
    for warning in warnings:
        terminal.warn(warning)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine and return its result. Raises CommandError for every IPAMError."""
    try:
        return asyncio.run(work)
    except Unavailable as error:
        detail = f": {error.detail}" if error.detail else ""
        raise CommandError(f"{error.message}{printable(detail)} ({SEE_CHECK_CONFIG})") from None
    except IPAMError as error:
        raise CommandError(printable(error.message)) from None


@asynccontextmanager
async def opened_store(settings: Settings, *, may_be_new: bool = False) -> AsyncIterator[CopyableStore]:
    """The configured store, open. It is not prepared, so that reading a database that the service never used does not
    change it.

    Raises CommandError if the embedded database does not exist and must not be new; ConfigError.
    """
    storage = settings.storage
    if isinstance(storage, SQLitePath) and not may_be_new and not storage.path.exists():
        raise CommandError(
            f"there is no database at {storage.path}: the service makes it when it starts; is this the right"
            " configuration (--config)?"
        )
    store = make_store(settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_registry(settings: Settings, *, netbox: bool = False) -> AsyncIterator[Registry]:
    """The registry over the configured store.

    - `netbox`: whether to load the zones from NetBox. Without it, NetBox gets no request, and no use case that needs
      NetBox may be called.

    Raises CommandError, NetBoxError if the zones cannot be loaded, ConfigError.
    """
    clock = SystemClock()
    client = make_netbox(settings, clock)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        # The service caches the zones in the storage. A command that only reads writes nothing there.
        zones = ZoneCache(
            client.zone_reader, clock=clock, load=_nothing, save=_nowhere, limit=settings.netbox.timeout_seconds
        )
        if netbox:
            await client.open()
            stack.push_async_callback(client.close)
            stack.push_async_callback(zones.close)
            await zones.refresh()
        yield Registry(make_context(settings, store, client, zones, clock))


async def _nothing() -> None:
    return None


async def _nowhere(_document: dict[str, Any]) -> None:
    return None


async def registrations_on(store: Store, zone: str, address: str) -> Sequence[Registration]:
    """The registrations of an address that are live or being released: first the one that counts, then its duplicates.

    Raises CommandError if there is none.
    """
    found = await store.find_address(zone=zone, addresses=spellings(address))
    shown = [one for one in found if one.state in (State.LIVE, State.RELEASING)]
    if shown:
        return sorted(shown, key=lambda one: (one.duplicate, one.id))
    canonical = spellings(address)[0]
    if found:
        raise CommandError(f"{canonical} of zone {zone} is just being registered; try again in a moment")
    raise CommandError(f"{canonical} is not registered in zone {zone}; list-addresses --zone {zone} shows what is")


async def found_on(settings: Settings, zone: str, address: str) -> Sequence[Registration]:
    """The same, from the configured store."""
    async with opened_store(settings) as store:
        return await registrations_on(store, zone, address)
