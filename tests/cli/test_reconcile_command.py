"""What `reconcile` counts of a round, and what it keeps of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ipam_lib.cli.reconcile_command import Round
from ipam_lib.registry import DriftKind, DriftResult
from ipam_lib.registry.drift import Drift


def found(kind: DriftKind, *, repaired: bool = False, note: str = "") -> DriftResult:
    return DriftResult(Drift(kind, "inet", "192.0.2.1/32", "6b" * 12, 7), sightings=1, repaired=repaired, note=note)


@pytest.mark.parametrize("kept", [True, False])
def test_a_round_counts_and_keeps_only_what_is_told_at_the_end(kept: bool) -> None:
    """Pointed at the wrong database, it may find as much as there is in NetBox."""
    this = Round(1, datetime(2026, 1, 1, tzinfo=UTC))
    for one in (
        found(DriftKind.PREFIX_WITHOUT_REGISTRATION, repaired=True),
        found(DriftKind.PREFIX_WITHOUT_REGISTRATION),
        found(DriftKind.UUID_MISSING, note="the prefix has gone"),
        found(DriftKind.UUID_DIFFERS),
    ):
        this.note(one, kept=kept)
    assert this.found == {
        DriftKind.PREFIX_WITHOUT_REGISTRATION: 2,
        DriftKind.UUID_MISSING: 1,
        DriftKind.UUID_DIFFERS: 1,
    }
    assert this.repaired.total() == 1
    assert this.unrepaired == 3
    assert this.waiting == 1, "the second prefix; no round will repair the others"
    assert len(this.drifts) == (4 if kept else 0)
