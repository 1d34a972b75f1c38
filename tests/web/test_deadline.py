"""Every request is answered in time, and what it began goes on to its end."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from ipam_lib.errors import NotFound
from ipam_lib.web.inflight import InFlight
from ipam_lib.web.middlewares import Handler
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
    assert "the request ended after its time limit: done" in caplog.text


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


async def test_every_route_is_answered_within_the_time_limit() -> None:
    """Whatever a route does: here nothing at all, for longer than a request may take."""
    leave = asyncio.Event()

    @web.middleware
    async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
        await leave.wait()
        return await handler(request)

    async with service(request_timeout_seconds=0.1, innermost=hang) as running:
        routes = [route for route in running.app.router.routes() if route.resource is not None]
        assert {route.resource.canonical for route in routes if route.resource} >= {
            "/metrics",
            "/swagger/doc.json",
            "/",
        }
        for route in routes:
            assert route.resource is not None
            path = route.resource.canonical.replace("{address}", "10.0.0.1").replace(
                "{name}", "style.css" if "assets" in route.resource.canonical else "swagger-ui.css"
            )
            status, content, answer = await running.call(route.method, path)
            assert status == 503, (route.method, path)
            assert answer.headers["Retry-After"]
            if route.method != "HEAD":
                assert content == {"message": "the request took too long; try again"}
        leave.set()


async def _work(result: str, wait: asyncio.Event | None = None, error: Exception | None = None) -> str:
    if wait:
        await wait.wait()
    if error:
        raise error
    return result


async def test_limit_gives_the_result_or_the_error() -> None:
    inflight, late = InFlight(), list[str]()
    assert await inflight.limit(10, _work("done"), late.append) == "done"
    with pytest.raises(NotFound):
        await inflight.limit(10, _work("", error=NotFound("no")), late.append)
    assert await inflight.drain(10) == 0
    assert not late


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.01])
async def test_limit_ends_with_the_time(seconds: float) -> None:
    inflight, late, wait = InFlight(), list[str](), asyncio.Event()
    with pytest.raises(TimeoutError):
        await inflight.limit(seconds, _work("done", wait), late.append)
    assert inflight.count == 1
    assert await inflight.drain(0) == 1
    wait.set()
    assert await inflight.drain(10) == 0
    assert late == ["done"]


async def test_an_error_after_the_time_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    inflight, late, wait = InFlight(), list[str](), asyncio.Event()
    with pytest.raises(TimeoutError):
        await inflight.limit(0, _work("", wait, ValueError("odd")), late.append)
    wait.set()
    assert await inflight.drain(10) == 0
    assert "a request failed after its time limit" in caplog.text
    assert not late


async def test_abandon_cancels_and_waits(caplog: pytest.LogCaptureFixture) -> None:
    inflight = InFlight()
    with pytest.raises(TimeoutError):
        await inflight.limit(0, _work("", asyncio.Event()), str)
    await inflight.abandon()
    await asyncio.sleep(0)
    assert inflight.count == 0
    assert "was cancelled" in caplog.text


async def test_work_that_is_abandoned_before_it_began_lets_go_of_its_request() -> None:
    inflight = InFlight()
    waiting = asyncio.create_task(inflight.limit(10, _work("done"), str))
    await asyncio.sleep(0)
    await inflight.abandon()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inflight.count == 0


async def test_a_late_refusal_is_logged_with_its_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with service(request_timeout_seconds=0.1) as running:
        leave = asyncio.Event()

        async def work() -> None:
            await leave.wait()

        running.registry.work, running.registry.error = work, NotFound("no such thing")
        assert (await running.call("DELETE", "/", BODY))[0] == 503
        leave.set()
    assert "the request ended after its time limit: no such thing" in caplog.text
