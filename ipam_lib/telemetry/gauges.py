"""Gauges of registrations, zones and pool, as a worker counted them last: a scrape asks neither storage nor NetBox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ipam_lib.models import PoolState, State
from ipam_lib.registry import Statistics

_PLACE = ("zone", "ip_family")
_AGE = "; counted ipam_statistics_age_seconds ago"


class StatisticsGauges(Collector):
    """The gauges of the last statistics; before the first, only their age, -1.

    `monotonic`: the clock of `Statistics.counted_at`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._shown: Statistics | None = None

    def show(self, statistics: Statistics) -> None:
        """Replace the statistics."""
        self._shown = statistics

    def describe(self) -> Iterable[Metric]:
        """The metrics, without values."""
        return self._families(None)

    def collect(self) -> Iterable[Metric]:
        """The metrics, with the last statistics."""
        return self._families(self._shown)

    def _families(self, shown: Statistics | None) -> list[Metric]:
        age = GaugeMetricFamily(
            "ipam_statistics_age_seconds",
            "Seconds since the last count of registrations, services, zones and pool; -1 before the first count",
            value=-1.0 if shown is None else max(0.0, self._monotonic() - shown.counted_at),
        )
        return [age, *_usage(shown), *_zones(shown), _pool(shown), _pool_wanted(shown), *_quotas(shown)]


def _usage(shown: Statistics | None) -> Iterable[Metric]:
    registrations = GaugeMetricFamily("ipam_registrations", f"Registrations, by state{_AGE}", labels=(*_PLACE, "state"))
    services = GaugeMetricFamily("ipam_services", f"Services on registrations{_AGE}", labels=_PLACE)
    expiring = GaugeMetricFamily("ipam_expiring_services", f"Services with an expiration{_AGE}", labels=_PLACE)
    for place, usage in sorted(shown.usage.items()) if shown else ():
        # Zeros too, so that an alert can tell none from unknown.
        for state in {**dict.fromkeys((one.value for one in State), 0), **usage.states}:
            registrations.add_metric((*place, state), usage.states.get(state, 0))
        services.add_metric(place, usage.services)
        expiring.add_metric(place, usage.expiring)
    return registrations, services, expiring


def _zones(shown: Statistics | None) -> Iterable[Metric]:
    size = GaugeMetricFamily(
        "ipam_zone_size_addresses", f"Addresses in the zone's container prefixes{_AGE}", labels=_PLACE
    )
    used = GaugeMetricFamily("ipam_zone_used_addresses", "Addresses that are registered", labels=_PLACE)
    reserved = GaugeMetricFamily("ipam_zone_reserved_addresses", "Addresses that the pool holds", labels=_PLACE)
    other = GaugeMetricFamily(
        "ipam_zone_other_addresses",
        "Addresses that other systems take in NetBox, by kind: prefix; ip_address (IP addresses and ranges in no"
        " prefix); missing while it is not known",
        labels=(*_PLACE, "kind"),
    )
    free = GaugeMetricFamily(
        "ipam_zone_free_addresses",
        "Addresses that nothing takes in NetBox, in containers that are not marked as utilized; missing while it is not"
        " known",
        labels=_PLACE,
    )
    as_of = GaugeMetricFamily(
        "ipam_zone_as_of_timestamp_seconds",
        "When NetBox was read for the free and the other addresses; missing while they are not known",
        labels=_PLACE,
    )
    for zone in shown.zones if shown else ():
        for use in zone.families:
            place = (zone.zone, use.ip_family)
            size.add_metric(place, use.size)
            used.add_metric(place, use.used)
            reserved.add_metric(place, use.reserved)
            for kind, number in (("prefix", use.other_prefixes), ("ip_address", use.other_addresses)):
                if number is not None:
                    other.add_metric((*place, kind), number)
            if use.free is not None:
                free.add_metric(place, use.free)
            if use.as_of is not None:
                as_of.add_metric(place, use.as_of.timestamp())
    return size, used, reserved, other, free, as_of


def _pool(shown: Statistics | None) -> Metric:
    entries = GaugeMetricFamily("ipam_pool_entries", f"Entries of the pool, by state{_AGE}", labels=(*_PLACE, "state"))
    counts = shown.pool if shown else {}
    for zone, family in sorted({(key.zone, key.ip_family) for key in counts}):
        found = {key.state: number for key, number in counts.items() if (key.zone, key.ip_family) == (zone, family)}
        for state in PoolState:
            entries.add_metric((zone, family, state.value), found.get(state, 0))
    return entries


def _pool_wanted(shown: Statistics | None) -> Metric:
    wanted = GaugeMetricFamily(
        "ipam_pool_wanted_addresses", "Addresses to keep ready in the pool (netbox.warm_addresses)", labels=_PLACE
    )
    for place, number in sorted(shown.pool_wanted.items()) if shown else ():
        wanted.add_metric(place, number)
    return wanted


def _quotas(shown: Statistics | None) -> Iterable[Metric]:
    labels = ("quota", "zone")
    limit = GaugeMetricFamily(
        "ipam_quota_limit_addresses", "Addresses that a cluster or namespace may have (limits)", labels=labels
    )
    highest = GaugeMetricFamily(
        "ipam_quota_highest_addresses", f"Addresses of the cluster or namespace with most of them{_AGE}", labels=labels
    )
    nearly = GaugeMetricFamily(
        "ipam_quota_nearly_used", "Clusters or namespaces with at least 90 % of their quota", labels=labels
    )
    for use in shown.quotas if shown else ():
        place = (use.owner, use.zone)
        limit.add_metric(place, use.limit)
        highest.add_metric(place, use.highest)
        nearly.add_metric(place, use.nearly_used)
    return limit, highest, nearly


class CallbackCounter(Collector):
    """A counter whose values, by one label, `read` returns."""

    def __init__(self, name: str, about: str, label: str, read: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._about, self._label, self._read = name, about, label, read

    def describe(self) -> Iterable[Metric]:
        """The counter, without values."""
        return [CounterMetricFamily(self._name, self._about, labels=(self._label,))]

    def collect(self) -> Iterable[Metric]:
        """The counter, with its current values."""
        family = CounterMetricFamily(self._name, self._about, labels=(self._label,))
        for value, number in self._read().items():
            family.add_metric((value,), number)
        return [family]
