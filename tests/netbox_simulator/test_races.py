"""NetBox's races, as they were observed on the real one: what two requests at once can do to each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netbox_simulator import NetBoxModel, create_app, make_request, sample_model, serve
from netbox_simulator.app import SIMULATOR
from tests.netbox.gate import Gate

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HEADERS = {"Authorization": f"Token {TOKEN}"}
PREFIXES = "/api/ipam/prefixes/"


def free(container: int = 1) -> str:
    return f"{PREFIXES}{container}/available-prefixes/"


def stored(model: NetBoxModel, text: str) -> int:
    return sum(row.text == text for row in model.state.prefixes.rows.values())


@pytest.fixture
def model() -> NetBoxModel:
    return sample_model({"inet": {"ipv4": ["192.0.2.0/28", "192.0.2.16/28"]}}, tokens=[TOKEN])


@pytest.fixture
def gate() -> Gate:
    return Gate()


class Client:
    """A client of the simulator that notes nothing but statuses and decoded bodies."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, json=body, headers=HEADERS | headers) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None


@pytest.fixture
def app(model: NetBoxModel, gate: Gate) -> web.Application:
    return create_app(model, latency_ms=30, sleep=gate.sleep)


@pytest.fixture
async def client(app: web.Application) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0)
    async with serve(app) as base, aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, base)


async def test_parallel_posts_of_one_address_store_duplicates(client: Client, model: NetBoxModel, gate: Gate) -> None:
    body = {"prefix": "192.0.2.5/32", "vrf": 1}
    tasks = [asyncio.create_task(client.send("POST", PREFIXES, body)) for _ in range(20)]
    await gate.arrived(20)
    gate.open()
    answers = await asyncio.gather(*tasks)
    assert [status for status, _ in answers] == [201] * 20
    assert stored(model, "192.0.2.5/32") == 20
    assert len({each["id"] for _, each in answers}) == 20


async def test_posts_of_one_address_in_turn_store_one(client: Client, model: NetBoxModel, gate: Gate) -> None:
    statuses = []
    for _ in range(3):
        task = asyncio.create_task(client.send("POST", PREFIXES, {"prefix": "192.0.2.5/32", "vrf": 1}))
        # A refusal is slow too.
        await gate.arrived(1)
        gate.open()
        statuses.append((await task)[0])
    assert statuses == [201, 400, 400]
    assert stored(model, "192.0.2.5/32") == 1


async def test_without_latency_check_and_insert_are_one(model: NetBoxModel, gate: Gate) -> None:
    async with serve(create_app(model, sleep=gate.sleep)) as base, aiohttp.ClientSession() as session:
        client = Client(session, base)
        body = {"prefix": "192.0.2.5/32", "vrf": 1}
        answers = await asyncio.gather(*(client.send("POST", PREFIXES, body) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [201] + [400] * 19


async def test_parallel_allocations_are_distinct_and_a_full_container_gives_the_exact_number(
    client: Client, model: NetBoxModel, gate: Gate
) -> None:
    tasks = [asyncio.create_task(client.send("POST", free(), {"prefix_length": 32})) for _ in range(24)]
    for _ in tasks:
        # The lock lets one in at a time.
        await gate.arrived(1)
        assert len(gate.waiting) == 1
        gate.open()
    answers = await asyncio.gather(*tasks)
    assert sorted(status for status, _ in answers) == [201] * 16 + [409] * 8
    addresses = [each["prefix"] for status, each in answers if status == 201]
    assert sorted(addresses) == sorted({f"192.0.2.{last}/32" for last in range(16)})


async def test_the_lock_spans_containers(client: Client, gate: Gate) -> None:
    tasks = [asyncio.create_task(client.send("POST", free(number), {"prefix_length": 32})) for number in (1, 2)]
    await gate.arrived(1)
    # A request that no lock holds up gets as far as its sleep meanwhile; the second allocation does not.
    other = asyncio.create_task(client.send("GET", f"{PREFIXES}1/"))
    await gate.arrived(2)
    assert not any(task.done() for task in tasks)
    gate.open()
    await other
    await gate.arrived(1)
    gate.open()
    assert [status for status, _ in await asyncio.gather(*tasks)] == [201, 201]


async def test_an_allocation_and_a_given_address_can_collide(client: Client, model: NetBoxModel, gate: Gate) -> None:
    allocation = asyncio.create_task(client.send("POST", free(), {"prefix_length": 32}))
    await gate.arrived(1)
    given = asyncio.create_task(client.send("POST", PREFIXES, {"prefix": "192.0.2.0/32", "vrf": 1}))
    await gate.arrived(2)
    gate.open()
    assert [status for status, _ in await asyncio.gather(allocation, given)] == [201, 201]
    assert stored(model, "192.0.2.0/32") == 2


async def test_parallel_patches_lose_updates(client: Client, model: NetBoxModel, gate: Gate) -> None:
    fields = ("domain", "env", "purpose")
    bodies = [{"custom_fields": {name: "new"}} for name in fields]
    tasks = [asyncio.create_task(client.send("PATCH", f"{PREFIXES}1/", body)) for body in bodies]
    await gate.arrived(3)
    gate.open()
    assert {status for status, _ in await asyncio.gather(*tasks)} == {200}
    after = model.state.prefixes.rows[1].custom_fields
    assert sum(after[name] == "new" for name in fields) == 1, "the last one wrote over the others"


async def test_a_patch_of_what_is_deleted_meanwhile_brings_it_back(
    client: Client, model: NetBoxModel, gate: Gate
) -> None:
    patch = asyncio.create_task(client.send("PATCH", f"{PREFIXES}2/", {"description": "late"}))
    await gate.arrived(1)
    held = gate.waiting.copy()
    gate.waiting.clear()
    deletion = asyncio.create_task(client.send("DELETE", f"{PREFIXES}2/"))
    await gate.arrived(1)
    gate.open()
    assert (await deletion)[0] == 204
    assert 2 not in model.state.prefixes.rows
    held[0].set_result(None)
    assert (await patch)[0] == 200
    assert model.state.prefixes.rows[2].description == "late"


async def test_a_client_that_hangs_up_is_served_all_the_same(
    client: Client, app: web.Application, model: NetBoxModel, gate: Gate
) -> None:
    task = asyncio.create_task(client.send("POST", free(), {"prefix_length": 32}))
    await gate.arrived(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored(model, "192.0.2.0/32") == 0
    gate.open()
    # The lock is free only when the abandoned request has been served.
    async with app[SIMULATOR].lock:
        assert stored(model, "192.0.2.0/32") == 1


def test_the_model_itself_can_be_interleaved(model: NetBoxModel) -> None:
    """No HTTP, no loop: two requests are checked, then both are written."""
    requests = [
        make_request("POST", PREFIXES, headers=HEADERS, body={"prefix": "192.0.2.9/32", "vrf": 1}) for _ in range(2)
    ]
    staged = [model.stage(request) for request in requests]
    assert [each.response for each in staged] == [None, None]
    assert stored(model, "192.0.2.9/32") == 0
    assert [each.commit().status for each in staged] == [201, 201]
    assert stored(model, "192.0.2.9/32") == 2
    assert model.exclusive(make_request("POST", free()))
    assert not model.exclusive(make_request("GET", free()))
    assert not model.exclusive(make_request("POST", PREFIXES))


def test_the_same_calls_give_the_same_bytes() -> None:
    def run() -> list[tuple[int, bytes, dict[str, str]]]:
        moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
        model = sample_model(tokens=[TOKEN], now=lambda: moment, rng=random.Random(5))
        answers = []
        for method, path, body in (
            ("POST", free(), [{"prefix_length": 32}, {"prefix_length": 30}]),
            ("PATCH", f"{PREFIXES}3/", {"description": "x", "tags": [1]}),
            ("GET", f"{PREFIXES}?cf_k8s_zone=inet", None),
            ("POST", "/api/users/tokens/", {"user": 1}),
            ("DELETE", PREFIXES, [{"id": 9}]),
            ("GET", "/api/core/object-changes/", None),
        ):
            answer = model.handle(method, path, headers=HEADERS, body=body)
            assert answer.status < 300, answer.body
            answers.append((answer.status, answer.body, dict(answer.headers)))
        return answers

    assert run() == run()


def test_entity_tags_move_on_while_the_clock_stands_still() -> None:
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    model = sample_model(tokens=[TOKEN], now=lambda: moment)
    first = model.handle("GET", f"{PREFIXES}1/", headers=HEADERS).headers["ETag"]
    changed = model.handle("PATCH", f"{PREFIXES}1/", headers=HEADERS | {"If-Match": first}, body={"description": "a"})
    assert changed.status == 200
    again = model.handle("PATCH", f"{PREFIXES}1/", headers=HEADERS | {"If-Match": first}, body={"description": "b"})
    assert again.status == 412
    assert model.state.prefixes.rows[1].description == "a"
