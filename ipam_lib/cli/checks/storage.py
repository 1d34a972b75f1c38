"""Checks of the storage, and whether the configured keys are those of the stored secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from ipam_lib.config import EncryptionSection, MongoDBSection, SQLitePath
from ipam_lib.crypto import SecretUnreadable
from ipam_lib.errors import ConfigError, StorageUnavailable
from ipam_lib.findings import Finding, error, ok, warning
from ipam_lib.models import Filter
from ipam_lib.storage.base import Store
from ipam_lib.text import printable

LOOKED_AT: Final = 500


async def storage(chosen: MongoDBSection | SQLitePath, encryption: EncryptionSection | None) -> AsyncIterator[Finding]:
    """The findings about the store and, with the keys, about the stored secrets."""
    # Import only the engine that is used, as everywhere.
    store: Store
    if isinstance(chosen, SQLitePath):
        from ipam_lib.storage import sqlite_probe
        from ipam_lib.storage.sqlite import SQLiteStore

        found = await asyncio.to_thread(sqlite_probe.probe, chosen.path)
        there = chosen.path.exists() and chosen.path.stat().st_size > 0
        store = SQLiteStore(chosen.path)
        await store.open()
    else:
        from ipam_lib.storage.mongo_probe import MongoProbe

        store = probe = MongoProbe(chosen.connection_string().reveal(), chosen.database, chosen.collection)
        try:
            await probe.open()
        except ConfigError as problem:
            yield error("mongodb.connection", problem.problems[0], "correct mongodb.uri")
            return
        found = await probe.findings()
        there = True
    try:
        for finding in found:
            yield finding
        if there and encryption is not None and not any(one.status == "error" for one in found):
            yield await _secrets(store, encryption)
    finally:
        await store.close()


async def _secrets(store: Store, encryption: EncryptionSection) -> Finding:
    """Whether the stored secrets can be read. With other keys the service would find none of them, and would register
    every service a second time."""
    check = "storage.secrets"
    try:
        page = await store.page(Filter(), after=None, limit=LOOKED_AT)
    except StorageUnavailable as problem:
        return error(check, problem.message, "start the service once: it makes the storage ready")
    cipher = encryption.cipher()
    stored = [one for one in page if one.secret]
    unreadable = []
    for one in stored:
        try:
            cipher.unseal(one.secret)
        except SecretUnreadable:
            unreadable.append(one)
    if not stored:
        return ok(check, "nothing is registered yet")
    if not unreadable:
        return ok(check, f"the secrets of {len(stored)} registrations were looked at, and can be read")
    message = f"{len(unreadable)} of {len(stored)} secrets that were looked at cannot be read with these keys"
    first = f"such as that of {printable(unreadable[0].address)}, id {unreadable[0].id}"
    if len(unreadable) == len(stored):
        advice = "let encryption_secrets.path name the keys that they were stored under"
        return error(check, f"{message}, {first}", advice)
    advice = "are they under keys from before? Name those in encryption_secrets.previous_path; else see replace-secret"
    return warning(check, f"{message}, {first}", advice)
