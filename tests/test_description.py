from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.description import DEFAULT_DESCRIPTION, LONGEST, REMEMBERED, DescriptionTemplate, is_ours, with_text
from ipam_lib.models import Registration, Service, ServiceKey, State

TEMPLATE = DescriptionTemplate(DEFAULT_DESCRIPTION)
NAMES = st.text(st.characters(codec=None), min_size=1, max_size=253)  # lone surrogates too


def services(*names: str) -> list[Service]:
    return [Service(ServiceKey(name, "namespace", "cluster")) for name in names]


def test_the_first_service_and_how_many_more() -> None:
    assert TEMPLATE.text(services("a")) == "a (cluster cluster)"
    assert TEMPLATE.text(services("a", "b")) == "a (cluster cluster) and 1 more"
    assert TEMPLATE.text(services("b", *"cdef")) == "b (cluster cluster) and 4 more"
    assert TEMPLATE.text([]) == ""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{service_name}/{namespace_id}/{cluster_id}", "web/namespace/cluster"),
        ("{{{service_name}}}", "{web}"),
        ("load balancer", "load balancer"),
        ("  {service_name}  ", "web"),
    ],
)
def test_fields_and_braces(template: str, text: str) -> None:
    assert DescriptionTemplate(template).text(services("web")) == text


@pytest.mark.parametrize(
    "name", ["{cluster_id}", "{0.__class__}", "{service_name.__init__.__globals__}", "{", "}", "%s", "{}", "$x"]
)
def test_a_name_is_never_a_template(name: str) -> None:
    assert TEMPLATE.text(services(name)) == f"{name} (cluster cluster)"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x00b", "a b"),
        ("a\r\nb\tc", "a b c"),
        ("a\u202eb", "a b"),  # turns the direction of what follows
        ("a\u2028b", "a b"),
        ("a\ud800b", "a b"),
        ("\x1b[2Ja", "[2Ja"),
        ("blåbær 東京 🦊", "blåbær 東京 🦊"),
        ("\x00", ""),
    ],
)
def test_what_netbox_cannot_store_or_show_becomes_a_space(name: str, shown: str) -> None:
    template = DescriptionTemplate("{service_name}")
    assert template.text(services(name)) == shown
    assert template.text(services(name, "b")) == f"{shown} and 1 more".strip()


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from([DEFAULT_DESCRIPTION, "{service_name}", "x {{"]))
def test_netbox_stores_every_description_as_it_is(names: list[str], template: str) -> None:
    text = DescriptionTemplate(template).text(services(*names))
    assert len(text) <= LONGEST
    assert text == " ".join(text.split())
    assert not {unicodedata.category(one) for one in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    text.encode()


@pytest.mark.parametrize("more", [0, 3])
def test_a_long_one_is_cut_with_an_ellipsis_and_keeps_the_number(more: int) -> None:
    text = TEMPLATE.text(services("a" * 253, *"bcd"[:more]))
    assert len(text) == LONGEST
    assert text.endswith("a… and 3 more" if more else "a…")
    exact = DescriptionTemplate("{service_name}")
    assert exact.text(services("a" * LONGEST)) == "a" * LONGEST
    assert exact.text(services("a" * (LONGEST - 2) + " bc")) == "a" * (LONGEST - 2) + "…", "no space before it"


def test_a_live_registration_with_another_text_is_marked() -> None:
    one = Registration("6b" * 12, "inet", "ipv4", "192.0.2.1/32", "sealed", tuple(services("a")))
    text = "a (cluster cluster)"
    assert TEMPLATE.marked(one).description_due
    for described in ((text,), ("other", text)):
        known = one.changed(described=described)
        assert TEMPLATE.marked(known) == known
    assert TEMPLATE.marked(one.changed(described=(text, "other"))).description_due
    assert not TEMPLATE.marked(one.changed(services=())).description_due
    assert not TEMPLATE.marked(one.changed(state=State.CREATING)).description_due


def test_the_last_texts_are_remembered() -> None:
    described: tuple[str, ...] = ()
    for number in range(REMEMBERED + 3):
        described = with_text(described, str(number))
    assert described == tuple(str(number) for number in range(3, REMEMBERED + 3))
    assert with_text(("a", "b"), "a") == ("b", "a")
    assert is_ours("", ()), "empty"
    assert is_ours("a", ("a", "b"))
    assert not is_ours("a ", ("a", "b"))
