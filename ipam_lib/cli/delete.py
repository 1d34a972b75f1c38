"""`delete-service` and `delete-cluster`: let services expire now. Both show what they will change, and ask."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from ipam_lib.addresses import family_of
from ipam_lib.cli import audit, output, terminal
from ipam_lib.cli.exit_codes import DONE, CommandError
from ipam_lib.cli.runtime import found_on, load_settings, opened_registry, opened_store, run
from ipam_lib.cli.show import pages
from ipam_lib.config import Settings
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import ClusterExpired, Filter, Registration, Request, Service, ServiceKey, State
from ipam_lib.serializers import service_key_json
from ipam_lib.text import plural, printable

SHOWN_WHEN_ASKED = 20
MOST_SECONDS = 3600.0
"""A very large cluster may take longer than a request. Each service is one step; steps that are done stay done."""

Holding = tuple[Registration, Service]


def delete_service(arguments: argparse.Namespace) -> int:
    """Let one service expire now. The cleanup of the running service releases the address if it has no other service.

    Raises CommandError if the service is not registered under this secret; UsageError, ConfigError.
    """
    settings = load_settings(arguments)
    found = run(found_on(settings, arguments.zone, arguments.address))
    key = ServiceKey(arguments.service_name, arguments.namespace_id, arguments.cluster_id)
    secret = terminal.read_secret(arguments.secret, "secret")
    opens = settings.encryption_secrets.cipher().candidates(secret)
    holding = [one for one in found if one.state is State.LIVE and one.secret in opens]
    if not holding:
        raise CommandError(f"{found[0].address} of zone {arguments.zone} is not registered under this secret")
    holding = [one for one in holding if one.service(key) is not None]
    if not holding:
        raise CommandError(
            "this service is not registered on the address; show-services shows which are, with their ids"
        )
    registration = holding[0]
    service = registration.service(key)
    assert service is not None
    if not arguments.dry_run:
        if terminal.can_ask() and not arguments.yes:
            terminal.say(output.heading(registration, sys.stderr))
        terminal.confirm(f"Let {output.service_line(service)} expire now?", yes=arguments.yes)
        with audit.trail(settings, required=False) as trail:
            run(_expire(settings, registration, key, secret))
            trail.record(
                "delete-service: a service was set to expire now",
                **audit.place(registration),
                **service_key_json(service.key),
            )
    return _deleted(registration, service, arguments)


async def _expire(settings: Settings, registration: Registration, key: ServiceKey, secret: str) -> None:
    request = Request(
        zone=registration.zone,
        ip_family=family_of(registration.address),
        key=key,
        secret=secret,
        address=registration.address,
        retention_period_days=0,
    )
    async with opened_registry(settings) as registry:
        await registry.expire(request)


def _deleted(registration: Registration, service: Service, arguments: argparse.Namespace) -> int:
    others = len(registration.services) - 1
    if arguments.format == "json":
        terminal.print_json(
            {
                "dry_run": arguments.dry_run,
                "zone": registration.zone,
                "address": registration.address,
                "service": service_key_json(service.key),
                "other_services": others,
            }
        )
    what = "would expire now" if arguments.dry_run else "expires now"
    left = f"{plural(others, 'service')} left on it" if others else "the address is given back by the next cleanup"
    text = f"{output.service_line(service)} on {printable(registration.address)} {what}; {left}"
    terminal.print_result(text, arguments)
    return DONE


def delete_cluster(arguments: argparse.Namespace) -> int:
    """Let every service of a cluster expire now, except those that deny it.

    Raises CommandError if the cluster has no registered service; UsageError, ConfigError.
    """
    settings = load_settings(arguments)
    found = run(_of_cluster(settings, arguments.cluster_id))
    if not found:
        raise CommandError(f"no service of cluster {arguments.cluster_id} is registered (list-addresses shows what is)")
    denied = sum(service.deny_external_cleanup for _, service in found)
    outcome = ClusterExpired(len(found) - denied, denied)
    if not arguments.dry_run and outcome.expired:
        if terminal.can_ask() and not arguments.yes:
            _preview(found)
        question = f"Let {plural(outcome.expired, 'service')} of cluster {arguments.cluster_id} expire now?"
        terminal.confirm(question, yes=arguments.yes)
        with audit.trail(settings, required=False) as trail:
            outcome = run(_expire_cluster(settings, arguments.cluster_id))
            trail.record(
                "delete-cluster: the services of a cluster were set to expire now",
                cluster_id=arguments.cluster_id,
                expired=outcome.expired,
                denied=outcome.denied,
            )
    return _cluster_deleted(found, outcome, arguments)


async def _of_cluster(settings: Settings, cluster_id: str) -> list[Holding]:
    ids = uuid_spellings(cluster_id)
    found: list[Holding] = []
    wanted = Filter(cluster_id=cluster_id, states=frozenset({State.LIVE}))
    with terminal.progress() as shown:
        async with opened_store(settings) as store:
            async for page in pages(store, wanted):
                for one in page:
                    found += [(one, service) for service in one.services if service.key.cluster_id in ids]
                shown.show(f"{plural(len(found), 'service')} found")
    return found


async def _expire_cluster(settings: Settings, cluster_id: str) -> ClusterExpired:
    with terminal.progress() as shown:
        async with opened_registry(settings) as registry:
            shown.show("working ...", now=True)
            return await registry.expire_cluster(
                cluster_id,
                deadline=time.monotonic() + MOST_SECONDS,
                on_progress=lambda so_far: shown.show(
                    f"{plural(so_far.expired, 'service')} expired, {so_far.denied} denied that"
                ),
            )


def _rows(found: Sequence[Holding], outcomes: tuple[str, str], stream: TextIO | None = None) -> list[tuple[str, ...]]:
    now = datetime.now(UTC)
    return [
        (
            printable(registration.address),
            printable(registration.zone),
            printable(service.key.service_name),
            printable(service.key.namespace_id),
            output.expiration(service, now, stream),
            outcomes[service.deny_external_cleanup],
        )
        for registration, service in found
    ]


HEADINGS = ("ADDRESS", "ZONE", "SERVICE", "NAMESPACE", "EXPIRES SO FAR", "FROM NOW ON")


def _preview(found: Sequence[Holding]) -> None:
    rows = _rows(found[:SHOWN_WHEN_ASKED], ("expires", "denied: stays"), sys.stderr)
    terminal.print_table(HEADINGS, rows, sys.stderr)
    if len(found) > SHOWN_WHEN_ASKED:
        terminal.say(f"and {len(found) - SHOWN_WHEN_ASKED} more (--dry-run shows all)")


def _cluster_deleted(found: Sequence[Holding], outcome: ClusterExpired, arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        terminal.print_json(
            {
                "dry_run": arguments.dry_run,
                "cluster_id": arguments.cluster_id,
                "expired": outcome.expired,
                "denied": outcome.denied,
                "services": [_holding_json(*one) for one in found],
            }
        )
    as_text = arguments.format == "text"
    if arguments.dry_run:
        if as_text:
            terminal.print_table(HEADINGS, _rows(found, ("would expire", "denied: would stay")))
        text = f"{plural(outcome.expired, 'service')} would expire now, {outcome.denied} denied that and would stay"
        terminal.print_result(text, arguments)
        return DONE
    number = f"{plural(outcome.expired, 'service')} of cluster {arguments.cluster_id}"
    terminal.print_result(f"{number} set to expire now; {outcome.denied} denied that, and stay", arguments)
    if as_text and (denied := [one for one in found if one[1].deny_external_cleanup]):
        terminal.print_table(HEADINGS, _rows(denied, ("expires", "denied: stays")))
    return DONE


def _holding_json(registration: Registration, service: Service) -> dict[str, Any]:
    return {
        "zone": registration.zone,
        "address": registration.address,
        **service_key_json(service.key),
        "outcome": "denied" if service.deny_external_cleanup else "expired",
    }
