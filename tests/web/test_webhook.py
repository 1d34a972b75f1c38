"""POST /netbox/webhook: only what NetBox has signed gets through, and it only leads to a look."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ipam_lib.netbox.base import Container, Prefix
from ipam_lib.netbox.event_queue import EventQueue
from ipam_lib.web.access_control import AccessRules
from tests.netbox.events import event, recorded, sign
from tests.netbox.test_space import Site, make
from tests.support.soak import amount
from tests.web.service import Service, service

PATH = "/netbox/webhook"
SECRET, DELIVERIES = recorded()
INET = Container(1, "83.118.168.0/24", "ipv4", "inet", vrf_id=1)


async def nothing(ids: Sequence[int] = ()) -> list[Prefix]:
    return []


async def refresh() -> bool:
    return True


@asynccontextmanager
async def hooked(**options: Any) -> AsyncIterator[tuple[Service, EventQueue, Site]]:
    """A service with a webhook, its queue, and the picture of a container."""
    site = make()
    await site.space.load(INET)
    events = EventQueue(site.space, refresh_zones=refresh, get_many=nothing)
    async with service(webhook_secret=SECRET, events=events, **options) as running:
        yield running, events, site


async def send(running: Service, body: bytes, signature: str | None) -> tuple[int, dict[str, Any]]:
    """An event, and the answer to it."""
    headers = {"Content-Type": "application/json"} | ({} if signature is None else {"X-Hook-Signature": signature})
    async with running.client.post(running.url + PATH, data=body, headers=headers) as answer:
        return answer.status, json.loads(await answer.read())


def samples(running: Service, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric, by the values of its labels, in the order of their names."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(running.services.metrics.text().decode())
        for sample in family.samples
        if sample.name == name
    }


def counted(running: Service) -> dict[tuple[str, ...], float]:
    """The events, by kind and outcome."""
    return samples(running, "ipam_netbox_events_total")


async def test_without_the_setting_there_is_no_such_path() -> None:
    async with service() as running:
        status, content = await send(running, DELIVERIES[0].body, DELIVERIES[0].signature)
        assert (status, content["code"]) == (404, "unknown_path")
        _, specification, _ = await running.call("GET", "/swagger/doc.json")
        assert PATH not in specification["paths"]


async def test_recorded_deliveries_are_taken() -> None:
    async with hooked() as (running, _, _):
        answers = [await send(running, one.body, one.signature) for one in DELIVERIES]
        assert {status for status, _ in answers} == {200}
        said = [content["message"] for _, content in answers]
        # Nothing of it is in the picture: what was created is looked at, what was deleted is not there.
        assert said == [
            f"Event {word}"
            for word in ["accepted", "accepted", "ignored", "accepted", "accepted", "ignored", "ignored"]
        ]
        assert counted(running) == {("prefix", "accepted"): 4, ("prefix", "ignored"): 3}
        _, specification, _ = await running.call("GET", "/openapi.json")
        assert "post" in specification["paths"][PATH]


async def test_a_wrong_signature_is_refused_and_leads_to_nothing(caplog: pytest.LogCaptureFixture) -> None:
    right = DELIVERIES[0].signature
    with caplog.at_level(logging.INFO):
        async with hooked() as (running, events, _):
            for signature in (None, "", right[:-1], right[:8], right + "00", DELIVERIES[1].signature):
                status, content = await send(running, DELIVERIES[0].body, signature)
                assert (status, content["code"]) == (403, "wrong_signature")
            forged = DELIVERIES[0].body.replace(b"128", b"129")
            assert (await send(running, forged, right))[0] == 403
            assert (await send(running, b"{", "0" * 128))[0] == 403, "the signature is checked first"
            assert not events.wanted.is_set()
            assert counted(running) == {("unknown", "refused"): 8}
    refusals = [one for one in caplog.records if "an event of NetBox was refused" in one.getMessage()]
    assert [one.__dict__["ip"] for one in refusals] == ["127.0.0.1"] * 8
    assert SECRET not in caplog.text
    assert right not in caplog.text


async def test_bodies_that_are_no_events() -> None:
    async with hooked() as (running, events, _):
        cases = [
            (b"", 400, "invalid_json"),
            (b"{", 400, "invalid_json"),
            (b"\xff", 400, "invalid_json"),
            (b"[]", 400, "invalid_request"),
            (b"{}", 400, "invalid_request"),
            (json.dumps(event("created", 0, {"prefix": "x"})).encode(), 400, "invalid_request"),
            (b" " * 70_000, 413, "body_too_large"),
        ]
        for body, status, code in cases:
            got, content = await send(running, body, sign(body, SECRET))
            assert (got, content["code"]) == (status, code)
        other = json.dumps(event("created", 4, {"secret": "Gehe1m"}, object_type="users.token")).encode()
        assert await send(running, other, sign(other, SECRET)) == (200, {"message": "Event ignored"})
        assert counted(running) == {("other", "ignored"): 1}
        assert not events.wanted.is_set()


async def test_the_access_log_has_no_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with hooked() as (running, _, _):
            await send(running, DELIVERIES[0].body, DELIVERIES[0].signature)
            await send(running, DELIVERIES[0].body, "wrong")
    assert "83.118.168.16" not in "\n".join(str(one.__dict__) for one in caplog.records)


async def test_who_may_call_holds_here_too() -> None:
    rules = AccessRules(allowed_networks=[ipaddress.ip_network("192.0.2.0/24")])
    async with hooked(access=rules) as (running, _, _):
        status, content = await send(running, DELIVERIES[0].body, DELIVERIES[0].signature)
    assert (status, content["code"]) == (403, "network_not_allowed")
    async with hooked(access=AccessRules(certificate=True)) as (running, _, _):
        status, content = await send(running, DELIVERIES[0].body, DELIVERIES[0].signature)
    assert (status, content["code"]) == (403, "certificate_not_allowed")


async def test_it_works_while_the_storage_is_down() -> None:
    async with hooked() as (running, _, _):
        running.services.prepared = False
        assert (await send(running, DELIVERIES[0].body, DELIVERIES[0].signature))[0] == 200


async def test_a_burst_is_answered_and_shares_the_looks() -> None:
    async with hooked() as (running, _, site):
        site.reader.reads.clear()
        total = amount(300, 10_000)

        async def flood() -> None:
            for one in DELIVERIES * (total // len(DELIVERIES) // 10 + 1):
                assert (await send(running, one.body, one.signature))[0] == 200

        await asyncio.gather(*(flood() for _ in range(10)))
        assert sum(counted(running).values()) >= total
        rounds = samples(running, "ipam_worker_rounds_total")[("ok", "webhook")]
        # A look reads each of three lists once.
        assert len(site.reader.reads) <= 3 * rounds


@settings(max_examples=amount(60, 2000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=300) | st.from_regex(r'\{"event": ?[^\x00-\x1f]{0,80}\}', fullmatch=True), max_size=5)
)
def test_hostile_bodies_with_a_right_signature(bodies: list[bytes | str]) -> None:
    async def attack() -> None:
        async with hooked() as (running, _, _):
            for one in bodies:
                body = one.encode("utf-8", "replace") if isinstance(one, str) else one
                assert (await send(running, body, sign(body, SECRET)))[0] in (200, 400)
            assert (await send(running, DELIVERIES[0].body, DELIVERIES[0].signature))[0] == 200

    asyncio.run(attack())
