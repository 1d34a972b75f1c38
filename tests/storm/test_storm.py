"""Storms over real processes: nothing is lost, leaked, or given twice. Bigger ones by hand: `python -m tests.storm`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storm.lanes import Ledger
from tests.storm.proxy import FaultProxy
from tests.storm.site import PATIENT, SHORT, MongoStorage, Site, SQLiteStorage, standing
from tests.storm.storm import Storm

pytestmark = pytest.mark.slow


def check(storm: Storm, site: Site, ledger: Ledger, least: int) -> None:
    """Nothing was wrong, and enough was done for that to mean something."""
    summary = storm.summary(site, ledger)
    print(summary)
    assert not ledger.problems, "\n".join([*ledger.problems[:20], summary])
    done = ("Address registered", "Address updated", "Service expiration set", "Cluster expiration set")
    assert all(ledger.answers[f"200 {what} successfully"] for what in done), summary
    assert ledger.answers["200 Address registered successfully"] >= least, summary


@pytest.mark.mongodb
@pytest.mark.parametrize(("clients", "seconds", "most"), [(64, 12.0, 60), (200, 10.0, 12)])
async def test_without_trouble(tmp_path: Path, mongodb: MongoStorage, clients: int, seconds: float, most: int) -> None:
    async with standing(Site(tmp_path, mongodb, PATIENT)) as site:
        storm = Storm(clients=clients, seconds=seconds, most=most, seed=clients)
        ledger = await storm.run(site)
    check(storm, site, ledger, clients // 2)
    assert not any(answer.startswith("503") for answer in ledger.answers)


@pytest.mark.mongodb
async def test_through_a_proxy_that_breaks_things(tmp_path: Path, mongodb: MongoStorage) -> None:
    async with standing(Site(tmp_path, mongodb, SHORT, proxy=FaultProxy("", seed=2))) as site:
        storm = Storm(faults=True, seconds=15.0, seed=2)
        ledger = await storm.run(site)
    check(storm, site, ledger, 15)
    assert site.proxy is not None
    assert sum(site.proxy.fates.values()) - site.proxy.fates["forwarded"] > 10


@pytest.mark.mongodb
async def test_killed_in_turn(tmp_path: Path, mongodb: MongoStorage) -> None:
    async with standing(Site(tmp_path, mongodb)) as site:
        storm = Storm(kill=True, seconds=15.0, seed=3)
        ledger = await storm.run(site)
    check(storm, site, ledger, 15)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}


async def test_killed_in_turn_over_one_sqlite_file(tmp_path: Path, sqlite: SQLiteStorage) -> None:
    async with standing(Site(tmp_path, sqlite)) as site:
        storm = Storm(kill=True, seconds=15.0, seed=4)
        ledger = await storm.run(site)
    check(storm, site, ledger, 15)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}


@pytest.mark.mongodb
async def test_out_of_a_warm_pool_killed_in_turn(tmp_path: Path, mongodb: MongoStorage) -> None:
    async with standing(Site(tmp_path, mongodb, warm=6)) as site:
        storm = Storm(kill=True, seconds=15.0, seed=6)
        ledger = await storm.run(site)
    check(storm, site, ledger, 15)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}
    assert site.logged("kept the pool") > 2


async def test_out_of_a_warm_pool_through_a_proxy_and_into_a_cooldown(tmp_path: Path, sqlite: SQLiteStorage) -> None:
    proxy = FaultProxy("", seed=7)
    async with standing(Site(tmp_path, sqlite, SHORT, proxy=proxy, warm=6, cooldown_minutes=10)) as site:
        storm = Storm(faults=True, seconds=15.0, seed=7)
        ledger = await storm.run(site)
        assert {entry["state"] for entry in sqlite.entries()} == {"ready", "cooling"}
    check(storm, site, ledger, 15)
    assert sum(proxy.fates.values()) - proxy.fates["forwarded"] > 10


@pytest.mark.mongodb
async def test_the_database_stopped_and_started_on_its_data(tmp_path: Path, own_mongodb: MongoStorage) -> None:
    async with standing(Site(tmp_path, own_mongodb)) as site:
        storm = Storm(database=True, seconds=15.0, rounds=2, seed=5)
        ledger = await storm.run(site)
    check(storm, site, ledger, 10)
    assert storm.killed["database"] >= 2
