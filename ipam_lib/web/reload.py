"""Reload the configuration while the service runs: tokens, keys, certificates, access rules, and the zones.

If one file cannot be used, nothing is reloaded and the log says why. A request that has begun keeps its keys.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ipam_lib.config import Settings, changed_settings
from ipam_lib.errors import ConfigError, NetBoxError
from ipam_lib.lifecycle import Services
from ipam_lib.netbox.endpoint import usable_token
from ipam_lib.telemetry import redaction
from ipam_lib.web.access_control import AccessControl, AccessRules
from ipam_lib.web.operation import Bearer
from ipam_lib.web.tls import Certificate, tls_context
from ipam_lib.web.webhook import WebhookSecret

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reloader:
    """Puts the settings that `load` reads in force.

    `settings`: those in force. `bearer`, `certificate`, `webhook`: None if the service started without them.
    """

    load: Callable[[], tuple[Settings, list[str]]]
    settings: Settings
    services: Services
    access: AccessControl
    bearer: Bearer | None = None
    certificate: Certificate | None = None
    webhook: WebhookSecret | None = None

    async def __call__(self) -> None:
        """Reload. Problems are logged, never raised."""
        try:
            new, warnings = await asyncio.to_thread(self.load)
            await asyncio.to_thread(self._apply, new)
        except ConfigError as error:
            for problem in [*error.problems, "nothing was reloaded; the former settings stay in force"]:
                log.error("%s", problem)  # noqa: TRY400 - the traceback would say nothing to the administrator
        else:
            for warning in warnings:
                log.warning("%s", warning)
            log.info("reloaded tokens, keys and certificate")
            if copies := sorted(systemd_copies(new)):
                log.warning(
                    "systemd copied these files when it started the service; a change in them needs a restart: %s",
                    ", ".join(copies),
                )
        try:
            await self.services.zones.reload()
        except NetBoxError as error:
            log.warning("the zones could not be loaded from NetBox: %s", error.detail or error)
        else:
            log.info("reloaded the zones")

    def _apply(self, new: Settings) -> None:
        """Check all new settings, then put them in force. On ConfigError the former settings stay in force."""
        old = self.settings
        usable_token(new.netbox.token.reveal())
        context = None
        if self.certificate is not None and new.server.tls_cert is not None:
            client_ca = new.server.tls_client_ca or old.server.tls_client_ca
            context = tls_context(new.server.tls_cert, new.server.tls_key, client_ca)
        keys, encryption = old.encryption_secrets.keys, new.encryption_secrets
        if keys not in (encryption.keys, encryption.previous):
            problem = "encryption_secrets: the keys have changed, and previous_path does not name the former keys"
            raise ConfigError([f"{problem}: without them no registration would be found by its secret"])
        # The store compares documents in the way that the scheme at the start needs, so the scheme stays.
        cipher = replace(encryption, scheme=old.encryption_secrets.scheme).cipher()
        if later := needs_restart(old, new):
            log.warning("these changed settings need a restart: %s", ", ".join(later))
        redaction.add_secrets(new.secrets())
        self.services.netbox.set_token(new.netbox.token.reveal())
        registry = self.services.registry
        registry.context = replace(registry.context, cipher=cipher)
        self.access.rules = replace(AccessRules.of(new.server), certificate=self.access.rules.certificate)
        if self.bearer is not None and new.auth.token is not None:
            self.bearer.token = new.auth.token
        if self.webhook is not None and new.netbox.webhook_secret is not None:
            self.webhook.secret = new.netbox.webhook_secret
        if self.certificate is not None and context is not None:
            self.certificate.use(context)
        self.settings = replace(
            old,
            netbox=replace(
                old.netbox,
                token=new.netbox.token,
                webhook_secret=(new.netbox.webhook_secret or old.netbox.webhook_secret) if self.webhook else None,
            ),
            auth=replace(old.auth, token=(new.auth.token or old.auth.token) if self.bearer else None),
            encryption_secrets=replace(old.encryption_secrets, keys=encryption.keys, previous=encryption.previous),
        )


def systemd_copies(settings: Settings) -> Iterator[str]:
    """The settings whose files systemd copied at the start (`LoadCredential=`), by their names in the file."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    for name, section in settings.sections().items():
        for member in fields(section):
            path = getattr(section, member.name)
            if directory and isinstance(path, Path) and path.parent == Path(directory):
                yield f"{name}.{member.name}"


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The changed settings that a reload cannot put in force, by their names in the file."""
    return [
        name
        for name, setting, added_or_removed in changed_settings(old, new)
        if setting.reload == "no" or (setting.reload == "replace" and added_or_removed)
    ]
