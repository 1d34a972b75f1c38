"""The index of zones and containers, by hand and against a naive search."""

from __future__ import annotations

import ipaddress
import json
import logging
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.addresses import contains, family_of
from ipam_lib.netbox.base import Container
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.snapshot import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NETBOX = "http://netbox.example.com/"


def container(number: int, prefix: str, zone: str = "inet", vrf: int | None = 1) -> Container:
    return Container(number, prefix, family_of(prefix), zone, vrf)


def snapshot(*containers: Container, zones: tuple[str, ...] = ("inet", "hnet", "empty")) -> Snapshot:
    return Snapshot(zones, containers, NOW)


def test_containers_ascend_by_address_in_each_zone_and_family() -> None:
    given_ = [
        container(1, "10.0.10.0/24"),
        container(2, "10.0.9.0/24"),
        container(3, "9.255.0.0/16"),
        container(4, "10.0.0.0/8"),
        container(5, "2001:db8:ffff::/64"),
        container(6, "2001:db8:f::/64"),
        container(7, "10.0.9.0/24", vrf=None),
        container(8, "10.0.9.0/24", "hnet"),
        container(9, "10.0.9.0/24"),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(given_)
        made = snapshot(*given_)
        assert [one.id for one in made.containers("inet", "ipv4")] == [3, 4, 7, 2, 9, 1]
        assert [one.id for one in made.containers("inet", "ipv6")] == [6, 5]
        assert [one.id for one in made.containers("hnet", "ipv4")] == [8]
    assert made.containers("hnet", "ipv6") == ()
    assert made.containers("nosuch", "ipv4") == ()


def test_the_most_specific_container_of_the_zone() -> None:
    made = snapshot(container(1, "10.0.0.0/8"), container(2, "10.1.0.0/16"), container(3, "10.1.1.0/24", "hnet"))
    for address, expected in (("10.2.0.1", 1), ("10.1.0.0/32", 2), ("10.1.255.255/32", 2)):
        found = made.container_of("inet", address)
        assert found is not None
        assert found.id == expected
    assert made.container_of("inet", "10.1.1.9/32") is None, "another zone's container lies nearer"
    nearer = made.container_of("hnet", "10.1.1.9/32")
    assert nearer is not None
    assert nearer.id == 3
    for zone, address in (("inet", "11.0.0.1"), ("hnet", "10.1.2.1"), ("nosuch", "10.1.1.9"), ("inet", "2001:db8::1")):
        assert made.container_of(zone, address) is None


def test_other_vrfs_do_not_shadow() -> None:
    made = snapshot(
        container(1, "10.0.0.0/8", vrf=1),
        container(2, "10.1.0.0/16", "hnet", vrf=2),
        container(3, "10.1.0.0/24", vrf=None),
    )
    found = [made.container_of("inet", address) for address in ("10.1.7.1", "10.1.0.1", "10.9.9.9")]
    assert [one.id if one else None for one in found] == [1, 3, 1]


def test_the_same_prefix_in_two_zones_or_vrfs() -> None:
    made = snapshot(container(4, "10.0.0.0/8", "hnet"), container(9, "10.0.0.0/8"), container(3, "10.0.0.0/8", vrf=2))
    found = made.container_of("inet", "10.0.0.1")
    assert found is not None
    assert found.id == 9, "of equals, the lowest VRF; another zone on the same prefix is not nearer"


def test_the_whole_space_and_single_hosts_are_containers_too() -> None:
    made = snapshot(container(1, "0.0.0.0/0"), container(2, "10.0.0.1/32"), container(3, "::/0"))
    found = [made.container_of("inet", address) for address in ("10.0.0.1", "10.0.0.2", "::1")]
    assert [one.id if one else None for one in found] == [2, 1, 3]


def test_a_zone_that_is_no_choice_has_no_containers_but_they_still_shadow() -> None:
    made = snapshot(container(1, "10.0.0.0/8"), container(2, "10.1.0.0/16", "former"))
    assert made.containers("former", "ipv4") == ()
    assert made.container_of("former", "10.1.0.1") is None
    assert made.container_of("inet", "10.1.0.1") is None


prefixes4 = st.tuples(st.integers(0, 63), st.integers(26, 32)).map(
    lambda pair: str(ipaddress.ip_network((0x0A000000 + pair[0], pair[1]), strict=False))
)
prefixes6 = st.tuples(st.integers(0, 63), st.integers(122, 128)).map(
    lambda pair: str(ipaddress.ip_network(((0x20010DB8 << 96) + pair[0], pair[1]), strict=False))
)
sets = st.lists(
    st.tuples(prefixes4 | prefixes6, st.sampled_from(["inet", "hnet", "former"]), st.sampled_from([None, 1, 2])),
    max_size=12,
)


@settings(deadline=None)
@given(sets)
def test_agrees_with_a_naive_search(items: list[tuple[str, str, int | None]]) -> None:
    containers = [container(number, *item) for number, item in enumerate(items, 1)]
    made = snapshot(*containers)
    for offset in range(0, 64, 3):
        for address in (f"10.0.0.{offset}/32", f"2001:db8::{offset:x}/128"):
            for zone in ("inet", "hnet", "empty"):
                found = made.container_of(zone, address)
                assert found == naive(containers, zone, address)


def naive(containers: list[Container], zone: str, address: str) -> Container | None:
    best: Container | None = None
    for vrf in (None, 1, 2):
        holding = [one for one in containers if one.vrf_id == vrf and contains(one.prefix, address)]
        longest = max((length(one) for one in holding), default=0)
        mine = [one for one in holding if length(one) == longest and one.zone == zone]
        if mine and (best is None or longest > length(best)):
            best = min(mine, key=lambda one: one.id)
    return best


def length(one: Container) -> int:
    return int(one.prefix.split("/")[1])


@settings(deadline=None)
@given(sets, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_documents_keep_everything(
    items: list[tuple[str, str, int | None]], shuffler: random.Random
) -> None:
    containers = [container(number, *item) for number, item in enumerate(items, 1)]
    made = snapshot(*containers)
    shuffler.shuffle(containers)
    again = snapshot(*containers)
    stored = json.loads(json.dumps(made.document(NETBOX)))
    restored = Snapshot.from_document(stored, NETBOX)
    for other in (again, restored):
        assert other.all_containers == made.all_containers
        assert other.zones == made.zones
        assert other.loaded_at == made.loaded_at
        assert sorted(map(repr, other.problems())) == sorted(map(repr, made.problems()))
        for zone in ("inet", "hnet"):
            assert other.containers(zone, "ipv4") == made.containers(zone, "ipv4")


def test_problems_are_told_with_their_weight() -> None:
    made = snapshot(
        container(1, "10.0.0.0/8"),
        container(2, "10.1.0.0/16", "hnet"),
        container(3, "10.1.1.0/24", "hnet"),
        container(4, "10.0.0.0/8", "hnet"),
        container(5, "10.2.0.0/16", vrf=2),
        container(6, "10.0.0.0/8", "hnet", vrf=2),
        container(7, "172.16.0.0/12", "former", vrf=None),
        container(8, "10.3.0.0/16"),
    )
    told = made.problems()
    assert [one.text for one in told if one.level == logging.INFO] == ["zone 'empty' has no container prefixes"]
    warnings = [one.text for one in told if one.level == logging.WARNING]
    expected = [
        ("10.0.0.0/8 (NetBox id 1, VRF 1) of zone 'inet' is also", "id 4, VRF 1) of 'hnet'"),
        ("10.1.0.0/16 (NetBox id 2, VRF 1) of zone 'hnet' lies inside", "id 1, VRF 1) of 'inet'"),
        ("10.3.0.0/16 (NetBox id 8, VRF 1) of zone 'inet' lies inside", "id 4, VRF 1) of 'hnet'"),
        ("10.2.0.0/16 (NetBox id 5, VRF 2) of zone 'inet' lies inside", "id 6, VRF 2) of 'hnet'"),
        ("172.16.0.0/12 (NetBox id 7, the global table) is of zone 'former'", "no choice"),
    ]
    for parts in expected:
        assert any(all(part in text for part in parts) for text in warnings), parts
    assert len(warnings) == len(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"netbox": "http://elsewhere/"},
        {"netbox": None},
        {"loaded_at": None},
        {"loaded_at": "yesterday"},
        {"loaded_at": "2026-01-01T00:00:00"},
        {"zones": None},
        {"zones": [1]},
        {"containers": {}},
        {"containers": [7]},
        {"containers": [{"id": 1}]},
        {"containers": [{"id": 1, "prefix": "10.0.0.1/8", "zone": "inet", "custom_fields": {}}]},
        {"containers": [{"id": 1, "prefix": "10.0.0.0/8", "zone": None, "custom_fields": {}}]},
        {"containers": [{"id": 1, "prefix": "10.0.0.0/8", "zone": "inet", "vrf": "1", "custom_fields": {}}]},
        {"containers": [{"id": 1, "prefix": "10.0.0.0/8", "zone": "inet"}]},
    ],
)
def test_a_document_that_is_of_no_use(changes: dict[str, object]) -> None:
    document = snapshot(container(1, "10.0.0.0/8")).document(NETBOX)
    Snapshot.from_document(document, NETBOX)
    with pytest.raises(UnexpectedResponse):
        Snapshot.from_document(document | changes, NETBOX)
    with pytest.raises(UnexpectedResponse):
        Snapshot.from_document({key: value for key, value in document.items() if key not in changes}, NETBOX)


def test_ten_thousand_containers_are_looked_up_by_length_not_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: dict accesses of one look-up."""
    containers = [container(n, f"10.{n // 256}.{n % 256}.0/24", f"z{n % 20}") for n in range(10_000)]
    made = Snapshot([f"z{n}" for n in range(20)], containers, NOW - timedelta(days=1))
    compared = 0
    original = Container.__getattribute__

    def counting(self: Container, name: str) -> object:
        nonlocal compared
        compared += name == "zone"
        return original(self, name)

    monkeypatch.setattr(Container, "__getattribute__", counting)
    found = made.container_of("z7", "10.0.7.9/32")
    assert found is not None
    assert found.id == 7
    assert compared <= 2
