"""Registrations as text, as the commands print them. `ipam_lib.serializers` makes their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

from ipam_lib.cli.terminal import local_time, paint
from ipam_lib.models import Registration, Service
from ipam_lib.text import plural, printable

NEVER = "-"


def expiration(service: Service, now: datetime, stream: TextIO | None = None) -> str:
    """When a service expires, as text for the stream (by default standard output)."""
    if service.expires_at is None:
        return NEVER
    text = local_time(service.expires_at)
    return paint(f"{text} (over)", "red", stream) if service.expired(now) else paint(text, "yellow", stream)


def end(registration: Registration) -> str:
    """When the last service of a registration expires; or how many expire, if not all do."""
    moments = [one.expires_at for one in registration.services if one.expires_at is not None]
    if not moments:
        return NEVER
    if len(moments) < len(registration.services):
        return f"{len(moments)} of {len(registration.services)} services"
    return local_time(max(moments))


SERVICE_HEADINGS = ("SERVICE", "NAMESPACE", "CLUSTER", "RETENTION", "CLUSTER EXPIRY", "EXPIRES")


def service_row(service: Service, now: datetime) -> Sequence[str]:
    """A service as a row under SERVICE_HEADINGS."""
    return (
        printable(service.key.service_name),
        printable(service.key.namespace_id),
        printable(service.key.cluster_id),
        plural(service.retention_period_days, "day"),
        "denied" if service.deny_external_cleanup else "allowed",
        expiration(service, now),
    )


def service_line(service: Service) -> str:
    """A service as one line."""
    key = service.key
    return printable(f"{key.service_name}, namespace {key.namespace_id}, cluster {key.cluster_id}")


def heading(one: Registration, stream: TextIO | None = None) -> str:
    """A registration as one line for the stream (by default standard output)."""
    facts = [f"zone {one.zone}", f"NetBox prefix {one.netbox_id or 'unknown'}", f"id {one.id}"]
    if one.duplicate:
        facts.append("a duplicate: another registration counts")
    if one.state.value != "live":
        facts.append(one.state.value)
    return f"{paint(printable(one.address), 'bold')}  {printable(', '.join(facts))}"
