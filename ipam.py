"""IPAM-API: the application, with its routes and thin handlers.

A handler calls one use case and returns the JSON object of the answer. `ipam_lib.web.operation` does the rest: bearer
token, body, errors. `ipam_lib.web.middlewares` limits the time of every request.
"""

# Before any slow import: `python ipam.py version` must not wait for aiohttp.
if __name__ == "__main__":
    import sys

    from ipam_lib.cli.main import main as _main

    sys.exit(_main())

import argparse
import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final

from aiohttp import hdrs, web

from ipam_lib.assembly import assemble
from ipam_lib.cli.main import main
from ipam_lib.config import Settings
from ipam_lib.crypto import Secret
from ipam_lib.errors import ConfigError, NotFound
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
from ipam_lib.web.access_control import ACCESS_CONTROL, AccessControl, AccessRules
from ipam_lib.web.activation import passed_sockets
from ipam_lib.web.connection import Limits
from ipam_lib.web.health import (
    PROBE,
    HealthSchema,
    NotReadySchema,
    ReadySchema,
    StorageProbe,
    health_state,
    in_words,
    readiness,
)
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.middlewares import INFLIGHT, REQUEST_TIMEOUT, SERVICES, answer
from ipam_lib.web.notify import Notifier
from ipam_lib.web.openapi import openapi
from ipam_lib.web.operation import BEARER, CHANGE, READ, SERVICE, Answer, Bearer, Call, operation
from ipam_lib.web.refusal_throttle import RefusalThrottle
from ipam_lib.web.reload import Reloader
from ipam_lib.web.request_body import LARGEST_BODY
from ipam_lib.web.responses import json_response, list_response
from ipam_lib.web.secret_throttle import SECRET_THROTTLE, SecretThrottle, throttled
from ipam_lib.web.spec import SPECIFICATION, add_operations
from ipam_lib.web.tls import Certificate
from ipam_lib.web.webhook import WEBHOOK_SECRET, WebhookSecret, netbox_webhook

__all__ = ["create_app", "demo", "main", "serve"]

log = logging.getLogger(__name__)


@operation(
    hdrs.METH_POST,
    "/",
    "/v2/address",
    name="register",
    summary="Register or update an IP address",
    description="Returns the address of the service. Without `address`: the one that the service has already, or else "
    "the next free one of the zone. With `address`: exactly this one; it must be free or registered under the same "
    "secret. `new_secret` replaces the secret if the service is the only one on the address.",
    tag=CHANGE,
    takes=RegisterSchema,
    answers=AddressSchema,
    done="`Address registered successfully` for a new address, `Address updated successfully` for an existing one",
    errors=(
        *(
            "unknown_zone",
            "address_outside_zone",
            "no_containers",
            "wrong_secret",
            "address_taken",
            "zone_full",
            "quota_exceeded",
        ),
        *("address_cooling_down", "secret_shared", "in_flight", "too_many_attempts"),
        *("netbox_unavailable", "netbox_refused"),
    ),
)
async def register(call: Call[Request]) -> Answer:
    """Register or update an address."""
    wanted = call.content
    # Without an address no secret can be guessed: under another secret the service gets another address.
    async with throttled(call.request, wanted) if wanted.address is not None else nullcontext():
        registered = await call.registry.register(wanted, deadline=call.deadline)
    if registered.created:
        call.services.metrics.registered(wanted.zone, wanted.ip_family)
    done = "registered" if registered.created else "updated"
    return {"message": f"Address {done} successfully", "address": registered.address}


@operation(
    hdrs.METH_DELETE,
    "/",
    "/v2/service",
    name="expire",
    summary="Set the expiration of a service on an address",
    description="The service expires `retention_period_days` from now (without it: the registered number of days). "
    "The cleanup releases an address without services. Other services on the address do not change.",
    tag=CHANGE,
    takes=ExpireSchema,
    answers=AddressSchema,
    done="`Service expiration set successfully`",
    errors=("not_registered", "too_many_attempts"),
)
async def expire(call: Call[Request]) -> Answer:
    """Set the expiration of a service."""
    async with throttled(call.request, call.content):
        address = await call.registry.expire(call.content, deadline=call.deadline)
    return {"message": "Service expiration set successfully", "address": address}


@operation(
    hdrs.METH_DELETE,
    "/v2/cluster",
    name="expire_cluster",
    summary="Expire every service of a cluster at once",
    description="Services with `deny_external_cleanup` do not change.",
    tag=CHANGE,
    takes=ClusterSchema,
    answers=ClusterExpiredSchema,
    done="`Cluster expiration set successfully`",
    errors=("not_registered",),
    bearer=True,
)
async def expire_cluster(call: Call[str]) -> Answer:
    """Expire every service of a cluster."""
    outcome = await call.registry.expire_cluster(call.content, deadline=call.deadline)
    return {
        "message": "Cluster expiration set successfully",
        "cluster_id": call.content,
        "expired": outcome.expired,
        "denied": outcome.denied,
    }


# The mask may follow a slash, percent-encoded or not.
_ADDRESS_PATH: Final = "/v2/addresses/{address:[^/]+(?:/[^/]+)?}"
_ADDRESS: Final = {
    "in": "path",
    "name": "address",
    "required": True,
    "type": "string",
    "pattern": "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
    "description": "`A`, `A/32` or `A/128`, or a network that the earlier service registered.",
}
_ZONE: Final = {
    "in": "query",
    "name": "zone",
    "required": False,
    "type": "string",
    "allowEmptyValue": True,
    "description": "Only of this zone.",
}


@operation(
    hdrs.METH_GET,
    "/v2/addresses",
    name="addresses",
    summary="Read the registrations",
    description="One page of the registrations that match every filter, in the order of their creation. All filters of "
    "services must match the same service. New registrations between two pages do not repeat one.",
    tag=READ,
    answers=AddressesSchema,
    errors=("invalid_request",),
    parameters=listing_parameters(),
    bearer=True,
)
async def addresses(call: Call[None]) -> Answer:
    """A page of registrations."""
    wanted, limit, cursor = parse_listing(call.request.query)
    page = await call.registry.addresses(wanted, limit=limit, cursor=cursor)
    return await list_response("addresses", map(registration_json, page.registrations), cursor=page.cursor)


@operation(
    hdrs.METH_GET,
    f"{_ADDRESS_PATH}/history",
    name="history",
    summary="Read the history of an address",
    description="The services that held the address, and when: current ones first, then the latest ended. Entries that "
    "ended more than `history.retention_days` ago are deleted.",
    tag=READ,
    answers=HistorySchema,
    errors=("invalid_request",),
    parameters=(_ADDRESS, *history_parameters()),
    bearer=True,
)
async def history(call: Call[None]) -> Answer:
    """A page of the history of an address."""
    spellings = parse_address(call.request.match_info["address"])
    zone, limit, cursor = parse_history(call.request.query)
    page = await call.registry.history(spellings, zone=zone, limit=limit, cursor=cursor)
    return await list_response("history", map(tenure_json, page.tenures), cursor=page.cursor)


@operation(
    hdrs.METH_GET,
    _ADDRESS_PATH,
    name="address",
    summary="Read the registrations of an address",
    description="With or without its mask. One registration for each zone that has the address.",
    tag=READ,
    answers=AddressesFoundSchema,
    errors=("invalid_request", "not_registered"),
    parameters=(_ADDRESS, _ZONE),
    bearer=True,
)
async def address(call: Call[None]) -> Answer:
    """The registrations of an address."""
    spellings = parse_address(call.request.match_info["address"])
    zone = parse_listing({"zone": call.request.query.get("zone", "")}).wanted.zone
    found = await call.registry.address(spellings, zone=zone)
    if not found:
        raise NotFound(f"{spellings[0]} is not registered")
    return await list_response("addresses", map(registration_json, found))


@operation(
    hdrs.METH_GET,
    "/v2/zones",
    name="zones",
    summary="Read the use of the zones",
    description="Sizes and numbers of addresses, by zone and family, and their container prefixes.",
    tag=READ,
    answers=ZonesSchema,
    bearer=True,
)
async def zones(call: Call[None]) -> Answer:
    """The use of the zones."""
    return await list_response("zones", map(zone_json, await call.registry.zones()))


@operation(
    hdrs.METH_GET,
    "/healthz",
    name="healthz",
    summary="Whether the process lives",
    description="It checks nothing else.",
    tag=SERVICE,
    answers=HealthSchema,
    storage=False,
)
async def healthz(call: Call[None]) -> Answer:
    """The process lives."""
    del call
    return {"status": "ok"}


@operation(
    hdrs.METH_GET,
    "/readyz",
    name="readyz",
    summary="Whether the service can serve requests",
    description="Ready when the storage answers and the zones are loaded. Without NetBox the service is ready, because "
    "it serves all existing registrations; `degraded` says so.",
    tag=SERVICE,
    answers=ReadySchema,
    errors=("not_ready",),
    unready=NotReadySchema,
    storage=False,
)
async def readyz(call: Call[None]) -> Answer:
    """The readiness of the service."""
    status, report = readiness(await health_state(call.request.app))
    return json_response(report, status=status, headers={"Retry-After": "2"} if status == 503 else None)


async def metrics(request: web.Request) -> web.Response:
    """The metrics in the text format of Prometheus."""
    # Some come from files of the system.
    text = await asyncio.to_thread(request.app[SERVICES].metrics.text)
    return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def swagger_specification(request: web.Request) -> web.Response:
    """The specification as Swagger 2.0."""
    return json_response(_specification(request.app))


async def openapi_specification(request: web.Request) -> web.Response:
    """The specification as OpenAPI 3.0.3."""
    return json_response(openapi(_specification(request.app)))


def _specification(app: web.Application) -> dict[str, Any]:
    """The specification, with the current zones as the choices of `zone`."""
    content: dict[str, Any] = app[SPECIFICATION]
    if names := list(app[SERVICES].zones.names):
        content = copy.deepcopy(content)
        for schema in ("Register", "Expire"):
            content["definitions"][schema]["properties"]["zone"]["enum"] = names
    return content


OPERATIONS: Final = (
    register,
    expire,
    expire_cluster,
    addresses,
    history,
    address,
    zones,
    healthz,
    readyz,
    netbox_webhook,
    pages.index,
)


async def _run_services(app: web.Application) -> AsyncIterator[None]:
    async with run_services(app[SERVICES]):
        yield
        await app[PROBE].close()


def create_app(
    services: Services,
    *,
    bearer: Secret | None = None,
    webhook_secret: Secret | None = None,
    request_timeout_seconds: float = 25.0,
    access: AccessRules | None = None,
) -> web.Application:
    """The application over these services.

    `bearer`: the bearer token; without it the operations that need one do not exist. `webhook_secret`: the same for the
    webhook. Every request is answered within `request_timeout_seconds`. `access`: the clients that may call; None for
    all.
    """
    app = web.Application(middlewares=[answer], client_max_size=LARGEST_BODY)
    app[SERVICES] = services
    app[PROBE] = StorageProbe(services.store.ping)
    app[INFLIGHT] = InFlight()
    app[SECRET_THROTTLE] = SecretThrottle(services.clock.monotonic)
    app[REQUEST_TIMEOUT] = request_timeout_seconds
    app[ACCESS_CONTROL] = AccessControl(access or AccessRules())
    if bearer is not None:
        app[BEARER] = Bearer(bearer)
    if webhook_secret is not None:
        app[WEBHOOK_SECRET] = WebhookSecret(webhook_secret)
    services.metrics.add_callback_gauge(
        "http_requests_in_flight", "Requests in progress, also after their time limit", lambda: app[INFLIGHT].count
    )
    usable = [each for each in OPERATIONS if bearer is not None or not each.bearer]
    add_operations(app, [each for each in usable if webhook_secret is not None or each is not netbox_webhook])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/swagger/doc.json", swagger_specification)
    app.router.add_get("/openapi.json", openapi_specification)
    pages.add_routes(app)
    app.cleanup_ctx.append(_run_services)
    return app


async def serve_settings(
    settings: Settings,
    announce: Callable[[str], None],
    load: Callable[[], tuple[Settings, list[str]]] | None = None,
    notifier: Notifier | None = None,
) -> None:
    """Run the service until SIGTERM or SIGINT. `announce` gets its URL once it listens.

    `load` reads the settings for a reload (SIGHUP); without it there is no reload. `notifier` informs systemd (default:
    the one in the environment). Raises ConfigError, for example when the port is in use.
    """
    listen = settings.server
    notifier, sockets = notifier or Notifier.from_environment(), passed_sockets()
    async with run_logging(settings) as pipeline:
        services = assemble(settings)
        services.metrics.add_callback_counter(
            "log_dropped_lines", "Log lines that were dropped, by place", "where", lambda: pipeline.dropped
        )
        app = create_app(
            services,
            bearer=settings.auth.token,
            webhook_secret=settings.netbox.webhook_secret,
            request_timeout_seconds=listen.request_timeout_seconds,
            access=AccessRules.of(listen),
        )
        certificate = Certificate(listen.tls_cert, listen.tls_key, listen.tls_client_ca) if listen.tls_cert else None
        webhook = app.get(WEBHOOK_SECRET)
        reload = (
            Reloader(load, settings, services, app[ACCESS_CONTROL], app.get(BEARER), certificate, webhook)
            if load
            else None
        )

        async def report() -> str:
            return in_words(readiness(await health_state(app))[1])

        await server.serve(
            app,
            server.Listen(
                host=listen.host,
                port=listen.port,
                reuse_port=listen.reuse_port,
                certificate=certificate,
                sockets=sockets,
                limits=Limits(
                    connections=server.connection_limit(),
                    refusals=RefusalThrottle(services.clock.monotonic, listen.refusals_per_second),
                ),
            ),
            announce,
            server.ServiceManagerHooks(notifier=notifier, alive=lambda: services.alive(), report=report, reload=reload),
        )


def serve(arguments: argparse.Namespace) -> int:
    """`serve`: run the service as configured. Raises ConfigError; systemd is told of it in the status line."""
    notifier = Notifier.from_environment()
    given = {"host": arguments.host, "port": arguments.port}
    overrides = {name: value for name, value in given.items() if value is not None}

    def load() -> tuple[Settings, list[str]]:
        settings, warnings = Settings.load(getattr(arguments, "config", None))
        settings = replace(settings, server=replace(settings.server, **overrides))
        if arguments.log_dir is not None:
            settings = replace(settings, logging=replace(settings.logging, directory=arguments.log_dir))
        return settings, warnings

    try:
        settings, warnings = load()
        logs.set_up(settings.logging.level)
        for warning in warnings:
            log.warning("%s", warning)
        asyncio.run(serve_settings(settings, lambda url: print(f"listening on {url}", flush=True), load, notifier))
    except ConfigError as error:
        notifier.failed(error.problems)
        raise
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """`demo`: run the service on the embedded database and the NetBox simulator. Raises CommandError, ConfigError."""
    from ipam_lib.cli import demo as command

    return command.run(arguments, serve_settings)
