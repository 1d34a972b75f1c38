"""Ten thousand registrations compared with NetBox: by pages, in bounded memory, and every drift found."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ipam_lib.models import Registration
from ipam_lib.netbox.base import Prefix
from ipam_lib.netbox.paging import PAGE
from ipam_lib.registry import DriftKind, drift
from ipam_lib.registry.drift import Drift, DriftHistory
from tests.registry.bulk import BATCH, Bulk

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.soak
@pytest.mark.no_cover  # with it, four fifths of the time
async def test_every_drift_is_found_page_by_page(bulk: Bulk) -> None:
    registry = await bulk.registry()
    await bulk.zones.start()
    container = bulk.server.containers[0]
    lost = {f"10.0.{number >> 8}.{number & 255}/32" for number in range(3, bulk.services, 499)}
    for prefix in [one for one in bulk.server.prefixes.values() if one.prefix in lost]:
        bulk.server.remove(prefix.id)
    # Their ids are the highest: they are on the last page.
    left = {f"10.0.200.{number}/32" for number in range(3)}
    for number, address in enumerate(sorted(left)):
        bulk.server.add(container, address, f"{0x6C000000_00000000_00000000 + number:024x}")
    bulk.netbox.forget()
    bulk.look_at_memory("get_many", times=bulk.services // BATCH // 20, every=20)
    bulk.look_at_memory("list_prefixes", times=bulk.services // PAGE + 1, every=1)

    found = [one.drift async for one in registry.reconcile()]

    assert {one.address for one in found if one.kind is DriftKind.REGISTRATION_WITHOUT_PREFIX} == lost
    assert {one.address for one in found if one.kind is DriftKind.PREFIX_WITHOUT_REGISTRATION} == left
    assert len(found) == len(lost) + len(left)
    pages = bulk.services // BATCH
    assert bulk.netbox.counted["get_many"] == bulk.netbox.counted["find_by_uuid"] == pages
    assert bulk.netbox.counted["list_prefixes"] <= bulk.services // PAGE + 2
    # A page of NetBox, the registrations of it, and the page before until that is let go.
    assert 0 < bulk.most_in_memory[Prefix] <= 2 * PAGE
    assert 0 < bulk.most_in_memory[Registration] <= 2 * PAGE


def test_what_is_remembered_from_round_to_round_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond counts as seen for the first time, again and again, until others are gone."""
    monkeypatch.setattr(drift, "REMEMBERED", 3)
    drifts = [Drift(DriftKind.REGISTRATION_WITHOUT_PREFIX, "inet", "192.0.2.0/32", f"{one}") for one in range(5)]
    document = None
    for expected in ([1, 1, 1, 1, 1], [2, 2, 2, 1, 1]):
        sightings = DriftHistory.from_document(document)
        assert [sightings.count(one, NOON)[0] for one in drifts] == expected
        document = sightings.document()
        assert len(document["seen"]) == 3
    sightings = DriftHistory.from_document(document)
    assert [sightings.count(one, NOON)[0] for one in drifts[2:]] == [3, 1, 1]
    assert len(sightings.document()["seen"]) == 3, "now there is room for them"
