"""The gauges of what there is: as old as the last count, and never counted by a scrape."""

from __future__ import annotations

import pytest

from ipam_lib.registry import Statistics
from ipam_lib.registry.zone_usage import FamilyUse, ZoneUse
from ipam_lib.telemetry.metrics import Metrics
from tests.telemetry.test_metrics import values


def test_before_the_first_count_there_is_only_its_age() -> None:
    found = values(Metrics())
    assert found["ipam_statistics_age_seconds"] == -1
    assert not any(
        name.startswith(("ipam_registrations", "ipam_services", "ipam_zone_", "ipam_pool_e")) for name in found
    )


def test_the_age_goes_on_and_a_new_count_replaces_the_last_one() -> None:
    now = [100.0]
    metrics = Metrics(lambda: now[0])
    metrics.counted(Statistics(100.0, [], {}, {}))
    now[0] = 130.0
    assert values(metrics)["ipam_statistics_age_seconds"] == 30
    metrics.counted(Statistics(130.0, [], {}, {}))
    assert values(metrics)["ipam_statistics_age_seconds"] == 0


def test_counts_that_others_keep_are_read_when_asked() -> None:
    metrics = Metrics()
    dropped = {"queue": 1, "splunk": 0}
    metrics.add_callback_counter("log_dropped_lines", "Lost", "where", lambda: dropped)
    dropped["splunk"] = 7
    found = values(metrics)
    assert found["ipam_log_dropped_lines_total{where=queue}"] == 1
    assert found["ipam_log_dropped_lines_total{where=splunk}"] == 7


@pytest.mark.parametrize("number", [2**64, 2**65])
def test_the_numbers_of_a_64_are_shown(number: int) -> None:
    metrics = Metrics()
    use = FamilyUse("ipv6", number, 1, 0, [])
    metrics.counted(Statistics(0.0, [ZoneUse("inet", [use])], {}, {}))
    assert values(metrics)["ipam_zone_size_addresses{ip_family=ipv6,zone=inet}"] == pytest.approx(number)
