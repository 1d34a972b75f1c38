"""The metrics: what they count, and what never becomes a label."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ipam_lib.errors import StorageUnavailable, StoreConflict
from ipam_lib.models import Registration, State
from ipam_lib.registry import RecoverReport, ReleaseReport
from ipam_lib.telemetry.metrics import Metrics, instrument
from tests.support.memory_store import MemoryStore


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample, as `name{label="value",...}`."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    metrics.request("/v2/address", "POST", 200, 0.004)
    metrics.request("/v2/address", "POST", 200, 0.004)
    metrics.request("/v2/address", "BREW", 405, 0.001)
    found = values(metrics)
    assert found["ipam_http_requests_total{method=POST,route=/v2/address,status=200}"] == 2
    assert found["ipam_http_requests_total{method=other,route=/v2/address,status=405}"] == 1
    assert found["ipam_http_request_seconds_bucket{le=0.005,method=POST,route=/v2/address}"] == 2
    assert found["ipam_http_request_seconds_sum{method=POST,route=/v2/address}"] == pytest.approx(0.008)


def test_outcomes_of_the_workers_and_gauges_read_when_asked() -> None:
    metrics = Metrics()
    metrics.cleaned_up(ReleaseReport(expired_services=3, released=2, failed=1))
    metrics.recovered(RecoverReport(aborted=4, failed=5))
    now = [7.0]
    metrics.add_callback_gauge("zones_age_seconds", "age", lambda: now[0])
    assert values(metrics)["ipam_zones_age_seconds"] == 7
    now[0] = 8.0
    found = values(metrics)
    assert found["ipam_zones_age_seconds"] == 8
    assert found["ipam_cleanup_expired_services_total"] == 3
    assert found["ipam_cleanup_released_addresses_total"] == 2
    assert found["ipam_cleanup_failures_total"] == 1
    assert found["ipam_recover_aborted_registrations_total"] == 4
    assert found["ipam_recover_failures_total"] == 5
    assert any(name.startswith("ipam_build_info{version=") for name in found)


async def test_an_operation_that_was_given_up_is_no_error_of_the_storage() -> None:
    class Slow(MemoryStore):
        async def ping(self) -> None:
            await asyncio.Event().wait()

    metrics = Metrics()
    store = instrument(Slow(), metrics.storage_call)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.ping()
    assert values(metrics)["ipam_storage_calls_total{operation=ping,result=cancelled}"] == 1


async def test_storage_operations_are_timed_with_their_results() -> None:
    metrics = Metrics()
    time = iter(range(100))
    store = instrument(MemoryStore(), metrics.storage_call, monotonic=lambda: float(next(time)))
    await store.open()
    await store.prepare()
    registration = Registration("a" * 24, "inet", "ipv4", "10.0.0.1/32", "sealed", state=State.CREATING, revision=1)
    await store.insert(registration)
    with pytest.raises(StoreConflict):
        await store.insert(registration)
    assert await store.replace(registration, registration.changed(netbox_id=1))
    assert not await store.replace(registration, registration.changed(netbox_id=2))
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.ping()
    found = values(metrics)
    for operation, result in (
        ("insert", "ok"),
        ("insert", "conflict"),
        ("replace", "ok"),
        ("replace", "conflict"),
        ("ping", "error"),
    ):
        assert found[f"ipam_storage_calls_total{{operation={operation},result={result}}}"] == 1
    assert found["ipam_storage_call_seconds_sum{operation=replace}"] == 2
