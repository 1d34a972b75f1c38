"""What events ask for, and the looks at NetBox because of them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ipam_lib.errors import ContainerFull, NetBoxUnavailable
from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.event_queue import MAX_ADDRESSES, MAX_DELETED, EventQueue
from ipam_lib.netbox.events import Event, parse_event
from tests.netbox.events import event
from tests.netbox.test_space import HOSTS, SMALL, Site, make, occupant


@dataclass
class Queue:
    """A queue over a picture and its NetBox, and what it has asked of NetBox."""

    site: Site
    queue: EventQueue = field(init=False)
    asked: list[list[int]] = field(default_factory=list)
    refreshed: int = 0
    refreshable: bool = True
    broken: bool = False
    gone: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.queue = EventQueue(self.site.space, refresh_zones=self._refresh, get_many=self._get_many)

    async def _refresh(self) -> bool:
        if self.broken:
            raise NetBoxUnavailable(detail="broken")
        self.refreshed += self.refreshable
        return self.refreshable

    async def _get_many(self, ids: Sequence[int]) -> list[Prefix]:
        self.asked.append(sorted(ids))
        if self.broken:
            raise NetBoxUnavailable(detail="broken")
        there = {one.netbox_id: one for one in self.site.reader.rows if one.netbox_id not in self.gone}
        return [Prefix(one, there[one].text) for one in ids if one in there]

    def add(self, action: str, netbox_id: int, text: str, kind: str = "prefix", **more: Any) -> bool:
        """Take an event of an object at this place."""
        name = {"prefix": "prefix", "ipaddress": "address"}[kind]
        parsed = parse_event(event(action, netbox_id, {name: text}, object_type=f"ipam.{kind}", **more))
        assert parsed is not None
        return self.queue.add(parsed)

    async def round(self) -> None:
        """One round of the worker, and the loads that it begins."""
        await self.queue.work()
        await self.site.clock.settle()

    def free(self) -> list[str]:
        """The addresses of the container that the picture says are free."""
        use = self.site.space.use(SMALL)
        assert use is not None
        [occupancy] = self.site.space.at(parse_place(SMALL.prefix))
        found = [host for host in HOSTS if occupancy.is_free(host)]
        assert len(found) == use.free
        return found


def parse_place(prefix: str) -> Any:
    parsed = parse_event(event("created", 1, {"prefix": prefix}))
    assert parsed is not None
    return parsed.after


@pytest.fixture
async def full() -> Queue:
    """A queue over a container in which every address is a prefix."""
    site = make()
    for host in HOSTS:
        site.reader.put(host)
    await site.space.load(SMALL)
    site.reader.reads.clear()
    return Queue(site)


async def test_a_deleted_prefix_is_free_after_one_round(full: Queue) -> None:
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    assert full.add("deleted", 3, HOSTS[2])
    assert full.queue.wanted.is_set()
    await full.round()
    assert full.free() == [HOSTS[2]]
    assert (full.asked, full.site.reader.reads) == ([[3]], []), "one look, and no load"
    assert not full.queue.wanted.is_set()


async def test_a_prefix_that_netbox_still_has_stays_taken(full: Queue) -> None:
    assert full.add("deleted", 3, HOSTS[2])
    await full.round()
    assert full.asked == [[3]]
    assert full.free() == []


async def test_the_content_of_an_event_is_not_believed(full: Queue) -> None:
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    # The id of another prefix, the address of another one, and one that is nowhere.
    for netbox_id, text in ((4, HOSTS[2]), (3, HOSTS[5]), (77, HOSTS[1]), (3, "198.51.100.1/32")):
        assert not full.add("deleted", netbox_id, text)
    await full.round()
    assert (full.free(), full.asked) == ([], [])


async def test_events_of_the_service_itself_cost_nothing(full: Queue) -> None:
    assert not full.add("created", 3, HOSTS[2])
    assert not full.add("updated", 3, HOSTS[2], before={"prefix": HOSTS[2], "vrf": None})
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    full.site.space.released([Prefix(3, HOSTS[2])])
    assert not full.add("deleted", 3, HOSTS[2])
    assert not full.queue.wanted.is_set()


async def test_replayed_and_reordered_events_do_no_harm(full: Queue) -> None:
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    assert full.add("deleted", 3, HOSTS[2])
    await full.round()
    again = full.site.reader.put(HOSTS[2])
    assert full.add("created", again.id, HOSTS[2])
    await full.round()
    assert full.free() == []
    for _ in range(3):
        assert not full.add("deleted", 3, HOSTS[2])
        assert full.add("created", 3, HOSTS[2]), "this id is not in the picture, so NetBox is asked"
        await full.round()
        assert full.free() == []


async def test_ten_thousand_events_share_the_looks(full: Queue) -> None:
    for netbox_id in range(1, 9):
        full.site.reader.drop(Prefix(netbox_id, HOSTS[netbox_id - 1]))
    for number in range(10_000):
        full.add("deleted", number % 8 + 1, HOSTS[number % 8])
        full.add("created", 100 + number, HOSTS[number % 8])
        full.add("created", number + 1, "192.0.2.7/24", "ipaddress")
    await full.round()
    assert full.asked == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert [kind for kind, _ in full.site.reader.reads] == ["prefix", "IP address", "IP range"], "one look"
    assert full.free() == HOSTS


async def test_too_many_deleted_prefixes_lead_to_a_load() -> None:
    site = make()
    hosts = [f"{one}/32" for one in ipaddress.ip_network("192.0.2.0/29")] * 50
    for host in hosts:
        site.reader.put(host)
    await site.space.load(SMALL)
    queue = Queue(site)
    site.reader.rows.clear()
    for number, host in enumerate(hosts, 1):
        assert queue.add("deleted", number, host)
    site.clock.advance(30)
    await queue.round()
    assert [len(one) for one in queue.asked] == [MAX_DELETED]
    assert queue.free() == HOSTS


@pytest.fixture
async def addressed() -> Queue:
    """A queue over a container in which the first two addresses are IP addresses, and 192.0.2.4 to .5 an IP range."""
    site = make()
    site.reader.put("192.0.2.0/29", "IP address")
    site.reader.put("192.0.2.1/29", "IP address")
    site.reader.put("192.0.2.4/29-192.0.2.5/29", "IP range")
    await site.space.load(SMALL)
    site.reader.reads.clear()
    return Queue(site)


async def test_a_deleted_ip_address_is_free_after_one_round_without_a_load(addressed: Queue) -> None:
    addressed.site.reader.rows.pop(1)
    assert addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress")
    await addressed.round()
    assert addressed.free() == [HOSTS[one] for one in (1, 2, 3, 6, 7)]
    assert [kind for kind, _ in addressed.site.reader.reads] == ["IP address", "IP range"]
    assert not addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress"), "the picture has it already"


async def test_an_ip_address_that_is_deprecated_or_moves_frees_where_it_was(addressed: Queue) -> None:
    addressed.site.reader.rows = addressed.site.reader.rows[2:]
    deprecated = {"address": "192.0.2.0/29", "status": {"value": "deprecated"}}
    before = {"address": "192.0.2.0/29", "vrf": None, "status": "active"}
    parsed = parse_event(event("updated", 1, deprecated, before=before, object_type="ipam.ipaddress"))
    assert parsed is not None
    assert addressed.queue.add(parsed)
    before = {"address": "192.0.2.1/29", "vrf": None, "status": "active"}
    assert addressed.add("updated", 2, "198.51.100.1/29", "ipaddress", before=before)
    await addressed.round()
    assert addressed.free() == [HOSTS[one] for one in (0, 1, 2, 3, 6, 7)]


async def test_an_address_that_something_else_takes_stays_taken(addressed: Queue) -> None:
    reader = addressed.site.reader
    # It is there still; there is a second one; it lies in a range; and there is a prefix too.
    assert addressed.add("deleted", 1, "192.0.2.0/29", "ipaddress")
    reader.put("192.0.2.1/24", "IP address")
    reader.drop(Prefix(2, "192.0.2.1/29"))
    assert addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress")
    assert addressed.add("deleted", 77, "192.0.2.4/29", "ipaddress")
    await addressed.round()
    assert addressed.free() == [HOSTS[one] for one in (2, 3, 6, 7)]
    made = reader.put(HOSTS[0])
    addressed.site.space.created(SMALL, made)
    reader.drop(Prefix(1, "192.0.2.0/29"))
    assert addressed.add("deleted", 1, "192.0.2.0/29", "ipaddress")
    await addressed.round()
    assert HOSTS[0] not in addressed.free()


async def test_an_ip_address_that_comes_back_during_the_look_stays_taken(addressed: Queue) -> None:
    reader, space = addressed.site.reader, addressed.site.space
    reader.drop(Prefix(2, "192.0.2.1/29"))
    assert addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress")
    reader.gate.clear()
    working = asyncio.create_task(addressed.queue.work())
    await addressed.site.clock.settle()
    # The answer of NetBox is under way; meanwhile a look finds a new IP address there.
    [occupancy] = space.at(parse_place(SMALL.prefix))
    occupancy.enter_addresses([occupant(9, "192.0.2.1/29", addressed.site.clock.now(), "IP address")])
    reader.gate.set()
    await working
    assert HOSTS[1] not in addressed.free()
    assert addressed.queue.wanted.is_set(), "so NetBox is asked once more"
    await addressed.round()
    assert HOSTS[1] in addressed.free()


async def test_without_the_right_to_view_ip_addresses_none_is_freed(addressed: Queue) -> None:
    addressed.site.reader.refused = {"IP address"}
    assert addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress")
    await addressed.round()
    assert HOSTS[1] not in addressed.free()


async def test_an_ip_address_that_is_deleted_during_a_load_is_looked_at_after_it(addressed: Queue) -> None:
    reader = addressed.site.reader
    reader.gate.clear()
    addressed.site.clock.advance(30)
    assert addressed.site.space.begin_reload(SMALL)
    await addressed.site.clock.settle()
    assert addressed.add("deleted", 2, "192.0.2.1/29", "ipaddress")
    await addressed.queue.work()
    assert addressed.queue.wanted.is_set()
    reader.gate.set()
    await addressed.site.clock.settle()
    reader.drop(Prefix(2, "192.0.2.1/29"))
    await addressed.round()
    assert HOSTS[1] in addressed.free()


async def test_a_deleted_range_leads_to_a_load_but_not_at_once_again(addressed: Queue) -> None:
    site = addressed.site

    def deleted() -> bool:
        shown = {"start_address": "192.0.2.4/29", "end_address": "192.0.2.5/29"}
        parsed = parse_event(event("deleted", 3, shown, object_type="ipam.iprange"))
        assert parsed is not None
        return addressed.queue.add(parsed)

    site.clock.advance(30)
    site.reader.rows.pop()
    assert deleted()
    await addressed.round()
    assert addressed.free() == HOSTS[2:]
    assert [kind for kind, since in site.reader.reads if since is None] == ["prefix", "IP address", "IP range"]
    site.reader.rows.clear()
    assert deleted()
    await addressed.round()
    assert addressed.free() == HOSTS[2:], "the last load was a moment ago"
    assert addressed.queue.wanted.is_set(), "so it stays noted"
    site.clock.advance(1)
    await addressed.round()
    assert addressed.free() == HOSTS
    assert not addressed.queue.wanted.is_set()


async def test_many_deleted_ip_addresses_lead_to_a_load() -> None:
    site, large = make(), Container(8, "198.51.100.0/27", "ipv4", "inet")
    for number in range(20):
        site.reader.put(f"198.51.100.{number}/27", "IP address")
    await site.space.load(large)
    queue = Queue(site)
    site.reader.rows.clear()
    site.reader.reads.clear()
    for number in range(20):
        assert queue.add("deleted", number + 1, f"198.51.100.{number}/27", "ipaddress")
    site.clock.advance(30)
    await queue.round()
    use = site.space.use(large)
    assert use is not None
    assert use.free == 32
    assert len(site.reader.reads) == 2 * MAX_ADDRESSES + 3


async def test_a_prefix_that_was_moved_frees_where_it_was(full: Queue) -> None:
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    full.site.clock.advance(30)
    assert full.add("updated", 3, "198.51.100.1/32", before={"prefix": HOSTS[2], "vrf": None})
    await full.round()
    assert full.free() == [HOSTS[2]]


async def test_an_ip_address_of_another_vrf_or_family_concerns_no_container(full: Queue) -> None:
    for text in ("192.0.2.8/32", "2001:db8::1/128"):
        assert not full.add("created", 3, text, "ipaddress")
    parsed = parse_event(event("created", 3, {"prefix": HOSTS[0], "vrf": {"id": 5}}))
    assert parsed is not None
    assert not full.queue.add(parsed)


async def test_with_ip_addresses_ignored_only_prefixes_count() -> None:
    site = make("ignore")
    await site.space.load(SMALL)
    queue = Queue(site)
    queue.queue._ip_addresses = False
    assert not queue.add("created", 3, "192.0.2.1/24", "ipaddress")
    assert queue.add("created", 3, HOSTS[0])


async def test_zones_are_refreshed_as_soon_as_they_may_be(full: Queue) -> None:
    assert full.queue.add(Event("choice_set", 1))
    full.refreshable = False
    await full.round()
    assert (full.refreshed, full.queue.wanted.is_set()) == (0, True)
    full.refreshable = True
    await full.round()
    await full.round()
    assert (full.refreshed, full.queue.wanted.is_set()) == (1, False)


async def test_a_container_that_changes_refreshes_the_zones_and_its_picture(full: Queue) -> None:
    shown = {"status": {"value": "container"}, "custom_fields": {"k8s_zone": "inet"}}
    new = parse_event(event("created", 70, {"prefix": "203.0.113.0/24", **shown}))
    assert new is not None
    assert full.queue.add(new)
    await full.round()
    assert (full.refreshed, full.site.reader.reads) == (1, [])

    full.site.reader.rows.clear()
    full.site.reader.utilized = True
    full.site.clock.advance(30)
    marked = parse_event(event("updated", SMALL.id, {"prefix": SMALL.prefix, **shown}))
    assert marked is not None
    assert full.queue.add(marked)
    await full.round()
    assert full.refreshed == 2
    with pytest.raises(ContainerFull, match="marked as utilized"):
        full.site.space.choose(SMALL, 1)


async def test_while_netbox_is_away_everything_stays_noted(full: Queue) -> None:
    full.site.reader.drop(Prefix(3, HOSTS[2]))
    full.site.reader.put("192.0.2.2/29", "IP address")
    full.queue.add(Event("choice_set", 1))
    full.add("deleted", 3, HOSTS[2])
    full.add("created", 9, "192.0.2.2/29", "ipaddress")
    full.broken = full.site.reader.broken = True
    for _ in range(3):
        with pytest.raises(NetBoxUnavailable):
            await full.round()
        assert full.queue.wanted.is_set()
    full.broken = False
    with pytest.raises(NetBoxUnavailable):
        await full.round()
    assert full.free() == [HOSTS[2]], "each kind of look succeeds by itself"
    full.site.reader.broken = False
    await full.round()
    assert not full.queue.wanted.is_set()
    assert (full.refreshed, full.free()) == (1, [])


async def test_a_prefix_that_is_deleted_during_a_load_is_free_after_it(full: Queue) -> None:
    reader = full.site.reader
    reader.gate.clear()
    full.site.clock.advance(30)
    assert full.site.space.begin_reload(SMALL)
    await full.site.clock.settle()
    # The load reads the prefix, and then NetBox deletes it.
    full.gone = {3}
    assert full.add("deleted", 3, HOSTS[2])
    assert full.add("deleted", 9, HOSTS[4]), "what the load has read is not known"
    await full.queue.work()
    reader.gate.set()
    await full.site.clock.settle()
    assert full.free() == [HOSTS[2]]
