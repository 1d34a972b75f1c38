"""The JSON of registrations, histories and zones, for the HTTP interface and for the commands. It never holds a secret.

docs/http.md and docs/commands.md describe these shapes. Fields may be added, never renamed or retyped.
"""

from __future__ import annotations

from typing import Any

from ipam_lib.addresses import network
from ipam_lib.models import Registration, Service, ServiceKey, Tenure
from ipam_lib.registry import ContainerUse, ZoneUse
from ipam_lib.text import json_time


def registration_json(registration: Registration) -> dict[str, Any]:
    """A registration with its services."""
    return {
        **registration_head_json(registration),
        "services": [service_json(service) for service in registration.services],
    }


def registration_head_json(registration: Registration) -> dict[str, Any]:
    """A registration without its services."""
    return {
        "id": registration.id,
        "zone": registration.zone,
        "address": registration.address,
        "ip_family": registration.ip_family,
        "netbox_id": registration.netbox_id,
        "state": registration.state.value,
        "duplicate": registration.duplicate,
    }


def service_key_json(key: ServiceKey) -> dict[str, Any]:
    """The three fields that identify a service."""
    return {"service_name": key.service_name, "namespace_id": key.namespace_id, "cluster_id": key.cluster_id}


def service_json(service: Service) -> dict[str, Any]:
    """A service on a registration."""
    return {
        **service_key_json(service.key),
        "retention_period_days": service.retention_period_days,
        "deny_external_cleanup": service.deny_external_cleanup,
        "expires_at": json_time(service.expires_at),
    }


def tenure_json(tenure: Tenure) -> dict[str, Any]:
    """The time during which a service held an address."""
    return {
        "address": tenure.address,
        "zone": tenure.zone,
        "ip_family": tenure.ip_family,
        "registration_id": tenure.registration_id,
        **service_key_json(tenure.key),
        "from": json_time(tenure.since),
        "until": json_time(tenure.until),
        # A tenure ends only when its service expires.
        "ended": None if tenure.until is None else "expired",
    }


def zone_json(zone: ZoneUse) -> dict[str, Any]:
    """The use of a zone, by address family, and of its quotas."""
    return {
        "zone": zone.zone,
        "families": [
            {
                "ip_family": use.ip_family,
                "size": use.size,
                "used": use.used,
                "reserved": use.reserved,
                "other_prefixes": use.other_prefixes,
                "other_addresses": use.other_addresses,
                "free": use.free,
                "as_of": json_time(use.as_of),
                "containers": [_container_json(container) for container in use.containers],
            }
            for use in zone.families
        ],
        "quotas": [
            {"owner": use.owner, "limit": use.limit, "highest": use.highest, "nearly_used": use.nearly_used}
            for use in zone.quotas
        ],
    }


def _container_json(use: ContainerUse) -> dict[str, Any]:
    container, space = use.container, use.space
    return {
        "prefix": container.prefix,
        "size": network(container.prefix).num_addresses,
        "netbox_id": container.id,
        "vrf_id": container.vrf_id,
        "utilized": None if space is None else space.utilized,
        "own": None if space is None else space.own,
        "other_prefixes": None if space is None else space.prefixes,
        "other_addresses": None if space is None or not space.ip_addresses_known else space.ip_addresses,
        "free": None if space is None else space.free,
        "as_of": None if space is None else json_time(space.as_of),
    }
