"""Log lines about a registration: they all have the same fields, so that a search finds them by zone, address,
registration or service."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import Any

from ipam_lib.models import Registration, ServiceKey


def log_registration(
    log: logging.Logger,
    text: str,
    registration: Registration,
    keys: Collection[ServiceKey],
    *arguments: object,
    **fields: Any,
) -> None:
    """Log a change of the services `keys` on a registration, at the level INFO.

    `text` takes the address, the zone, the names of the services, then `arguments`. `fields`: further fields of the
    line.
    """
    log.info(
        text,
        registration.address,
        registration.zone,
        service_names(keys),
        *arguments,
        extra=registration_fields(registration, keys, **fields),
        stacklevel=2,
    )


def registration_fields(registration: Registration, keys: Iterable[ServiceKey], **fields: Any) -> dict[str, Any]:
    """The fields of a line about a registration and services on it."""
    return {
        "zone": registration.zone,
        "address": registration.address,
        "registration": registration.id,
        "services": [asdict(key) for key in keys],
        **fields,
    }


def service_names(keys: Iterable[ServiceKey]) -> str:
    """The names of services, for the text of a line."""
    return ", ".join(key.service_name for key in keys) or "no known service"
