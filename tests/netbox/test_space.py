"""The address space: loads, looks and choices over a NetBox that the test moves between two awaits."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from ipam_lib.errors import ContainerFull, NetBoxRejected, NetBoxUnavailable
from ipam_lib.models import IPAddressPolicy
from ipam_lib.netbox import picture
from ipam_lib.netbox.base import Container, Occupant, OccupantKind, Prefix
from ipam_lib.netbox.container_space import ContainerState
from ipam_lib.netbox.space import AddressSpace
from tests.support.clock import FakeClock

SMALL = Container(7, "192.0.2.0/29", "ipv4", "inet")
HOSTS = [f"{one}/32" for one in ipaddress.ip_network(SMALL.prefix)]


def occupant(netbox_id: int, text: str, updated: datetime, kind: OccupantKind = "prefix") -> Occupant:
    first, _, last = text.partition("-")
    ends = [int(ipaddress.ip_interface(one).ip) for one in (first, last or first)]
    if kind == "prefix":
        net = ipaddress.ip_network(text)
        ends = [int(net.network_address), int(net.broadcast_address)]
    return Occupant(netbox_id, ends[0], ends[1], kind, text, updated)


@dataclass
class FakeReader:
    """Implements `SpaceReader` over lists, a page of two rows at a time. `hidden`: child prefixes that the token cannot
    see. `refused`: kinds that the token may not view. `pause`: awaited before each page."""

    clock: FakeClock
    rows: list[Occupant] = field(default_factory=list)
    hidden: int = 0
    utilized: bool = False
    refused: set[str] = field(default_factory=set)
    broken: bool = False
    broken_kinds: set[str] = field(default_factory=set)
    reads: list[tuple[str, datetime | None]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    netbox_ahead: timedelta = timedelta()
    fresh: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def put(self, text: str, kind: OccupantKind = "prefix") -> Prefix:
        self.fresh += 1
        self.rows.append(occupant(self.fresh, text, self.clock.now() + self.netbox_ahead, kind))
        return Prefix(self.fresh, text, uuid=f"{self.fresh:024x}")

    def drop(self, prefix: Prefix) -> None:
        self.rows = [one for one in self.rows if one.netbox_id != prefix.id]

    async def container_state(self, container: Container, *, limit: float) -> ContainerState:
        if self.broken:
            raise NetBoxUnavailable(detail="broken")
        return ContainerState(self.hidden + sum(one.kind == "prefix" for one in self.rows), self.utilized)

    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        return [Prefix(one.netbox_id, one.text) for one in self.rows if one.kind == "prefix" and one.covers(address)]

    def child_prefixes(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        return self._pages("prefix", since)

    def ip_addresses(
        self, container: Container, *, within: str | None = None, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        return self._pages("IP address", since, within)

    def ip_ranges(
        self, container: Container, *, since: datetime | None = None, limit: float
    ) -> AsyncIterator[list[Occupant]]:
        return self._pages("IP range", since)

    async def _pages(
        self, kind: str, since: datetime | None, within: str | None = None
    ) -> AsyncIterator[list[Occupant]]:
        self.reads.append((kind, since))
        if kind in self.refused:
            raise NetBoxRejected("NetBox refused the request", detail=f"may not view {kind}")
        after = 0
        while True:
            await self.gate.wait()
            if self.broken or kind in self.broken_kinds:
                raise NetBoxUnavailable(detail="broken")
            page = [
                one
                for one in self.rows
                if one.kind == kind
                and one.netbox_id > after
                and (since is None or (one.updated is not None and one.updated >= since))
                and (within is None or one.covers(within))
            ][:2]
            if not page:
                return
            yield page
            after = page[-1].netbox_id


@dataclass
class Site:
    """A reader, and a space over it."""

    clock: FakeClock
    reader: FakeReader
    space: AddressSpace

    async def choose(self, count: int = 1) -> Sequence[str]:
        chosen = self.space.choose(SMALL, count)
        assert chosen is not None
        return chosen.addresses


def make(policy: IPAddressPolicy = "avoid") -> Site:
    clock = FakeClock(auto=False)
    reader = FakeReader(clock)
    return Site(clock, reader, AddressSpace(reader, clock=clock, rng=random.Random(1), policy=policy))


@pytest.fixture
def site() -> Site:
    return make()


async def test_others_have_their_turn_while_a_large_picture_is_built(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    for one in HOSTS[:7]:
        site.reader.put(one)
    others = asyncio.create_task(take_turns())
    await site.space.load(SMALL)
    few, turns = turns, 0
    monkeypatch.setattr(picture, "ROWS_IN_A_STEP", 1)
    await site.space.load(SMALL)
    others.cancel()
    # The rows go into the prefixes, into what they cover, and into all that is taken.
    assert turns >= few + 7 + 7 + 1
    assert await site.choose() == [HOSTS[7]]


async def test_before_the_first_load_netbox_chooses(site: Site) -> None:
    assert site.space.choose(SMALL, 1) is None
    assert site.space.use(SMALL) is None
    site.reader.put(HOSTS[0], "IP address")
    made = site.reader.put(HOSTS[0])
    site.space.created(SMALL, made)
    found = await site.space.conflict(SMALL, made, limit=5)
    assert str(found) == "IP address 192.0.2.0/32 (NetBox id 1)", "what NetBox chose is looked at all the same"
    assert [kind for kind, _ in site.reader.reads] == ["IP address", "IP range"], "and no listing was read for it"


async def test_the_gateway_and_a_range_are_passed_over(site: Site) -> None:
    site.reader.put("192.0.2.1/24", "IP address")
    site.reader.put("192.0.2.3/29-192.0.2.5/29", "IP range")
    site.reader.put(HOSTS[0])
    await site.space.load(SMALL)
    choice = site.space.choose(SMALL, 3)
    assert choice is not None
    assert (choice.addresses, choice.by_netbox) == ([HOSTS[2], HOSTS[6], HOSTS[7]], False)
    with pytest.raises(ContainerFull, match="as far as is known"):
        site.space.choose(SMALL, 1)


async def test_where_nothing_but_prefixes_is_in_the_way_netbox_may_be_asked(site: Site) -> None:
    site.reader.put(HOSTS[0])
    site.reader.put("192.0.2.6/32", "IP address")
    await site.space.load(SMALL)
    first = site.space.choose(SMALL, 2)
    assert first is not None
    assert (first.addresses, first.by_netbox) == ([HOSTS[1], HOSTS[2]], True)
    second = site.space.choose(SMALL, 1)
    assert second is not None
    assert (second.addresses, second.by_netbox) == ([HOSTS[3]], False), "NetBox does not know yet of the first two"


async def test_a_choice_that_does_not_fit_reserves_nothing(site: Site) -> None:
    site.reader.put("192.0.2.0/30")
    await site.space.load(SMALL)
    with pytest.raises(ContainerFull):
        site.space.choose(SMALL, 5)
    assert await site.choose(4) == HOSTS[4:]


async def test_a_container_marked_as_utilized_is_full(site: Site) -> None:
    site.reader.utilized = True
    await site.space.load(SMALL)
    with pytest.raises(ContainerFull, match="marked as utilized"):
        site.space.choose(SMALL, 1)


async def test_a_token_that_cannot_see_everything_leaves_the_choice_to_netbox(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.reader.put(HOSTS[0])
    site.reader.hidden = 2
    await site.space.load(SMALL)
    assert site.space.choose(SMALL, 1) is None
    assert site.space.problems == {SMALL.prefix: "the token cannot see 2 of its 3 child prefixes; NetBox chooses"}
    assert "the token cannot see 2 of its 3 child prefixes" in caplog.text
    site.reader.hidden = 0
    await site.space.load(SMALL)
    assert (site.space.problems, await site.choose()) == ({}, [HOSTS[1]])


@pytest.mark.parametrize("policy", ["avoid", "refuse", "ignore"])
async def test_without_the_right_to_view_ip_addresses_prefixes_alone_count(policy: IPAddressPolicy) -> None:
    site = make(policy)
    site.reader.refused = {"IP address", "IP range"}
    site.reader.put(HOSTS[0], "IP address")
    await site.space.load(SMALL)
    assert await site.choose() == [HOSTS[0]]
    assert set(site.space.refused) == (set() if policy == "ignore" else {"IP addresses", "IP ranges"})
    site.reader.refused = set()
    await site.space.load(SMALL)
    assert site.space.refused == {}


async def test_a_load_that_breaks_leaves_the_picture_that_there_was(site: Site) -> None:
    site.reader.put(HOSTS[0])
    await site.space.load(SMALL)
    site.reader.put(HOSTS[1])
    site.reader.put(HOSTS[2])
    site.reader.gate.clear()
    loading = asyncio.create_task(site.space.load(SMALL))
    await site.clock.settle()
    site.reader.broken = True
    site.reader.gate.set()
    await loading
    assert site.space.problems == {SMALL.prefix: "it could not be read: broken"}
    assert await site.choose() == [HOSTS[1]], "half a listing is not taken for the whole, the former picture stays"


async def test_an_address_entered_a_moment_before_is_seen_by_the_look(site: Site) -> None:
    await site.space.load(SMALL)
    taken_since = site.reader.put(HOSTS[0], "IP address")
    [chosen] = await site.choose()
    look = site.space.begin_look(SMALL)
    with site.space.creating(SMALL, [chosen]):
        made = site.reader.put(chosen)
        site.space.created(SMALL, made, look)
    found = await site.space.conflict(SMALL, made, limit=5)
    assert found is not None
    assert (found.kind, found.netbox_id) == ("IP address", taken_since.id)
    site.reader.drop(made)
    site.space.released([made])
    assert await site.choose() == [HOSTS[1]], "what the look found is in the picture"


async def test_what_this_instance_has_created_is_taken_without_a_look(site: Site) -> None:
    await site.space.load(SMALL)
    [chosen] = await site.choose()
    with site.space.creating(SMALL, [chosen]):
        site.space.created(SMALL, site.reader.put(chosen))
    assert await site.choose() == [HOSTS[1]]


@pytest.mark.parametrize("ahead", [-3600, -60, 0, 60, 3600])
async def test_clocks_that_differ_hide_nothing_from_a_look(site: Site, ahead: int) -> None:
    site.reader.netbox_ahead = timedelta(seconds=ahead)
    site.reader.put(HOSTS[7])
    site.clock.advance(100)
    await site.space.load(SMALL)
    site.clock.advance(1)
    for host in HOSTS[:3]:
        site.reader.put(host)
        await site.space.begin_look(SMALL)
        site.clock.advance(400)
    assert await site.choose() == [HOSTS[3]]
    assert site.reader.reads[-3][1] is not None, "a look does not read everything"


async def test_looks_are_shared_and_see_what_came_before_they_were_asked_for(site: Site) -> None:
    await site.space.load(SMALL)
    site.reader.reads.clear()
    site.reader.gate.clear()
    first = site.space.begin_look(SMALL)
    await site.clock.settle()
    others = {site.space.begin_look(SMALL) for _ in range(10)}
    assert len(others) == 1
    assert first not in others, "the first one reads already: it may have passed what came since"
    site.reader.gate.set()
    await asyncio.gather(first, *others)
    assert len(site.reader.reads) == 2 * 3


async def test_a_look_that_fails_keeps_the_registration_from_going_live(site: Site) -> None:
    await site.space.load(SMALL)
    [chosen] = await site.choose()
    made = site.reader.put(chosen)
    site.reader.broken = True
    site.space.created(SMALL, made, site.space.begin_look(SMALL))
    with pytest.raises(NetBoxUnavailable):
        await site.space.conflict(SMALL, made, limit=5)


async def test_what_is_taken_by_mistake_of_the_picture_is_no_conflict(site: Site) -> None:
    deleted = site.reader.put(HOSTS[0], "IP address")
    await site.space.load(SMALL)
    site.reader.drop(deleted)
    made = site.reader.put(HOSTS[0])
    site.space.created(SMALL, made)
    assert await site.space.conflict(SMALL, made, limit=5) is None


async def test_a_full_container_is_read_again_before_it_is_called_full(site: Site) -> None:
    gone = [site.reader.put(host) for host in HOSTS]
    await site.space.load(SMALL)
    site.clock.advance(11)
    for one in gone[2:4]:
        site.reader.drop(one)
    with pytest.raises(ContainerFull):
        site.space.choose(SMALL, 1)
    assert await site.space.reload(SMALL, 5)
    assert await site.choose() == [HOSTS[2]]
    assert not await site.space.reload(SMALL, 5), "not again within ten seconds"


async def test_a_creation_of_which_surely_nothing_came_frees_its_address(site: Site) -> None:
    await site.space.load(SMALL)
    for error in (NetBoxUnavailable(applied=False), NetBoxRejected("no")):
        chosen = await site.choose()
        assert chosen == [HOSTS[0]]
        with pytest.raises(type(error)), site.space.creating(SMALL, chosen):
            raise error
    chosen = await site.choose()
    with pytest.raises(asyncio.CancelledError), site.space.creating(SMALL, chosen):
        raise asyncio.CancelledError
    assert await site.choose() == [HOSTS[1]], "what was cancelled may have been sent"


async def test_collisions_spread_the_choices_of_instances(site: Site) -> None:
    await site.space.load(SMALL)
    for _ in range(3):
        site.space.collided(SMALL)
    chosen = {(await site.choose())[0] for _ in range(4)}
    assert len(chosen) == 4
    assert chosen != set(HOSTS[:4])


async def test_the_reply_to_a_creation_that_was_lost_keeps_its_address_until_a_later_listing(site: Site) -> None:
    await site.space.load(SMALL)
    [chosen] = await site.choose()
    with pytest.raises(NetBoxUnavailable), site.space.creating(SMALL, [chosen]):
        raise NetBoxUnavailable(applied=True)
    site.clock.advance(60)
    await site.space.load(SMALL)
    assert await site.choose() == [HOSTS[1]], "NetBox may carry it out yet"
    site.clock.advance(121)
    await site.space.load(SMALL)
    assert await site.choose() == [HOSTS[0]]


async def test_the_worker_loads_each_container_when_it_is_due(site: Site) -> None:
    other = replace(SMALL, id=8, prefix="198.51.100.0/29")
    loads = lambda: site.reader.reads.count(("prefix", None))  # noqa: E731
    await site.space.load_due([SMALL, other])
    assert loads() == 2
    site.clock.advance(599)
    await site.space.load_due([SMALL, other])
    assert loads() == 2
    site.clock.advance(1)
    await site.space.load_due([SMALL, other])
    assert loads() == 4
    site.clock.advance(600)
    site.reader.broken = True
    await site.space.load_due([SMALL])
    assert site.space.use(other) is None, "a container that is gone has no picture"
    assert list(site.space.problems) == [SMALL.prefix]
    site.reader.broken = False
    site.clock.advance(30)
    await site.space.load_due([SMALL])
    assert site.space.problems == {}, "after a failure sooner"


@pytest.mark.parametrize(("hidden", "broken", "pause"), [(0, False, 1000), (1, False, 1000), (0, True, 100)])
async def test_full_loads_take_a_small_part_of_the_time(site: Site, hidden: int, broken: bool, pause: float) -> None:
    """Also of a container that has no picture afterwards. One that could not be read is tried sooner."""
    site.space._reads.refresh_seconds = 30
    site.reader.gate.clear()
    site.reader.hidden = hidden
    loading = asyncio.create_task(site.space.load_due([SMALL]))
    await site.clock.settle()
    site.clock.advance(50)
    site.reader.broken = broken
    site.reader.gate.set()
    await loading
    site.reader.broken = False
    site.reader.reads.clear()
    site.clock.advance(pause - 51)
    await site.space.load_due([SMALL])
    assert site.reader.reads == []
    site.clock.advance(1)
    await site.space.load_due([SMALL])
    assert ("prefix", None) in site.reader.reads


async def test_closing_ends_what_is_under_way(site: Site) -> None:
    site.reader.gate.clear()
    loading = asyncio.create_task(site.space.load(SMALL))
    await site.clock.settle()
    await site.space.close()
    with pytest.raises(asyncio.CancelledError):
        await loading


async def test_a_look_that_fails_in_part_hides_nothing_from_the_next_one(site: Site) -> None:
    await site.space.load(SMALL)
    site.reader.put(HOSTS[0], "IP address")
    site.clock.advance(1000)
    site.reader.put(HOSTS[1])
    site.reader.broken_kinds = {"IP address"}
    with pytest.raises(NetBoxUnavailable):
        await site.space.begin_look(SMALL)
    site.reader.broken_kinds = set()
    await site.space.begin_look(SMALL)
    assert await site.choose() == [HOSTS[2]], "the IP address was entered before the newest row that was read"


@pytest.mark.parametrize("kind", ["prefix", "IP address"])
async def test_what_a_look_finds_during_a_load_is_on_top_of_it(site: Site, kind: OccupantKind) -> None:
    await site.space.load(SMALL)
    loading = site.space._space(SMALL).occupancy.load()
    site.reader.put(HOSTS[0], kind)
    await site.space.begin_look(SMALL)
    site.space._space(SMALL).occupancy.replace(loading)  # its pages were read before that
    assert await site.choose() == [HOSTS[1]]
