"""No secret in a log, whatever the body looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.telemetry.body_masking import LONGEST, MASK, mask_body, mask_value

SECRET = "Sup3rGeheim"

FORMS = [
    '{"secret": "%s"}',
    '{"new_secret": "%s", "zone": "inet"}',
    '{"secret":"%s","new_secret":"%s"}',
    '{"secret": "%s"',
    '{"secret": "%s',
    '{"zone": "inet", "secret": "%s", "ip_family"',
    '{"secret": "ab\\"%s", "zone": "inet"',
    "{'secret': '%s', 'zone': 'inet'}",
    "{secret: %s, zone: inet}",
    "secret=%s&zone=inet",
    "zone: inet\nsecret: %s\n",
    '{"Secret": "%s"}',
    '{"SECRET": "%s"}',
    '{"my_secret_value": "%s"}',
    '{"s\\u0065cret": "%s"}',
    '{"s\\u0065cret": "%s"',
    '{"secret": ["%s"]}',
    '{"secret": {"is": "%s"}}',
    '{"secret": ["%s"]',
    '["secret", "%s"]',
    '"secret %s"',
    '"{\\"secret\\": \\"%s\\"}"',
    '{"service": "{\\"secret\\": \\"%s\\"}"}',
    '{"service": {"secret": "%s"}}',
    '{"a": [{"secret": "%s"}]}',
    '{"secret" "%s"}',
    '{"secret": "x", "secret": "%s"}',
    '{"secret %s": 1}',
    '{"secret": "Super"%s", "zone": "inet"}',
    "\u0130\u0130\u0130\u0130 secret=%s",
    "<secret>%s</secret>",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_no_form_of_a_body_shows_it(form: str, encoding: str) -> None:
    masked = mask_body(form.replace("%s", SECRET).encode(encoding))
    assert SECRET not in masked
    assert MASK in masked


def test_what_is_no_secret_stays() -> None:
    body = {"zone": "inet", "secret": SECRET, "new_secret": SECRET, "service": {"service_name": "a"}, "n": [1, None]}
    assert json.loads(mask_body(json.dumps(body).encode())) == body | {"secret": MASK, "new_secret": MASK}
    assert mask_body(b"plain text") == "plain text"
    assert mask_body(b"") == ""


def test_in_broken_json_the_next_field_is_shown_again() -> None:
    broken = f'{{"zone": "inet", "secret": "{SECRET}", "ip_family": "ipv4", "new_secret": "{SECRET}"'
    assert mask_body(broken.encode()) == (
        f'{{"zone": "inet", "secret": "{MASK}", "ip_family": "ipv4", "new_secret": "{MASK}'
    )


def test_a_field_name_inside_a_secret_does_not_end_it() -> None:
    for secret in (r"a\", \"zone\": " + SECRET, f"a, zone: {SECRET}", f"a', 'zone': '{SECRET}"):
        assert SECRET not in mask_body(f'{{"secret": "{secret}"'.encode())


def test_deep_nesting_and_broken_utf_8_do_no_harm() -> None:
    deep = b'{"a":' * 30_000 + b'{"secret": "' + SECRET.encode() + b'"}'
    assert SECRET not in mask_body(deep + b"}" * 30_000)
    assert SECRET not in mask_body(b'\xff\xfe{"secret": "\xff' + SECRET.encode())


def test_a_long_body_is_cut() -> None:
    masked = mask_body(b"x" * 60_000)
    assert masked == "x" * LONGEST + "..."


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(_values, st.sampled_from(["secret", "new_secret"]), st.text(min_size=8, max_size=64), st.integers(0, 400))
def test_a_secret_anywhere_in_json_whole_or_cut_off(value: Any, name: str, secret: str, cut: int) -> None:
    # A marker stands for the secret, so that it is not found in the rest by chance.
    body = json.dumps({"first": value, name: "#MARK" + secret, "service": {name: "#MARK" + secret}})
    for text in (body, body[:cut], body[:-1], body + "x"):
        assert "#MARK" not in mask_body(text.encode())


@given(_values)
def test_masking_keeps_the_form(value: Any) -> None:
    masked = mask_value(value)
    assert type(masked) is type(value)
    if isinstance(value, list | dict):
        assert len(masked) <= len(value)


@given(st.binary(max_size=200))
def test_any_bytes_at_all(body: bytes) -> None:
    assert isinstance(mask_body(body), str)


_NAMES = st.sampled_from(["secret", "new_secret", "zone", "Secret", "my_secret", "service_name", "a"])
_TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from([SECRET, f"x{SECRET}", "secret", '"secret": "', "a\\", "\u017fecret"])
)
_TREES = st.recursive(
    st.one_of(_TEXTS, st.none(), st.integers(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(
    st.dictionaries(_NAMES, _TREES, max_size=6),
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
)
def test_a_body_that_is_known_to_be_good_is_masked_no_less(
    body: dict[str, Any], ascii_only: bool, separators: tuple[str, str]
) -> None:
    """The quick way: what it gives is JSON, and means what the thorough way gives."""
    sent = json.dumps(body, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "replace")
    masked, expected = mask_body(sent, valid=True), mask_body(sent)
    if len(expected) < LONGEST and len(masked) < LONGEST:
        assert json.loads(masked) == json.loads(expected)


@pytest.mark.parametrize(
    ("sent", "masked"),
    [
        ('{"secret":"Sup3rGeheim","zone" : "a"}', '{"secret":"********","zone" : "a"}'),
        ('{"new_secret" :\t"MySecret", "secret": ""}', '{"new_secret" :\t"********", "secret": "********"}'),
    ],
)
def test_the_quick_way_leaves_the_rest_as_it_was_written(sent: str, masked: str) -> None:
    assert mask_body(sent.encode(), valid=True) == masked


def test_the_quick_way_is_bounded_too() -> None:
    sent = json.dumps({"secret": SECRET, "zone": "z" * 2 * LONGEST}).encode()
    assert mask_body(sent, valid=True) == mask_body(sent)
