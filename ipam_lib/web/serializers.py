"""What is read, as JSON. A secret never gets here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ipam_lib.addresses import network
from ipam_lib.models import Registration, Service, Tenure
from ipam_lib.netbox.base import Container
from ipam_lib.registry import ZoneUse


def registration_json(one: Registration) -> dict[str, Any]:
    """A registration, without its secret."""
    return {
        "address": one.address,
        "zone": one.zone,
        "ip_family": one.ip_family,
        "state": one.state.value,
        "netbox_id": one.netbox_id,
        "services": [_service_json(service) for service in one.services],
    }


def zone_json(one: ZoneUse) -> dict[str, Any]:
    """How full a zone is."""
    return {
        "zone": one.zone,
        "families": [
            {
                "ip_family": use.ip_family,
                "size": use.size,
                "used": use.used,
                "reserved": use.reserved,
                "free": use.free,
                "containers": [_container_json(container) for container in use.containers],
            }
            for use in one.families
        ],
    }


def tenure_json(one: Tenure) -> dict[str, Any]:
    """Who held an address, from when to when."""
    return {
        "address": one.address,
        "zone": one.zone,
        "ip_family": one.ip_family,
        "registration_id": one.registration_id,
        "service_name": one.key.service_name,
        "namespace_id": one.key.namespace_id,
        "cluster_id": one.key.cluster_id,
        "from": None if one.since is None else _time_json(one.since),
        "until": None if one.until is None else _time_json(one.until),
        # A service leaves an address in no other way.
        "ended": None if one.until is None else "expired",
    }


def _service_json(service: Service) -> dict[str, Any]:
    return {
        "service_name": service.key.service_name,
        "namespace_id": service.key.namespace_id,
        "cluster_id": service.key.cluster_id,
        "retention_period_days": service.retention_period_days,
        "deny_external_cleanup": service.deny_external_cleanup,
        "expires_at": None if service.expires_at is None else _time_json(service.expires_at),
    }


def _time_json(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _container_json(one: Container) -> dict[str, Any]:
    return {
        "prefix": one.prefix,
        "size": network(one.prefix).num_addresses,
        "netbox_id": one.id,
        "vrf_id": one.vrf_id,
    }
