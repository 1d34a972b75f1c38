"""Hypothesis invents lives of a service that keeps a warm pool and lets addresses cool down; the five invariants hold
after each step, and in the end both sides are equal.

What exactly is answered is in test_state_machine.py, against a plain model. Here the test does not predict which
address is given, only that it may be: what was answered stays, no address is given twice, and none that is still
cooling down.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from ipam_lib.errors import (
    AddressHeld,
    AnotherSecret,
    IPAMError,
    StillInFlight,
    Unavailable,
    WrongSecret,
    ZoneFull,
)
from ipam_lib.models import PoolState, Request, State
from tests.registry.life import HOSTS, Life, live, on_memory, on_mongodb, on_sqlite
from tests.registry.watched import Died, done_but, fails
from tests.registry.world import CIPHER, key, request
from tests.support.soak import amount

pytestmark = pytest.mark.usefixtures("quiet")

NAMES = st.sampled_from("abcdef")
PLACES = st.sampled_from([("inet", "ipv4"), ("inet", "ipv4"), ("inet", "ipv6"), ("tiny", "ipv4")])
NUMBERS = st.none() | st.none() | st.integers(0, 4)
CALLS = st.sampled_from(
    [
        *("pool_claim", "pool_replace", "pool_insert", "pool_delete", "replace", "insert", "delete", "get_many"),
        *("create_next", "create_next_many", "create_exact", "update_many", "delete_many", "find_by_uuid"),
    ]
)
ACTS = st.sampled_from(["register", "give back", "keep the pool", "recover"])
Wish = tuple[str, str, str, int | None]

if TYPE_CHECKING:
    from pymongo import MongoClient


class PoolMachine(Life):
    """See the module. `promised`: what was answered, and has not expired since. `cooling`: until when no request may
    have an address that was seen to cool down."""

    def __init__(self) -> None:
        super().__init__()
        self.world.configure(warm={"inet": 2, "tiny": 1}, cooldown=timedelta(minutes=10))
        self.promised: dict[Wish, str] = {}
        self.cooling: dict[tuple[str, str], datetime] = {}
        self.stolen: set[str] = set()
        self.died = False

    def teardown(self) -> None:
        """Let the workers go on for long enough: then both sides are equal."""
        try:
            self.world.server.reachable = True
            self.run(self.to_rest())
            self.what_was_answered_is_there()
        finally:
            super().teardown()

    async def to_rest(self) -> None:
        """Every worker, again and again, on an instance that makes no more addresses ready."""
        await asyncio.sleep(60)
        self.world.configure(warm=0)
        for _ in range(8):
            await self.world.registry.release_expired()
            await self.world.registry.recover()
            await self.world.registry.maintain_pool()
            async for _found in self.world.registry.reconcile(fix=True):
                pass
            await asyncio.sleep(60)
        await self.world.settled()
        assert await self.world.ready() == []

    def asked(self, wish: Wish) -> Request:
        """The request of a service. Each has a secret of its own."""
        name, zone, family, number = wish
        address = None if number is None else HOSTS[zone, family][number % len(HOSTS[zone, family])]
        fields: dict[str, Any] = {"zone": zone, "ip_family": family, "address": address, "secret": f"Secret of {name}"}
        return request(key=key(f"{name}-{number}"), **fields)

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def register_in_the_smallest_zone(self, name: str) -> None:
        self.register(name, ("tiny", "ipv4"), None)

    @rule(name=NAMES, place=PLACES, number=NUMBERS)
    def register(self, name: str, place: tuple[str, str], number: int | None) -> None:
        wish: Wish = (name, *place, number)
        asked = self.asked(wish)
        answer = self.outcome(self.world.registry.register(asked))
        if isinstance(answer, IPAMError):
            assert wish not in self.promised, f"{self.promised[wish]} was answered, now {answer!r}"
            self._check(asked, answer)
            return
        assert asked.address in (None, answer.address)
        assert self.promised.get(wish, answer.address) == answer.address
        if answer.created and answer.address not in self.stolen:
            until = self.cooling.get((asked.zone, answer.address))
            assert until is None or until <= self.world.now(), "it has to cool down"
        self.promised[wish] = answer.address

    def _check(self, asked: Request, error: IPAMError) -> None:
        """No request is refused without need."""
        unfinished = [one for one in self.run(self.world.registrations()) if one.state is not State.LIVE]
        match error:
            case Unavailable() | StillInFlight():
                assert not self.world.server.reachable or self.died or unfinished, error
            case AddressHeld():
                held = self.run(self.world.pool(PoolState.COOLING))
                assert asked.address in [one.address for one in held]
            case WrongSecret() | AnotherSecret():
                assert asked.address in [one.address for one in self.run(self.world.registrations())]
            case ZoneFull():
                taken = {one.prefix for one in self.world.prefixes}
                assert taken >= set(HOSTS[asked.zone, asked.ip_family])
                place = (asked.zone, asked.ip_family)
                ready = self.run(self.world.pool(PoolState.READY))
                assert not [one.address for one in ready if (one.zone, one.ip_family) == place]
            case _:
                raise error

    @precondition(lambda self: self.promised)
    @rule(data=st.data(), then_clean_up=st.booleans())
    def give_back(self, data: st.DataObject, then_clean_up: bool) -> None:
        wish = data.draw(st.sampled_from(sorted(self.promised, key=str)))
        assert self.run(self.world.registry.expire(self.asked(wish))) == self.promised.pop(wish)
        if then_clean_up:
            self.clean_up()
            self.keep_the_pool()

    @rule()
    def clean_up(self) -> None:
        self.run(self.world.registry.release_expired())
        self.what_cools_down_is_remembered()

    @rule()
    def keep_the_pool(self) -> None:
        self.run(self.world.registry.maintain_pool())

    @rule()
    def recover(self) -> None:
        self.run(self.world.registry.recover())

    @rule()
    def reconcile(self) -> None:
        async def once() -> None:
            async for _found in self.world.registry.reconcile(fix=True):
                pass

        with suppress(Unavailable):
            self.run(once())

    @rule(seconds=st.sampled_from([1.0, 26.0, 60.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(warm=st.sampled_from([0, 1, {"inet": 6}, {"tiny": 2}]), minutes=st.sampled_from([0, 1, 10, 10]))
    def somebody_changes_the_settings(self, warm: Any, minutes: int) -> None:
        self.world.configure(warm=warm, cooldown=timedelta(minutes=minutes))

    @rule(act=ACTS, call=CALLS, done=st.booleans(), name=NAMES, place=PLACES, number=NUMBERS)
    def a_process_dies(
        self, act: str, call: str, done: bool, name: str, place: tuple[str, str], number: int | None
    ) -> None:
        """At the first call of this name, before or after it is done."""
        how = (done_but if done else fails)(Died())
        self.world.store.always = self.world.netbox.always = lambda called: how if called == call else None
        registry, wish = self.world.instance(seed=1), (name, *place, number)
        work: Coroutine[Any, Any, Any] = {
            "register": lambda: registry.register(self.asked(wish)),
            "give back": registry.release_expired,
            "keep the pool": registry.maintain_pool,
            "recover": registry.recover,
        }[act]()
        try:
            self.run(work)
        except Died:
            self.died = True
        except IPAMError:
            pass
        self.world.store.calm()
        self.world.netbox.calm()

    @rule(reachable=st.sampled_from([True, True, False]))
    def netbox_comes_and_goes(self, reachable: bool) -> None:
        if reachable and not self.world.server.reachable:
            self.run(asyncio.sleep(60))  # the circuit breaker has its time
        self.world.server.reachable = reachable

    @precondition(lambda self: self.world.prefixes)
    @rule(data=st.data())
    def somebody_deletes_a_prefix(self, data: st.DataObject) -> None:
        prefix = data.draw(st.sampled_from(self.world.prefixes))
        self.world.server.remove(prefix.id)
        self.stolen.add(prefix.prefix)

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def what_was_answered_is_there(self) -> None:
        registrations = self.run(self.world.registrations())
        for wish, address in self.promised.items():
            asked = self.asked(wish)
            [mine] = [
                one
                for one in registrations
                if (one.zone, one.ip_family, one.state) == (asked.zone, asked.ip_family, State.LIVE)
                and one.service(asked.key) is not None
            ]
            assert (mine.address, CIPHER.unseal(mine.secret)) == (address, asked.secret)
            prefix = self.world.server.prefixes.get(mine.netbox_id or 0)
            if address not in self.stolen:
                assert prefix is not None
                assert prefix.prefix == address

    @invariant()
    def what_cools_down_is_remembered(self) -> None:
        held = self.run(self.world.pool(PoolState.COOLING))
        self.cooling |= {(one.zone, one.address): one.cooldown_until for one in held if one.cooldown_until is not None}

    @invariant()
    def no_address_is_there_twice(self) -> None:
        places = Counter((one.zone, one.address) for one in self.run(self.world.registrations()))
        assert set(places.values()) <= {1}
        prefixes = Counter((one.vrf_id, one.prefix) for one in self.world.prefixes)
        assert set(prefixes.values()) <= {1}


@pytest.mark.soak
@pytest.mark.parametrize(("on", "lives"), [(on_memory, amount(40, 500)), (on_sqlite, amount(6, 40))])
def test_the_invariants_hold_with_a_pool(on: Callable[[type[Life]], type[Life]], lives: int) -> None:
    live(on(PoolMachine), lives)


@pytest.mark.soak
@pytest.mark.mongodb
def test_they_do_so_over_mongodb(
    mongodb_admin: MongoClient[dict[str, Any]], mongodb_uri: str, mongodb_database: str
) -> None:
    live(on_mongodb(PoolMachine, mongodb_admin, mongodb_uri, mongodb_database), amount(3, 30))
