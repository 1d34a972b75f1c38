"""The parts' life: prepared in the background, recovered and cleaned up after that, closed whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from ipam_lib.clock import SystemClock
from ipam_lib.errors import ConfigError, NetBoxRejected, NetBoxUnavailable, StorageUnavailable
from ipam_lib.lifecycle import Services, run_services
from ipam_lib.netbox.base import Container
from ipam_lib.registry import DescriptionReport, PoolReport, RecoverReport, Registry, ReleaseReport, Statistics
from ipam_lib.storage.base import DuplicateReport, Store
from tests.support.clock import FakeClock
from tests.web.service import FakeNetBox, FakeRegistry, FakeStore, FakeZones


class Impatient(SystemClock):
    """A clock whose sleepers wake up at once."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def make(
    store: FakeStore | None = None, zones: FakeZones | None = None, registry: FakeRegistry | None = None
) -> Services:
    return Services(
        store=cast(Store, store or FakeStore()),
        netbox=FakeNetBox(),
        zones=zones or FakeZones(),
        registry=cast(Registry, registry or FakeRegistry()),
        clock=Impatient(),
    )


async def until(true: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def test_prepared_recovered_and_cleaned_up() -> None:
    store, registry = FakeStore(), FakeRegistry()
    services = make(store, registry=registry)
    with pytest.raises(StorageUnavailable):
        services.check_prepared()
    async with run_services(services):
        services.check_prepared()
        await until(lambda: {"recover", "release", "history"} <= set(registry.rounds))
    assert store.closed


async def test_what_takes_long_to_count_is_counted_less_often() -> None:
    clock = FakeClock(auto=False)

    class Large(FakeRegistry):
        async def statistics(self) -> Statistics:
            counted = await super().statistics()
            await clock.sleep(12)
            return counted

    registry = Large()
    services = make(registry=registry)
    services.clock = clock
    async with run_services(services, grace=0):
        await until(lambda: registry.rounds.count("statistics") == 1)
        await clock.run(500)
        # A fiftieth of the time: twelve seconds in ten minutes, give or take a tenth.
        assert registry.rounds.count("statistics") == 1
        await clock.run(200)
        assert registry.rounds.count("statistics") == 2


async def test_when_the_containers_were_read_for_the_first_time_the_zones_are_counted_again() -> None:
    clock = FakeClock(auto=False)
    began, go = asyncio.Event(), asyncio.Event()
    rounds = []

    class Space:
        refused: Mapping[str, str] = {}

        async def load_due(self, containers: Sequence[Container]) -> None:
            rounds.append(list(containers))
            began.set()
            await go.wait()

    containers = [Container(1, "192.0.2.0/24", "ipv4", "inet")]
    zones = FakeZones()
    zones.all_containers = lambda: containers  # type: ignore[method-assign]
    registry = FakeRegistry()
    services = make(zones=zones, registry=registry)
    services.clock, services.space = clock, Space()
    async with run_services(services, grace=0):
        await began.wait()
        await until(lambda: registry.rounds.count("statistics") == 1)
        go.set()
        await until(lambda: registry.rounds.count("statistics") == 2)
        await clock.run(5)
        assert len(rounds) > 3
        assert registry.rounds.count("statistics") == 2


async def test_the_metrics_tell_how_the_workers_do() -> None:
    class Failing(FakeRegistry):
        async def recover(self) -> RecoverReport:
            raise StorageUnavailable

    services = make(registry=Failing())

    def text() -> str:
        return services.metrics.text().decode()

    async with run_services(services):
        await until(lambda: 'ipam_worker_rounds_total{result="error",worker="recover"} 2' in text())
        await until(lambda: 'ipam_worker_rounds_total{result="ok",worker="cleanup"} 1' in text())
    assert 'ipam_worker_last_success_timestamp_seconds{worker="cleanup"} ' in text()
    assert 'ipam_worker_last_success_timestamp_seconds{worker="recover"} ' not in text()


async def test_storage_that_is_away_is_tried_until_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store, registry = FakeStore(trouble=StorageUnavailable()), FakeRegistry()
    services = make(store, registry=registry)
    async with run_services(services, grace=0):
        await until(lambda: "prepare the storage" in caplog.text)
        assert not services.prepared
        assert not registry.rounds
        store.trouble = None
        await until(lambda: services.prepared and bool(registry.rounds))
    assert "prepare the storage: works again" in caplog.text


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            StorageUnavailable("no", condition="refuses the user a right that is needed (prepare)"),
            "cannot be prepared: it refuses the user a right that is needed (prepare)",
        ),
        (ConfigError(["mongodb: one", "mongodb: two"]), "cannot be prepared: mongodb: one; mongodb: two"),
    ],
)
async def test_why_the_storage_is_not_prepared_is_kept(trouble: Exception, told: str) -> None:
    services = make(FakeStore(trouble=trouble))
    assert services.preparation == "is being prepared"
    async with run_services(services, grace=0):
        await until(lambda: services.preparation == told)


async def test_duplicates_are_told(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore(duplicates=[DuplicateReport("inet", "83.118.168.10/32", "a" * 24, ("b" * 24, "c" * 24))])
    async with run_services(make(store)):
        assert "zone inet holds 83.118.168.10/32 more than once" in caplog.text


async def test_zones_are_started_once_the_storage_can_be_read() -> None:
    order: list[str] = []

    class SlowStore(FakeStore):
        async def prepare(self) -> list[DuplicateReport]:
            await asyncio.sleep(0)
            order.append("prepared")
            return []

    class TellingZones(FakeZones):
        async def start(self) -> None:
            order.append("zones")

    async with run_services(make(SlowStore(), TellingZones())):
        await until(lambda: len(order) == 2)
    assert order == ["prepared", "zones"]


async def test_what_a_round_did_is_told_when_it_did_something(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Busy(FakeRegistry):
        async def recover(self) -> RecoverReport:
            self.rounds.append("recover")
            return RecoverReport(aborted=1)

        async def release_expired(self) -> ReleaseReport:
            self.rounds.append("release")
            return ReleaseReport(expired_services=2, released=1)

        async def maintain_pool(self) -> PoolReport:
            self.rounds.append("pool")
            return PoolReport(made=3, error=NetBoxUnavailable())

        async def describe(self) -> DescriptionReport:
            self.rounds.append("descriptions")
            return DescriptionReport(written=4, error=NetBoxRejected("refused"))

    registry = Busy()
    async with run_services(make(registry=registry)):
        await until(lambda: {"recover", "release", "pool", "descriptions"} <= set(registry.rounds))
    messages = {record.getMessage(): record.__dict__ for record in caplog.records}
    assert messages["recovered"]["aborted"] == 1
    assert messages["cleaned up"]["released"] == 1
    assert messages["kept the pool"]["made"] == 3
    assert messages["pool: NetBox is unavailable; try again"]["failures"] == 1
    assert messages["wrote descriptions"]["written"] == 4
    assert messages["descriptions: refused"]["failures"] == 1


async def test_a_worker_that_meets_a_bug_does_not_end_the_service(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeRegistry):
        async def recover(self) -> RecoverReport:
            self.rounds.append("recover")
            raise ZeroDivisionError

        async def release_expired(self) -> ReleaseReport:
            self.rounds.append("release")
            raise NetBoxUnavailable

    registry = Broken()
    async with run_services(make(registry=registry)):
        await until(lambda: registry.rounds.count("recover") > 2 and registry.rounds.count("release") > 2)
    assert "recover: a bug" in caplog.text


async def test_everything_is_closed_when_the_start_fails() -> None:
    class Unopenable(FakeStore):
        async def open(self) -> None:
            raise ValueError("odd")

    store = Unopenable()
    with pytest.raises(ValueError, match="odd"):
        async with run_services(make(store)):
            raise AssertionError
    assert store.closed
