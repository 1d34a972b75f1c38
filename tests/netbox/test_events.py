"""NetBox's events: signatures and contents, recorded, made up and hostile."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.errors import BadRequest
from ipam_lib.netbox.events import Event, Place, is_signed, parse_event
from tests.netbox.events import event, recorded, sign

SECRET, DELIVERIES = recorded()


def number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def test_recorded_deliveries_are_signed() -> None:
    for one in DELIVERIES:
        assert is_signed(one.body, one.signature, SECRET)
        assert not is_signed(one.body + b" ", one.signature, SECRET)
        assert not is_signed(one.body, one.signature, SECRET + "x")


@pytest.mark.parametrize("wrong", ["", "0" * 128, "\udcff", "ü", "none"])
def test_other_signatures_are_wrong(wrong: str) -> None:
    right = DELIVERIES[0].signature
    for signature in (wrong, right[:-1], right[:64], right + "0", right.upper(), f"sha512={right}"):
        assert not is_signed(DELIVERIES[0].body, signature, SECRET)


def test_recorded_deliveries_are_understood() -> None:
    events = [parse_event(one.json) for one in DELIVERIES]
    place = Place(1, "ipv4", number("83.118.168.16"), number("83.118.168.16"))
    assert events[0] == Event("prefix", 128, None, place)
    assert events[1] == Event("prefix", 128, place, place)
    assert events[2] == Event("prefix", 128, place, None)
    assert [(one.netbox_id, one.before is None) for one in events[3:] if one] == [
        (129, True), (130, True), (129, False), (130, False),
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["3.7", "4.4", "4.6"])
def test_each_version_names_the_type_in_its_own_way(version: str) -> None:
    parsed = parse_event(event("created", 5, {"prefix": "192.0.2.0/30"}, version=version))
    assert parsed == Event("prefix", 5, None, Place(None, "ipv4", number("192.0.2.0"), number("192.0.2.3")))


def test_ip_addresses_and_ranges() -> None:
    shown = {"address": "2001:db8::5/64", "vrf": {"id": 3}, "status": {"value": "deprecated"}}
    before = {"address": "2001:db8::5/64", "vrf": 3, "status": "active"}
    parsed = parse_event(event("updated", 9, shown, before=before, object_type="ipam.ipaddress"))
    at = number("2001:db8::5")
    assert parsed == Event("ip_address", 9, Place(3, "ipv6", at, at), Place(3, "ipv6", at, at, taken=False))

    shown = {"start_address": "192.0.2.3/24", "end_address": "192.0.2.9/24"}
    parsed = parse_event(event("deleted", 4, shown, object_type="ipam.iprange"))
    assert parsed == Event("ip_range", 4, Place(None, "ipv4", number("192.0.2.3"), number("192.0.2.9")))


def test_a_container_of_a_zone() -> None:
    shown = {"prefix": "192.0.2.0/24", "status": {"value": "container"}, "custom_fields": {"k8s_zone": "inet"}}
    before = {"prefix": "192.0.2.0/24", "status": "container", "custom_fields": {"k8s_zone": None}}
    parsed = parse_event(event("updated", 9, shown, before=before))
    assert parsed is not None
    assert parsed.before is not None
    assert parsed.after is not None
    assert (parsed.before.container, parsed.after.container) == (False, True)


@pytest.mark.parametrize(
    "body",
    [
        event("created", 1, {"name": "x"}, object_type="dcim.device"),
        event("created", 1, {"prefix": "192.0.2.0/30"}, object_type="plugin.prefix"),
        event("job_ended", 1, {"prefix": "192.0.2.0/30"}),
    ],
)
def test_what_the_service_need_not_look_at(body: dict[str, Any]) -> None:
    assert parse_event(body) is None


@pytest.mark.parametrize(
    "change",
    [
        {"event": None},
        {"object_type": 7},
        {"data": []},
        {"snapshots": [1]},
        {"data": {"prefix": "192.0.2.0/30"}},
        {"data": {"id": True, "prefix": "192.0.2.0/30"}},
        {"data": {"id": 0, "prefix": "192.0.2.0/30"}},
        {"data": {"id": 10**30, "prefix": "192.0.2.0/30"}},
        {"data": {"id": 5, "prefix": "nonsense"}},
        {"data": {"id": 5}},
    ],
)
def test_what_is_no_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="not an event of NetBox"):
        parse_event(event("created", 5, {"prefix": "192.0.2.0/30"}) | change)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    for ends in ({"start_address": "192.0.2.9/24", "end_address": "192.0.2.3/24"}, {"start_address": "192.0.2.9/24"}):
        with pytest.raises(BadRequest):
            parse_event(event("deleted", 4, ends, object_type="ipam.iprange"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["::1%x", "1/2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.sampled_from(["192.0.2.1/24", "192.0.2.0/24", "fe80::1%eth0/64", "::/0", "1.2.3.4/33", "", "\ud800"])
SHOWN = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers() | JSON,
        "prefix": TEXTS | JSON,
        "address": TEXTS | JSON,
        "start_address": TEXTS | JSON,
        "end_address": TEXTS | JSON,
        "vrf": st.none() | st.integers() | st.fixed_dictionaries({"id": JSON}) | JSON,
        "status": JSON | st.sampled_from(["container", "deprecated"]),
        "custom_fields": JSON | st.fixed_dictionaries({"k8s_zone": JSON}),
    },
)
BODIES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["created", "updated", "deleted"]) | JSON,
        "object_type": st.sampled_from(["ipam.prefix", "ipam.ipaddress", "ipam.iprange", "extras.customfieldchoiceset"])
        | JSON,
        "model": st.sampled_from(["prefix", "iprange"]) | JSON,
        "data": SHOWN | JSON,
        "snapshots": st.fixed_dictionaries({"prechange": SHOWN | JSON}) | JSON,
    },
)


@given(BODIES)
def test_hostile_bodies_are_events_or_refused(body: Any) -> None:
    try:
        parsed = parse_event(body)
    except BadRequest:
        return
    for place in (parsed.before, parsed.after) if parsed is not None else ():
        assert place is None or 0 <= place.first <= place.last < 2**128


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40).filter(str.isprintable), st.text(max_size=140))
def test_only_the_signature_itself_is_right(body: bytes, secret: str, other: str) -> None:
    right = sign(body, secret)
    assert is_signed(body, right, secret)
    assert is_signed(body, other, secret) == (other == right)


def test_the_content_survives_the_wire() -> None:
    for one in DELIVERIES:
        assert json.dumps(one.json).encode() == one.body
