"""The numbers of what a store holds, by zone and family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ipam_lib.models import IPFamily, State

SECONDS_TO_COUNT: Final = 60.0
OTHER: Final = "other"
_KNOWN: Final = frozenset(state.value for state in State)


@dataclass(frozen=True, slots=True)
class Usage:
    """The numbers of one zone and family.

    - `states`: registrations by state. A state that only a newer version knows counts as `other`.
    - `services`: the services on these registrations.
    - `expiring`: those of the services that have an expiration.
    """

    states: Mapping[str, int]
    services: int = 0
    expiring: int = 0


class UsageCounting:
    """Adds up a `Usage` for each zone and family."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, IPFamily], Counter[str]] = {}
        self._services: Counter[tuple[str, IPFamily]] = Counter()
        self._expiring: Counter[tuple[str, IPFamily]] = Counter()

    def add(
        self,
        zone: str,
        ip_family: IPFamily,
        state: str | None,
        *,
        registrations: int = 0,
        services: int = 0,
        expiring: int = 0,
    ) -> None:
        """Add these numbers. A registration without a state is live."""
        key = (zone, ip_family)
        name = state or State.LIVE.value
        self._states.setdefault(key, Counter())[name if name in _KNOWN else OTHER] += registrations
        self._services[key] += services
        self._expiring[key] += expiring

    def result(self) -> dict[tuple[str, IPFamily], Usage]:
        """The sums."""
        found = {}
        for key, states in self._states.items():
            present = {state: number for state, number in states.items() if number}
            found[key] = Usage(present, self._services[key], self._expiring[key])
        return found
