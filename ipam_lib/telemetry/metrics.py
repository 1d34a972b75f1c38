"""The metrics for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

No label holds text of a client: routes are patterns of the application, methods and zones come from fixed lists.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ipam_lib.errors import StoreConflict
from ipam_lib.models import IPFamily
from ipam_lib.registry import DescriptionReport, PoolReport, RecoverReport, ReleaseReport, Statistics
from ipam_lib.storage.base import Store
from ipam_lib.telemetry.gauges import CallbackCounter, StatisticsGauges
from ipam_lib.version import __version__

# The creation time of each counter would double the output, and Prometheus does not use it in this format.
disable_created_metrics()  # type: ignore[no-untyped-call]

Observe = Callable[[str, str, float], None]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
BREAKER_STATES: Final = ("closed", "half-open", "open")


@dataclass(slots=True)
class _Calls:
    """A counter and a histogram of one kind of calls. The children for each set of labels are looked up once."""

    counted: Counter
    timed: Histogram
    _known: dict[tuple[str, ...], tuple[Counter, Histogram]] = field(default_factory=dict)

    def note(self, seconds: float, *labels: str) -> None:
        """Count one call. `labels`: those of the counter; the histogram has all but the last."""
        known = self._known.get(labels)
        if known is None:
            known = self._known[labels] = (self.counted.labels(*labels), self.timed.labels(*labels[:-1]))
        counted, timed = known
        counted.inc()
        timed.observe(seconds)


class Metrics:
    """The metrics of one service in this process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic`: the clock of the statistics."""
        self._all = CollectorRegistry()
        self._statistics = StatisticsGauges(monotonic)
        self._all.register(self._statistics)
        self._requests = _Calls(
            self._counter("http_requests", "Requests answered", "route", "method", "status"),
            self._histogram("http_request_seconds", "Time to answer", "route", "method"),
        )
        self._netbox = _Calls(
            self._counter(
                "netbox_calls",
                "Requests to NetBox; ok, refused, error, timeout, unreachable, crowded (all connections in use),"
                " breaker (not sent), cancelled",
                "operation",
                "result",
            ),
            self._histogram("netbox_call_seconds", "Time that NetBox took", "operation"),
        )
        self._storage = _Calls(
            self._counter(
                "storage_calls",
                "Operations of the storage; ok, conflict (another write was first), error, cancelled",
                "operation",
                "result",
            ),
            self._histogram("storage_call_seconds", "Time that storage took", "operation"),
        )
        self._registered = self._counter("registered_addresses", "Addresses registered", "zone", "ip_family")
        self._refused = self._counter(
            "refused_requests", "Requests of clients that may not call, by the code of the answer", "code"
        )
        self._events = self._counter(
            "netbox_events",
            "Events that the webhook received; accepted, ignored (nothing to look at), refused (wrong signature)",
            "kind",
            "outcome",
        )
        self._rounds = self._counter("worker_rounds", "Rounds of the background workers; ok, error", "worker", "result")
        self._last_success = Gauge(
            "ipam_worker_last_success_timestamp_seconds",
            "End of the last successful round (Unix time)",
            ["worker"],
            registry=self._all,
        )
        self._expired = self._counter("cleanup_expired_services", "Expired services that cleanup removed")
        self._released = self._counter("cleanup_released_addresses", "Addresses that cleanup released")
        self._release_failures = self._counter(
            "cleanup_failures", "Registrations that cleanup failed on; the next round tries again"
        )
        self._aborted = self._counter("recover_aborted_registrations", "Unfinished registrations that recovery undid")
        self._recover_failures = self._counter(
            "recover_failures", "Registrations that recovery failed on; the next round tries again"
        )
        self._pool = self._counter(
            "pool_addresses",
            "Addresses that the pool worker processed; made, handed_over, put_back, dropped",
            "outcome",
        )
        self._described = self._counter("described_prefixes", "Descriptions of prefixes that a worker wrote in NetBox")
        Gauge("ipam_build_info", "Version", ["version"], registry=self._all).labels(__version__).set(1)
        ProcessCollector(registry=self._all)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"ipam_{name}", about, labels, registry=self._all)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"ipam_{name}", about, labels, buckets=_FAST, registry=self._all)

    def add_callback_gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A gauge whose current value `read` returns."""
        Gauge(f"ipam_{name}", about, registry=self._all).set_function(read)

    def add_callback_counter(self, name: str, about: str, label: str, read: Callable[[], Mapping[str, int]]) -> None:
        """A counter whose current values, by `label`, `read` returns."""
        self._all.register(CallbackCounter(f"ipam_{name}", about, label, read))

    def counted(self, statistics: Statistics) -> None:
        """Show these statistics."""
        self._statistics.show(statistics)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer. `route`: the pattern of the path, not the path."""
        self._requests.note(seconds, route, method if method in _METHODS else "other", str(status))

    def netbox_call(self, operation: str, result: str, seconds: float) -> None:
        """Count a call to NetBox."""
        self._netbox.note(seconds, operation, result)

    def storage_call(self, operation: str, result: str, seconds: float) -> None:
        """Count an operation of the storage."""
        self._storage.note(seconds, operation, result)

    def registered(self, zone: str, ip_family: IPFamily) -> None:
        """Count a new address. `zone`: a choice in NetBox."""
        self._registered.labels(zone, ip_family).inc()

    def refused(self, code: str) -> None:
        """Count a request of a client that may not call."""
        self._refused.labels(code).inc()

    def event(self, kind: str, outcome: str) -> None:
        """Count an event of NetBox. `kind`: of `netbox.events.EventKind`, `other` or `unknown`."""
        self._events.labels(kind, outcome).inc()

    def round_done(self, worker: str, *, ok: bool, at: float) -> None:
        """Count a round of a worker. `at`: Unix time."""
        self._rounds.labels(worker, "ok" if ok else "error").inc()
        if ok:
            self._last_success.labels(worker).set(at)

    def cleaned_up(self, report: ReleaseReport) -> None:
        """Add the counts of a cleanup."""
        self._expired.inc(report.expired_services)
        self._released.inc(report.released)
        self._release_failures.inc(report.failed)

    def recovered(self, report: RecoverReport) -> None:
        """Add the counts of a recovery."""
        self._aborted.inc(report.aborted)
        self._recover_failures.inc(report.failed)

    def pool_kept(self, report: PoolReport) -> None:
        """Add the counts of a round of the pool worker."""
        for outcome in ("made", "handed_over", "put_back", "dropped"):
            self._pool.labels(outcome).inc(getattr(report, outcome))

    def described(self, report: DescriptionReport) -> None:
        """Add the counts of a round of the worker of descriptions."""
        self._described.inc(report.written)

    def text(self) -> bytes:
        """All metrics in the text format. It reads files of the system: do not call it on the event loop."""
        return generate_latest(self._all)


def instrument(store: Store, observe: Observe, monotonic: Callable[[], float] = time.perf_counter) -> Store:
    """The same store; each of its operations now calls `observe` with its name, `ok`, `conflict`, `error` or
    `cancelled`, and its seconds."""

    def measured(name: str, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(operation)
        async def run(*args: Any, **kwargs: Any) -> Any:
            began = monotonic()
            result = "error"
            try:
                value = await operation(*args, **kwargs)
                result = "ok" if value is not False else "conflict"
                return value
            except StoreConflict:
                result = "conflict"
                raise
            except asyncio.CancelledError:
                result = "cancelled"
                raise
            finally:
                observe(name, result, monotonic() - began)

        return run

    for name in sorted(Store.__abstractmethods__):
        operation = getattr(store, name)
        if inspect.iscoroutinefunction(operation) and name not in {"open", "close"}:
            setattr(store, name, measured(name, operation))
    return store
