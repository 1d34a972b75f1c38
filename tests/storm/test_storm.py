"""Storms over real processes: nothing is lost, leaked, or given twice. Bigger ones by hand: `python -m tests.storm`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ipam_lib.lifecycle import SECONDS_BETWEEN_RECOVERIES
from tests.storm.lanes import Ledger
from tests.storm.proxy import FaultProxy
from tests.storm.site import PATIENT, SHORT, MongoStorage, Site, SQLiteStorage, standing
from tests.storm.storm import Storm
from tests.support.soak import RecordAmount, amount

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.no_cover]

# The service's own time between two recoveries only in the soak: a storm waits for them at its end.
RECOVERY = amount(3.0, SECONDS_BETWEEN_RECOVERIES)
TIMING = replace(SHORT, recovery=RECOVERY)
SECONDS = amount(5.0, 20.0)


def check(storm: Storm, site: Site, ledger: Ledger, record_amount: RecordAmount) -> None:
    """Nothing was wrong, and enough was done for that to mean something."""
    summary = storm.summary(site, ledger)
    print(summary)
    assert not ledger.problems, "\n".join([*ledger.problems[:20], summary])
    assert storm.enough(site, ledger), summary
    record_amount("storms", 1)


@pytest.mark.mongodb
@pytest.mark.parametrize(("clients", "most"), [(64, 60), (200, 12)])
async def test_without_trouble(
    tmp_path: Path, mongodb: MongoStorage, clients: int, most: int, record_amount: RecordAmount
) -> None:
    async with standing(Site(tmp_path, mongodb, replace(PATIENT, recovery=RECOVERY))) as site:
        storm = Storm(clients=clients, seconds=SECONDS, most=most, least=clients // 2, seed=clients)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)
    assert not any(answer.startswith("503") for answer in ledger.answers)


@pytest.mark.mongodb
async def test_through_a_proxy_that_breaks_things(
    tmp_path: Path, mongodb: MongoStorage, record_amount: RecordAmount
) -> None:
    async with standing(Site(tmp_path, mongodb, TIMING, proxy=FaultProxy("", seed=2))) as site:
        storm = Storm(faults=True, seconds=SECONDS, seed=2)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)


@pytest.mark.mongodb
async def test_killed_in_turn(tmp_path: Path, mongodb: MongoStorage, record_amount: RecordAmount) -> None:
    async with standing(Site(tmp_path, mongodb, TIMING)) as site:
        storm = Storm(kill=True, seconds=SECONDS, seed=3)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}


async def test_killed_in_turn_over_one_sqlite_file(
    tmp_path: Path, sqlite: SQLiteStorage, record_amount: RecordAmount
) -> None:
    async with standing(Site(tmp_path, sqlite, TIMING, netbox_version="3.7")) as site:
        storm = Storm(kill=True, seconds=SECONDS, seed=4)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}


@pytest.mark.mongodb
async def test_out_of_a_warm_pool_killed_in_turn(
    tmp_path: Path, mongodb: MongoStorage, record_amount: RecordAmount
) -> None:
    async with standing(Site(tmp_path, mongodb, TIMING, warm=6)) as site:
        storm = Storm(kill=True, seconds=SECONDS, seed=6)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)
    assert set(storm.killed) == {"service 0", "service 1", "netbox"}
    assert site.logged("kept the pool") > 2


async def test_out_of_a_warm_pool_through_a_proxy_and_into_a_cooldown(
    tmp_path: Path, sqlite: SQLiteStorage, record_amount: RecordAmount
) -> None:
    proxy = FaultProxy("", seed=7)
    wanted = Site(tmp_path, sqlite, TIMING, proxy=proxy, warm=6, cooldown_minutes=10, netbox_version="4.2")
    async with standing(wanted) as site:
        storm = Storm(faults=True, seconds=SECONDS, seed=7)
        ledger = await storm.run(site)
        assert {entry["state"] for entry in sqlite.entries()} == {"ready", "cooling"}
    check(storm, site, ledger, record_amount)


@pytest.mark.mongodb
async def test_the_database_stopped_and_started_on_its_data(
    tmp_path: Path, own_mongodb: MongoStorage, record_amount: RecordAmount
) -> None:
    async with standing(Site(tmp_path, own_mongodb, TIMING)) as site:
        storm = Storm(database=True, seconds=SECONDS, rounds=2, least=10, seed=5)
        ledger = await storm.run(site)
    check(storm, site, ledger, record_amount)
    assert storm.killed["database"] >= 2
