"""First fit over prefixes of any nesting equals the naive search, in both families."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netbox_simulator.addressspace import AddressSpace

Network = IPv4Network | IPv6Network


def naive_first_fit(container: Network, children: list[Network], wanted: int) -> int | None:
    """The lowest block of that length which overlaps nothing strictly inside the container, found by trying all."""
    inside = [child for child in children if child.subnet_of(container) and child != container]
    if wanted < container.prefixlen:
        return None
    for block in container.subnets(new_prefix=wanted):
        if not any(block.overlaps(child) for child in inside):
            return int(block.network_address)
    return None


class FirstFit(RuleBasedStateMachine):
    """Random insertions, allocations and deletions in a few nested containers."""

    containers: tuple[Network, ...] = (
        ip_network("10.0.0.0/26"),
        ip_network("10.0.0.32/27"),
        ip_network("10.0.0.64/28"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.bits = self.containers[0].max_prefixlen
        self.space = AddressSpace(self.bits)
        self.children: dict[int, Network] = {}
        self.next_id = 1

    def insert(self, network: Network) -> None:
        self.space.add(int(network.network_address), network.prefixlen, self.next_id)
        self.children[self.next_id] = network
        self.next_id += 1

    def network(self, first: int, length: int) -> Network:
        return (IPv4Network if self.bits == 32 else IPv6Network)((first, length))

    @rule(data=st.data())
    def insert_anywhere(self, data: st.DataObject) -> None:
        container = data.draw(st.sampled_from(self.containers))
        length = data.draw(st.integers(container.prefixlen - 2, self.bits))
        offset = data.draw(st.integers(0, container.num_addresses - 1))
        size = 1 << (self.bits - length)
        self.insert(self.network((int(container.network_address) + offset) // size * size, length))

    @rule(data=st.data())
    def allocate(self, data: st.DataObject) -> None:
        container = data.draw(st.sampled_from(self.containers))
        wanted = data.draw(st.integers(container.prefixlen - 1, self.bits))
        first = self.space.first_fit(int(container.network_address), container.prefixlen, wanted)
        assert first == naive_first_fit(container, list(self.children.values()), wanted)
        if first is not None:
            self.insert(self.network(first, wanted))

    @precondition(lambda self: self.children)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        child_id = data.draw(st.sampled_from(sorted(self.children)))
        network = self.children.pop(child_id)
        self.space.remove(int(network.network_address), network.prefixlen, child_id)

    @invariant()
    def free_blocks_are_what_is_left(self) -> None:
        for container in self.containers:
            inside = [each for each in self.children.values() if each.subnet_of(container) and each != container]
            blocks = self.space.free_blocks(int(container.network_address), container.prefixlen)
            free = [self.network(*block) for block in blocks]
            assert free == list(collapse_addresses(free)), "the fewest blocks, in order"
            assert sum(each.num_addresses for each in free) + sum(
                each.num_addresses for each in collapse_addresses(inside)
            ) == (container.num_addresses)
            assert not any(block.overlaps(each) for block in free for each in inside)
            assert self.space.count_within(int(container.network_address), container.prefixlen) == len(inside)
            inside.sort(key=lambda each: (int(each.network_address), each.prefixlen))
            breaks = sum(
                int(each.network_address) > int(before.broadcast_address) + 1 for before, each in pairwise(inside)
            )
            assert self.space.breaks_within(int(container.network_address), container.prefixlen) == breaks


class FirstFit6(FirstFit):
    containers = (ip_network("2001:db8::/122"), ip_network("2001:db8::20/123"), ip_network("2001:db8::40/124"))


TestFirstFit4 = FirstFit.TestCase
TestFirstFit6 = FirstFit6.TestCase
for case in (TestFirstFit4, TestFirstFit6):
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=20), st.integers(0, 255))
def test_around_and_within_are_each_other(blocks: list[tuple[int, int]], address: int) -> None:
    """What lies around a host is what has it within, each as often as it was put in."""
    space = AddressSpace(32)
    networks: dict[int, Any] = {}
    for number, (first, length) in enumerate(blocks, 1):
        networks[number] = IPv4Network((first >> (32 - length) << (32 - length), length))
        space.add(int(networks[number].network_address), length, number)
    host = IPv4Network((address, 32))
    around = list(space.around(address, 32))
    assert sorted(around) == [
        number for number, network in networks.items() if host.subnet_of(network) and network != host
    ]
    lengths = [networks[number].prefixlen for number in around]
    assert lengths == sorted(lengths), "widest first"
    assert space.ids_at(address, 32) == [number for number, network in networks.items() if network == host]


def test_removing_what_is_not_there() -> None:
    space = AddressSpace(32)
    space.add(1, 32, 7)
    with pytest.raises(KeyError):
        space.remove(1, 32, 8)


def test_allocations_in_a_row_do_not_look_at_everything_again() -> None:
    """50,000 allocations out of one /8 read few keys each: counted, not timed."""
    space = AddressSpace(32)

    class Counting(list[Any]):
        reads = 0

        def __getitem__(self, index: Any) -> Any:
            Counting.reads += 1
            return super().__getitem__(index)

    space.keys = Counting()
    for number in range(1, 50_001):
        first = space.first_fit(10 << 24, 8, 32)
        assert first == (10 << 24) + number - 1
        space.add(first, 32, number)
    # Two or three binary searches of 16 steps each; looking at every child would be 25,000 on average.
    assert Counting.reads < 60 * 50_000
