"""IPAM-API: the application. Routes, thin handlers, lifetimes.

A handler parses, calls one use case, and answers.
"""

# Before anything heavy is imported: `python ipam.py version` must not wait for aiohttp.
if __name__ == "__main__":
    import sys

    from ipam_lib.cli.main import main as _main

    sys.exit(_main())

import argparse
import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

from aiohttp import hdrs, web

from ipam_lib.assembly import assemble
from ipam_lib.cli.main import main
from ipam_lib.config import Settings
from ipam_lib.crypto import Secret
from ipam_lib.errors import NotFound
from ipam_lib.lifecycle import Services, run_services
from ipam_lib.models import Request
from ipam_lib.schemas import (
    AddressesFoundSchema,
    AddressesSchema,
    AddressSchema,
    ClusterExpiredSchema,
    ClusterSchema,
    ExpireSchema,
    HistorySchema,
    RegisterSchema,
    ZonesSchema,
    history_parameters,
    listing_parameters,
    parse_address,
    parse_history,
    parse_listing,
)
from ipam_lib.serializers import registration_json, tenure_json, zone_json
from ipam_lib.telemetry import logs
from ipam_lib.telemetry.logging_setup import run_logging
from ipam_lib.telemetry.metrics import CONTENT_TYPE
from ipam_lib.web import pages, server
from ipam_lib.web.activation import passed_sockets
from ipam_lib.web.health import (
    HealthSchema,
    HealthState,
    NotReadySchema,
    ReadySchema,
    StorageProbe,
    in_words,
    readiness,
)
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.middlewares import (
    BEARER,
    CLOCK,
    INFLIGHT,
    METRICS,
    REQUEST_TIMEOUT,
    Bearer,
    answer,
    authorise,
    with_deadline,
)
from ipam_lib.web.notify import Notifier
from ipam_lib.web.reload import Reloader
from ipam_lib.web.request_body import LARGEST_BODY, leave_expectation
from ipam_lib.web.responses import json_response, list_response
from ipam_lib.web.secret_throttle import SECRET_THROTTLE, SecretThrottle, throttled
from ipam_lib.web.spec import (
    DATA,
    SERVICE,
    SPECIFICATION,
    THROTTLED,
    add_specification,
    documented,
    validation_middleware,
)
from ipam_lib.web.tls import Certificate

__all__ = ["create_app", "demo", "main", "serve"]

log = logging.getLogger(__name__)

SERVICES = web.AppKey("parts", Services)
PROBE = web.AppKey("probe", StorageProbe)


def _throttled(request: web.Request, wanted: Request) -> AbstractAsyncContextManager[None]:
    """See `secret_throttle.throttled`."""
    registry = request.app[SERVICES].registry
    return throttled(
        request, wanted, lambda: with_deadline(request, lambda deadline: registry.is_unrelated_service(wanted))
    )


@documented(
    name="register",
    summary="Register or update an IP address",
    description="Answers the address of the service. Without `address`, that is the one it has already, else the "
    "next free one of the zone. With `address`, exactly that one: shared when it is registered under the same secret, "
    "else it must be free. `new_secret` replaces the secret while the service is the only one on the address.",
    takes=RegisterSchema,
    answers=AddressSchema,
    done="`Address registered successfully` when the address is new, `Address updated successfully` when it was there",
    errors={
        403: "The address is registered here under another secret",
        409: "The address is taken in NetBox by somebody else, the zone is full, `new_secret` cannot be set, or an "
        "identical request is still in flight",
        429: THROTTLED,
    },
)
async def register(request: web.Request) -> web.Response:
    """Register or update an address."""
    services = request.app[SERVICES]
    services.check_prepared()
    wanted = cast(Request, request[DATA])
    # Without an address there is nothing to guess: under another secret the service gets another address.
    async with _throttled(request, wanted) if wanted.address is not None else nullcontext():
        registered = await with_deadline(
            request, lambda deadline: services.registry.register(wanted, deadline=deadline)
        )
    if registered.created:
        services.metrics.registered(wanted.zone, wanted.ip_family)
    done = "registered" if registered.created else "updated"
    return json_response({"message": f"Address {done} successfully", "address": registered.address})


@documented(
    name="expire",
    summary="Set the expiration of a service on an address",
    description="The service expires `retention_period_days` from now (what was registered, when the request does not "
    "say). An address without services is given back. Other services on the address are left alone.",
    takes=ExpireSchema,
    answers=AddressSchema,
    done="`Service expiration set successfully`",
    errors={
        404: "There is no such registration, or no such service on it",
        409: "Somebody else kept changing it",
        429: THROTTLED,
    },
)
async def expire(request: web.Request) -> web.Response:
    """Set the expiration of a service."""
    services = request.app[SERVICES]
    services.check_prepared()
    wanted = cast(Request, request[DATA])
    async with _throttled(request, wanted):
        address = await with_deadline(request, lambda deadline: services.registry.expire(wanted, deadline=deadline))
    return json_response({"message": "Service expiration set successfully", "address": address})


@documented(
    name="expire_cluster",
    summary="Expire every service of a cluster at once",
    description="Except those that deny external cleanup.",
    takes=ClusterSchema,
    answers=ClusterExpiredSchema,
    done="`Cluster expiration set successfully`",
    errors={404: "The cluster has no services", 409: "Somebody else kept changing one of them"},
    bearer=True,
)
async def expire_cluster(request: web.Request) -> web.Response:
    """Expire every service of a cluster."""
    services = request.app[SERVICES]
    services.check_prepared()
    cluster_id = cast(str, request[DATA])
    outcome = await with_deadline(
        request, lambda deadline: services.registry.expire_cluster(cluster_id, deadline=deadline)
    )
    return json_response(
        {
            "message": "Cluster expiration set successfully",
            "cluster_id": cluster_id,
            "expired": outcome.expired,
            "denied": outcome.denied,
        }
    )


_AWAY = {503: "The storage is away or too slow"}
_ADDRESS = {
    "in": "path",
    "name": "address",
    "required": True,
    "type": "string",
    "pattern": "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
    "description": "`A`, `A/32` or `A/128`, or a network that the earlier service registered.",
}


@documented(
    name="addresses",
    summary="Read the registrations",
    description="A page of those that fit every filter, in the order in which they were made; filters of a service must"
    " all fit one and the same service. What is registered meanwhile shows no registration twice.",
    answers=AddressesSchema,
    errors=_AWAY | {400: "A parameter is wrong; `errors` says which"},
    parameters=listing_parameters(),
    bearer=True,
)
async def addresses(request: web.Request) -> web.Response:
    """A page of registrations."""
    services = request.app[SERVICES]
    services.check_prepared()
    wanted, limit, cursor = parse_listing(request.query)
    page = await with_deadline(
        request, lambda deadline: services.registry.addresses(wanted, limit=limit, cursor=cursor)
    )
    return await list_response("addresses", map(registration_json, page.registrations), cursor=page.cursor)


@documented(
    name="address",
    summary="Read who holds an address",
    description="With or without its mask. One registration for each zone that holds it.",
    answers=AddressesFoundSchema,
    errors=_AWAY | {400: "It is not an address", 404: "It is not registered"},
    parameters=(
        _ADDRESS,
        {
            "in": "query",
            "name": "zone",
            "required": False,
            "type": "string",
            "allowEmptyValue": True,
            "description": "Only of this zone.",
        },
    ),
    bearer=True,
)
async def address(request: web.Request) -> web.Response:
    """The registrations on an address."""
    services = request.app[SERVICES]
    services.check_prepared()
    spellings = parse_address(request.match_info["address"])
    zone = parse_listing({"zone": request.query.get("zone", "")}).wanted.zone
    found = await with_deadline(request, lambda deadline: services.registry.address(spellings, zone=zone))
    if not found:
        raise NotFound(f"{spellings[0]} is not registered")
    return await list_response("addresses", map(registration_json, found))


@documented(
    name="history",
    summary="Read who held an address, from when to when",
    description="Those who still do first, then those who gave it up last. What ended longer ago than it is kept "
    "(`history.retention_days`) is not told any more.",
    answers=HistorySchema,
    errors=_AWAY | {400: "It is not an address, or a parameter is wrong; `errors` says which"},
    parameters=(_ADDRESS, *history_parameters()),
    bearer=True,
)
async def history(request: web.Request) -> web.Response:
    """A page of an address's history."""
    services = request.app[SERVICES]
    services.check_prepared()
    spellings = parse_address(request.match_info["address"])
    zone, limit, cursor = parse_history(request.query)
    page = await with_deadline(
        request, lambda deadline: services.registry.history(spellings, zone=zone, limit=limit, cursor=cursor)
    )
    return await list_response("history", map(tenure_json, page.tenures), cursor=page.cursor)


@documented(
    name="zones",
    summary="Read how full the zones are",
    description="Sizes and numbers of addresses, by zone and family, and the container prefixes that they are of.",
    answers=ZonesSchema,
    errors=_AWAY,
    bearer=True,
)
async def zones(request: web.Request) -> web.Response:
    """How full the zones are."""
    services = request.app[SERVICES]
    services.check_prepared()
    found = await with_deadline(request, lambda deadline: services.registry.zones())
    return await list_response("zones", map(zone_json, found))


@documented(
    name="healthz",
    summary="Whether the process lives",
    description="Looks at nothing else.",
    answers=HealthSchema,
    tag=SERVICE,
)
async def healthz(request: web.Request) -> web.Response:
    """Say that the process lives."""
    del request
    return json_response({"status": "ok"})


@documented(
    name="readyz",
    summary="Whether the service can do its work",
    description="Ready when the storage answers and the zones are loaded. NetBox may be away: what is registered is "
    "served without it; `degraded` says so.",
    answers=ReadySchema,
    errors={503: "Not ready; the message names what is missing"},
    unready=NotReadySchema,
    tag=SERVICE,
)
async def readyz(request: web.Request) -> web.Response:
    """Say whether storage answers and zones are loaded."""
    status, report = await _readiness(request.app)
    return json_response(report, status=status, headers={"Retry-After": "2"} if status == 503 else None)


async def _readiness(app: web.Application) -> tuple[int, dict[str, Any]]:
    services = app[SERVICES]
    storage = None
    if not await app[PROBE].answers():
        storage = "does not answer"
    elif not services.prepared:
        storage = "is being prepared"
    return readiness(
        HealthState(
            storage=storage,
            zones=(services.zones.source or "storage") if services.zones.loaded else None,
            zones_age_seconds=services.zones.age_seconds,
            zones_trouble=services.zones.trouble,
            netbox_away=services.netbox.away,
            pool=services.pools,
            background=services.alive(),
        )
    )


async def metrics(request: web.Request) -> web.Response:
    """What is counted and timed, as Prometheus reads it."""
    # Some of it is read from files of the system.
    text = await asyncio.to_thread(request.app[SERVICES].metrics.text)
    return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def specification(request: web.Request) -> web.Response:
    """The specification, with the zones that there are now as the choices of `zone`."""
    content: dict[str, Any] = request.app[SPECIFICATION]
    if names := list(request.app[SERVICES].zones.names):
        content = copy.deepcopy(content)
        for schema in ("Register", "Expire"):
            content["definitions"][schema]["properties"]["zone"]["enum"] = names
    return json_response(content)


async def _lifetime(app: web.Application) -> AsyncIterator[None]:
    async with run_services(app[SERVICES]):
        yield
        await app[PROBE].close()


def create_app(
    services: Services, *, bearer: Secret | None = None, request_timeout_seconds: float = 25.0
) -> web.Application:
    """The application over these parts.

    `bearer` opens the paths that need a token; without it they do not exist. Every request is answered within
    `request_timeout_seconds`.
    """
    app = web.Application(middlewares=[answer, authorise, validation_middleware], client_max_size=LARGEST_BODY)
    app[SERVICES] = services
    app[PROBE] = StorageProbe(services.store.ping)
    app[INFLIGHT] = InFlight()
    app[METRICS] = services.metrics
    services.metrics.add_callback_gauge(
        "http_requests_in_flight",
        "Running requests, and tasks of requests that have not ended",
        lambda: app[INFLIGHT].count,
    )
    app[CLOCK] = services.clock
    app[SECRET_THROTTLE] = SecretThrottle(services.clock.monotonic)
    app[REQUEST_TIMEOUT] = request_timeout_seconds
    add = app.router.add_route
    for path in ("/", "/v2/address"):
        add("POST", path, register, expect_handler=leave_expectation)
    for path in ("/", "/v2/service"):
        add("DELETE", path, expire, expect_handler=leave_expectation)
    if bearer is not None:
        app[BEARER] = Bearer(bearer)
        add("DELETE", "/v2/cluster", expire_cluster, expect_handler=leave_expectation)
        app.router.add_get("/v2/addresses", addresses)
        # The mask may stand behind a slash, escaped or not.
        app.router.add_get("/v2/addresses/{address:[^/]+(?:/[^/]+)?}/history", history)
        app.router.add_get("/v2/addresses/{address:[^/]+(?:/[^/]+)?}", address)
        app.router.add_get("/v2/zones", zones)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/swagger/doc.json", specification)
    pages.add_routes(app)
    add_specification(app)
    app.cleanup_ctx.append(_lifetime)
    return app


async def serve_settings(
    settings: Settings, announce: Callable[[str], None], load: Callable[[], tuple[Settings, list[str]]] | None = None
) -> None:
    """Run the service until it is told to stop. `announce` is called with its URL once it listens. `load` reads the
    settings again when it is told to reload; without it, it cannot be told so.

    Raises ConfigError when the port is taken, or something shows only now.
    """
    listen = settings.server
    notifier, sockets = Notifier.from_environment(), passed_sockets()
    async with run_logging(settings) as pipeline:
        services = assemble(settings)
        services.metrics.add_callback_counter(
            "log_dropped_lines", "Log lines that were dropped, by place", "where", lambda: pipeline.dropped
        )
        app = create_app(services, bearer=settings.auth.token, request_timeout_seconds=listen.request_timeout_seconds)
        certificate = Certificate(listen.tls_cert, listen.tls_key) if listen.tls_cert else None
        reload = Reloader(load, settings, services, app.get(BEARER), certificate) if load else None

        async def report() -> str:
            return in_words((await _readiness(app))[1])

        await server.serve(
            app,
            server.Listen(
                host=listen.host,
                port=listen.port,
                reuse_port=listen.reuse_port,
                certificate=certificate,
                sockets=sockets,
            ),
            announce,
            server.ServiceManagerHooks(notifier=notifier, alive=lambda: services.alive(), report=report, reload=reload),
        )


def serve(arguments: argparse.Namespace) -> int:
    """`serve`: run the service as configured. Raises ConfigError."""
    given = {"host": arguments.host, "port": arguments.port}
    overrides = {name: value for name, value in given.items() if value is not None}

    def load() -> tuple[Settings, list[str]]:
        settings, warnings = Settings.load(getattr(arguments, "config", None))
        settings = replace(settings, server=replace(settings.server, **overrides))
        if arguments.log_dir is not None:
            settings = replace(settings, logging=replace(settings.logging, directory=arguments.log_dir))
        return settings, warnings

    settings, warnings = load()
    logs.set_up(settings.logging.level)
    for warning in warnings:
        log.warning("%s", warning)
    asyncio.run(serve_settings(settings, lambda url: print(f"listening on {url}", flush=True), load))
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """`demo`: run the service on the embedded database and the NetBox simulator. Raises CommandError, ConfigError."""
    from ipam_lib.cli import demo as command

    return command.run(arguments, serve_settings)
