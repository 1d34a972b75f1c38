"""The throttle for wrong secrets: a source that sends them waits longer and longer. No other source waits."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.errors import TooManyAttempts
from ipam_lib.netbox.base import Container
from ipam_lib.registry import Context, Registry
from ipam_lib.web.client_address import source_of
from ipam_lib.web.secret_throttle import (
    FREE_TRIES,
    LONGEST_PENALTY,
    MOST_AT_ONCE,
    SECONDS_TO_FORGET,
    SecretThrottle,
    ThrottleKey,
)
from tests.storage.samples import NOW, registration, service
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.web.service import BODY, SERVICE, Service
from tests.web.service import service as served

TARGET = ThrottleKey("192.0.2.1", "inet", "83.118.168.10/32")
ADDRESS = "83.118.168.10/32"
OWNERS = "TheOwnersSecret"
CIPHER = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
PENALTIES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


class Guesser:
    """Guesses, each another secret than the one before, on a clock of its own."""

    def __init__(self, **limits: int) -> None:
        self.clock = FakeClock()
        self.guessing = SecretThrottle(self.clock.monotonic, **limits)
        self.numbers = itertools.count()

    def wrong(self, target: ThrottleKey = TARGET, secret: str | None = None, **how: bool) -> float:
        """A wrong guess; for how long the source is refused from now on."""
        secret = secret or f"guess number {next(self.numbers)}"
        with self.guessing.attempt(target, secret) as attempt:
            return attempt.wrong(**how)

    def right(self, target: ThrottleKey = TARGET, secret: str = OWNERS, new: str | None = None) -> None:
        with self.guessing.attempt(target, secret, new) as attempt:
            attempt.right()

    def refused(self, target: ThrottleKey = TARGET, secret: str = OWNERS, new: str | None = None) -> int:
        """For how many seconds an attempt is refused; 0 when it is not."""
        try:
            with self.guessing.attempt(target, secret, new):
                return 0
        except TooManyAttempts as error:
            return error.retry_after

    def use_up(self, target: ThrottleKey = TARGET) -> None:
        """Guess until the source is refused."""
        while not self.wrong(target):
            pass


def test_each_wrong_secret_costs_more_than_the_one_before() -> None:
    guesser = Guesser()
    assert [guesser.wrong() for _ in range(FREE_TRIES - 1)] == [0.0] * (FREE_TRIES - 1)
    for seconds in PENALTIES:
        assert guesser.wrong() == seconds
        assert guesser.refused() == seconds
        guesser.clock.advance(seconds - 0.01)
        assert guesser.refused() == 1
        guesser.clock.advance(0.01)


def test_what_is_long_ago_is_forgiven_but_not_at_once() -> None:
    guesser = Guesser()
    for seconds in [0.0] * (FREE_TRIES - 1) + PENALTIES:
        guesser.wrong()
        guesser.clock.advance(seconds)
    guesser.clock.advance(SECONDS_TO_FORGET)
    assert guesser.wrong() == LONGEST_PENALTY
    guesser.clock.advance(SECONDS_TO_FORGET * 2)
    assert guesser.wrong() == 32.0
    guesser.clock.advance(SECONDS_TO_FORGET * 20)
    assert guesser.wrong() == 0.0


def test_other_sources_and_other_targets_are_not_affected() -> None:
    guesser = Guesser()
    guesser.use_up()
    assert guesser.refused()
    for other in (
        ThrottleKey("192.0.2.2", TARGET.zone, TARGET.subject),
        ThrottleKey(TARGET.source, "other", TARGET.subject),
        ThrottleKey(TARGET.source, TARGET.zone, "83.118.168.11/32"),
    ):
        assert not guesser.refused(other)


def test_a_secret_that_was_right_is_let_through_until_it_is_wrong() -> None:
    guesser = Guesser()
    guesser.right()
    guesser.use_up()
    assert guesser.refused(secret="another guess")
    assert not guesser.refused()
    guesser.right()
    guesser.wrong(secret=OWNERS)
    assert guesser.refused()


def test_a_new_secret_is_let_through_too_and_counts_as_a_guess() -> None:
    guesser = Guesser()
    guesser.right(new="TheNextSecret")
    guesser.use_up()
    assert not guesser.refused(secret="TheNextSecret")
    # The answer was lost, so the owner asks again.
    assert not guesser.refused(secret=OWNERS, new="TheNextSecret")
    assert guesser.refused(secret="a guess", new="another guess")
    # Who knows a secret that is right no more does not get any number of guesses through beside it.
    with guesser.guessing.attempt(TARGET, "a guess", "TheNextSecret") as attempt:
        attempt.wrong()
    assert guesser.refused(secret="a guess", new="TheNextSecret")


def test_guesses_at_once_are_as_many_guesses() -> None:
    guesser = Guesser()
    with ExitStack() as held:
        attempts = [held.enter_context(guesser.guessing.attempt(TARGET, f"at once {n}")) for n in range(MOST_AT_ONCE)]
        assert guesser.refused(secret="one too many") == 1
        assert not guesser.refused(secret="at once 0"), "the same is no other guess"
        assert guesser.refused(secret="at once 0", new="a guess beside it") == 1
        assert sum(attempt.wrong() for attempt in attempts) == 1.0, "one penalty for all of them"
    guesser.clock.advance(1.0)
    with guesser.guessing.attempt(TARGET, "now one by one"):
        assert guesser.refused(secret="the next one") == 1


def test_the_same_wrong_secret_again_does_not_count_where_that_is_said() -> None:
    guesser = Guesser()
    for _ in range(FREE_TRIES * 3):
        assert guesser.wrong(secret="a service that is gone", repeats_count=False) == 0.0
    for _ in range(FREE_TRIES - 1):
        assert not guesser.refused()
        guesser.wrong(repeats_count=False)
    assert guesser.refused()


def test_what_nobody_can_tell_the_outcome_of_counts_for_nothing() -> None:
    guesser = Guesser()
    for n in range(100):
        with pytest.raises(ZeroDivisionError), guesser.guessing.attempt(TARGET, f"secret {n}"):
            raise ZeroDivisionError
    assert guesser.guessing._tries == {}


def test_its_memory_is_bounded() -> None:
    guesser = Guesser(most_keys=10, most_remembered=20)
    for n in range(1000):
        target = ThrottleKey("192.0.2.1", "inet", f"10.0.{n // 256}.{n % 256}/32")
        guesser.wrong(target)
        guesser.right(target)
        guesser.right(target, "another", "a new one")
    assert len(guesser.guessing._tries) == 10
    assert len(guesser.guessing._known) == 20


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["wrong", "right", "wait"])), max_size=60))
def test_whatever_the_others_do_a_secret_that_is_always_right_is_never_refused(steps: list[tuple[str, str]]) -> None:
    guesser = Guesser()
    guesser.right()
    for secret, step in steps:
        if step == "wait":
            guesser.clock.advance(7.0)
        elif not guesser.refused(secret=secret):
            guesser.wrong(secret=secret) if step == "wrong" else guesser.right(secret=secret)
        assert not guesser.refused()


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        (None, ""),
        ("/run/ipam.sock", "/run/ipam.sock"),
    ],
)
def test_a_source_is_an_address_or_a_whole_network_of_ipv6(remote: str | None, source: str) -> None:
    assert source_of(remote) == source


# -- over HTTP ---------------------------------------------------------------------------------------------------------


class Guarded:
    """The service, registry and all, with one registration that has an owner."""

    def __init__(self, running: Service, clock: FakeClock, store: MemoryStore) -> None:
        self.running = running
        self.clock = clock
        self.store = store

    async def ask(
        self, secret: str, *, method: str = "POST", path: str = "/", name: str = "stranger", **more: Any
    ) -> int:
        """The status of one request for the address."""
        headers = more.pop("headers", None)
        body = BODY | {"address": ADDRESS, "secret": secret, "service": SERVICE | {"service_name": name}} | more
        status, content, answer = await self.running.call(method, path, body, headers=headers)
        if status == 429:
            assert answer.headers["Retry-After"] == str(content["message"].rsplit(" ", 2)[1])
            assert content["message"].startswith("too many wrong secrets; try again in ")
        return status

    async def guess(self, number: int, **how: Any) -> list[int]:
        """The statuses of so many guesses."""
        return [await self.ask(f"guess number {n}", **how) for n in range(number)]


@pytest.fixture
async def throttled() -> AsyncIterator[Guarded]:
    store, clock = MemoryStore(), FakeClock(NOW, auto=False)
    await store.open()
    zones = PlainZones([Container(1, "83.118.168.0/24", "ipv4", "inet", 7)])
    ids = (f"{n:024x}" for n in itertools.count(1000))
    registry = Registry(Context(store, PlainNetBox(), zones, CIPHER, clock, lambda: next(ids)))
    owners = service("owners", cluster=SERVICE["cluster_id"], namespace=SERVICE["namespace_id"])
    await store.insert(registration(address=ADDRESS, secret=CIPHER.seal(OWNERS), services=(owners,)))
    async with served(real=registry, clock=clock) as running:
        yield Guarded(running, clock, store)


@pytest.mark.parametrize(("method", "path", "wrong"), [("POST", "/", 403), ("DELETE", "/v2/service", 404)])
async def test_after_some_wrong_secrets_the_source_has_to_wait(
    throttled: Guarded, method: str, path: str, wrong: int, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = await throttled.guess(FREE_TRIES + 2, method=method, path=path)
    assert statuses == [wrong] * FREE_TRIES + [429, 429]
    [warning] = [record for record in caplog.records if "too many wrong secrets" in record.getMessage()]
    assert (warning.__dict__["address"], warning.__dict__["ip"]) == (ADDRESS, "127.0.0.1")
    assert "guess number" not in caplog.text
    throttled.clock.advance(1.0)
    assert await throttled.guess(2, method=method, path=path) == [wrong, 429]


async def test_guesses_count_whether_they_register_or_expire(throttled: Guarded) -> None:
    statuses = [
        await throttled.ask(
            f"guess number {n}", method=("POST", "DELETE")[n % 2], path=("/v2/address", "/v2/service")[n % 2]
        )
        for n in range(FREE_TRIES - 1)
    ]
    assert 429 not in statuses
    assert await throttled.guess(3) == [403, 429, 429]
    assert await throttled.ask("another guess", method="DELETE") == 429


async def test_a_header_that_names_another_source_is_not_believed(throttled: Guarded) -> None:
    statuses = [
        await throttled.ask(
            f"guess number {n}",
            headers={
                "X-Forwarded-For": f"198.51.100.{n}",
                "Forwarded": f"for=198.51.100.{n}",
                "X-Real-IP": f"10.0.0.{n}",
            },
        )
        for n in range(FREE_TRIES + 1)
    ]
    assert statuses[-1] == 429


async def test_the_owner_is_let_through_while_his_neighbour_guesses(throttled: Guarded) -> None:
    assert await throttled.ask(OWNERS, name="another of the owner's") == 200
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    assert await throttled.ask(OWNERS, name="another of the owner's") == 200
    assert await throttled.ask(OWNERS, name="one more of the owner's") == 200
    assert await throttled.ask(OWNERS, name="another of the owner's", method="DELETE") == 200


async def test_the_owner_is_let_through_also_by_an_instance_that_does_not_know_his_secret_yet(
    throttled: Guarded,
) -> None:
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    assert await throttled.ask(OWNERS, name="owners") == 200
    assert await throttled.ask(OWNERS, name="another of the owner's") == 200, "from now on this secret is known"


async def test_who_guesses_in_the_name_of_the_owners_service_has_to_wait_too(throttled: Guarded) -> None:
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    assert await throttled.guess(FREE_TRIES + 1, name="owners") == [403] * FREE_TRIES + [429]


async def test_an_address_that_is_not_registered_any_more_is_there_for_whoever_guessed(throttled: Guarded) -> None:
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    [standing] = await throttled.store.find_address(zone="inet", addresses=[ADDRESS])
    assert await throttled.store.delete(standing)
    assert await throttled.ask("my own secret", name="mine") == 200


async def test_an_operator_that_keeps_deleting_what_is_gone_is_not_refused(throttled: Guarded) -> None:
    for family, secret in [("ipv4", "secret of it"), ("ipv6", "secret of the other")] * (FREE_TRIES + 1):
        assert await throttled.ask(secret, method="DELETE", address="", ip_family=family) == 404


async def test_guesses_without_an_address_are_refused_as_well(throttled: Guarded) -> None:
    statuses = await throttled.guess(FREE_TRIES + 1, method="DELETE", address="")
    assert statuses == [404] * FREE_TRIES + [429]
    assert await throttled.ask("guess number 0", method="DELETE", address="", name="another") == 404


async def test_a_new_secret_is_a_guess_like_any_other(throttled: Guarded) -> None:
    statuses = [await throttled.ask("the same one", new_secret=f"guess number {n}") for n in range(FREE_TRIES + 1)]
    assert statuses[-1] == 429


async def test_who_replaces_the_secret_goes_on_under_the_new_one(throttled: Guarded) -> None:
    assert await throttled.ask(OWNERS, name="owners", new_secret="TheNextSecret") == 200
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    assert await throttled.ask("TheNextSecret", name="another of the owner's") == 200


async def test_a_refused_guess_is_refused_even_when_it_is_right(throttled: Guarded) -> None:
    assert 429 in await throttled.guess(FREE_TRIES + 1)
    assert await throttled.ask(OWNERS, name="a stranger") == 429
