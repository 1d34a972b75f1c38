"""Whether the process lives and can do its work."""

from __future__ import annotations

import asyncio

import pytest

from ipam_lib.errors import StorageUnavailable
from ipam_lib.web.health import StorageProbe, readiness
from tests.web.service import FakeStore, FakeZones, service


async def test_ready() -> None:
    async with service() as running:
        assert (await running.call("GET", "/healthz"))[:2] == (200, {"status": "ok"})
        status, content, _ = await running.call("GET", "/readyz")
        assert status == 200
        assert content == {"status": "ready", "storage": "ok", "zones": "netbox", "netbox": "ok"}


async def test_netbox_away_is_ready_and_says_so() -> None:
    async with service(zones=FakeZones(source="storage")) as running:
        running.netbox.available = False
        status, content, _ = await running.call("GET", "/readyz")
        assert status == 200
        assert content == {"status": "ready", "storage": "ok", "zones": "storage", "netbox": "away"}


async def test_the_socket_listens_while_everything_is_away() -> None:
    store = FakeStore(trouble=StorageUnavailable())
    async with service(store=store, zones=FakeZones(names=(), source=None)) as running:
        assert (await running.call("GET", "/healthz"))[0] == 200
        status, content, answer = await running.call("GET", "/readyz")
        assert status == 503
        assert answer.headers["Retry-After"] == "2"
        assert content["message"] == "not ready: storage: does not answer; zones: not loaded from NetBox yet"
        assert content["status"] == "not ready"
        store.trouble = None
        status, content, _ = await running.call("GET", "/readyz")
        assert status == 503
        assert "zones" in content["message"]


async def test_storage_that_answers_but_is_not_prepared_is_not_ready() -> None:
    async with service() as running:
        running.parts.prepared = False
        status, content, _ = await running.call("GET", "/readyz")
        assert (status, content["storage"]) == (503, "is being prepared")


@pytest.mark.parametrize("trouble", [StorageUnavailable(), ValueError("odd")])
async def test_a_probe_that_fails_means_no(trouble: Exception) -> None:
    store = FakeStore(trouble=trouble)
    assert not await StorageProbe(store.ping).answers()
    store.trouble = None
    assert await StorageProbe(store.ping).answers()


async def test_however_many_ask_the_storage_is_asked_once() -> None:
    asked = 0
    go = asyncio.Event()

    async def ping() -> None:
        nonlocal asked
        asked += 1
        await go.wait()

    probe = StorageProbe(ping, seconds=0.01)
    assert await asyncio.gather(*(probe.answers() for _ in range(5))) == [False] * 5
    assert not await probe.answers()
    assert asked == 1
    go.set()
    probe.seconds = 10
    assert await probe.answers()
    assert asked == 1
    assert await probe.answers()
    assert asked == 2
    await probe.close()


async def test_closing_ends_a_question_that_hangs() -> None:
    probe = StorageProbe(FakeStore(hang=True).ping, seconds=0)
    assert not await probe.answers()
    await probe.close()
    await StorageProbe(FakeStore().ping).close()


def test_readiness_names_everything_that_is_missing() -> None:
    status, report = readiness(storage="does not answer", zones=None, netbox_available=False)
    assert status == 503
    assert report["message"] == "not ready: storage: does not answer; zones: not loaded from NetBox yet"
    assert report["netbox"] == "away"
