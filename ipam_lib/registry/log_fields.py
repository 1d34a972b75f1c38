"""What the log says about a registration, in the same fields everywhere: so that it can be searched by any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipam_lib.models import Registration, ServiceKey


def registration_fields(registration: Registration, keys: Iterable[ServiceKey], **more: Any) -> dict[str, Any]:
    """The fields of a line about a registration and services on it."""
    return {
        "zone": registration.zone,
        "address": registration.address,
        "registration": registration.id,
        "services": [
            {"service_name": key.service_name, "namespace_id": key.namespace_id, "cluster_id": key.cluster_id}
            for key in keys
        ],
        **more,
    }


def service_names(keys: Iterable[ServiceKey]) -> str:
    """Services in words."""
    return ", ".join(key.service_name for key in keys) or "nobody known"
