"""Faults on purpose, and the control path that drives the simulator from another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netbox_simulator import SIMULATOR, NetBoxModel, create_app, sample_model, serve
from tests.netbox.gate import Gate
from tests.support.netbox_faults import Fault, Faults, add_controls

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HEADERS = {"Authorization": f"Token {TOKEN}"}
ALLOCATE = "/api/ipam/prefixes/1/available-prefixes/"
BODY = {"prefix_length": 32}


@pytest.fixture
def model() -> NetBoxModel:
    return sample_model({"inet": {"ipv4": ["192.0.2.0/24"]}}, tokens=[TOKEN])


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(model: NetBoxModel, faults: Faults, gate: Gate) -> web.Application:
    return add_controls(create_app(model, sleep=gate.sleep), faults)


@pytest.fixture
async def session(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    async with serve(app) as base, aiohttp.ClientSession(base, headers=HEADERS) as session:
        yield session


def allocated(model: NetBoxModel) -> int:
    return sum(row.length == 32 for row in model.state.prefixes.rows.values())


async def post(session: aiohttp.ClientSession) -> int:
    async with session.post(ALLOCATE, json=BODY) as answer:
        return answer.status


@pytest.mark.parametrize(("applied", "count"), [("never", 0), ("before", 1)])
async def test_status(
    session: aiohttp.ClientSession, faults: Faults, model: NetBoxModel, applied: str, count: int
) -> None:
    faults.add(Fault("status", method="POST", path="*/available-prefixes/", status=503, applied=applied))
    async with session.get("/api/status/") as answer:
        assert answer.status == 200, "another path is not meant"
    assert await post(session) == 503
    assert allocated(model) == count
    assert await post(session) == 201, "only the next one was to fail"
    assert faults.as_json() == {"pending": [], "hanging": 0, "hit": 1}


async def test_html_and_garbage(session: aiohttp.ClientSession, faults: Faults) -> None:
    faults.add(Fault("html", status=502))
    faults.add(Fault("garbage"))
    async with session.get("/api/status/") as answer:
        assert answer.status == 502
        assert answer.content_type == "text/html"
        assert "<html" in await answer.text()
    async with session.get("/api/status/") as answer:
        assert answer.status == 200
        with pytest.raises(ValueError):
            await answer.json()


@pytest.mark.parametrize(("applied", "count"), [("never", 0), ("before", 1)])
async def test_disconnect(
    session: aiohttp.ClientSession, faults: Faults, model: NetBoxModel, applied: str, count: int
) -> None:
    faults.add(Fault("disconnect", method="POST", applied=applied))
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(session)
    assert allocated(model) == count
    assert model.calls["prefixes.allocate"] == 1
    assert await post(session) == 201


@pytest.mark.parametrize(("applied", "while_waiting"), [("after", 0), ("before", 1)])
async def test_delay(
    session: aiohttp.ClientSession,
    faults: Faults,
    model: NetBoxModel,
    gate: Gate,
    applied: str,
    while_waiting: int,
) -> None:
    faults.add(Fault("delay", seconds=20, applied=applied))
    task = asyncio.create_task(post(session))
    await gate.arrived(1)
    assert allocated(model) == while_waiting
    gate.open()
    assert await task == 201
    assert allocated(model) == 1


@pytest.mark.parametrize(("applied", "during", "at_the_end"), [("never", 0, 0), ("before", 1, 1), ("after", 0, 1)])
async def test_hang(
    session: aiohttp.ClientSession,
    app: web.Application,
    faults: Faults,
    model: NetBoxModel,
    applied: str,
    during: int,
    at_the_end: int,
) -> None:
    """A request that hangs is let go by clearing the faults; a latecomer is then still applied."""
    faults.add(Fault("hang", applied=applied))
    task = asyncio.create_task(post(session))
    async with session.get("/simulator/faults") as answer:
        state = await answer.json()
    while not state["hanging"]:
        async with session.get("/simulator/faults") as answer:
            state = await answer.json()
    assert allocated(model) == during
    assert not task.done()
    async with session.delete("/simulator/faults") as answer:
        assert answer.status == 204
    with pytest.raises(aiohttp.ClientConnectionError):
        await task
    async with app[SIMULATOR].lock:
        assert allocated(model) == at_the_end


async def test_a_stopping_server_lets_hanging_requests_go(app: web.Application, faults: Faults) -> None:
    faults.add(Fault("hang"))
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        async with serve(app) as base:
            task = asyncio.create_task(session.get(f"{base}/api/status/"))
            async with session.get(f"{base}/simulator/faults") as answer:
                state = await answer.json()
            while not state["hanging"]:
                async with session.get(f"{base}/simulator/faults") as answer:
                    state = await answer.json()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task


def test_which_requests_are_meant() -> None:
    faults = Faults()
    faults.add(Fault("status", method="POST", path="/api/ipam/*", contains='"b2"', skip=1, times=2))
    hits = [
        faults.take(*request) is not None
        for request in (
            ("GET", "/api/ipam/prefixes/", b'"b2"'),
            ("POST", "/api/extras/tags/", b'"b2"'),
            ("POST", "/api/ipam/prefixes/", b'"b1"'),
            ("POST", "/api/ipam/prefixes/", b'"b2"'),  # skipped
            ("POST", "/api/ipam/prefixes/", b'"b2"'),
            ("POST", "/api/ipam/prefixes/", b'"b2"'),
            ("POST", "/api/ipam/prefixes/", b'"b2"'),
        )
    ]
    assert hits == [False, False, False, False, True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "explode"},
        {"action": "status", "applied": "sometimes"},
        {"action": "status", "applied": "after"},
        {"action": "delay", "applied": "never"},
    ],
)
def test_faults_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Fault(**wrong)


async def test_control(session: aiohttp.ClientSession, model: NetBoxModel, app: web.Application) -> None:
    async def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with session.request(method, f"/simulator/{path}", json=body) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    assert await post(session) == 201
    status, prefixes = await call("GET", "prefixes")
    assert status == 200
    assert [(each["id"], each["prefix"], each["vrf"], each["status"]) for each in prefixes] == [
        (1, "192.0.2.0/24", 1, "container"),
        (2, "192.0.2.0/32", 1, "active"),
    ]
    assert await call("GET", "counters") == (200, {"prefixes.allocate": 1})
    assert await call("DELETE", "counters") == (204, None)
    assert await call("GET", "counters") == (200, {})

    status, added = await call("POST", "faults", [{"action": "garbage"}, {"action": "status", "status": 429}])
    assert (status, [each["action"] for each in added["pending"]]) == (201, ["garbage", "status"])
    assert (await call("POST", "faults", {"action": "explode"}))[0] == 400
    assert (await call("POST", "faults", {"nonsense": 1}))[0] == 400
    assert (await call("POST", "reset")) == (204, None)
    assert allocated(model) == 0
    assert (await call("GET", "faults"))[1]["pending"] == []

    assert await call("PUT", "latency", {"latency_ms": 25}) == (204, None)
    assert await call("GET", "latency") == (200, {"latency_ms": 25.0})
    assert app[SIMULATOR].latency_ms == 25
    assert (await call("PUT", "latency", {}))[0] == 400
    assert (await call("GET", "nothing"))[0] == 404


async def test_control_needs_the_token_of_the_superuser(session: aiohttp.ClientSession, model: NetBoxModel) -> None:
    for given in ("", "Token wrong", f"Token {'7' * 40}"):
        async with session.get("/simulator/prefixes", headers={"Authorization": given}) as answer:
            assert answer.status == 403
    admin: dict[str, Any] = {"headers": HEADERS}
    user = model.handle("POST", "/api/users/users/", body={"username": "u", "password": "p"}, **admin).json()
    model.handle("POST", "/api/users/tokens/", body={"user": user["id"], "version": 1, "token": "7" * 40}, **admin)
    async with session.get("/simulator/prefixes", headers={"Authorization": f"Token {'7' * 40}"}) as answer:
        assert answer.status == 403
        assert "superuser" in (await answer.json())["detail"]
