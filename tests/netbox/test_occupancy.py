"""The picture of a container against NetBox as it really is: it may err towards "taken" only."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipam_lib.netbox import picture as picture_module
from ipam_lib.netbox.base import Container, Occupant
from ipam_lib.netbox.occupancy import Occupancy
from ipam_lib.netbox.picture import HostRows

NET = ipaddress.ip_network("192.0.2.16/29")
BASE = int(NET.network_address)
HOSTS = [f"{one}/32" for one in NET]


def container(prefix: str = "192.0.2.16/29") -> Container:
    return Container(7, prefix, "ipv4" if "." in prefix else "ipv6", "inet")


def taken(netbox_id: int, first: str, last: str | None = None) -> Occupant:
    number = int(ipaddress.ip_address(first))
    return Occupant(netbox_id, number, int(ipaddress.ip_address(last)) if last else number)


def loaded(
    prefix: str = "192.0.2.16/29", prefixes: list[Occupant] | None = None, others: list[Occupant] | None = None
) -> Occupancy:
    picture = Occupancy(container(prefix))
    load = picture.load()
    load.add_prefixes(prefixes or [])
    load.add_addresses(others or [])
    picture.replace(load)
    return picture


def test_without_a_picture_nothing_is_chosen_or_called_free() -> None:
    picture = Occupancy(container())
    assert (picture.loaded, picture.reserve(), picture.use(), picture.netbox_next(2)) == (False, None, None, [])
    assert not picture.is_free(HOSTS[0])
    assert not picture.full


def test_the_lowest_free_address_passes_over_everything_that_takes_one() -> None:
    picture = loaded(
        prefixes=[taken(1, "192.0.2.16"), taken(2, "192.0.2.20", "192.0.2.21")],
        others=[taken(3, "192.0.2.17"), taken(4, "192.0.2.22", "192.0.2.40"), taken(5, "192.0.2.0", "192.0.2.15")],
    )
    # NetBox's own search looks at prefixes only.
    assert picture.netbox_next(4) == ["192.0.2.17/32", "192.0.2.18/32", "192.0.2.19/32", "192.0.2.22/32"]
    use = picture.use()
    assert use is not None
    assert (use.size, use.prefixes, use.ip_addresses, use.free) == (8, 3, 3, 2)
    assert [picture.reserve(), picture.reserve(), picture.reserve()] == ["192.0.2.18/32", "192.0.2.19/32", None]
    assert picture.full
    picture.end("192.0.2.18/32")
    assert picture.reserve() == "192.0.2.18/32"


def test_instances_that_collided_choose_apart() -> None:
    picture = loaded(prefixes=[taken(1, "192.0.2.17")])
    assert picture.reserve(skip=3) == "192.0.2.20/32"
    assert picture.reserve(skip=100) == "192.0.2.23/32", "the last one when there are fewer"


def test_two_prefixes_on_one_address_take_it_until_both_are_gone() -> None:
    picture = loaded(prefixes=[taken(1, "192.0.2.16"), taken(2, "192.0.2.16")])
    picture.released(1, HOSTS[0])
    assert not picture.is_free(HOSTS[0])
    picture.released(2, HOSTS[0])
    assert picture.is_free(HOSTS[0])


@pytest.mark.parametrize("others", [[], [taken(9, "192.0.2.16")]])
def test_a_released_address_that_is_also_an_ip_address_stays_taken(others: list[Occupant]) -> None:
    picture = loaded(prefixes=[taken(1, "192.0.2.16")], others=others)
    picture.released(1, HOSTS[0])
    assert picture.is_free(HOSTS[0]) == (not others)


def test_what_happened_while_a_listing_was_read_is_on_top_of_it() -> None:
    picture = loaded(prefixes=[taken(1, "192.0.2.16"), taken(2, "192.0.2.17")])
    load = picture.load()
    load.add_prefixes([taken(1, "192.0.2.16"), taken(2, "192.0.2.17")])
    picture.released(1, HOSTS[0])
    chosen = [picture.reserve(), picture.reserve()]
    assert chosen == [HOSTS[0], HOSTS[2]]
    picture.created(3, HOSTS[2])
    picture.end(HOSTS[2])
    picture.replace(load)
    # The first is still under way, the third was created after its page was read.
    assert [one for one in HOSTS if picture.is_free(one)] == HOSTS[3:]
    picture.end(HOSTS[0])
    assert picture.is_free(HOSTS[0])


def test_a_load_that_was_not_read_whole_changes_nothing() -> None:
    picture = loaded(prefixes=[taken(1, "192.0.2.16")])
    early = picture.load()
    picture.replace(picture.load())
    assert picture.is_free(HOSTS[0])
    early.add_prefixes([taken(1, "192.0.2.16")])
    picture.replace(early)
    assert picture.is_free(HOSTS[0]), "a load that another one has overtaken is dropped"


@pytest.mark.parametrize(
    ("prefix", "first"), [("2001:db8::/64", "2001:db8::/128"), ("2001:db8::/32", "2001:db8::/128")]
)
def test_ipv6_containers_of_any_size(prefix: str, first: str) -> None:
    picture = loaded(prefix)
    assert picture.reserve() == first
    picture.created(5, first)
    picture.end(first)
    use = picture.use()
    assert use is not None
    assert use.free == ipaddress.ip_network(prefix).num_addresses - 1
    picture.released(5, first)
    assert picture.reserve() == first


@pytest.mark.parametrize("bits", [32, 96])
def test_rows_are_told_apart_by_their_ids(bits: int) -> None:
    rows = HostRows(bits)
    for row in ((2, 3), (4, 1), (4, 1)):
        rows.append(*row)
    rows.add(4, 2)
    assert len(rows) == 3
    rows.add(4, 2)
    rows.discard(4, 9)
    rows.discard(9, 1)
    assert len(rows) == 3
    rows.discard(4, 1)
    assert 4 in rows
    rows.discard(4, 2)
    assert (4 in rows, 2 in rows) == (False, True)


class PictureMachine(RuleBasedStateMachine):
    """NetBox as it really is (`truth`), seen through a listing that is read in pages, through looks at what changed,
    and through what this instance does itself. `unseen`: what others created and no look or load has shown yet. `made`:
    what this instance created. `stale`: whether others have deleted something since the load began."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = Occupancy(container())
        self.truth: dict[int, int] = {}
        self.fresh = 0
        self.load = None
        self.building = None
        self.page_from = 0
        self.shown: list[int] = []
        self.under_way: dict[str, int | None] = {}
        self.unseen: list[int] = []
        self.made: set[int] = set()
        self.stale = self.stale_load = False

    def _new(self, number: int) -> int:
        self.fresh += 1
        self.truth[self.fresh] = number
        return self.fresh

    def rows(self, netbox_ids: list[int]) -> list[Occupant]:
        """Of what others created, every second one is of another instance."""
        return [
            Occupant(one, BASE + self.truth[one], BASE + self.truth[one], own=one in self.made or one % 2 == 0)
            for one in netbox_ids
        ]

    @rule(number=st.integers(0, 7))
    def others_create(self, number: int) -> None:
        self.unseen.append(self._new(number))

    @rule(data=st.data())
    def others_delete(self, data: st.DataObject) -> None:
        if self.truth:
            netbox_id = data.draw(st.sampled_from(sorted(self.truth)))
            del self.truth[netbox_id]
            self.unseen = [one for one in self.unseen if one != netbox_id]
            self.stale = self.stale_load = True

    @rule()
    def look(self) -> None:
        self.picture.enter_prefixes(self.rows(self.unseen))
        if self.picture.loaded and self.load is None:
            self.unseen = []

    @precondition(lambda self: self.load is None)
    @rule()
    def begin_to_load(self) -> None:
        self.load = self.picture.load()
        self.stale_load = False
        self.page_from = 0
        self.shown = list(self.unseen)

    @precondition(lambda self: self.load is not None and self.building is None)
    @rule(rows=st.integers(1, 3), lost=st.booleans())
    def read_a_page(self, rows: int, lost: bool) -> None:
        page = [one for one in sorted(self.truth) if one > self.page_from][:rows]
        if lost:
            self.picture.load()  # a page was lost: what was read is dropped
            self.load = None
            self.picture.forget()
            return
        if page:
            self.load.add_prefixes(self.rows(page))
            self.page_from = page[-1]
        else:
            self.building = self.load.build()

    @precondition(lambda self: self.building is not None)
    @rule(steps=st.integers(1, 8))
    def build(self, steps: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(picture_module, "ROWS_IN_A_STEP", 1)
            for _ in range(steps):
                if next(self.building, "end") == "end":
                    break
            else:
                return
        self.picture.replace(self.load)
        self.load = self.building = None
        self.stale = self.stale_load
        self.unseen = [one for one in self.unseen if one not in self.shown]

    @rule(skip=st.integers(0, 2))
    def choose(self, skip: int) -> None:
        chosen = self.picture.reserve(skip=skip)
        if chosen is not None:
            assert chosen not in self.under_way, "two requests got one address"
            self.under_way[chosen] = None

    @rule(data=st.data(), happened=st.booleans(), deleted=st.booleans())
    def end_a_creation(self, data: st.DataObject, happened: bool, deleted: bool) -> None:
        if not self.under_way:
            return
        address = data.draw(st.sampled_from(sorted(self.under_way)))
        del self.under_way[address]
        if happened:
            netbox_id = self._new(HOSTS.index(address))
            self.made.add(netbox_id)
            self.picture.created(netbox_id, address)
            if deleted:
                del self.truth[netbox_id]
                self.picture.released(netbox_id, address)
        self.picture.end(address)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        known = [one for one in self.truth if one not in self.unseen]
        if known:
            netbox_id = data.draw(st.sampled_from(sorted(known)))
            number = self.truth.pop(netbox_id)
            self.picture.released(netbox_id, HOSTS[number])

    @invariant()
    def nothing_that_it_could_know_of_is_called_free(self) -> None:
        could_know = {number for netbox_id, number in self.truth.items() if netbox_id not in self.unseen}
        for number, address in enumerate(HOSTS):
            if self.picture.is_free(address):
                assert number not in could_know
                assert address not in self.under_way

    @invariant()
    def its_numbers_add_up(self) -> None:
        use = self.picture.use()
        if use is not None:
            assert use.free == sum(self.picture.is_free(one) for one in HOSTS)
            assert min(use.own, use.prefixes, use.ip_addresses) >= 0
            assert use.own + use.prefixes + use.ip_addresses + use.free == use.size
        if use is not None and not self.stale and not self.unseen:
            rows = self.rows(list(self.truth))
            own = {row.first for row in rows if row.own}
            others = {row.first for row in rows} - own
            under_way = {BASE + HOSTS.index(one) for one in self.under_way}
            assert (use.own, use.prefixes) == (len(own | (under_way - others)), len(others))
            assert self.picture.full == (use.free == 0)


TestPicture = PictureMachine.TestCase
