"""Whether the process lives and can do its work."""

from __future__ import annotations

import asyncio
from typing import get_args

import pytest

from ipam_lib.errors import StorageUnavailable
from ipam_lib.netbox.zones import LoadFailure, LoadFailureKind
from ipam_lib.web.health import PROBE, HealthState, StorageProbe, in_words, netbox_problems, readiness
from tests.web.service import FakeStore, FakeZones, service

REFUSED = LoadFailure("refused", "HTTP 403: Invalid token")


async def test_ready() -> None:
    async with service() as running:
        assert (await running.call("GET", "/healthz"))[:2] == (200, {"status": "ok"})
        status, content, _ = await running.call("GET", "/readyz")
        assert status == 200
        assert content == {
            "status": "ready",
            "storage": "ok",
            "zones": "netbox",
            "zones_age_seconds": 42,
            "netbox": "ok",
            "degraded": [],
        }


async def test_netbox_away_is_ready_and_says_so() -> None:
    async with service(
        zones=FakeZones(source="storage", trouble=LoadFailure("away", "no answer within 10 s"), age=7200.0)
    ) as running:
        running.netbox.away = True
        status, content, answer = await running.call("GET", "/readyz")
        assert status == 200
        assert "Retry-After" not in answer.headers
        assert content == {
            "status": "ready",
            "storage": "ok",
            "zones": "storage",
            "zones_age_seconds": 7200,
            "netbox": "away",
            "degraded": [
                "netbox: away; what is registered is served, new addresses are not given out until it is back",
                "zones: those kept in storage, not refreshed: NetBox does not answer properly (no answer within 10 s)",
            ],
        }


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
        running.services.prepared = False
        status, content, _ = await running.call("GET", "/readyz")
        assert (status, content["storage"]) == (503, "is being prepared")


async def test_what_the_storage_refuses_is_named() -> None:
    store = FakeStore(trouble=StorageUnavailable("no", condition="refuses the user or the password"))
    async with service(store=store, zones=FakeZones(names=(), source=None)) as running:
        status, content, _ = await running.call("GET", "/readyz")
        assert (status, content["storage"]) == (503, "refuses the user or the password")


@pytest.mark.parametrize("trouble", [StorageUnavailable(), ValueError("odd")])
async def test_a_probe_that_fails_means_no(trouble: Exception) -> None:
    store = FakeStore(trouble=trouble)
    assert await StorageProbe(store.ping).problem() == "does not answer"
    store.trouble = None
    assert await StorageProbe(store.ping).problem() is None


async def test_however_many_ask_the_storage_is_asked_once() -> None:
    asked = 0
    go = asyncio.Event()

    async def ping() -> None:
        nonlocal asked
        asked += 1
        await go.wait()

    probe = StorageProbe(ping, seconds=0.01)
    assert await asyncio.gather(*(probe.problem() for _ in range(5))) == ["does not answer"] * 5
    assert await probe.problem() == "does not answer"
    assert asked == 1
    go.set()
    probe.seconds = 10
    assert await probe.problem() is None
    assert asked == 1
    assert await probe.problem() is None
    assert asked == 2
    await probe.close()


@pytest.mark.parametrize("trouble", [None, StorageUnavailable(), ValueError("odd")])
async def test_concurrent_callers_get_the_answer_of_their_own_ping(trouble: Exception | None) -> None:
    """A ping ends while callers of an earlier one have not run yet, in every order of up to three turns of the loop."""

    async def turns(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    for length in range(4):

        async def ping(length: int = length) -> None:
            await turns(length)
            if trouble:
                raise trouble

        probe = StorageProbe(ping)

        async def caller(start: int, probe: StorageProbe = probe) -> bool:
            await turns(start)
            return await probe.problem() is None

        assert await asyncio.gather(*(caller(start % 17) for start in range(200))) == [trouble is None] * 200


@pytest.mark.parametrize("store", [FakeStore(), FakeStore(trouble=StorageUnavailable()), FakeStore(hang=True)])
async def test_many_concurrent_requests_are_200_or_503(store: FakeStore) -> None:
    async with service(store=FakeStore()) as running:
        probe = running.app[PROBE]
        probe.ping, probe.seconds = store.ping, 0.01 if store.hang else 60
        statuses = {
            answer[0]
            for _ in range(4)
            for answer in await asyncio.gather(*(running.call("GET", "/readyz") for _ in range(40)))
        }
        assert statuses == ({200} if store.trouble is None and not store.hang else {503})


async def test_closing_ends_a_question_that_hangs() -> None:
    probe = StorageProbe(FakeStore(hang=True).ping, seconds=0)
    assert await probe.problem() == "does not answer"
    await probe.close()
    await StorageProbe(FakeStore().ping).close()


def test_readiness_names_everything_that_is_missing() -> None:
    status, report = readiness(
        HealthState(
            storage="does not answer",
            zones=None,
            zones_age_seconds=None,
            zones_trouble=LoadFailure("refused", "HTTP 403"),
            netbox_away=True,
        )
    )
    assert status == 503
    assert report["message"].startswith(
        "not ready: storage: does not answer; zones: not loaded from NetBox yet: NetBox refuses"
    )
    assert (report["netbox"], report["zones"], report["zones_age_seconds"]) == ("away", "not loaded", None)
    assert [each.partition(":")[0] for each in report["degraded"]] == ["netbox"]


@pytest.mark.parametrize(
    ("condition", "part", "words"),
    [
        (HealthState(netbox_away=True), "netbox", "not given out until it is back"),
        (HealthState(netbox_away=True, pool=True), "netbox", "out of the pool while it lasts"),
        (HealthState(zones_trouble=REFUSED), "zones", "as they were last loaded"),
        (HealthState(zones="storage", zones_trouble=REFUSED), "zones", "kept in storage"),
        (HealthState(zones_trouble=REFUSED), "zones", "NetBox refuses, or lacks something (HTTP 403: Invalid token)"),
        (HealthState(zones_trouble=LoadFailure("unexpected", "a page of 3 rows")), "zones", "(a page of 3 rows)"),
        (HealthState(netbox_problems=["the field env is required"]), "netbox", "the field env is required"),
        (HealthState(background=False), "background", "until the service restarts"),
    ],
)
def test_a_degraded_service_is_ready_and_tells_what_is_the_matter(
    condition: HealthState, part: str, words: str
) -> None:
    status, report = readiness(condition)
    assert (status, report["status"]) == (200, "ready")
    [told] = report["degraded"]
    assert told.startswith(f"{part}: ")
    assert words in told
    assert in_words(report) == f"ready; {told}"


def test_in_words_all_is_well_or_what_is_missing() -> None:
    assert in_words(readiness(HealthState())[1]) == "ready"
    report = readiness(HealthState(storage="is being prepared", netbox_away=True))[1]
    assert in_words(report) == f"not ready: storage: is being prepared; {report['degraded'][0]}"


@pytest.mark.parametrize("zones", ["netbox", None])
@pytest.mark.parametrize("kind", get_args(LoadFailureKind))
def test_netbox_is_not_ok_beside_a_trouble_of_the_zones(kind: LoadFailureKind, zones: str | None) -> None:
    report = readiness(HealthState(zones=zones, zones_trouble=LoadFailure(kind, "the reason in the log")))[1]
    assert report["netbox"] == kind
    assert "(the reason in the log)" in in_words(report)


def test_problems_of_netbox_come_from_its_definitions_else_from_its_latest_refusal() -> None:
    assert netbox_problems(["found"], "refused") == ["found"]
    assert netbox_problems([], "refused") == ["refused"]
    assert netbox_problems([], None) == []
