"""Build the services from the settings. Nothing is opened here."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

from ipam_lib.clock import Clock, SystemClock
from ipam_lib.config import NetBoxSection, Settings, SQLitePath
from ipam_lib.description import DescriptionTemplate
from ipam_lib.ids import object_ids
from ipam_lib.lifecycle import Services
from ipam_lib.netbox.base import NetBox, Zones
from ipam_lib.netbox.client import NetBoxClient
from ipam_lib.netbox.endpoint import NetBoxSettings
from ipam_lib.netbox.event_queue import EventQueue
from ipam_lib.netbox.transport import Transport
from ipam_lib.netbox.zones import ZoneCache
from ipam_lib.registry import Context, Registry, RegistrySettings
from ipam_lib.storage.base import Store
from ipam_lib.storage.bulk_copy import CopyableStore
from ipam_lib.telemetry.metrics import BREAKER_STATES, Metrics, Observe, instrument
from ipam_lib.version import __version__

ZONES_DOCUMENT: Final = "zones"


def make_store(settings: Settings) -> CopyableStore:
    """The configured store. Raises ConfigError."""
    # Import only the engine that is used: the driver of the other one costs time and memory.
    storage = settings.storage
    if isinstance(storage, SQLitePath):
        from ipam_lib.storage.sqlite import SQLiteStore

        return SQLiteStore(storage.path)
    from ipam_lib.storage.mongo import MongoStore

    return MongoStore(
        storage.connection_string().reveal(),
        storage.database,
        storage.collection,
        coexist=settings.encryption_secrets.scheme == "legacy-ctr",
    )


def netbox_settings(netbox: NetBoxSection) -> NetBoxSettings:
    """What NetBox's client is made with."""
    return NetBoxSettings(
        url=netbox.url,
        token=netbox.token.reveal(),
        constraint_tag=netbox.constraint_tag,
        timeout_seconds=netbox.timeout_seconds,
        ca_file=netbox.ca_file,
        custom_fields=netbox.custom_fields,
        inherit_custom_fields=netbox.inherit_custom_fields,
        ip_addresses=netbox.ip_addresses,
        refresh_seconds=netbox.refresh_seconds,
        user_agent=f"ipam-api/{__version__}",
    )


def make_netbox(settings: Settings, clock: Clock, observe: Observe | None = None) -> NetBoxClient:
    """NetBox's client. Raises ConfigError."""
    return NetBoxClient(Transport(netbox_settings(settings.netbox), clock=clock, observe=observe))


def make_context(settings: Settings, store: Store, netbox: NetBox, zones: Zones, clock: Clock) -> Context:
    """The environment of the use cases."""
    return Context(
        store=store,
        netbox=netbox,
        zones=zones,
        cipher=settings.encryption_secrets.cipher(),
        clock=clock,
        new_id=object_ids(),
        settings=RegistrySettings(
            longest_request=settings.server.request_timeout_seconds,
            netbox_call=settings.netbox.timeout_seconds,
            ip_addresses=settings.netbox.ip_addresses,
            warm=settings.netbox.warm_addresses,
            cooldown=timedelta(minutes=settings.cleanup.cooldown_minutes),
            history=timedelta(days=settings.history.retention_days),
            description=DescriptionTemplate(settings.netbox.description) if settings.netbox.description else None,
            quotas={
                "cluster": settings.limits.addresses_per_cluster,
                "namespace": settings.limits.addresses_per_namespace,
            },
        ),
    )


def assemble(settings: Settings, clock: Clock | None = None) -> Services:
    """All services of the application.

    Raises ConfigError for a problem that only the making of a service shows.
    """
    clock = clock or SystemClock()
    metrics = Metrics(clock.monotonic)
    store = instrument(make_store(settings), metrics.storage_call)
    netbox = make_netbox(settings, clock, metrics.netbox_call)
    zones = ZoneCache(
        netbox.zone_reader,
        clock=clock,
        load=partial(store.load_document, ZONES_DOCUMENT),
        save=partial(store.save_document, ZONES_DOCUMENT),
        refresh_seconds=settings.netbox.refresh_seconds,
        limit=settings.netbox.timeout_seconds,
    )
    metrics.add_callback_gauge(
        "netbox_breaker_state",
        "0 closed: requests are sent; 1 half-open: one request tests NetBox; 2 open: no requests are sent for a while",
        lambda: BREAKER_STATES.index(netbox.breaker.state),
    )
    metrics.add_callback_gauge(
        "zones_age_seconds",
        "Seconds since the zones were loaded from NetBox; -1 before the first load",
        lambda: -1.0 if zones.age_seconds is None else zones.age_seconds,
    )
    events = None
    if settings.netbox.webhook_secret is not None:
        limit = settings.netbox.timeout_seconds
        events = EventQueue(
            netbox.space,
            refresh_zones=zones.refresh,
            get_many=partial(netbox.get_many, limit=limit),
            limit=limit,
            ip_addresses=settings.netbox.ip_addresses != "ignore",
        )
    context = make_context(settings, store, netbox, zones, clock)
    metrics.add_callback_counter(
        "quota_refusals", "Requests that a quota refused; cluster, namespace", "quota", lambda: context.quotas.refused
    )
    return Services(
        store=store,
        netbox=netbox,
        space=netbox.space,
        zones=zones,
        events=events,
        registry=Registry(context),
        clock=clock,
        cleanup_seconds=settings.cleanup.interval_seconds,
        pools=context.settings.pools,
        metrics=metrics,
    )
