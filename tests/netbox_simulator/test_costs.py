"""The cost model says what was measured on NetBox 4.6.8, and in between what lies in between. Nothing here is timed:
the delays are what an injected sleep was asked for."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbox_simulator import Costs, NetBoxModel, Simulator, make_request, sample_model
from netbox_simulator.costs import ALLOCATED, AT_ONCE, AVAILABLE, CREATED, grown, interpolate
from netbox_simulator.state import PREFIX, Prefix
from tests.support.virtual_loop import VirtualLoop

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HEADERS = {"Authorization": f"Token {TOKEN}"}
PREFIXES = "/api/ipam/prefixes/"
FIRST = int(IPv4Address("10.1.0.0"))
ONE = {"prefix_length": 32}


def netbox(children: int = 0, step: int = 1) -> NetBoxModel:
    """A /16 with so many hosts in it, `step` addresses apart."""
    model = sample_model({"inet": {"ipv4": ["10.1.0.0/16"]}}, tokens=[TOKEN])
    (container,) = model.state.prefixes.rows.values()
    for number in range(children):
        first = FIRST + number * step
        model.state.put_prefix(Prefix(model.state.next_id(PREFIX), 4, first, 32, vrf=container.vrf))
    return model


def container_of(model: NetBoxModel) -> Prefix:
    return next(row for row in model.state.prefixes.rows.values() if row.status == "container")


def cost(model: NetBoxModel, method: str, path: str, body: Any = None) -> float:
    return Costs(model).milliseconds(make_request(method, path, headers=HEADERS, body=body))


def free(model: NetBoxModel) -> str:
    return f"{PREFIXES}{container_of(model).id}/available-prefixes/"


@pytest.mark.parametrize(
    ("method", "path", "body", "milliseconds"),
    [
        ("GET", "/api/extras/custom-field-choice-sets/?name=k8s_zone_choices", None, 17),
        ("GET", f"{PREFIXES}?cf_k8s_zone=inet&status=container", None, 51),
        ("GET", f"{PREFIXES}?prefix=10.1.0.1/32&vrf_id=1", None, 56),
        ("GET", f"{PREFIXES}?cf_k8s_uuid=656000000000000000000001", None, 47),
        ("GET", f"{PREFIXES}7/", None, 42),
        ("GET", f"{PREFIXES}?start=30001&limit=1000", None, 112),
        ("GET", f"{PREFIXES}?id__gte=30001&ordering=id&limit=1000", None, 112),
        ("GET", f"{PREFIXES}?offset=40000&limit=1000", None, 772),
        ("GET", f"{PREFIXES}?within=10.1.0.0/16&last_updated__gte=2026-11-27T10:00:00Z&id__gte=0", None, 41),
        ("GET", "/api/ipam/ip-addresses/?parent=10.1.0.0/16&last_updated__gte=2026-11-27T10:00:00Z", None, 40),
        ("GET", "/api/ipam/ip-ranges/?parent=10.1.0.0/16&last_updated__gte=2026-11-27T10:00:00Z", None, 31),
        ("PATCH", f"{PREFIXES}7/", {"status": "active"}, 65),
        ("PUT", f"{PREFIXES}7/", {"status": "active"}, 86),
        ("DELETE", f"{PREFIXES}7/", None, 69),
        ("DELETE", PREFIXES, [{"id": each} for each in range(50)], 50 * 22),
        ("PATCH", PREFIXES, [{"id": each} for each in range(3)], 3 * 65),
        ("GET", "/api/status/", None, 17),
        ("GET", "/nowhere", None, 17),
        ("PATCH", f"{PREFIXES}7/", b"no JSON", 65),
    ],
)
def test_operations_cost_what_was_measured(method: str, path: str, body: Any, milliseconds: float) -> None:
    assert cost(netbox(), method, path, body) == milliseconds


@pytest.mark.parametrize(
    ("children", "step", "available", "allocated", "created"),
    [
        (0, 1, 8, 50, 57),
        (5_000, 1, 46, 82, 62),
        (20_000, 1, 136, 181, 51),
        (1_000, 2, 876, 64, 46),
        (5_000, 2, 5_368, 141, 45),
        (20_000, 2, 21_807, 461, 51),
    ],
)
def test_cost_grows_with_the_children_as_it_was_measured(
    children: int, step: int, available: float, allocated: float, created: float
) -> None:
    model = netbox(children, step)
    assert cost(model, "GET", free(model)) == pytest.approx(available)
    assert cost(model, "POST", free(model), ONE) == pytest.approx(allocated)
    specific = {"prefix": "10.1.255.255/32", "vrf": container_of(model).vrf}
    assert cost(model, "POST", PREFIXES, specific) == pytest.approx(created)
    assert cost(model, "POST", PREFIXES, [specific, specific]) == pytest.approx(2 * created), "no saving was seen"


@pytest.mark.parametrize(("length", "for_each"), [(10, 30), (50, 31), (30, 30.5), (200, 31)])
def test_addresses_in_a_list_are_cheaper(length: int, for_each: float) -> None:
    """What is looked for once comes on top: in the empty container the five milliseconds by which its single creation
    differs between the two tables."""
    model = netbox()
    assert cost(model, "POST", free(model), [ONE] * length) == pytest.approx(for_each * length + 5)


def test_a_list_pays_once_for_the_look_at_a_full_container() -> None:
    alternating = netbox(20_000, 2)
    more = cost(alternating, "POST", free(alternating), [ONE] * 10) - cost(netbox(), "POST", free(netbox()), [ONE] * 10)
    assert more == pytest.approx(461 - 50)


def test_what_is_created_is_counted_where_it_lies() -> None:
    model = netbox(5_000, 2)
    elsewhere = {"prefix": "192.0.2.1/32", "vrf": container_of(model).vrf}
    assert cost(model, "POST", PREFIXES, elsewhere) == 57, "inside no container at all"
    assert cost(model, "POST", PREFIXES, {"prefix": "garbage"}) == 57
    assert cost(model, "POST", f"{PREFIXES}999/available-prefixes/", ONE) == 50, "of a container that is not there"


@given(st.integers(0, 40_000), st.floats(0, 1))
def test_between_the_points_the_cost_lies_between_the_curves(children: int, fragmented: float) -> None:
    breaks = round(fragmented * max(children - 1, 0))
    for curves in (AVAILABLE, ALLOCATED, CREATED):
        contiguous, alternating = (interpolate(curve, children) for curve in curves)
        low, high = sorted((contiguous, alternating))
        assert low - 1e-6 <= grown(curves, children, breaks) <= high + 1e-6
    assert grown(AVAILABLE, children, breaks) <= grown(AVAILABLE, children + 1, breaks + 1)


def test_a_curve_goes_on_as_it_ended_unless_it_fell() -> None:
    assert interpolate(((0, 0), (10, 10), (20, 40)), 30) == 70
    assert interpolate(((0, 0), (10, 40), (20, 10)), 30) == 10
    assert interpolate(((5, 1), (10, 2)), 0) == 1
    assert interpolate(((0, 0), (10, 10)), 2.5) == 2.5


class Asked:
    """A sleep that notes what it was asked for, and waits on the loop's virtual time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(seconds)


async def test_the_wire_waits_as_long_as_the_model_says() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    model = netbox()
    simulator = Simulator(model, 3.0, sleep, costs=Costs(model, time_scale=0.5))
    for method, path, body in (("GET", free(model), None), ("POST", free(model), ONE)):
        answer = await simulator.answer(make_request(method, path, headers=HEADERS, body=body))
        assert answer.status < 300
    assert slept == pytest.approx([0.003 + 0.004, 0.003 + 0.025]), "scaled, on top of the latency, which is not"


def served(requests_of_a_client: list[tuple[str, str, Any]], model: NetBoxModel, clients: int) -> tuple[float, Asked]:
    """How long these clients take together, each sending its requests one after the other; and what was slept."""
    asked = Asked()
    simulator = Simulator(model, 0.0, asked.sleep, costs=Costs(model))
    loop = VirtualLoop()

    async def client() -> None:
        for method, path, body in requests_of_a_client:
            answer = await simulator.answer(make_request(method, path, headers=HEADERS, body=body))
            assert answer.status < 300

    async def all_clients() -> float:
        await asyncio.gather(*(client() for _ in range(clients)))
        return loop.time()

    try:
        return loop.run_until_complete(all_clients()), asked
    finally:
        loop.close()


def test_one_lock_over_all_containers_lets_creations_through_one_at_a_time() -> None:
    seconds, asked = served([("POST", free(netbox()), ONE)] * 5, netbox(), 8)
    assert seconds == pytest.approx(sum(asked.seconds))
    assert len(asked.seconds) == 40
    assert min(asked.seconds) >= 0.050


def test_eight_clients_get_as_many_reads_as_netbox_works_at_at_once() -> None:
    seconds, asked = served([("GET", f"{PREFIXES}1/", None)] * 20, netbox(), 8)
    assert asked.seconds[0] == pytest.approx(0.042), "nobody was there yet"
    assert 160 / seconds == pytest.approx(AT_ONCE / 0.042, rel=0.1)


def test_counting_stops_when_a_request_has_ended() -> None:
    costs = Costs(netbox())
    request = make_request("GET", f"{PREFIXES}1/")
    with costs.serving(request), costs.serving(request) as second:
        assert second == pytest.approx(0.042 * 2 / AT_ONCE)
    with costs.serving(request) as alone:
        assert alone == pytest.approx(0.042)
