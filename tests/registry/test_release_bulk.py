"""Ten thousand services that expired at once: in bulk, in bounded memory, and one of them that cannot be released."""

from __future__ import annotations

import pytest

from ipam_lib.models import Registration, State
from ipam_lib.registry import ReleaseReport
from tests.registry.bulk import BATCH, Bulk

# What a page costs in NetBox: prefixes by their ids, by their k8s_uuid, the deletion, and what that has left.
CALLS_OF_A_PAGE = 4


@pytest.mark.soak
@pytest.mark.no_cover  # with it, four fifths of the time
async def test_all_but_the_one_that_cannot_be_deleted(bulk: Bulk) -> None:
    registry = await bulk.registry()
    bulk.look_at_memory("delete_many", times=bulk.services // BATCH // 20, every=20)
    [stuck] = [one for one in bulk.server.prefixes.values() if one.prefix == "10.0.1.77/32"]
    for options in ({"contains": f'"id": {stuck.id},'}, {"path": f"/api/ipam/prefixes/{stuck.id}/"}):
        bulk.server.fault("status", method="DELETE", status=403, times=1000, **options)
    calls_before = sum(bulk.server.calls.values()) + bulk.server.faults.hit

    report = await registry.release_expired()

    assert report == ReleaseReport(expired_services=bulk.services, released=bulk.services - 1, failed=1)
    assert list(bulk.server.prefixes.values()) == [stuck]
    [left] = await bulk.store.unseen("find_states", {State.RELEASING}, after=None, limit=10)
    assert left.address == stuck.prefix
    # The page with the stuck one: its bulk fails, each prefix goes by itself, then each registration is looked at.
    calls = sum(bulk.server.calls.values()) + bulk.server.faults.hit - calls_before
    assert calls <= CALLS_OF_A_PAGE * (bulk.services // BATCH) + BATCH + CALLS_OF_A_PAGE * BATCH
    # The page that was read, and those that come of it by compare-and-set; of those before, what a variable names.
    assert 0 < bulk.most_in_memory[Registration] <= 3 * BATCH + 1
    assert await registry.release_expired() == ReleaseReport(failed=1)

    bulk.server.faults.clear()
    assert await registry.release_expired() == ReleaseReport(released=1)
    assert bulk.server.prefixes == {}
