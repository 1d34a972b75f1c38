"""Every recorded answer of a real NetBox means something to us, and the right thing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam_lib.errors import NetBoxError, NetBoxRejected, NetBoxUnavailable
from ipam_lib.netbox import payloads
from ipam_lib.netbox.payloads import UnexpectedResponse
from ipam_lib.netbox.responses import NetBoxBroken, NetBoxResponse, is_duplicate, shorten, texts, understand
from tests.netbox.transcripts import FILES, Exchange, load

EVERYTHING = [exchange for file in FILES for exchange in load(file)]


def body_of(exchange: Exchange) -> bytes:
    response = exchange.response
    if "json" in response:
        return json.dumps(response["json"]).encode()
    return str(response.get("text", "")).encode()


def understood(exchange: Exchange, *expected: int) -> NetBoxResponse:
    headers = exchange.response["headers"]
    return understand(
        exchange.response["status"],
        headers.get("Content-Type", ""),
        headers.get("Retry-After"),
        headers.get("Location") if 300 <= exchange.response["status"] < 400 else None,
        body_of(exchange),
        expected,
    )


def attempt(call: Callable[[], NetBoxResponse]) -> NetBoxResponse | NetBoxError:
    """The answer, or the error that it means."""
    try:
        return call()
    except NetBoxError as error:
        return error


def test_every_recorded_answer_is_one_of_ours() -> None:
    kinds: Counter[type] = Counter()
    for exchange in EVERYTHING:
        status = exchange.response["status"]
        outcome = attempt(partial(understood, exchange))
        kinds[type(outcome)] += 1
        if isinstance(outcome, NetBoxResponse):
            assert 200 <= status < 300, exchange.name
            assert outcome.body == exchange.response.get("json"), exchange.name
        elif isinstance(outcome, NetBoxUnavailable):
            # HEAD has no body; of what this service sends, nothing is answered so.
            assert status == 500 or exchange.request["method"] == "HEAD", exchange.name
        else:
            assert isinstance(outcome, NetBoxRejected)
            assert 300 <= status < 500, exchange.name
            assert outcome.detail.startswith(f"HTTP {status}"), exchange.name
    assert kinds[NetBoxResponse] > 200
    assert kinds[NetBoxRejected] > 90
    assert kinds[NetBoxBroken] >= 2


def test_recorded_404s_in_json_are_expected_and_html_ones_never() -> None:
    kinds: Counter[str] = Counter()
    for exchange in EVERYTHING:
        if exchange.response["status"] != 404:
            continue
        if "json" in exchange.response:
            assert understood(exchange, 404).status == 404
            kinds["json"] += 1
        else:
            with pytest.raises(NetBoxRejected, match="not where it is expected"):
                understood(exchange, 404)
            kinds["html"] += 1
    assert kinds["json"] >= 5
    assert kinds["html"] >= 2


def test_recorded_duplicates_and_nothing_else_are_duplicates() -> None:
    found = {
        exchange.name
        for exchange in EVERYTHING
        if exchange.response["status"] == 400 and is_duplicate(exchange.response.get("json"))
    }
    spelled = {exchange.name for exchange in EVERYTHING if b"Duplicate prefix found" in body_of(exchange)}
    assert found == spelled
    assert len(found) >= 5


def shown_prefixes(value: Any) -> Iterator[dict[str, Any]]:
    """Every whole prefix in recorded JSON."""
    if isinstance(value, dict):
        if {"id", "prefix", "vrf", "status", "custom_fields"} <= value.keys():
            yield value
        else:
            for inner in value.values():
                yield from shown_prefixes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from shown_prefixes(inner)


def test_every_recorded_prefix_is_read() -> None:
    count = 0
    for exchange in EVERYTHING:
        if exchange.request["method"] == "OPTIONS" or "/prefixes/" not in exchange.request["path"]:
            continue
        for item in shown_prefixes(exchange.response.get("json")):
            one = payloads.prefix(item)
            assert (one.id, one.prefix) == (item["id"], item["prefix"])
            assert one.uuid == (item["custom_fields"].get("k8s_uuid") or None)
            assert one.is_container == (item["status"]["value"] == "container")
            if one.zone and {"tenant", "role"} <= item.keys():
                container = payloads.container(item)
                assert payloads.from_document(json.loads(json.dumps(payloads.as_document(container)))) == container
            count += 1
    assert count > 300


def test_every_recorded_page_is_read() -> None:
    for exchange in EVERYTHING:
        body = exchange.response.get("json")
        if isinstance(body, dict) and "results" in body:
            assert payloads.page(body) == payloads.Page(body["results"], bool(body["next"]), body["count"])


def test_the_recorded_choice_set() -> None:
    [exchange] = [one for one in load("02-choice-sets") if one.request["path"].endswith("/?name=k8s_zone_choices")]
    [item] = exchange.response["json"]["results"]
    assert payloads.choices(item)[:3] == ["inet", "hnet-private", "hnet-public"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    status=st.integers(200, 599),
    content_type=st.sampled_from(["application/json", "text/html; charset=utf-8", "", "text/plain"]),
    retry_after=st.none() | st.text(max_size=6),
    raw=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    expected=st.lists(st.integers(400, 499), max_size=3),
)
def test_any_answer_means_something(
    status: int, content_type: str, retry_after: str | None, raw: bytes, expected: list[int]
) -> None:
    outcome = attempt(lambda: understand(status, content_type, retry_after, None, raw, expected))
    if isinstance(outcome, NetBoxResponse):
        assert outcome.ok or outcome.status in expected
        assert len(outcome.words) <= 601
    else:
        assert str(status) in outcome.detail
        assert len(outcome.detail) < 1000
        assert outcome.retry_after >= 1
        assert "\n" not in outcome.detail


@settings(deadline=None)
@given(json_values)
def test_any_json_is_read_or_a_mismatch(value: Any) -> None:
    for read in (payloads.prefix, payloads.container, payloads.page, payloads.choices, payloads.from_document):
        with suppress(UnexpectedResponse):
            read(value)
    list(texts(value))
    is_duplicate(value)


@given(st.text())
def test_shortened_texts_are_one_line(text: str) -> None:
    assert len(shorten(text)) <= 601
    assert "\n" not in shorten(text)
    assert "\r" not in shorten(text)
