"""What the log says about the life of a registration: what was done to which address, of which zone, for whom."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from tests.registry.world import CLUSTER, FIRST, NAMESPACE, OTHER_CLUSTER, SECRET, World, request

Told = list[tuple[str, Any, Any, Any]]


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ipam_lib.registry")


def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Message, zone, address and services of each line since the last time."""
    lines = [
        (record.getMessage(), record.__dict__["zone"], record.__dict__["address"], record.__dict__["services"])
        for record in caplog.records
        if "services" in record.__dict__
    ]
    assert SECRET not in caplog.text
    caplog.clear()
    return lines


def service(name: str, cluster: str = CLUSTER) -> dict[str, str]:
    return {"service_name": name, "namespace_id": NAMESPACE, "cluster_id": cluster}


async def test_from_registration_to_release(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.register("a")
    assert told(caplog) == [("registered 192.0.2.0/32 of zone inet for a", "inet", FIRST, [service("a")])]
    await world.register("a")
    assert told(caplog) == []  # nothing changed
    await world.register("b", address=FIRST)
    assert told(caplog) == [("updated 192.0.2.0/32 of zone inet for b", "inet", FIRST, [service("b")])]
    await world.registry.expire(request("a"))
    await world.registry.expire(request("b", retention_period_days=0))
    assert told(caplog) == [
        ("192.0.2.0/32 of zone inet: expires for a in 0 days", "inet", FIRST, [service("a")]),
        ("192.0.2.0/32 of zone inet: expires for b in 0 days", "inet", FIRST, [service("b")]),
    ]
    await world.registry.release_expired()
    both = [service("a"), service("b")]
    assert told(caplog) == [
        ("192.0.2.0/32 of zone inet: expired for a, b", "inet", FIRST, both),
        ("released 192.0.2.0/32 of zone inet, last held by a, b", "inet", FIRST, both),
    ]


async def test_what_a_cleanup_that_was_interrupted_left_is_told_when_it_is_done(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.register("a")
    await world.registry.expire(request("a"))
    world.server.fault("status", status=503, times=1000)
    await world.registry.release_expired()
    assert [line[0] for line in told(caplog)][-1] == "192.0.2.0/32 of zone inet: expired for a"
    world.server.faults.clear()
    await asyncio.sleep(120)
    told(caplog)
    await world.registry.release_expired()
    assert told(caplog) == [
        ("released 192.0.2.0/32 of zone inet, last held by a", "inet", FIRST, [service("a")]),
    ]


async def test_without_a_history_the_release_follows_the_expiration(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.configure(history=timedelta(0))
    await world.register("a")
    await world.registry.expire(request("a"))
    told(caplog)
    await world.registry.release_expired()
    assert told(caplog) == [
        ("192.0.2.0/32 of zone inet: expired for a", "inet", FIRST, [service("a")]),
        ("released 192.0.2.0/32 of zone inet, last held by no known service", "inet", FIRST, []),
    ]


async def test_what_cools_down_is_told_as_such(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.configure(cooldown=timedelta(hours=1))
    await world.register("a")
    await world.registry.expire(request("a"))
    await world.registry.release_expired()
    (released,) = [one for one in caplog.records if one.getMessage().startswith("released")]
    assert released.__dict__["cooling_down"] is True


async def test_secrets_that_are_replaced_and_clusters_that_expire(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.register("a")
    await world.register("a", new_secret="AnotherSecret")
    assert told(caplog)[-1][0] == "replaced the secret of 192.0.2.0/32 of zone inet for a"
    assert "AnotherSecret" not in caplog.text
    await world.register("b", address=FIRST, secret="AnotherSecret", cluster=OTHER_CLUSTER)
    told(caplog)
    await world.registry.expire_cluster(CLUSTER)
    assert told(caplog) == [
        ("192.0.2.0/32 of zone inet: expires now for a, with its cluster", "inet", FIRST, [service("a")])
    ]
