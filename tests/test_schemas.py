from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp_apispec import docs, request_schema, setup_aiohttp_apispec
from hypothesis import example, given
from hypothesis import strategies as st

from ipam_lib import schemas
from ipam_lib.errors import BadRequest, InvalidJSON
from ipam_lib.models import Request, ServiceKey
from ipam_lib.schemas import (
    CLUSTER_EXAMPLE,
    EXPIRE_EXAMPLE,
    REGISTER_EXAMPLE,
    AddressSchema,
    ClusterExpiredSchema,
    ClusterSchema,
    ErrorSchema,
    ExpireSchema,
    RegisterSchema,
    parse_cluster,
    parse_expire,
    parse_json,
    parse_register,
)

FULL: dict[str, Any] = {
    "address": "83.118.168.10/32",
    "ip_family": "ipv4",
    "zone": "inet",
    "secret": "SuperSecret",
    "new_secret": "SuperSecret2",
    "service": {
        "service_name": "ingress_inet",
        "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
        "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
        "retention_period_days": 7,
        "deny_external_cleanup": True,
        "expires_at": "2026-11-25T00:50:49.291Z",
    },
}
ABSENT = object()
PARSERS = [parse_register, parse_expire]


def body(**changes: Any) -> dict[str, Any]:
    """The full body with some values changed (`service__name` reaches into the service), or taken out (ABSENT)."""
    changed = copy.deepcopy(FULL)
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        target, key = (changed["service"], inner) if inner else (changed, outer)
        if value is ABSENT:
            del target[key]
        else:
            target[key] = value
    return changed


def refused(parse: Any, sent: object) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(sent)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_full_body() -> None:
    expected = Request(
        zone="inet",
        ip_family="ipv4",
        key=ServiceKey("ingress_inet", "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"),
        secret="SuperSecret",
        address="83.118.168.10/32",
        spelling="83.118.168.10/32",
        new_secret="SuperSecret2",
        retention_period_days=7,
        deny_external_cleanup=True,
    )
    assert parse_register(FULL) == expected
    assert parse_expire(FULL).new_secret is None
    assert parse_expire(FULL) == parse_expire(body(new_secret=ABSENT))


def test_smallest_body() -> None:
    request = parse_register(
        body(
            address=ABSENT,
            new_secret=ABSENT,
            service__retention_period_days=ABSENT,
            service__deny_external_cleanup=ABSENT,
            service__expires_at=ABSENT,
        )
    )
    assert request.address is None
    assert request.spelling is None
    assert request.new_secret is None
    assert request.retention_period_days is None
    assert request.deny_external_cleanup is False


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("nothing", [ABSENT, None])
@pytest.mark.parametrize(
    ("name", "attribute", "default"),
    [
        ("address", "address", None),
        ("new_secret", "new_secret", None),
        ("service__retention_period_days", "retention_period_days", None),
        ("service__deny_external_cleanup", "deny_external_cleanup", False),
        ("service__expires_at", "address", "83.118.168.10/32"),
    ],
)
def test_null_is_absent_where_a_field_is_optional(
    parse: Any, nothing: object, name: str, attribute: str, default: object
) -> None:
    assert getattr(parse(body(**{name: nothing})), attribute) == default


@pytest.mark.parametrize("name", ["address", "new_secret"])
def test_empty_is_absent(name: str) -> None:
    request = parse_register(body(**{name: ""}))
    assert getattr(request, name) is None
    if name == "address":
        assert request.spelling is None


@pytest.mark.parametrize(
    ("family", "spelling", "canonical"),
    [
        ("ipv4", "10.0.0.1", "10.0.0.1/32"),
        ("ipv4", "10.0.0.1/32", "10.0.0.1/32"),
        ("ipv6", "2A0D:0a00:0000::1", "2a0d:a00::1/128"),
        ("ipv6", "2a0d:a00::1/128", "2a0d:a00::1/128"),
    ],
)
def test_address_is_canonical_and_its_spelling_is_kept(family: str, spelling: str, canonical: str) -> None:
    request = parse_register(body(ip_family=family, address=spelling))
    assert (request.address, request.spelling) == (canonical, spelling)


@pytest.mark.parametrize("uuid", ["0F3C7805-6B1D-4387-B8C4-B8C5D0E9B878", "00000000-0000-0000-0000-000000000000"])
def test_uuid_is_kept_as_given(uuid: str) -> None:
    assert parse_register(body(service__cluster_id=uuid)).key.cluster_id == uuid
    assert parse_cluster({"cluster_id": uuid}) == uuid


@pytest.mark.parametrize("secret", ["12345678", "x" * 64, "🔑" * 8, "é" * 64, "with space", "tab\there", "it's\"so\\"])
def test_secrets_count_characters(secret: str) -> None:
    request = parse_register(body(secret=secret, new_secret=secret))
    assert request.secret == request.new_secret == secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service__retention_period_days", 0),
        ("service__retention_period_days", 30),
        ("service__service_name", "n"),
        ("service__service_name", "n" * 253),
        ("zone", "z"),
        ("zone", "z" * 100),
        ("zone", "sone æøå"),
    ],
)
def test_limits_are_inclusive(name: str, value: object) -> None:
    request = parse_register(body(**{name: value}))
    assert value in (request.retention_period_days, request.key.service_name, request.zone)


def test_unknown_fields_are_ignored() -> None:
    sent = body(later={"deep": [1, 2]}, service__later=[[]], secret_hint="\ud800")
    assert parse_register(sent) == parse_register(FULL)


@pytest.mark.parametrize("value", [ABSENT, None, "", 0, True, [], {"a": "\ud800"}, "2026-11-25T00:50:49.291Z", 1e999])
def test_expires_at_is_ignored(value: object) -> None:
    assert parse_register(body(service__expires_at=value)) == parse_register(FULL)


def test_the_body_is_not_changed() -> None:
    sent = body()
    parse_register(sent)
    parse_expire(sent)
    assert sent == FULL


def test_secrets_do_not_show() -> None:
    assert "SuperSecret" not in repr(parse_register(FULL))


# --- what is refused --------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, object, str]] = [
    ("address", 7, "must be a string, not a number"),
    ("address", ["10.0.0.1"], "must be a string, not an array"),
    ("address", "010.0.0.1", "is not an IP address (expected A, A/32 or A/128)"),
    ("address", "83.118.168.0/24", "is not one host address (the mask must be /32 or absent)"),
    ("address", "83.118.168.10/32/32", "is not one host address (the mask must be /32 or absent)"),
    ("address", "2a0d:a00::1", "is an ipv6 address, but ip_family says ipv4"),
    ("address", "::ffff:83.118.168.10", "is an IPv4-mapped address (give the IPv4 address itself)"),
    ("address", "fe80::1%eth0", "has a zone index (give the address without it)"),
    ("address", "x", "is not an IP address (expected A, A/32 or A/128)"),
    ("address", " ", "is not an IP address (expected A, A/32 or A/128)"),
    ("address", "1" * 200, "is not an IP address (expected A, A/32 or A/128)"),
    ("address", "10.0.0.1\0", "must not hold a NUL character"),
    ("address", "10.0.0.\ud800", "must not hold a lone surrogate"),
    ("ip_family", ABSENT, "is missing"),
    ("ip_family", None, "must not be null"),
    ("ip_family", "", "must be 'ipv4' or 'ipv6'"),
    ("ip_family", "IPv4", "must be 'ipv4' or 'ipv6'"),
    ("ip_family", "ipv5", "must be 'ipv4' or 'ipv6'"),
    ("ip_family", 4, "must be a string, not a number"),
    ("zone", ABSENT, "is missing"),
    ("zone", None, "must not be null"),
    ("zone", "", "must be 1 to 100 characters long"),
    ("zone", "z" * 101, "must be 1 to 100 characters long"),
    ("zone", "in\net", "must hold printable characters only"),
    ("zone", "in\0et", "must not hold a NUL character"),
    ("zone", True, "must be a string, not a boolean"),
    ("zone", {}, "must be a string, not an object"),
    ("secret", ABSENT, "is missing"),
    ("secret", None, "must not be null"),
    ("secret", "", "must be 8 to 64 characters long"),
    ("secret", "1234567", "must be 8 to 64 characters long"),
    ("secret", "🔑" * 7, "must be 8 to 64 characters long"),
    ("secret", "x" * 65, "must be 8 to 64 characters long"),
    ("secret", 12345678, "must be a string, not a number"),
    ("secret", "hush-hush\0", "must not hold a NUL character"),
    ("secret", "hush-hush\ud800", "must not hold a lone surrogate"),
    ("secret", "hush-hush\udc00\ud800", "must not hold a lone surrogate"),
    ("service", ABSENT, "is missing"),
    ("service", None, "must not be null"),
    ("service", [], "must be an object"),
    ("service", "x", "must be an object"),
    ("service__service_name", ABSENT, "is missing"),
    ("service__service_name", None, "must not be null"),
    ("service__service_name", "", "must be 1 to 253 characters long"),
    ("service__service_name", "n" * 254, "must be 1 to 253 characters long"),
    ("service__service_name", 1.5, "must be a string, not a number"),
    ("service__service_name", "a\0b", "must not hold a NUL character"),
    ("service__namespace_id", ABSENT, "is missing"),
    ("service__cluster_id", ABSENT, "is missing"),
    ("service__cluster_id", None, "must not be null"),
    ("service__cluster_id", 1, "must be a string, not a number"),
    ("service__retention_period_days", 7.0, "must be an integer, not a fraction"),
    ("service__retention_period_days", "7", "must be an integer, not a string"),
    ("service__retention_period_days", True, "must be an integer, not a boolean"),
    ("service__retention_period_days", [], "must be an integer, not an array"),
    ("service__retention_period_days", -1, "must be 0 to 30"),
    ("service__retention_period_days", 31, "must be 0 to 30"),
    ("service__retention_period_days", 10**4000, "must be 0 to 30"),
    ("service__retention_period_days", float("inf"), "must be an integer, not a fraction"),
    ("service__deny_external_cleanup", 1, "must be true or false, not a number"),
    ("service__deny_external_cleanup", 0, "must be true or false, not a number"),
    ("service__deny_external_cleanup", "true", "must be true or false, not a string"),
    ("service__deny_external_cleanup", "", "must be true or false, not a string"),
    ("service__deny_external_cleanup", {}, "must be true or false, not an object"),
]
WRONG += [
    (f"service__{name}", text, "must be a UUID, such as 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878")
    for name in ("namespace_id", "cluster_id")
    for text in (
        "",
        "x",
        "0f3c78056b1d4387b8c4b8c5d0e9b878",
        "{0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878}",
        "urn:uuid:0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
        "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b87g",
        "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b87\n",
        "0f3c78056-b1d-4387-b8c4-b8c5d0e9b878",
        "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878\n",
    )
]
# The `new_secret` of a POST only: a DELETE ignores it.
WRONG_NEW_SECRET: list[tuple[object, str]] = [
    ("1234567", "must be 8 to 64 characters long"),
    ("x" * 65, "must be 8 to 64 characters long"),
    (12345678, "must be a string, not a number"),
    (False, "must be a string, not a boolean"),
    ("hush-hush\ud800", "must not hold a lone surrogate"),
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_wrong_field(parse: Any, name: str, value: object, text: str) -> None:
    error = refused(parse, body(**{name: value}))
    dotted = name.replace("__", ".")
    assert error.errors == {dotted: [text]}
    assert error.message == f"invalid request: {dotted} {text}"


@pytest.mark.parametrize(("value", "text"), WRONG_NEW_SECRET)
def test_wrong_new_secret(value: object, text: str) -> None:
    sent = body(new_secret=value)
    assert refused(parse_register, sent).errors == {"new_secret": [text]}
    assert parse_expire(sent) == parse_expire(FULL)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "is missing"),
        ({"cluster_id": None}, "must not be null"),
        ({"cluster_id": 7}, "must be a string, not a number"),
        ({"cluster_id": ""}, "must be a UUID, such as 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"),
        ({"cluster_id": "ingress"}, "must be a UUID, such as 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"),
    ],
)
def test_wrong_cluster(sent: object, text: str) -> None:
    assert refused(parse_cluster, sent).errors == {"cluster_id": [text]}


@pytest.mark.parametrize("parse", [*PARSERS, parse_cluster])
@pytest.mark.parametrize(
    ("sent", "what"),
    [([], "an array"), ([FULL], "an array"), ("x", "a string"), (7, "a number"), (1.5, "a number"), (True, "a boolean"),
     (None, "null")],
)  # fmt: skip
def test_body_is_no_object(parse: Any, sent: object, what: str) -> None:
    error = refused(parse, sent)
    assert error.message == f"the body must be one JSON object, not {what}"
    assert error.errors is None


def test_every_wrong_field_is_listed_and_the_first_are_said() -> None:
    error = refused(parse_register, body(ip_family="ipv7", address="10.0.0.1/8", secret=1, service__cluster_id="x"))
    assert error.errors == {
        "address": ["is not one host address (the mask must be /32 or absent)"],
        "ip_family": ["must be 'ipv4' or 'ipv6'"],
        "secret": ["must be a string, not a number"],
        "service.cluster_id": ["must be a UUID, such as 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"],
    }
    assert error.message == (
        "invalid request: address is not one host address (the mask must be /32 or absent); "
        "ip_family must be 'ipv4' or 'ipv6'; secret must be a string, not a number (and 1 more)"
    )


def test_three_wrong_fields_are_all_said() -> None:
    error = refused(parse_register, body(ip_family=ABSENT, zone=ABSENT, secret=ABSENT))
    assert error.message == "invalid request: ip_family is missing; zone is missing; secret is missing"


@pytest.mark.parametrize("field", ["secret", "new_secret"])
@pytest.mark.parametrize("secret", ["hunter2", "hunter2" * 10, "hunter2-hunter2\0", "hunter2-hunter2\ud800"])
def test_no_error_repeats_a_secret(field: str, secret: str) -> None:
    error = refused(parse_register, body(**{field: secret}, zone=1))
    assert "hunter2" not in error.message + json.dumps(error.errors)


def test_errors_of_the_library_for_a_whole_body() -> None:
    error = schemas.bad_request(RegisterSchema().validate([]))  # type: ignore[arg-type]
    assert error.errors == {"body": ["must be an object"]}


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the body is empty; expected one JSON object"),
        (b" \r\n\t ", "the body is empty; expected one JSON object"),
        (b"\xef\xbb\xbf{}", "the body begins with a byte order mark; send UTF-8 without one"),
        (b'{"zone": "\xff"}', "the body is not UTF-8: byte 11 fits no character"),
        (b'{"zone": "\xed\xa0\x80"}', "the body is not UTF-8: byte 11 fits no character"),
        (b'{"zone": "\xc0\x80"}', "the body is not UTF-8: byte 11 fits no character"),
        ("{}".encode("utf-16"), "the body is not UTF-8: byte 1 fits no character"),
        (b'{"a": NaN}', "the body is not valid JSON: NaN is no JSON number"),
        (b"[-Infinity]", "the body is not valid JSON: -Infinity is no JSON number"),
        (b"[" * 65536, "the body is nested too deeply"),
        (b'{"a":' * 13107, "the body is nested too deeply"),
        (b"[" * 30000 + b"]" * 30000, "the body is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the body holds a number with too many digits"),
        (b'{"zone": 1, "zone": 2}', "'zone' stands twice in one JSON object of the body"),
        (b'{"a": {"x": 1, "y": 2, "y": 3}}', "'y' stands twice in one JSON object of the body"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "a name stands twice in one JSON object of the body"),
        (b'{"a\\nb": 1, "a\\nb": 2}', "a name stands twice in one JSON object of the body"),
        (b'{"zone": "inet"', "the body is not valid JSON: expecting ',' delimiter at line 1, column 16"),
        (b'{"a": 1}\n{"b": 2}', "the body is not valid JSON: extra data at line 2, column 1"),
        (b'{"a": "x', "the body is not valid JSON: unterminated string starting at line 1, column 7"),
        (b'{"a": "\n"}', "the body is not valid JSON: invalid control character at line 1, column 8"),
        (b'{"a": "\\q"}', "the body is not valid JSON: invalid \\escape at line 1, column 8"),
        (b"{a:1}", "the body is not valid JSON: expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{"a": 0x10}', "the body is not valid JSON: expecting ',' delimiter at line 1, column 8"),
        (b'{"a": 010}', "the body is not valid JSON: expecting ',' delimiter at line 1, column 8"),
        (b'{"a": tru}', "the body is not valid JSON: expecting value at line 1, column 7"),
        (b"zone=inet", "the body is not valid JSON: expecting value at line 1, column 1"),
    ],
)  # fmt: skip
def test_bad_json(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_json(raw)
    assert caught.value.message == message
    assert caught.value.errors is None


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": 1,}', {"a": 1}),
        (b'{"a": [1, "x" ,\n]}', {"a": [1, "x"]}),
        (b'{"a": {"b": false\n},\n}', {"a": {"b": False}}),
        (b'{"a": ",}", "b": "\\\\\\",]",}', {"a": ",}", "b": '\\",]'}),
    ],
)
def test_a_trailing_comma_is_accepted(raw: bytes, value: object) -> None:
    assert parse_json(raw) == value


@pytest.mark.parametrize(
    ("raw", "column"),
    [
        (b"[,]", 2),
        (b"{,}", 2),
        (b'{"a": 1,,}', 9),
        (b'{"a":,}', 6),
        (b'{"a": 1},', 9),
        (b'["a,]', 2),
        (b'{"a": [1,], x}', 13),
        (b'{"a" 1,}', 6),
    ],
)
def test_any_other_comma_is_an_error_with_its_position(raw: bytes, column: int) -> None:
    # The words differ between versions of Python.
    with pytest.raises(InvalidJSON, match=rf"^the body is not valid JSON: .* at line 1, column {column}$"):
        parse_json(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
        max_leaves=20,
    )
)
def test_commas_after_every_last_element_change_nothing(value: object) -> None:
    class Encoder(json.JSONEncoder):
        """Writes each object and array with a trailing comma."""

        def encode(self, o: object) -> str:
            if isinstance(o, dict) and o:
                return "{" + "".join(f"{json.dumps(key)}: {self.encode(inner)} ,\n" for key, inner in o.items()) + "}"
            if isinstance(o, list) and o:
                return "[" + "".join(f"{self.encode(inner)}, " for inner in o) + "]"
            return json.dumps(o)

    assert parse_json(Encoder().encode(value).encode()) == value


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_the_limit_of_nesting_is_the_same_everywhere() -> None:
    parse_json(nested(64))
    parse_json(b'{"a":' * 64 + b"1" + b"}" * 64)
    parse_json(b"[" + b"{}," * 5000 + b'"[[[["]')
    for raw in (nested(65), b'{"a":' * 65 + b"1" + b"}" * 65, b"[1," + nested(64) + b",2]", nested(900), nested(5000)):
        with pytest.raises(BadRequest, match="nested too deeply"):
            parse_json(raw)


def test_brackets_in_a_string_are_no_nesting() -> None:
    assert parse_json(b'"' + b"[" * 1000 + b'"') == "[" * 1000


@pytest.mark.parametrize(("length", "shown"), [(40, "'" + "n" * 40 + "'"), (41, "a name")])
def test_a_long_name_is_not_repeated(length: int, shown: str) -> None:
    name = b'"' + b"n" * length + b'": 1'
    with pytest.raises(BadRequest, match=f"^{shown} stands twice in one JSON object of the body$"):
        parse_json(b"{" + name + b', "x": 1, ' + name + b"}")


def test_what_is_nested_in_an_unknown_field_is_ignored() -> None:
    raw = json.dumps(FULL).encode()[:-1] + b', "later": ' + nested(60) + b"}"
    assert parse_register(parse_json(raw)) == parse_register(FULL)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[1e999]")
@example(b"-")
def test_arbitrary_bytes(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except BadRequest:
        return
    assert json.loads(raw.decode()) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(exclude_categories=[])
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_arbitrary_json_round_trips(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(JSON)
def test_arbitrary_json_as_a_body(value: object) -> None:
    for parse in (*PARSERS, parse_cluster):
        with pytest.raises(BadRequest):
            parse(value)


NAMES = [*FULL, *(f"service__{name}" for name in FULL["service"])]


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """The full body with up to three values replaced by arbitrary ones or taken out."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    names.sort(key=lambda name: name == "service")  # inner values first: the service itself may go
    return body(**{name: draw(st.just(ABSENT) | JSON) for name in names})


@given(nearly_right())
def test_nearly_right_bodies(sent: dict[str, Any]) -> None:
    for parse in PARSERS:
        errors: Any = None
        try:
            request = parse(sent)
        except BadRequest as error:
            errors = error.errors
        if errors is not None:
            assert errors
            assert {name.replace(".", "__") for name in errors} <= set(NAMES)
            continue
        # Whatever was let in can be stored, logged and sent on.
        for text in (request.zone, request.secret, request.new_secret or "", request.key.service_name):
            text.encode()
            assert "\0" not in text
        assert 8 <= len(request.secret) <= 64
        assert 1 <= len(request.key.service_name) <= 253
        assert type(request.deny_external_cleanup) is bool
        assert type(request.retention_period_days) in (int, type(None))
        assert request.retention_period_days in (None, *range(31))


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=8, max_size=64),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=253),
    st.uuids().map(str),
    st.ip_addresses(),
    st.integers(0, 30),
    st.booleans(),
)
def test_right_bodies(secret: str, name: str, uuid: str, address: Any, days: int, deny: bool) -> None:
    if address.version == 6 and address.ipv4_mapped is not None:
        return
    sent = body(
        secret=secret,
        address=str(address),
        ip_family=f"ipv{address.version}",
        service__service_name=name,
        service__cluster_id=uuid,
        service__retention_period_days=days,
        service__deny_external_cleanup=deny,
    )
    request = parse_register(parse_json(json.dumps(sent, ensure_ascii=False).encode()))
    assert request == parse_register(sent)
    assert request.secret == secret
    assert request.key == ServiceKey(name, FULL["service"]["namespace_id"], uuid)
    assert request.address is not None
    assert request.address.startswith(str(address) + "/")
    assert request.retention_period_days == days
    assert request.deny_external_cleanup is deny


# --- the specification ------------------------------------------------------------------------------------------------


@pytest.fixture
def spec() -> dict[str, Any]:
    """The Swagger 2.0 document that aiohttp-apispec makes of the schemas."""

    @docs(responses={200: {"schema": AddressSchema}, 400: {"schema": ErrorSchema}})
    @request_schema(RegisterSchema, example=REGISTER_EXAMPLE)
    async def register(request: web.Request) -> web.Response:
        raise NotImplementedError

    @docs(responses={200: {"schema": AddressSchema}})
    @request_schema(ExpireSchema, example=EXPIRE_EXAMPLE)
    async def expire(request: web.Request) -> web.Response:
        raise NotImplementedError

    @docs(responses={200: {"schema": ClusterExpiredSchema}})
    @request_schema(ClusterSchema, example=CLUSTER_EXAMPLE)
    async def cluster(request: web.Request) -> web.Response:
        raise NotImplementedError

    app = web.Application()
    app.router.add_post("/", register)
    app.router.add_delete("/", expire)
    app.router.add_delete("/v2/cluster", cluster)
    setup_aiohttp_apispec(app, url="/doc.json", in_place=True, title="test", version="1")
    made: dict[str, Any] = json.loads(json.dumps(app["swagger_dict"]))
    return made


def test_spec_has_the_example_bodies(spec: dict[str, Any]) -> None:
    for path, method, expected in (
        ("/", "post", REGISTER_EXAMPLE),
        ("/", "delete", EXPIRE_EXAMPLE),
        ("/v2/cluster", "delete", CLUSTER_EXAMPLE),
    ):
        (parameter,) = spec["paths"][path][method]["parameters"]
        assert parameter["in"] == "body"
        assert parameter["schema"]["example"] == expected


def test_examples_are_valid_as_they_stand() -> None:
    request = parse_register(REGISTER_EXAMPLE)
    assert request.address is None
    assert request.new_secret is None
    assert parse_expire(EXPIRE_EXAMPLE) == request
    assert parse_cluster(CLUSTER_EXAMPLE) == request.key.cluster_id


def test_spec_says_the_rules(spec: dict[str, Any]) -> None:
    register = spec["definitions"]["Register"]
    service = spec["definitions"]["Service"]
    assert set(register["properties"]) == set(FULL)
    assert set(service["properties"]) == set(FULL["service"])
    assert set(spec["definitions"]["Expire"]["properties"]) == set(FULL) - {"new_secret"}
    assert sorted(register["required"]) == ["ip_family", "secret", "service", "zone"]
    assert sorted(service["required"]) == ["cluster_id", "namespace_id", "service_name"]
    family = register["properties"]["ip_family"]
    assert family["enum"] == ["ipv4", "ipv6"]
    assert "minLength" not in family
    for optional in ("address", "new_secret"):
        assert register["properties"][optional]["minLength"] == 0
        assert register["properties"][optional]["x-nullable"] is True
    secret = register["properties"]["secret"]
    assert (secret["type"], secret["minLength"], secret["maxLength"]) == ("string", 8, 64)
    days = service["properties"]["retention_period_days"]
    assert (days["type"], days["minimum"], days["maximum"]) == ("integer", 0, 30)
    assert service["properties"]["deny_external_cleanup"]["type"] == "boolean"
    assert service["properties"]["cluster_id"]["format"] == "uuid"


def test_every_property_is_described(spec: dict[str, Any]) -> None:
    assert set(spec["definitions"]) >= {
        "Register",
        "Expire",
        "Cluster",
        "Service",
        "Address",
        "ClusterExpired",
        "Error",
    }
    for definition in spec["definitions"].values():
        for name, rules in definition["properties"].items():
            assert rules.get("description", "").endswith("."), name
            if "$ref" not in json.dumps(rules) and name != "expires_at":
                assert "example" in rules, name


def test_field_examples_are_valid() -> None:
    shown = {name: field.metadata.get("example") for name, field in RegisterSchema().fields.items()}
    assert parse_register(body(**{name: value for name, value in shown.items() if value is not None}))


def test_answers_fit_their_schemas() -> None:
    for schema, answer in (
        (AddressSchema, {"message": "Address registered successfully", "address": "10.0.0.1/32"}),
        (ClusterExpiredSchema, {"message": "x", "cluster_id": "x", "expired": 1, "denied": 0}),
        (ErrorSchema, {"code": "x", "message": "x"}),
        (ErrorSchema, {"code": "x", "message": "x", "errors": refused(parse_register, {}).errors, "request_id": "x"}),
    ):
        assert schema().validate(answer) == {}
