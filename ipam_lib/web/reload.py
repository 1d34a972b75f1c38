"""Reading the files again while the service runs: tokens, keys and the certificate, and the zones from NetBox.

All of it or nothing: where one file cannot be used, the former ones stay in force and the log says why. A request that
is under way keeps the keys that it began with.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ipam_lib.config import Settings
from ipam_lib.errors import ConfigError, NetBoxError
from ipam_lib.lifecycle import Services
from ipam_lib.netbox.endpoint import usable_token
from ipam_lib.telemetry import redaction
from ipam_lib.telemetry.logging_setup import secrets_of
from ipam_lib.web.middlewares import Bearer
from ipam_lib.web.tls import Certificate, tls_context

log = logging.getLogger(__name__)

# What can be exchanged without a restart; where the files are may change as well.
_EXCHANGED = {
    "netbox": {"token", "token_path"},
    "auth": {"token", "token_path"},
    "encryption_secrets": {"keys", "path", "previous", "previous_path"},
    "server": {"tls_cert", "tls_key"},
}


@dataclass(slots=True)
class Reloader:
    """Exchanges what is in force for what `load` reads. `settings` are those in force; `bearer` and `certificate` are
    None when the service was started without them."""

    load: Callable[[], tuple[Settings, list[str]]]
    settings: Settings
    services: Services
    bearer: Bearer | None = None
    certificate: Certificate | None = None

    async def __call__(self) -> None:
        """Read everything anew. What cannot be used is logged, never raised."""
        try:
            new, warnings = await asyncio.to_thread(self.load)
            await asyncio.to_thread(self._exchange, new)
        except ConfigError as error:
            for problem in [*error.problems, "nothing was reloaded: what was in force stays so"]:
                log.error("%s", problem)  # noqa: TRY400 - where in the program it was found is of no interest
        else:
            for warning in warnings:
                log.warning("%s", warning)
            log.info("read tokens, keys and certificate again")
            if copies := sorted(passed_on(new)):
                log.warning(
                    "systemd copied these files when it started the service; what is new in them takes a restart: %s",
                    ", ".join(copies),
                )
        try:
            await self.services.zones.reload()
        except NetBoxError as error:
            log.warning("zones could not be loaded from NetBox: %s", error.detail or error)
        else:
            log.info("loaded the zones again")

    def _exchange(self, new: Settings) -> None:
        """Put the new ones in force, after each has been found to be usable. Raises ConfigError, with nothing done."""
        old = self.settings
        usable_token(new.netbox.token.reveal())
        context = None
        if self.certificate is not None and new.server.tls_cert is not None:
            context = tls_context(new.server.tls_cert, new.server.tls_key)
        keys, encryption = old.encryption_secrets.keys, new.encryption_secrets
        if keys not in (encryption.keys, encryption.previous):
            problem = "encryption_secrets: the keys are others than before, and previous_path does not name the former"
            raise ConfigError(
                [f"{problem} ones, so that no registration would be found by its secret: name them there"]
            )
        # Which scheme is written also decides how the store compares; that was settled at the start.
        cipher = replace(encryption, scheme=old.encryption_secrets.scheme).cipher()
        if later := take_a_restart(old, new):
            log.warning("these settings have changed, and take a restart: %s", ", ".join(later))
        redaction.add_secrets(secrets_of(new))
        self.services.netbox.set_token(new.netbox.token.reveal())
        registry = self.services.registry
        registry.context = replace(registry.context, cipher=cipher)
        if self.bearer is not None and new.auth.token is not None:
            self.bearer.token = new.auth.token
        if self.certificate is not None and context is not None:
            self.certificate.use(context)
        self.settings = replace(
            old,
            netbox=replace(old.netbox, token=new.netbox.token),
            auth=replace(old.auth, token=new.auth.token if self.bearer else None),
            encryption_secrets=replace(old.encryption_secrets, keys=encryption.keys, previous=encryption.previous),
        )


def passed_on(settings: Settings) -> Iterator[str]:
    """The settings whose files are those that systemd passes on (`LoadCredential=`), by their names in the file."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    for section in fields(settings):
        values = getattr(settings, section.name)
        if not directory or not is_dataclass(values):
            continue
        for one in fields(values):
            path = getattr(values, one.name)
            if isinstance(path, Path) and path.parent == Path(directory):
                yield f"{section.name if section.name != 'storage' else 'mongodb'}.{one.name}"


def take_a_restart(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and cannot be exchanged while the service runs, by their names in the file."""
    changed = []
    if type(old.storage) is not type(new.storage):
        changed.append("storage")
    else:
        section = "mongodb" if hasattr(old.storage, "host") else "storage"
        changed += [f"{section}.{name}" for name in _differing(old.storage, new.storage)]
    for section in ("netbox", "encryption_secrets", "server", "auth", "cleanup", "history", "logging", "splunk"):
        names = _differing(getattr(old, section), getattr(new, section)) - _EXCHANGED.get(section, set())
        changed += [f"{section}.{name}" for name in sorted(names)]
    # Paths that are only there with a token, and TLS itself, are settled at the start.
    for name, before, after in (
        ("auth.token_path", old.auth.token, new.auth.token),
        ("server.tls_cert", old.server.tls_cert, new.server.tls_cert),
    ):
        if (before is None) != (after is None):
            changed.append(name)
    return changed


def _differing(old: Any, new: Any) -> set[str]:
    return {one.name for one in fields(old) if getattr(old, one.name) != getattr(new, one.name)}
