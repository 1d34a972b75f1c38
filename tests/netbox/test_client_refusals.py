"""What the client makes of refusals: NetBox's own, and those of something else than NetBox."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ipam_lib.errors import (
    ContainerFull,
    ContainerGone,
    DuplicatePrefix,
    NetBoxRejected,
)
from tests.netbox.clients import (
    GONE,
    INET,
    LIMIT,
    OTHER,
    UUID,
    Observed,
    bare,
    client_for,
    create,
    read,
)
from tests.support.wire import WireServer, answer

HTML_404 = "<!DOCTYPE html>\n<html><head><title>Page Not Found | NetBox</title></head><body>no</body></html>"

DUPLICATES = [
    {"prefix": ["Duplicate prefix found in VRF nhc (65000:1): 83.118.168.50/32"]},
    {"prefix": ["Duplicate prefix found in global table: 198.51.100.9/32"]},
    [{"prefix": ["Duplicate prefix found in VRF nhc (65000:1): 83.118.168.50/32"]}],
]


@pytest.mark.parametrize("body", DUPLICATES)
async def test_a_duplicate_is_recognised_in_every_shape(wire: WireServer, body: Any) -> None:
    wire.then(answer(400, body))
    async with client_for(wire.url) as client:
        with pytest.raises(DuplicatePrefix) as caught:
            await client.create_exact(INET, "83.118.168.50/32", uuid=UUID, limit=LIMIT)
    assert "Duplicate prefix" in caught.value.detail
    assert "Duplicate prefix" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"__all__": ["Invalid value for custom field 'k8s_zone': Invalid choice (x) for choice set y."]}),
        (400, {"custom_fields": {"nosuch": "Custom field 'nosuch' does not exist for this object type."}}),
        (400, [{"prefix_length": "Invalid prefix length (33) for IPv4"}]),
        (400, {"tags": ["Related object not found using the provided numeric ID: 999"]}),
        (400, {"description": ["Duplicate prefix found in a description is no duplicate"]}),
        (400, ["'start' and 'offset' are mutually exclusive."]),
        (401, {"detail": "proxy says no"}),
        (403, {"detail": "Invalid v1 token"}),
        (403, {"detail": "You do not have permission to perform this action."}),
        (405, {"detail": 'Method "PUT" not allowed.'}),
        (412, {"detail": "Precondition failed."}),
        (415, {"detail": "Unsupported media type"}),
        (418, {"detail": "I am no NetBox"}),
    ],
)
async def test_refusals_carry_netboxs_words_for_the_log_only(
    wire: WireServer, status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire.then(answer(status, body), answer(status, body), answer(status, body))
    words = next(iter(body.values() if isinstance(body, dict) else body))
    words = str(
        words[0] if isinstance(words, list) else next(iter(words.values())) if isinstance(words, dict) else words
    )
    words = words.replace('"', '\\"')
    observed = Observed()
    async with client_for(wire.url, observe=observed) as client:
        for call in (
            lambda: create(client),
            lambda: client.create_exact(INET, "83.118.168.50/32", uuid=UUID, limit=LIMIT),
            lambda: client.covering(INET, "83.118.168.50/32", limit=LIMIT),
        ):
            caplog.clear()
            with pytest.raises(NetBoxRejected) as caught:
                await call()
            assert type(caught.value) is NetBoxRejected
            assert words in caught.value.detail
            assert words not in caught.value.message
            assert any(words in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
        assert client.available, "a refusal is an answer"
    assert [result for _, result in observed.calls] == ["refused"] * 3


async def test_full_and_gone_containers(wire: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    full = answer(409, {"detail": "Insufficient resources are available to satisfy the request"})
    wire.then(full, GONE, full)
    async with client_for(wire.url) as client:
        with pytest.raises(ContainerFull):
            await create(client)
        with pytest.raises(ContainerGone):
            await create(client)
        with pytest.raises(ContainerFull):
            await client.create_next_many(INET, [UUID, OTHER], limit=LIMIT)
    assert not caplog.records, "these are part of the day's work"


@pytest.mark.parametrize(
    "act",
    [
        answer(404, HTML_404, content_type="text/html; charset=utf-8"),
        answer(404, {"message": "no Route matched with those values"}),
        answer(403, HTML_404, content_type="text/html"),
        answer(301, headers={"Location": "https://netbox.example.com/api/"}),
        answer(302, "<html></html>", content_type="text/html", headers={"Location": "/login/?next=/api/"}),
        answer(307),
    ],
)
async def test_answers_of_something_else_than_netbox_are_no_statement_about_prefixes(
    wire: WireServer, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire.then(act, act, act)
    async with client_for(wire.url) as client:
        for call in (
            lambda: create(client),
            lambda: client.delete_many(bare(7), limit=LIMIT),
            lambda: client.assign(7, UUID, limit=LIMIT),
        ):
            with pytest.raises(NetBoxRejected) as caught:
                await call()
            assert not isinstance(caught.value, ContainerGone)
    assert caplog.records
    assert len(wire.received) == 3, "redirects are not followed, and nothing is repeated"


async def test_a_redirect_and_a_html_page_tell_what_to_look_at(wire: WireServer) -> None:
    wire.then(
        answer(301, headers={"Location": "https://nb.example.com/"}), answer(404, HTML_404, content_type="text/html")
    )
    async with client_for(wire.url) as client:
        with pytest.raises(NetBoxRejected) as redirected:
            await read(client)
        with pytest.raises(NetBoxRejected) as lost:
            await read(client)
    assert "https://nb.example.com/" in redirected.value.detail
    assert "netbox.url" in redirected.value.detail
    assert "Page Not Found | NetBox" in lost.value.detail
    assert "netbox.url" in lost.value.detail
