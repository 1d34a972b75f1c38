"""The simulator answers as a real NetBox did: every recorded exchange is sent to it, in order, over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from yarl import URL

from netbox_simulator import NetBoxModel, create_app, serve
from netbox_simulator.app import SIMULATOR
from netbox_simulator.state import Prefix, stamp
from tests.netbox.gate import Gate
from tests.netbox.transcripts import DIRECTORY, FILES, Comparison, Exchange, load

# (file, index) -> why the exchange is not replayed. Only what IPAM-API never calls may stand here.
LEFT_OUT = {
    ("04-prefix-list-by-zone", 38): "OPTIONS with its description of every field: IPAM-API never sends OPTIONS",
}

TOKENS = {
    "TOKEN": "0123456789abcdef0123456789abcdef01234567",
    "TOKEN_READONLY": "1" * 40,
    "TOKEN_NOPERMS": "2" * 40,
    "TOKEN_DISABLED": "3" * 40,
    "TOKEN_EXPIRED": "4" * 40,
    "TOKEN_IP_LIMITED": "5" * 40,
    "TOKEN_IPAM_SVC": "b" * 34 + "aaaaaa",
    "TOKEN_CONSTRAINED": "8" * 34 + "999999",
}
V2_TOKEN = "nbt_KEYKEYKEYKEY." + "s" * 40
# The recording has the same placeholder for tokens of both versions; here it was one of version 2.
V2_EXCHANGES = {("01-status-and-auth", 1), ("01-status-and-auth", 12)}
# What NetBox made up: the key and secret of a token.
V2_CREATED = ("13-minimal-permissions", 3)

# Requests that were sent at once: which of those that create something did so first shows in the ids.
AT_ONCE = {("23-unique-custom-field-and-request-id", index) for index in range(26, 46)}


def put_prefix(model: NetBoxModel, prefix_id: int, text: str, **values: Any) -> None:
    """Store a prefix that was there when the exchanges were recorded, though its creation was not."""
    network = ipaddress.ip_network(text)
    now = stamp(model.state.now())
    row = {"id": prefix_id, "created": now, "last_updated": now, **values}
    model.state.put_prefix(
        Prefix(family=network.version, first=int(network.network_address), length=network.prefixlen, **row)
    )


def make_tokens(model: NetBoxModel) -> None:
    """Seven tokens, as they were when the refusals of tokens were recorded."""
    admin = {"Authorization": f"Token {TOKENS['TOKEN']}"}

    def make(path: str, **values: Any) -> None:
        assert model.handle("POST", f"/api/users/{path}/", headers=admin, body=values).status == 201

    model.state.rows("user")[1]["email"] = "a@example.com"
    make("users", username="nobody", password="no rights at all")
    make("tokens", user=1, version=1, token=TOKENS["TOKEN"])
    make("tokens", user=1, version=2, token="s" * 40)
    model.state.rows("token")[2]["key"] = "KEYKEYKEYKEY"
    make("tokens", user=1, version=1, token=TOKENS["TOKEN_READONLY"], write_enabled=False)
    make("tokens", user=2, version=1, token=TOKENS["TOKEN_NOPERMS"])
    make("tokens", user=1, version=1, token=TOKENS["TOKEN_DISABLED"], enabled=False)
    make("tokens", user=1, version=1, token=TOKENS["TOKEN_EXPIRED"], expires="2026-01-01T00:00:00Z")
    make("tokens", user=1, version=1, token=TOKENS["TOKEN_IP_LIMITED"], allowed_ips=["192.0.2.0/24"])


def at_prefix_id(next_id: int) -> Callable[[NetBoxModel], None]:
    """Ids in between went to prefixes that were not recorded."""

    def advance(model: NetBoxModel) -> None:
        assert model.state.sequences["prefix"] < next_id
        model.state.sequences["prefix"] = next_id - 1

    return advance


def fill_bench(model: NetBoxModel) -> None:
    """The 45,003 prefixes over which the sizes of pages were recorded."""
    answer = model.handle(
        "POST",
        "/api/ipam/vrfs/",
        headers={"Authorization": f"Token {TOKENS['TOKEN']}"},
        body={"name": "bench", "rd": "65000:9"},
    )
    vrf = answer.json()["id"]
    fields = dict.fromkeys(("domain", "env", "infra", "k8s_uuid", "purpose")) | {"k8s_zone": "bench"}
    for number, (first_id, children) in enumerate([(7134, 20_000), (27_885, 20_000), (47_885, 5_000)]):
        container = ipaddress.IPv4Address("10.70.0.0") + (number << 16)
        put_prefix(model, 6983 + number, f"{container}/16", vrf=vrf, status="container", custom_fields=fields)
        for child in range(children):
            own = fields | {"k8s_uuid": f"load-{child}"}
            put_prefix(model, first_id + child, f"{container + child}/32", vrf=vrf, custom_fields=own)


def container_for(prefix_id: int, text: str) -> Callable[[NetBoxModel], None]:
    fields = {"k8s_zone": "conc"}
    return lambda model: put_prefix(model, prefix_id, text, vrf=1, status="container", custom_fields=fields)


def enforce_global_unique(wanted: bool) -> Callable[[NetBoxModel], None]:
    def configure(model: NetBoxModel) -> None:
        model.state.enforce_global_unique = wanted

    return configure


def fill_vrf(model: NetBoxModel) -> None:
    """Prefixes in the VRF nhc up to the 305 that it had when it was looked up."""
    there = sum(row.vrf == 1 for row in model.state.prefixes.rows.values())
    for number in range(305 - there):
        put_prefix(model, model.state.next_id("prefix"), f"2001:db8::{number:x}/128", vrf=1)


# (file, index) -> what happened just before that exchange without being recorded.
UNRECORDED: dict[tuple[str, int], tuple[Callable[[NetBoxModel], None], ...]] = {
    ("01-status-and-auth", 0): (make_tokens,),
    ("05-prefix-lookup", 0): (at_prefix_id(94),),
    ("09-patch-put", 0): (at_prefix_id(115),),
    ("20-page-size-cap", 0): (fill_bench,),
    ("18-what-blocks-space", 0): (container_for(53_260, "10.54.0.0/29"),),
    ("18-what-blocks-space", 22): (container_for(53_268, "10.54.1.0/29"),),
    ("18-what-blocks-space", 25): (lambda model: put_prefix(model, 53_269, "10.54.1.0/32", vrf=1),),
    ("18-what-blocks-space", 26): (container_for(53_270, "10.54.2.0/28"),),
    ("08b-global-table-not-unique", 0): (at_prefix_id(56_382), enforce_global_unique(wanted=False)),
    ("23-unique-custom-field-and-request-id", 0): (
        enforce_global_unique(wanted=True),
        container_for(58_902, "10.57.0.0/24"),
    ),
    ("19-lookups-vrf-tenant-role", 0): (fill_vrf,),
}


class Replay:
    """Sends exchanges to a simulator and checks its answers."""

    def __init__(self, session: aiohttp.ClientSession, comparison: Comparison) -> None:
        self.session = session
        self.comparison = comparison

    async def send(self, exchange: Exchange) -> tuple[int, Mapping[str, str], bytes]:
        request = exchange.request
        here = self.comparison.here
        headers = {name: here(value) for name, value in request["headers"].items()}
        if (exchange.file, exchange.index) in V2_EXCHANGES:
            headers["Authorization"] = f"{headers['Authorization'].split()[0]} {V2_TOKEN}"
        body: bytes | None = None
        if "raw" in request:
            body = request["raw"].encode()
        elif "json" in request:
            body = here(json.dumps(request["json"])).encode()
        # The path goes out exactly as it was recorded, percent signs included.
        url = URL(self.comparison.base + here(request["path"]), encoded=True)
        async with self.session.request(
            request["method"], url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def replay(self, exchange: Exchange) -> None:
        status, headers, body = await self.send(exchange)
        if (exchange.file, exchange.index) == V2_CREATED:
            body = self._forget_secret(body)
        self.comparison.check(exchange, status, headers, body)

    @staticmethod
    def _forget_secret(body: bytes) -> bytes:
        token = json.loads(body)
        assert re.fullmatch(r"[0-9A-Za-z]{12}", token["key"])
        assert re.fullmatch(r"[0-9A-Za-z]{40}", token["token"])
        assert token["display"] == token["key"]
        recorded = {"key": "ylwHFsMIiBHH", "display": "ylwHFsMIiBHH", "token": "TOKEN_V2_SECRET"}
        return json.dumps(token | recorded).encode()

    async def replay_at_once(self, exchanges: list[Exchange], gate: Gate) -> None:
        """Have those that succeeded checked before any of them is stored, and stored in the order of their ids."""
        winners = [each for each in exchanges if each.response["status"] == 201]
        winners.sort(key=lambda each: each.response["json"]["id"])
        tasks = []
        for number, exchange in enumerate(winners, 1):
            tasks.append(asyncio.create_task(self.replay(exchange)))
            await gate.arrived(number)
        for task, future in zip(tasks, gate.waiting, strict=True):
            future.set_result(None)
            await task
        gate.waiting.clear()


def test_every_exchange_is_replayed_or_listed() -> None:
    known = {(file, each.index) for file in FILES for each in load(file)}
    assert set(LEFT_OUT) <= known, "the table names exchanges that do not exist"
    assert all(LEFT_OUT.values()), "every exchange that is left out needs a reason"
    assert set(UNRECORDED) | V2_EXCHANGES | AT_ONCE <= known
    committed = {path.stem for path in DIRECTORY.glob("*.json")}
    assert committed == set(FILES), "every committed recording is replayed"


@pytest.fixture
def model() -> NetBoxModel:
    moments = iter(datetime(2026, 11, 23, 7, tzinfo=UTC) + timedelta(milliseconds=each) for each in range(1, 10**9))
    return NetBoxModel(now=lambda: next(moments), rng=random.Random(1), tokens=[TOKENS["TOKEN"]])


async def test_replay(model: NetBoxModel) -> None:
    gate = Gate()
    app = create_app(model, sleep=gate.sleep)
    replayed = 0
    async with serve(app) as base, aiohttp.ClientSession(skip_auto_headers=["Content-Type", "User-Agent"]) as session:
        replay = Replay(session, Comparison(base, TOKENS))
        for file in FILES:
            exchanges = load(file)
            for exchange in exchanges:
                key = (file, exchange.index)
                for step in UNRECORDED.get(key, ()):
                    step(model)
                if key in AT_ONCE:
                    if key == min(AT_ONCE):
                        together = [each for each in exchanges if (file, each.index) in AT_ONCE]
                        app[SIMULATOR].latency_ms = 1
                        await replay.replay_at_once(together, gate)
                        app[SIMULATOR].latency_ms = 0
                    if exchange.response["status"] != 201:
                        await replay.replay(exchange)
                elif key not in LEFT_OUT:
                    await replay.replay(exchange)
                replayed += key not in LEFT_OUT
    assert replayed == sum(len(load(file)) for file in FILES) - len(LEFT_OUT)
