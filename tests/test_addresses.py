from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ipam_lib.addresses import contains, family_of, host_address, is_host, network, spellings
from ipam_lib.models import PENDING

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)
HOSTS = V4 | V6


def prefix_of(address: Any, length: int) -> Any:
    return ipaddress.ip_network((address, length), strict=False)


CIDRS = st.builds(prefix_of, st.ip_addresses(v=4), st.integers(0, 32)) | st.builds(
    prefix_of, st.ip_addresses(v=6), st.integers(0, 128)
)


def texts_of(address: Any) -> list[str]:
    """Ways to write one address, without a mask."""
    if address.version == 4:
        return [str(address)]
    groups = address.exploded.split(":")
    words = int(address).to_bytes(16)
    mixed = ":".join(groups[:6]) + ":" + str(ipaddress.IPv4Address(words[12:]))
    plain = [address.compressed, address.exploded, mixed, ":".join(group.lstrip("0") or "0" for group in groups)]
    return [*plain, *(text.upper() for text in plain)]


@given(HOSTS)
def test_every_spelling_gives_one_canonical_text(address: Any) -> None:
    length = address.max_prefixlen
    family = f"ipv{address.version}"
    for text in texts_of(address):
        for written in (text, f"{text}/{length}"):
            canonical = host_address(written)
            assert canonical == f"{address}/{length}"
            assert host_address(written, family) == canonical  # type: ignore[arg-type]
            assert host_address(canonical) == canonical
            assert canonical == canonical.lower()
            assert is_host(canonical)
            assert family_of(canonical) == family
            assert contains(canonical, written.split("/")[0])


@given(HOSTS, HOSTS)
def test_different_addresses_have_different_texts(one: Any, two: Any) -> None:
    assert (host_address(str(one)) == host_address(str(two))) is (one == two)


@given(HOSTS, st.integers(-1, 200))
def test_only_the_mask_of_one_host(address: Any, length: int) -> None:
    assume(length != address.max_prefixlen)
    with pytest.raises(ValueError, match="is not one host address"):
        host_address(f"{address}/{length}")


@given(HOSTS)
def test_the_other_family(address: Any) -> None:
    said, is_ = ("ipv6", "ipv4") if address.version == 4 else ("ipv4", "ipv6")
    with pytest.raises(ValueError, match=f"^is an {is_} address, but ip_family says {said}$"):
        host_address(str(address), said)  # type: ignore[arg-type]


@given(V4)
def test_ipv4_mapped(address: ipaddress.IPv4Address) -> None:
    as_hex = f"::ffff:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    for text in (f"::ffff:{address}", as_hex, as_hex.upper(), f"0:0:0:0:0:FFFF:{address}", f"::ffff:{address}/128"):
        with pytest.raises(ValueError, match="is an IPv4-mapped address"):
            host_address(text)


@pytest.mark.parametrize(
    "text", ["fe80::1%eth0", "fe80::1%eth0/128", "fe80::1%1", "2a0d:a00::1%lo", "::ffff:10.0.0.1%x"]
)
def test_zone_index(text: str) -> None:
    with pytest.raises(ValueError, match="has a zone index"):
        host_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "/", "/32", "x", "inet", "10.0.0", "10.0.0.0.1", "10.0.0.256", "10.0.0.-1", "010.0.0.1", "10.0.0.01",
        "0x0a.0.0.1", "10.1", "167772161", "10.0.0.1 ", " 10.0.0.1", "10.0.0.1\n", "10.0.0.1\0", "10.0.0.1:80",
        "\uff11\uff10.0.0.1",
        "10\u30020\u30020\u30021", "[2a0d::1]", ":::1", "2a0d::1::2", "12345::1", "g::1", "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9", "::1%",
        "10.0.0.1%eth0", "\ud800", "pending:0123", "a" * 70_000,
    ],
)  # fmt: skip
def test_garbage(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not an IP address"):
        host_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/24", "10.0.0.1/31", "10.0.0.1/0", "10.0.0.1/", "10.0.0.1/ 32", "10.0.0.1/32 ", "10.0.0.1/032",
        "10.0.0.1/+32",
        "10.0.0.1/\uff13\uff12", "10.0.0.1/128", "10.0.0.1/255.255.255.255", "10.0.0.1/32/32", "2a0d::1/32",
        "2a0d::/64", "2a0d::1/127",
    ],
)  # fmt: skip
def test_not_one_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not one host address \(the mask must be /(32|128) or absent\)$"):
        host_address(text)


@given(
    st.text(st.characters(exclude_categories=[])) | st.text("0123456789abcdefABCDEF:./%x"),
    st.sampled_from([None, "ipv4", "ipv6"]),
)
@example("::", None)
@example("0.0.0.0/32", "ipv4")
def test_arbitrary_text(text: str, family: Any) -> None:
    try:
        canonical = host_address(text, family)
    except ValueError:
        return
    host, _, mask = canonical.partition("/")
    assert ipaddress.ip_address(host) == ipaddress.ip_address(text.partition("/")[0])
    assert mask in ("32", "128")


def test_addresses_of_the_earlier_service_are_as_it_wrote_them() -> None:
    documents = json.loads((Path(__file__).parent / "data" / "legacy" / "documents.json").read_text())
    hosts = [entry["document"] for entry in documents if is_host(entry["document"]["address"])]
    assert len(hosts) > 10
    for document in hosts:
        assert host_address(document["address"], document["ip_family"]) == document["address"]


# --- prefixes ---------------------------------------------------------------------------------------------------------


@given(CIDRS, CIDRS)
def test_contains(outer: Any, inner: Any) -> None:
    expected = (
        outer.version == inner.version
        and int(outer.network_address) <= int(inner.network_address)
        and int(inner.broadcast_address) <= int(outer.broadcast_address)
    )
    assert contains(str(outer), str(inner)) is expected
    assert contains(outer, str(inner)) is expected


@given(CIDRS, st.data())
def test_contains_what_is_drawn_from_it(prefix: Any, data: st.DataObject) -> None:
    inside = data.draw(st.ip_addresses(network=prefix))
    assert contains(str(prefix), str(inside))
    assert contains(str(prefix), f"{inside}/{inside.max_prefixlen}")


def test_contains_ends_at_the_edges() -> None:
    assert contains("10.0.0.0/24", "10.0.0.0/32")
    assert contains("10.0.0.0/24", "10.0.0.255")
    assert not contains("10.0.0.0/24", "10.0.1.0")
    assert not contains("10.0.0.0/24", "9.255.255.255")
    assert not contains("10.0.0.0/24", "10.0.0.0/23")
    assert not contains("0.0.0.0/0", "::")
    assert not contains("::/0", "0.0.0.0")
    assert contains("::/0", "::1/128")


def test_host_bits_do_not_matter_of_what_is_looked_at() -> None:
    assert contains("10.0.0.0/8", "10.0.0.1/24")
    assert not contains("10.0.0.0/24", "10.0.0.1/8")
    assert not is_host("10.0.0.1/24")


@given(CIDRS)
def test_prefix_facts(prefix: Any) -> None:
    assert network(str(prefix)) == prefix
    assert family_of(str(prefix)) == f"ipv{prefix.version}"
    assert is_host(str(prefix)) is (prefix.num_addresses == 1)


@pytest.mark.parametrize("text", ["", "x", "10.0.0.1/24", "10.0.0.0/33", PENDING + "0" * 40])
def test_not_a_prefix(text: str) -> None:
    with pytest.raises(ValueError):
        network(text)
    with pytest.raises(ValueError):
        contains(text, "10.0.0.1")


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", PENDING + "0" * 40])
def test_neither_address_nor_prefix(text: str) -> None:
    for function in (family_of, is_host):
        with pytest.raises(ValueError):
            function(text)
    with pytest.raises(ValueError):
        contains("10.0.0.0/24", text)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("10.0.0.1", {"10.0.0.1/32", "10.0.0.1"}),
        ("10.0.0.1/32", {"10.0.0.1/32", "10.0.0.1"}),
        ("10.0.0.0/24", {"10.0.0.0/24"}),
        (
            "2001:DB8::0a",
            {
                "2001:db8::a/128",
                "2001:db8::a",
                "2001:DB8::A/128",
                "2001:DB8::A",
                "2001:DB8::0a",
                "2001:DB8::0A",
                "2001:0db8:0000:0000:0000:0000:0000:000a",
                "2001:0db8:0000:0000:0000:0000:0000:000a/128",
                "2001:0DB8:0000:0000:0000:0000:0000:000A",
                "2001:0DB8:0000:0000:0000:0000:0000:000A/128",
            },
        ),
        (
            "2001:db8::/64",
            {
                "2001:db8::/64",
                "2001:DB8::/64",
                "2001:0db8:0000:0000:0000:0000:0000:0000/64",
                "2001:0DB8:0000:0000:0000:0000:0000:0000/64",
            },
        ),
    ],
)
def test_the_texts_under_which_an_address_may_be_stored(text: str, texts: set[str]) -> None:
    found = spellings(text)
    assert len(found) == len(set(found))
    assert set(found) == texts
    assert found[0] == min(texts, key=lambda one: (one != one.lower(), "/" not in one, len(one)))


@pytest.mark.parametrize("text", ["", "x", "10.0.0.1/33", "10.0.0", "::1%eth0", "::1%eth0/128", "\0", "1", "é"])
def test_what_is_no_address_has_no_spellings(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an IP address|zone index"):
        spellings(text)
