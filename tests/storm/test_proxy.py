"""The proxy does to requests what it says, and counts them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

import netbox_simulator
from tests.storm.proxy import FATES, STORMY, FaultProxy
from tests.support.netbox_faults import add_controls
from tests.support.processes import TOKEN

HEADERS = {"Authorization": f"Token {TOKEN}"}
NEW = {"prefix": "83.118.168.7/32", "status": "active"}


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    app = add_controls(netbox_simulator.create_app(netbox_simulator.sample_model(), tokens=[TOKEN]))
    async with (
        netbox_simulator.serve(app) as url,
        FaultProxy(url, seconds=0.01, late_seconds=0.02).listening() as proxy,
    ):
        yield proxy


async def post(url: str) -> tuple[int, str, str]:
    """Create the prefix: status, type and body of the answer."""
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.post(f"{url}/api/ipam/prefixes/", json=NEW) as answer,
    ):
        return answer.status, answer.content_type, await answer.text()


async def created(proxy: FaultProxy) -> bool:
    """Whether NetBox has the prefix; asked behind the proxy's back."""
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.get(f"{proxy.upstream}/simulator/prefixes") as answer,
    ):
        rows: list[dict[str, Any]] = await answer.json()
        return NEW["prefix"] in [row["prefix"] for row in rows]


@pytest.mark.parametrize("fate", [fate for fate in FATES if fate != "hang"])
async def test_every_fate(proxy: FaultProxy, fate: str) -> None:
    proxy.always = fate
    applied = fate.endswith("after") or fate in ("cut", "half", "delay", "linger", "late")
    try:
        status, kind, text = await post(proxy.url)
    except aiohttp.ClientError:
        assert fate in ("drop", "cut", "half", "noise")
    else:
        assert status == {"html": 500, "json": 500, "maintenance": 503, "garbage": 200}.get(fate.split()[0], 201)
        assert ("html" in kind) == (fate.split()[0] in ("html", "maintenance"))
        assert (NEW["prefix"] in text) == (status == 201)
    assert await created(proxy) == applied
    assert proxy.fates == {fate: 1}
    proxy.calm()
    if not applied:
        assert (await post(proxy.url))[0] == 201


async def test_what_hangs_is_cut_when_calm_returns(proxy: FaultProxy) -> None:
    proxy.always = "hang"
    timeout = aiohttp.ClientTimeout(total=0.05)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises(TimeoutError):
            await session.get(proxy.url)
    assert proxy.underway == 1
    proxy.calm()
    assert (await post(proxy.url))[0] == 201
    assert proxy.underway == 0


async def test_an_upstream_that_is_away_cuts_the_connection(proxy: FaultProxy) -> None:
    proxy.upstream = "http://127.0.0.1:1"
    with pytest.raises(aiohttp.ClientError):
        await post(proxy.url)


def test_a_seed_gives_the_same_fates_again() -> None:
    def fates(seed: int) -> list[str]:
        proxy = FaultProxy("", seed=seed, odds=STORMY)
        return [proxy._fate() for _ in range(500)]

    assert fates(1) == fates(1) != fates(2)
    assert set(fates(3)) > {"", "drop", "cut", "delay"}
