"""Every request is answered in time, and what it began goes on to its end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipam_lib.errors import NotFound, Unavailable
from ipam_lib.web.inflight import InFlight
from tests.web.service import BODY, service


async def test_a_request_that_takes_too_long_is_503_and_goes_on_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with service(request_timeout_seconds=0.1) as running:
        leave = asyncio.Event()

        async def work() -> None:
            await leave.wait()

        running.registry.work = work
        status, content, answer = await running.call("POST", "/", BODY, headers={"X-Request-ID": "the-slow-one"})
        assert status == 503
        assert content == {"message": "the request took too long; try again"}
        assert "Retry-After" in answer.headers
        assert running.registry.finished == 0
        leave.set()
    # Leaving has waited for it.
    assert running.registry.finished == 1
    assert "work that outlasted its request was completed" in caplog.text


async def test_the_registry_is_told_when_the_answer_must_be_ready() -> None:
    async with service(request_timeout_seconds=25) as running:
        before = running.services.clock.monotonic()
        await running.call("POST", "/", BODY)
        after = running.services.clock.monotonic()
        [deadline] = running.registry.deadlines
        assert deadline is not None
        assert before + 24.5 <= deadline <= after + 24.5


async def test_a_client_that_hangs_up_does_not_stop_what_it_began() -> None:
    async with service() as running:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            entered.set()
            await leave.wait()

        running.registry.work = work
        calling = asyncio.create_task(running.call("POST", "/", BODY))
        await entered.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await running.call("GET", "/healthz")
        leave.set()
    assert running.registry.finished == 1


async def _work(result: str, wait: asyncio.Event | None = None, error: Exception | None = None) -> str:
    if wait:
        await wait.wait()
    if error:
        raise error
    return result


async def test_within_gives_the_result_or_the_error() -> None:
    inflight = InFlight()
    assert await inflight.within(10, _work("done")) == "done"
    with pytest.raises(NotFound):
        await inflight.within(10, _work("", error=NotFound("no")))
    assert inflight.count == 0


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.01])
async def test_within_ends_with_the_time(seconds: float) -> None:
    inflight = InFlight()
    wait = asyncio.Event()
    with pytest.raises(Unavailable):
        await inflight.within(seconds, _work("", wait))
    assert inflight.count == 1
    assert await inflight.drain(0) == 1
    wait.set()
    assert await inflight.drain(10) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [(NotFound("no such thing"), "was refused: no such thing"), (ValueError("odd"), "failed"), (None, "was completed")],
)
async def test_what_becomes_of_late_work_is_logged(
    error: Exception | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inflight = InFlight()
    wait = asyncio.Event()
    with pytest.raises(Unavailable):
        await inflight.within(0, _work("", wait, error))
    wait.set()
    assert await inflight.drain(10) == 0
    await asyncio.sleep(0)
    assert f"work that outlasted its request {said}" in caplog.text


async def test_abandon_cancels_and_waits(caplog: pytest.LogCaptureFixture) -> None:
    inflight = InFlight()
    with pytest.raises(Unavailable):
        await inflight.within(0, _work("", asyncio.Event()))
    await inflight.abandon()
    await asyncio.sleep(0)
    assert inflight.count == 0
    assert "was cancelled" in caplog.text


async def test_work_that_is_abandoned_before_it_began_lets_go_of_its_request() -> None:
    inflight = InFlight()
    waiting = asyncio.create_task(inflight.within(10, _work("done")))
    await asyncio.sleep(0)
    await inflight.abandon()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inflight.count == 0


async def test_a_request_counts_until_it_is_answered() -> None:
    inflight = InFlight()
    with inflight.request(), inflight.request():
        assert inflight.count == 2
        assert await inflight.drain(0) == 2
    assert await inflight.drain(10) == 0
