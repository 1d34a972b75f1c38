"""Hypothesis invents lives of the service; after each step what can be observed must equal a plain model.

The steps come one after the other, each to its end; what comes at once is in test_storms.py, what is broken off at any
point in test_every_step.py and tests/crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from ipam_lib.errors import IPAMError, Unavailable, ZoneFull
from ipam_lib.models import Request, State, placeholder
from tests.registry.life import HOSTS, Life, live, on_memory, on_mongodb, on_sqlite
from tests.registry.reference_model import ReferenceModel
from tests.registry.watched import Died, done_but, fails, netbox_lost, storage_lost
from tests.registry.world import CIPHER, CLUSTER, DAY, OTHER_CLUSTER, key, request
from tests.support.soak import amount

if TYPE_CHECKING:
    from pymongo import MongoClient

SERVICES = {"a": CLUSTER, "b": CLUSTER, "c": OTHER_CLUSTER, "d": OTHER_CLUSTER}
NETWORKS = ["192.0.2.0/31", "192.0.2.2/31", "198.51.100.0/31", "2001:db8::2/127"]

pytestmark = pytest.mark.usefixtures("quiet")

NAMES = st.sampled_from(sorted(SERVICES))
SECRETS = st.sampled_from(["SuperSecret", "AnotherSecret"])
FAMILIES = st.sampled_from(sorted(HOSTS))
DAYS = st.integers(0, 2)
NUMBERS = st.integers(0, 3)

# What goes wrong without anybody noticing: the answer is that of a good day.
HARMLESS: dict[str, list[tuple[str, str, Any]]] = {
    "nothing": [],
    "a creation whose reply is lost": [("netbox", "create_next", done_but), ("netbox", "create_exact", done_but)],
    "a creation that is lost": [("netbox", "create_next", fails), ("netbox", "create_exact", fails)],
    "a document whose reply is lost": [("store", "insert", done_but)],
    "a document that is lost": [("store", "insert", fails)],
    "a change whose reply is lost": [("store", "replace", done_but)],
    "a change that is lost": [("store", "replace", fails)],
}
TROUBLE = st.sampled_from(["nothing", "nothing", "nothing", *HARMLESS])


class RegistryMachine(Life):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ReferenceModel(HOSTS, SERVICES)

    def asked(self, name: str, family: tuple[str, str], **fields: Any) -> Request:
        zone, ip_family = family
        return request(zone=zone, ip_family=ip_family, key=key(name, cluster=SERVICES[name]), **fields)

    def agree(self, real: Any, expected: Any) -> None:
        """The answer is the one in the model; an outage may be told in several ways."""
        if isinstance(expected, type):
            assert isinstance(real, expected) or (not self.model.reachable and isinstance(real, Unavailable)), real
        else:
            assert real == expected

    # -- POST --------------------------------------------------------------------------------------------------------

    def post(self, asked: Request, trouble: str) -> None:
        """Register, on either side."""
        for side, name, how in HARMLESS[trouble] if self.model.reachable else []:
            lost = netbox_lost() if side == "netbox" else storage_lost()
            getattr(self.world, side).next(name, how(lost))
        before = set(self.model.entries)
        expected = self.model.register(asked, self.world.now())
        real = self.outcome(self.world.registry.register(asked))
        self.world.netbox.calm()
        self.world.store.calm()
        self.agree(getattr(real, "address", real), expected)
        if isinstance(expected, str) and (asked.zone, expected) not in before:
            assert real.created
        if expected is ZoneFull and trouble == "a creation that is lost":
            # NetBox may still carry it out. Its document stays for the next request, or for recovery.
            self.model.stay_behind(asked)

    @rule(name=NAMES, family=FAMILIES, secret=SECRETS, days=DAYS, deny=st.booleans(), trouble=TROUBLE)
    def register(self, name: str, family: tuple[str, str], secret: str, days: int, deny: bool, trouble: str) -> None:
        asked = self.asked(name, family, secret=secret, retention_period_days=days, deny_external_cleanup=deny)
        self.post(asked, trouble)

    @rule(name=NAMES, family=FAMILIES, secret=SECRETS, days=DAYS, number=NUMBERS, trouble=TROUBLE)
    def register_given(
        self, name: str, family: tuple[str, str], secret: str, days: int, number: int, trouble: str
    ) -> None:
        address = HOSTS[family][number % len(HOSTS[family])]
        self.post(self.asked(name, family, secret=secret, address=address, retention_period_days=days), trouble)

    @rule(name=NAMES, family=FAMILIES, secret=SECRETS, new=SECRETS, number=st.none() | NUMBERS, trouble=TROUBLE)
    def register_with_a_new_secret(
        self, name: str, family: tuple[str, str], secret: str, new: str, number: int | None, trouble: str
    ) -> None:
        address = None if number is None else HOSTS[family][number % len(HOSTS[family])]
        self.post(self.asked(name, family, secret=secret, new_secret=new, address=address), trouble)

    @rule(name=NAMES, family=FAMILIES, secret=SECRETS, number=st.none() | NUMBERS, made=st.booleans())
    def a_process_dies_while_it_registers(
        self, name: str, family: tuple[str, str], secret: str, number: int | None, made: bool
    ) -> None:
        """Before or after NetBox made the prefix. Its lease runs out before anything else happens."""
        address = None if number is None else HOSTS[family][number % len(HOSTS[family])]
        asked = self.asked(name, family, secret=secret, address=address)
        if not self._is_new(asked):
            return
        creation = "create_exact" if address else "create_next"
        how = (done_but if made else fails)(Died())
        self.world.netbox.always = lambda called: how if called == creation else None
        with pytest.raises(Died):
            self.run(self.world.registry.register(asked))
        self.world.netbox.calm()
        self.model.leave_behind(asked, made=made)
        self.run(asyncio.sleep(25))

    def _is_new(self, asked: Request) -> bool:
        """Whether it can begin to create at once."""
        model = self.model
        free = [asked.address] if asked.address else HOSTS[asked.zone, asked.ip_family]
        return (
            model.reachable
            and model.find(asked, asked.secret) is None
            and (asked.zone, asked.address) not in model.entries
            and model._met(asked) is None
            and any(not model.covering(address) for address in free)
        )

    # -- DELETE, time, and the workers -------------------------------------------------------------------------------

    @rule(name=NAMES, family=FAMILIES, secret=SECRETS, days=st.none() | DAYS, number=st.none() | NUMBERS)
    def expire(self, name: str, family: tuple[str, str], secret: str, days: int | None, number: int | None) -> None:
        address = None if number is None else HOSTS[family][number % len(HOSTS[family])]
        asked = self.asked(name, family, secret=secret, address=address, retention_period_days=days)
        self.agree(self.outcome(self.world.registry.expire(asked)), self.model.expire(asked, self.world.now()))

    @precondition(lambda self: any(entry.services for entry in self.model.entries.values()))
    @rule(data=st.data(), days=st.none() | DAYS, by_address=st.booleans(), then_clean_up=st.booleans())
    def expire_what_is_there(
        self, data: st.DataObject, days: int | None, by_address: bool, then_clean_up: bool
    ) -> None:
        place, name = data.draw(
            st.sampled_from([(place, name) for place, entry in self.model.entries.items() for name in entry.services])
        )
        entry = self.model.entries[place]
        asked = self.asked(
            name,
            (place[0], entry.family),
            secret=entry.secret,
            address=place[1] if by_address else None,
            retention_period_days=days,
        )
        self.agree(self.outcome(self.world.registry.expire(asked)), self.model.expire(asked, self.world.now()))
        if then_clean_up:
            self.clean_up()

    @rule(cluster=st.sampled_from([CLUSTER, OTHER_CLUSTER, CLUSTER.upper()]))
    def expire_cluster(self, cluster: str) -> None:
        real = self.outcome(self.world.registry.expire_cluster(cluster))
        counts = (real.expired, real.denied) if not isinstance(real, IPAMError) else real
        self.agree(counts, self.model.expire_cluster(cluster, self.world.now()))

    @rule(seconds=st.sampled_from([1.0, 31.0, 3600.0, DAY, 2 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def clean_up_now(self) -> None:
        self.clean_up()

    def clean_up(self) -> None:
        """A round of the worker, on either side."""
        self.run(self.world.registry.release_expired())
        self.model.release(self.world.now())

    @rule()
    def recover(self) -> None:
        """A minute later, so that every unfinished creation is old enough."""
        self.run(asyncio.sleep(60))
        self.run(self.world.registry.recover())
        self.model.recover()

    @rule()
    def reconcile(self) -> None:
        """Three rounds with repairs."""

        async def rounds() -> None:
            for _ in range(3):
                await asyncio.sleep(60)
                async for _found in self.world.registry.reconcile(fix=True):
                    pass

        outcome = self.outcome(rounds())
        assert outcome is None or not self.model.reachable
        self.model.reconcile()

    @rule()
    def reconcile_without_repairs(self) -> None:
        """Tells what differs, and changes nothing."""

        async def once() -> None:
            async for found in self.world.registry.reconcile():
                assert not found.repaired

        self.outcome(once())

    # -- NetBox, and other people --------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.reachable)
    @rule()
    def netbox_goes_away(self) -> None:
        self.world.server.reachable = self.model.reachable = False

    @precondition(lambda self: not self.model.reachable)
    @rule(seconds=st.sampled_from([60.0, 600.0, DAY]))
    def netbox_comes_back(self, seconds: float) -> None:
        """And the circuit breaker has had its time."""
        self.world.server.reachable = self.model.reachable = True
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: not self.model.reachable)
    @rule()
    def netbox_comes_back_and_the_workers_go_on(self) -> None:
        self.netbox_comes_back(60.0)
        self.clean_up()

    @rule(prefix=st.sampled_from(sorted(one for hosts in HOSTS.values() for one in hosts) + NETWORKS))
    def somebody_creates_a_prefix(self, prefix: str) -> None:
        if prefix not in self.model.prefixes():
            zone = next(zone for (zone, _), hosts in HOSTS.items() if prefix in hosts or prefix in NETWORKS)
            self.world.foreign_prefix(prefix, zone)
            self.model.foreign.add(prefix)

    @precondition(lambda self: self.model.prefixes())
    @rule(data=st.data())
    def somebody_deletes_a_prefix(self, data: st.DataObject) -> None:
        """The own ID, another one of this service, or an ID without registration."""
        prefix = data.draw(st.sampled_from(sorted(self.model.prefixes())))
        self.world.steal(prefix)
        self.model.steal(prefix)

    @precondition(lambda self: any(entry.prefix for entry in self.model.entries.values()))
    @rule(data=st.data())
    def somebody_clears_a_mark(self, data: st.DataObject) -> None:
        places = sorted(place for place, entry in self.model.entries.items() if entry.prefix)
        place = data.draw(st.sampled_from(places))
        [prefix] = [one for one in self.world.prefixes if one.prefix == place[1]]
        unmarked = {"custom_fields": {"k8s_uuid": None}}
        self.world.server.admin("PATCH", f"/api/ipam/prefixes/{prefix.id}/", unmarked)
        self.model.entries[place].marked = False

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def an_admin_deletes_a_document(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.model.entries)))
        [one] = [one for one in self.run(self.world.registrations()) if (one.zone, one.address) == place]
        assert self.run(self.world.store.unseen("delete", one))
        self.model.forget(place)

    # -- what can be observed ------------------------------------------------------------------------------------------

    @invariant()
    def both_sides_are_as_in_the_book(self) -> None:
        registrations = self.run(self.world.registrations())
        pending = {
            placeholder(family, key(name, cluster=cluster)): f"{family} of {name}"  # type: ignore[arg-type]
            for family in ("ipv4", "ipv6")
            for name, cluster in SERVICES.items()
        }
        states = {(one.zone, pending.get(one.address, one.address)): one.state.value for one in registrations}
        assert states == self.model.states()
        assert len(states) == len(registrations)
        for one in registrations:
            if one.state is not State.LIVE:
                continue
            entry = self.model.entries[one.zone, one.address]
            assert CIPHER.unseal(one.secret) == entry.secret
            assert one.ip_family == entry.family
            assert {
                each.key.service_name: (each.retention_period_days, each.deny_external_cleanup, each.expires_at)
                for each in one.services
            } == {name: (held.days, held.deny, held.expires_at) for name, held in entry.services.items()}
            if entry.prefix:
                assert one.netbox_id in self.world.server.prefixes
        owners = {one.id: f"{one.zone} {pending.get(one.address, one.address).split()[-1]}" for one in registrations}
        prefixes = {
            one.prefix: "foreign" if one.uuid is None else owners.get(one.uuid, "orphan") for one in self.world.prefixes
        }
        assert prefixes == self.model.prefixes()
        assert len(prefixes) == len(self.world.prefixes)

    @invariant()
    def the_history_tells_what_is_in_the_book(self) -> None:
        """To the second or so in which each was done."""
        told = {
            (zone, address): self.run(self.world.registry.history([address], zone=zone, limit=1000)).tenures
            for zone, address in {*self.model.entries, *(one.place for one in self.model.ended)}
        }
        expected = [
            (place, name, held.since, None)
            for place, entry in self.model.entries.items()
            for name, held in entry.services.items()
        ] + [(one.place, one.name, one.since, one.until) for one in self.model.ended]
        found = [
            (place, one.key.service_name, one.since, one.until) for place, tenures in told.items() for one in tenures
        ]
        for place, name, since, until in expected:
            same = [one for one in found if one[:2] == (place, name) and near(one[2], since) and near(one[3], until)]
            assert same, (place, name, since, until, found)
            found.remove(same[0])
        assert not found


def near(told: datetime | None, real: datetime | None) -> bool:
    """Whether two moments are those of one step, which may take as long as a request does."""
    return told is real or (told is not None and real is not None and abs(told - real) < timedelta(seconds=26))


@pytest.mark.soak
@pytest.mark.parametrize(("on", "lives"), [(on_memory, amount(40, 600)), (on_sqlite, amount(8, 60))])
def test_the_service_does_what_the_model_says(on: Callable[[type[Life]], type[Life]], lives: int) -> None:
    live(on(RegistryMachine), lives)


@pytest.mark.soak
@pytest.mark.mongodb
def test_it_does_so_over_mongodb(
    mongodb_admin: MongoClient[dict[str, Any]], mongodb_uri: str, mongodb_database: str
) -> None:
    live(on_mongodb(RegistryMachine, mongodb_admin, mongodb_uri, mongodb_database), amount(4, 40))
