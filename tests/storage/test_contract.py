"""What every store promises (ipam_lib/storage/base.py), sentence by sentence: life, single registrations, documents."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ipam_lib.errors import StorageUnavailable, StoreConflict
from ipam_lib.models import Filter, Registration, State, placeholder
from ipam_lib.storage.base import Store
from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore
from tests.storage.samples import DAY, NOW, key, object_id, registration, service

STATES = list(State)


async def test_closing_twice_is_fine_and_a_closed_store_says_so(backend: Backend) -> None:
    store = backend.store()
    await store.open()
    await store.prepare()
    await store.close()
    await store.close()
    with pytest.raises(StorageUnavailable) as caught:
        await store.insert(registration())
    assert not caught.value.applied
    with pytest.raises(StorageUnavailable):
        await store.ping()


async def test_a_store_that_was_never_opened_closes_and_says_so(backend: Backend) -> None:
    store = backend.store()
    with pytest.raises(StorageUnavailable):
        await store.ping()
    await store.close()


async def test_a_store_opens_again(backend: Backend) -> None:
    store = backend.store()
    one = registration()
    for _ in range(2):
        await store.open()
        await store.prepare()
        if await store.get(one.id) is None:
            await store.insert(one)
        await store.close()
    await store.open()
    assert await store.get(one.id) == one
    await store.close()


async def test_ping_returns_when_the_storage_answers(store: Store) -> None:
    await store.ping()


async def test_what_is_inserted_is_read_back(store: Store) -> None:
    one = registration(
        services=(
            service("a", retention_period_days=30, deny_external_cleanup=True, expires_at=NOW),
            service("b", cluster="other"),
        ),
        lease_until=NOW,
        described=("a", "a and 1 more"),
        description_due=True,
    )
    await store.insert(one)
    assert await store.get(one.id) == one


async def test_a_registration_that_is_not_there_is_none(store: Store) -> None:
    assert await store.get(object_id(4711)) is None


@pytest.mark.parametrize("odd", ["", "4711", "no id", "G" * 24, object_id(10).upper(), "é" * 24, object_id(1) + "\n"])
async def test_an_id_that_cannot_be_one_is_not_there(store: Store, odd: str) -> None:
    await store.insert(registration(10))
    assert await store.get(odd) is None
    assert await store.get_many([odd, object_id(10)]) == [registration(10)]


@pytest.mark.parametrize("state", STATES)
async def test_every_state_is_read_back_with_its_secret(store: Store, state: State) -> None:
    one = registration(state=state, netbox_id=None, lease_until=NOW, secret="sealed secret")
    await store.insert(one)
    assert await store.get(one.id) == one


@pytest.mark.parametrize("state", STATES)
async def test_only_a_live_registration_shows_its_secret_to_the_earlier_service(
    backend: Backend, store: Store, state: State
) -> None:
    one = registration(state=state, secret="sealed secret")
    await store.insert(one)
    raw = backend.raw(one.id)
    assert raw is not None
    assert raw.get("secret") == ("sealed secret" if state is State.LIVE else None)
    assert raw.get("held_secret") == (None if state is State.LIVE else "sealed secret")
    found = await store.find_service(secrets=["sealed secret"], zone=one.zone, ip_family=one.ip_family, service=key())
    assert found == ([one] if state is State.LIVE else [])


async def test_the_secret_moves_with_the_state(backend: Backend, store: Store) -> None:
    current = registration(state=State.CREATING, secret="sealed secret")
    await store.insert(current)
    for state in (State.LIVE, State.RELEASING, State.LIVE, State.ABORTING):
        changed = current.changed(state=state)
        assert await store.replace(current, changed)
        current = changed
        raw = backend.raw(current.id)
        assert raw is not None
        assert ("secret" in raw) == (state is State.LIVE)
        assert ("held_secret" in raw) == (state is not State.LIVE)
        assert await store.get(current.id) == current


async def test_a_live_registration_looks_like_one_of_the_earlier_service(backend: Backend, store: Store) -> None:
    one = registration(
        services=(service(expires_at=NOW, deny_external_cleanup=True), service("b", retention_period_days=3))
    )
    await store.insert(one)
    raw = backend.raw(one.id)
    assert raw is not None
    assert raw.pop("revision") == 1
    assert raw == {
        "_id": one.id,
        "secret": "sealed",
        "zone": "inet",
        "address": one.address,
        "ip_family": "ipv4",
        "netbox_id": one.netbox_id,
        "services": [
            {
                "service_name": "web",
                "namespace_id": "namespace",
                "cluster_id": "cluster",
                "retention_period_days": 0,
                "deny_external_cleanup": True,
                "expires_at": NOW,
            },
            {
                "service_name": "b",
                "namespace_id": "namespace",
                "cluster_id": "cluster",
                "retention_period_days": 3,
                "deny_external_cleanup": False,
            },
        ],
    }


async def test_an_id_is_taken_once(store: Store) -> None:
    one = registration()
    await store.insert(one)
    with pytest.raises(StoreConflict):
        await store.insert(registration(id=one.id))
    assert await store.get(one.id) == one


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("second", STATES)
async def test_a_zone_and_address_are_taken_once_in_whatever_state(store: Store, state: State, second: State) -> None:
    one = registration(state=state)
    other = registration(state=second, address=one.address)
    await store.insert(one)
    with pytest.raises(StoreConflict):
        await store.insert(other)
    assert await store.get(other.id) is None
    await store.insert(registration(address=one.address, zone="another"))


async def test_a_refused_insert_leaves_the_store_usable(store: Store) -> None:
    one = registration()
    await store.insert(one)
    for _ in range(5):
        with pytest.raises(StoreConflict):
            await store.insert(registration(address=one.address))
    other = registration()
    await store.insert(other)
    assert await store.get(other.id) == other


async def test_one_placeholder_lets_one_creation_through(open_store: OpenStore, store: Store) -> None:
    stores = [store, await open_store(), await open_store()]
    address = placeholder("ipv4", key())

    async def create(number: int) -> bool:
        try:
            await stores[number % 3].insert(registration(address=address, state=State.CREATING))
        except StoreConflict:
            return False
        return True

    assert sum(await asyncio.gather(*(create(number) for number in range(30)))) == 1


async def test_the_place_of_a_deleted_registration_is_free(store: Store) -> None:
    one = registration()
    await store.insert(one)
    assert await store.delete(one)
    assert await store.get(one.id) is None
    assert not await store.delete(one)
    await store.insert(registration(address=one.address))


async def test_two_stores_on_one_database_see_each_other_at_once(open_store: OpenStore, store: Store) -> None:
    other = await open_store()
    current = registration()
    await store.insert(current)
    for number in range(20):
        writer, reader = (store, other) if number % 2 else (other, store)
        changed = current.changed(netbox_id=number)
        assert await writer.replace(current, changed)
        assert await reader.get(current.id) == changed
        assert await reader.find_address(zone=current.zone, addresses=[current.address]) == [changed]
        current = changed


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, 1_000, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
async def test_moments_keep_their_milliseconds_and_are_utc(store: Store, moment: datetime) -> None:
    one = registration(services=(service(expires_at=moment),), lease_until=moment)
    await store.insert(one)
    read = await store.get(one.id)
    assert read == one
    assert read.lease_until is not None
    assert read.lease_until.tzinfo is UTC
    assert read.services[0].expires_at is not None
    assert read.services[0].expires_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 253,
        "æøå ÆØÅ",
        "日本語",
        "🦊" * 253,
        "a.b$c",
        "$where",
        "%_*?[a-z]",
        "'; DROP TABLE registrations; --",
        '{"$date": 1}',
        "\\u0000",
        "\t\r\n",
        "\u202e\ufeff",
        "e\u0301",
        "Ä",
        "ä",
    ],
)
async def test_unusual_strings_are_kept_and_found(store: Store, text: str) -> None:
    unusual = key(text, cluster=text, namespace=text)
    one = registration(zone=text, secret=text, services=(service(text, cluster=text, namespace=text),))
    await store.insert(one)
    await store.insert(registration())
    assert await store.get(one.id) == one
    found = await store.find_service(secrets=[text], zone=text, ip_family="ipv4", service=unusual)
    assert found == [one]
    assert await store.find_cluster([text], after=None, limit=10) == [one]
    assert await store.find_address(zone=text, addresses=[one.address]) == [one]
    assert await store.page(Filter(zone=text, service_name=text), after=None, limit=10) == [one]


async def test_strings_are_compared_exactly(store: Store) -> None:
    """No folding of case, no normal forms, no numbers in text."""
    await store.insert(registration(zone="e\u0301", services=(service("web", cluster="ABC"),)))
    assert await store.find_cluster(["abc"], after=None, limit=10) == []
    assert await store.page(Filter(zone="é"), after=None, limit=10) == []
    assert await store.find_service(secrets=["SEALED"], zone="e\u0301", ip_family="ipv4", service=key()) == []


async def test_a_registration_with_very_many_services(store: Store) -> None:
    one = registration(services=tuple(service(f"web-{number}", expires_at=NOW + number * DAY) for number in range(500)))
    await store.insert(one)
    found = await store.find_service(secrets=["sealed"], zone="inet", ip_family="ipv4", service=key("web-499"))
    assert found == [one]
    changed = one.changed(services=one.services[1:])
    assert await store.replace(one, changed)
    assert await store.get(one.id) == changed


async def test_get_many_gives_those_that_exist_in_whatever_state(store: Store) -> None:
    some = [registration(state=state) for state in STATES]
    for one in some:
        await store.insert(one)
    found = await store.get_many([*(one.id for one in some), object_id(999_999)])
    assert sorted(found, key=_id) == sorted(some, key=_id)
    assert await store.get_many([]) == []
    assert await store.get_many([some[0].id, some[0].id]) == [some[0]]


async def test_get_many_takes_very_many(store: Store) -> None:
    some = [registration() for _ in range(20)]
    for one in some:
        await store.insert(one)
    ids = [object_id(1_000_000 + number) for number in range(40_000)]
    assert sorted(await store.get_many(ids + [one.id for one in some]), key=_id) == some


async def test_small_documents_are_kept_beside_the_registrations(open_store: OpenStore, store: Store) -> None:
    assert await store.load_document("zones") is None
    content = {"a.b": {"$c": [1, 2.5, None, True, "æ", 2**60]}, "": {}}
    await store.save_document("zones", content)
    await store.save_document("other", {})
    other = await open_store()
    assert await other.load_document("zones") == content
    await other.save_document("zones", {"new": 1})
    assert await store.load_document("zones") == {"new": 1}
    assert await store.load_document("other") == {}
    assert await store.page(Filter(states=None), after=None, limit=10) == []


async def test_the_last_save_wins(open_store: OpenStore, store: Store) -> None:
    stores = [store, await open_store()]
    await asyncio.gather(*(stores[number % 2].save_document("zones", {"number": number}) for number in range(40)))
    saved = await store.load_document("zones")
    assert saved is not None
    assert saved["number"] in range(40)


def _id(one: Registration) -> str:
    return one.id
