"""The cache of zones: when it asks NetBox, and what it serves meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from ipam_lib.errors import NetBoxRejected, NetBoxUnavailable, StorageUnavailable, UnknownZone
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.zones import ZoneCache
from tests.netbox.world import World
from tests.support.clock import EPOCH, FakeClock
from tests.support.netbox_faults import Fault

INET = Container(1, "83.118.168.0/24", "ipv4", "inet", 1, custom_fields={"infra": "prod"})
INET6 = Container(2, "2a03:f40:1::/64", "ipv6", "inet", 1)
HNET = Container(3, "10.0.0.0/24", "ipv4", "hnet", 1)


@dataclass
class Source:
    """A NetBox to load zones from."""

    zones: list[str] = field(default_factory=lambda: ["inet", "hnet"])
    found: list[Container] = field(default_factory=lambda: [INET, INET6, HNET])
    error: Exception | None = None
    calls: int = 0
    limits: list[float] = field(default_factory=list)
    gate: asyncio.Event | None = None
    url: str = "http://netbox.example.com/"
    problems: list[str] = field(default_factory=list)

    async def choices(self, *, limit: float) -> list[str]:
        self.calls += 1
        self.limits.append(limit)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return list(self.zones)

    async def containers(self, *, limit: float) -> list[Container]:
        if self.error is not None:
            raise self.error
        return list(self.found)

    async def field_problems(self, containers: Sequence[Container], *, limit: float) -> list[str]:
        assert list(containers) == self.found
        return list(self.problems)


@dataclass
class Document:
    """The document in storage."""

    content: dict[str, Any] | None = None
    error: StorageUnavailable | None = None

    async def load(self) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        return self.content

    async def save(self, content: dict[str, Any]) -> None:
        if self.error:
            raise self.error
        self.content = json.loads(json.dumps(content))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(auto=False)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def document() -> Document:
    return Document()


def cache(source: Any, document: Document, clock: FakeClock, **options: Any) -> ZoneCache:
    return ZoneCache(source, clock=clock, load=document.load, save=document.save, rng=random.Random(1), **options)


@pytest.fixture
def zones(source: Source, document: Document, clock: FakeClock) -> ZoneCache:
    return cache(source, document, clock)


async def test_before_anything_is_loaded(zones: ZoneCache, source: Source) -> None:
    source.error = NetBoxUnavailable()
    assert (zones.loaded, zones.age_seconds, zones.loaded_at, zones.source) == (False, None, None, None)
    assert zones.containers("inet", "ipv4") == ()
    assert zones.all_containers() == ()
    assert zones.container_of("inet", "83.118.168.1/32") is None
    with pytest.raises(NetBoxUnavailable) as caught:
        await zones.check("inet")
    assert caught.value.applied is False


async def test_start_loads_from_netbox_and_keeps_it_in_storage(
    zones: ZoneCache, document: Document, clock: FakeClock, source: Source
) -> None:
    await zones.start()
    assert (zones.loaded, zones.source, list(zones.names)) == (True, "netbox", ["inet", "hnet"])
    assert zones.containers("inet", "ipv4") == (INET,)
    assert list(zones.all_containers()) == [HNET, INET, INET6]
    assert zones.container_of("inet", "2a03:f40:1::7/128") == INET6
    await zones.check("hnet")
    assert source.calls == 1
    assert document.content is not None
    clock.advance(90)
    assert zones.age_seconds == 90.0
    assert zones.loaded_at == EPOCH


async def test_stored_zones_do_not_replace_newer_ones_from_netbox(
    source: Source, document: Document, clock: FakeClock
) -> None:
    """A request loads the zones from NetBox while the start still reads the stored ones."""
    await cache(source, document, clock).start()
    reading, read = asyncio.Event(), asyncio.Event()

    async def slow_load() -> dict[str, Any] | None:
        reading.set()
        await read.wait()
        return document.content

    zones = ZoneCache(source, clock=clock, load=slow_load, save=document.save, rng=random.Random(1))
    source.zones = ["inet", "new"]
    starting = asyncio.create_task(zones.start())
    await reading.wait()
    await zones.check("new")
    read.set()
    await starting
    assert (zones.source, list(zones.names)) == ("netbox", ["inet", "new"])


async def test_a_start_without_netbox_serves_what_is_stored_with_its_age(
    source: Source, document: Document, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await cache(source, document, clock).start()
    clock.advance(3600)
    source.error = NetBoxUnavailable(detail="connection refused")
    later = cache(source, document, clock)
    await later.start()
    assert (later.loaded, later.source, later.age_seconds) == (True, "storage", 3600.0)
    assert later.trouble is not None
    assert later.trouble.kind == "away"
    assert later.containers("inet", "ipv4") == (INET,)
    assert later.containers("inet", "ipv4")[0].custom_fields == {"infra": "prod"}
    await later.check("hnet")
    assert source.limits[-1] == 2.0, "NetBox does not hold up a start that has something to serve"
    assert "connection refused" in caplog.text


async def test_a_start_with_neither_goes_on_trying(
    zones: ZoneCache, source: Source, document: Document, clock: FakeClock
) -> None:
    source.error = NetBoxUnavailable()
    document.error = StorageUnavailable()
    await zones.start()
    assert not zones.loaded
    running = asyncio.create_task(zones.run())
    await clock.run(11)
    assert source.calls == 2
    source.error = None
    await clock.run(11)
    assert zones.loaded
    assert zones.source == "netbox"
    running.cancel()


@pytest.mark.parametrize("content", [{}, {"netbox": "http://elsewhere/"}, {"netbox": "http://netbox.example.com/"}])
async def test_a_stored_document_of_no_use_is_passed_over(
    zones: ZoneCache, source: Source, document: Document, content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    document.content = content
    source.error = NetBoxUnavailable()
    await zones.start()
    assert not zones.loaded
    assert "of no use" in caplog.text
    source.error = None
    fresh = cache(source, document, FakeClock())
    await fresh.start()
    assert fresh.loaded


async def test_the_background_refreshes_with_jitter(zones: ZoneCache, source: Source, clock: FakeClock) -> None:
    await zones.start()
    running = asyncio.create_task(zones.run())
    await clock.run(6000)
    running.cancel()
    assert source.calls == 10
    assert all(600 <= seconds <= 660 for seconds in clock.slept)
    assert len(set(clock.slept)) == len(clock.slept)
    assert zones.age_seconds is not None
    assert zones.age_seconds < 660


async def test_a_failed_refresh_keeps_the_old_and_is_tried_again_sooner(
    zones: ZoneCache, source: Source, clock: FakeClock
) -> None:
    await zones.start()
    began = clock.monotonic()
    running = asyncio.create_task(zones.run())
    await clock.run(1)
    for error, trouble in (
        (NetBoxUnavailable(), "away"),
        (NetBoxRejected("no"), "refused"),
        (RuntimeError(), "unexpected"),
    ):
        source.error = error
        await clock.run(700)
        assert zones.containers("inet", "ipv4") == (INET,)
        assert zones.trouble is not None
        assert (zones.trouble.kind, zones.source) == (trouble, "netbox")
        assert zones.age_seconds == clock.monotonic() - began
    assert all(30 <= seconds <= 33 for seconds in clock.slept[1:])
    assert not running.done()
    source.error = None
    source.found = [HNET]
    await clock.run(33)
    assert zones.containers("inet", "ipv4") == ()
    assert zones.loaded
    assert zones.trouble is None
    running.cancel()


async def test_a_refresh_reports_its_failure(zones: ZoneCache, source: Source, clock: FakeClock) -> None:
    await zones.start()
    clock.advance(60)
    source.error = NetBoxUnavailable(detail="away")
    with pytest.raises(NetBoxUnavailable):
        await zones.refresh()
    assert zones.containers("inet", "ipv4") == (INET,)


async def test_an_unknown_zone_is_looked_for_once_and_not_more_often_than_allowed(
    zones: ZoneCache, source: Source, clock: FakeClock
) -> None:
    await zones.start()
    clock.advance(9.9)
    with pytest.raises(UnknownZone) as caught:
        await zones.check("dmz")
    assert caught.value.message == "invalid zone 'dmz', must be one of: 'inet', 'hnet'"
    assert source.calls == 1, "it was loaded a moment ago"
    clock.advance(0.1)
    with pytest.raises(UnknownZone):
        await zones.check("dmz")
    assert source.calls == 2
    source.zones.append("dmz")
    clock.advance(9)
    with pytest.raises(UnknownZone):
        await zones.check("dmz")
    assert source.calls == 2
    clock.advance(1)
    await zones.check("dmz")
    assert source.calls == 3


async def test_an_unknown_zone_while_netbox_is_away_is_still_unknown(
    zones: ZoneCache, source: Source, clock: FakeClock
) -> None:
    await zones.start()
    source.error = NetBoxUnavailable()
    for _ in range(6):
        clock.advance(4)
        with pytest.raises(UnknownZone):
            await zones.check("dmz")
    assert source.calls == 2 + 1, "failures are not repeated more often either"


async def test_many_callers_share_one_load(zones: ZoneCache, source: Source, clock: FakeClock) -> None:
    source.gate = asyncio.Event()
    callers = [asyncio.create_task(zones.check("inet")) for _ in range(20)]
    callers += [asyncio.create_task(zones.refresh()) for _ in range(20)]
    await clock.settle()
    callers[0].cancel()
    callers[25].cancel()
    source.gate.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in outcomes].count(True) == 2
    assert all(one in (None, True) for one in outcomes if not isinstance(one, asyncio.CancelledError))
    assert source.calls == 1
    assert await zones.refresh() is False


async def test_every_caller_hears_of_a_shared_failure_and_nobody_of_one_without_callers(
    zones: ZoneCache, source: Source, clock: FakeClock
) -> None:
    source.gate = asyncio.Event()
    source.error = NetBoxUnavailable()
    callers = [asyncio.create_task(zones.refresh()) for _ in range(3)]
    await clock.settle()
    source.gate.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(one, NetBoxUnavailable) for one in outcomes)
    clock.advance(60)
    source.gate = asyncio.Event()
    lonely = asyncio.create_task(zones.refresh())
    await clock.settle()
    lonely.cancel()
    await clock.settle()
    source.gate.set()
    await clock.settle()
    clock.advance(60)
    source.error = None
    assert await zones.refresh() is True


async def test_readers_see_the_old_or_the_new_never_a_mixture(
    zones: ZoneCache, source: Source, clock: FakeClock
) -> None:
    await zones.start()
    clock.advance(60)
    source.gate = asyncio.Event()
    source.zones, source.found = ["dmz"], [Container(9, "192.0.2.0/24", "ipv4", "dmz")]
    refresh = asyncio.create_task(zones.refresh())
    await clock.settle()
    assert (list(zones.names), zones.containers("inet", "ipv4")) == (["inet", "hnet"], (INET,))
    source.gate.set()
    await refresh
    assert (list(zones.names), zones.containers("inet", "ipv4")) == (["dmz"], ())
    assert zones.container_of("dmz", "192.0.2.7") is not None


async def test_closing_ends_a_load(zones: ZoneCache, source: Source, clock: FakeClock) -> None:
    await zones.close()
    source.gate = asyncio.Event()
    caller = asyncio.create_task(zones.refresh())
    await clock.settle()
    await zones.close()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_what_is_gone_in_netbox_is_gone_here_with_a_warning(
    zones: ZoneCache, source: Source, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await zones.start()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    clock.advance(60)
    source.found = [HNET]
    await zones.refresh()
    assert zones.containers("inet", "ipv4") == ()
    assert "'inet' has lost all its container prefixes for ipv4" in caplog.text
    assert "'inet' has lost all its container prefixes for ipv6" in caplog.text
    clock.advance(60)
    source.zones = []
    await zones.refresh()
    assert (zones.loaded, list(zones.names)) == (True, [])
    assert "no zones" in caplog.text


async def test_oddities_are_told_once_for_as_long_as_they_last(
    zones: ZoneCache, source: Source, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source.zones.append("empty")
    inside = Container(7, "83.118.168.128/25", "ipv4", "hnet", 1)
    for found, told in (
        ([INET, HNET, inside], {"lies inside": 1, "'empty' has no": 1}),
        ([INET, HNET, inside], {"lies inside": 0, "'empty' has no": 0}),
        ([INET, HNET], {"lies inside": 0}),
        ([INET, HNET, inside], {"lies inside": 1, "'empty' has no": 0}),
    ):
        caplog.clear()
        source.found = found
        await zones.refresh()
        clock.advance(60)
        for text, times in told.items():
            assert sum(text in record.getMessage() for record in caplog.records) == times, (text, caplog.text)


async def test_many_oddities_do_not_flood_the_log(
    zones: ZoneCache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.found = [Container(n, f"10.1.{n % 256}.0/24", "ipv4", "former", 1) for n in range(200)]
    await zones.start()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 21
    assert warnings[-1].startswith("and ")


async def test_storage_away_does_not_keep_zones_from_being_loaded(
    zones: ZoneCache, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    document.error = StorageUnavailable()
    await zones.start()
    assert zones.loaded
    assert "could not be kept" in caplog.text


async def test_a_wall_clock_that_was_set_back_makes_no_negative_age(zones: ZoneCache, clock: FakeClock) -> None:
    await zones.start()
    clock.jump(-timedelta(hours=1).total_seconds())
    assert zones.age_seconds == 0.0


async def test_with_the_client_and_the_simulator(world: World, document: Document, clock: FakeClock) -> None:
    zones = cache(world.client.zone_reader, document, clock)
    await zones.start()
    assert list(zones.names) == ["inet", "tiny", "global"]
    assert [one.prefix for one in zones.containers("inet", "ipv6")] == ["2a0d:a00::/64"]
    made = await world.client.create_next(zones.containers("global", "ipv4")[0], uuid="a" * 24, limit=10)
    assert made.vrf_id is None
    body = {"prefix": "83.118.168.192/26", "vrf": 1, "status": "container", "custom_fields": {"k8s_zone": "tiny"}}
    world.admin("POST", "/api/ipam/prefixes/", body)
    clock.advance(60)
    assert await zones.refresh()
    assert zones.container_of("inet", "83.118.168.200") is None
    assert zones.container_of("tiny", "83.118.168.200") is not None
    world.faults.add(Fault("html", times=100))
    clock.advance(3600)
    later = cache(world.client.zone_reader, document, clock)
    await later.start()
    assert (later.source, later.age_seconds) == ("storage", 3600.0)
    assert later.container_of("tiny", "83.118.168.200") is not None
