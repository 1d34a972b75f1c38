"""Documents of the earlier service: found, updated, expired and released like any other, and lifted on the way."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.errors import AddressTaken, NotFound, SecretShared, WrongSecret
from ipam_lib.models import ClusterExpired, Registered, Request, ServiceKey
from ipam_lib.registry import DriftKind
from ipam_lib.storage.documents import Document
from tests.registry.world import CIPHER, CLUSTER, DAY, FIRST, OLD_CIPHER, SECRET, World, key, request
from tests.storage.samples import legacy_documents

DATA = Path(__file__).parents[1] / "data" / "legacy"


def service_document(name: str = "web", **fields: Any) -> Document:
    names = {"service_name": name, "namespace_id": key().namespace_id, "cluster_id": CLUSTER}
    return names | {"deny_external_cleanup": False} | fields


async def old_document(world: World, prefix: str = FIRST, *services: Document, **fields: Any) -> Document:
    """What the earlier service has written, with its prefix in NetBox."""
    document: Document = {"_id": world.new_id(), "secret": OLD_CIPHER.seal(SECRET), "zone": "inet", "address": prefix}
    document |= {"ip_family": "ipv6" if ":" in prefix else "ipv4", "services": list(services or [service_document()])}
    document |= {"netbox_id": world.foreign_prefix(prefix, uuid=document["_id"]).id} | fields
    await world.seed(document)
    return document


async def raw(world: World, document: Document) -> Document | None:
    """The document as it stands now."""
    return await asyncio.to_thread(world.backend.raw, document["_id"])


@pytest.mark.parametrize("address", [None, FIRST])
async def test_it_is_found_by_its_secret_and_left_as_it_is(world: World, address: str | None) -> None:
    document = await old_document(world)
    for _ in range(2):
        assert await world.registry.register(request(address=address)) == Registered(FIRST, created=False)
    assert await raw(world, document) == document
    assert world.netbox.calls == []


@pytest.mark.parametrize(
    "fields", [{"retention_period_days": 3}, {"deny_external_cleanup": True}, {"key": key("b"), "address": FIRST}]
)
async def test_its_secret_is_lifted_with_the_next_update(world: World, fields: dict[str, Any]) -> None:
    document = await old_document(world)
    assert await world.register(**fields) == FIRST
    changed = await raw(world, document)
    assert changed is not None
    assert (CIPHER.unseal(changed["secret"]), CIPHER.is_current(changed["secret"])) == (SECRET, True)
    assert changed["revision"] == 1
    untouched = ("_id", "zone", "address", "ip_family", "netbox_id")
    assert [changed[name] for name in untouched] == [document[name] for name in untouched]
    assert await world.register() == FIRST
    await world.settled()


async def test_its_secret_is_lifted_with_an_expiration(world: World) -> None:
    document = await old_document(world)
    await world.registry.expire(request(retention_period_days=4))
    changed = await raw(world, document)
    assert changed is not None
    assert CIPHER.is_current(changed["secret"])
    assert changed["services"][0]["expires_at"] == world.now(days=4)


async def test_its_secret_can_be_replaced(world: World) -> None:
    await old_document(world)
    for _ in range(2):
        assert await world.register(new_secret="NewSecret") == FIRST
    assert CIPHER.unseal((await world.only()).secret) == "NewSecret"


async def test_its_secret_cannot_be_replaced_while_several_share_it(world: World) -> None:
    document = await old_document(world, FIRST, service_document("a"), service_document("b"))
    with pytest.raises(SecretShared):
        await world.register("a", new_secret="NewSecret")
    assert await raw(world, document) == document


async def test_a_wrong_secret_does_not_open_it(world: World) -> None:
    document = await old_document(world)
    with pytest.raises(WrongSecret):
        await world.register(address=FIRST, secret="WrongSecret")
    with pytest.raises(NotFound):
        await world.registry.expire(request(address=FIRST, secret="WrongSecret"))
    assert await raw(world, document) == document


async def test_a_stored_text_is_no_secret(world: World) -> None:
    """A stored secret from the database is not accepted as a secret."""
    document = await old_document(world)
    with pytest.raises(WrongSecret):
        await world.register(address=FIRST, secret=document["secret"])


async def test_a_retention_that_was_left_out_is_none(world: World) -> None:
    await old_document(world)
    await world.registry.expire(request(retention_period_days=None))
    assert (await world.only()).services[0].expires_at == world.now()


async def test_its_cluster_expires(world: World) -> None:
    await old_document(world, FIRST, service_document("a"), service_document("b", deny_external_cleanup=True))
    assert await world.registry.expire_cluster(CLUSTER) == ClusterExpired(expired=1, denied=1)
    assert await world.register("a", address=FIRST) == FIRST


async def test_it_is_released_with_its_prefix(world: World) -> None:
    await old_document(world)
    await world.registry.expire(request())
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_it_is_released_with_a_prefix_that_never_got_its_mark(world: World) -> None:
    document = await old_document(world)
    unmarked = {"custom_fields": {"k8s_uuid": None}}
    world.server.admin("PATCH", f"/api/ipam/prefixes/{document['netbox_id']}/", unmarked)
    await world.registry.expire(request())
    await world.registry.release_expired()
    await world.nothing()


async def test_what_had_expired_before_is_released(world: World) -> None:
    await old_document(world, FIRST, service_document(expires_at=world.now(days=-1)))
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_one_without_any_service_is_released(world: World) -> None:
    await old_document(world, services=[])
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_its_address_is_not_handed_out_when_its_prefix_is_gone(world: World) -> None:
    document = await old_document(world)
    world.server.remove(document["netbox_id"])
    assert await world.register("b") == "192.0.2.1/32"
    await world.settled()


# -- networks ----------------------------------------------------------------------------------------------------------

NETWORK = "192.0.2.4/30"


async def test_a_network_is_answered_to_its_service(world: World) -> None:
    await old_document(world, NETWORK)
    assert await world.registry.register(request()) == Registered(NETWORK, created=False)
    assert await world.register(retention_period_days=2) == NETWORK
    await world.settled()


async def test_a_network_expires_and_is_released(world: World) -> None:
    await old_document(world, NETWORK)
    assert await world.registry.expire(request(retention_period_days=1)) == NETWORK
    assert (await world.registry.release_expired()).released == 0
    await asyncio.sleep(DAY)
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_the_addresses_of_a_network_are_taken(world: World) -> None:
    await old_document(world, NETWORK)
    with pytest.raises(AddressTaken):
        await world.register("b", address="192.0.2.5/32")
    with pytest.raises(AddressTaken):
        await world.register("b", address="192.0.2.4/32")
    addresses = [await world.register(f"service-{number}") for number in range(5)]
    assert addresses == [f"192.0.2.{n}/32" for n in range(4)] + ["198.51.100.0/32"]
    await world.settled()


async def test_a_network_is_never_handed_out_anew(world: World) -> None:
    await old_document(world, NETWORK)
    await world.registry.expire(request())
    await world.registry.release_expired()
    assert {await world.register(f"service-{number}") for number in range(8)} == {f"192.0.2.{n}/32" for n in range(8)}


async def test_a_network_that_is_the_container_itself_leaves_that_alone(world: World) -> None:
    """The earlier service took over whatever stood in NetBox under that address."""
    container = world.server.container("inet")
    await old_document(world, "192.0.2.6/31", address=container.prefix, netbox_id=container.id)
    world.server.remove(world.prefixes[0].id)
    await world.registry.expire(request())
    assert (await world.registry.release_expired()).released == 1
    assert await world.registrations() == []
    assert container in world.server.containers


# -- spellings ---------------------------------------------------------------------------------------------------------

SPELT = "2001:DB8:0::3/128"
CANONICAL = "2001:db8::3/128"
AS_WRITTEN: dict[str, Any] = {"ip_family": "ipv6", "address": CANONICAL, "spelling": SPELT}


async def spelt_document(world: World) -> Document:
    document = await old_document(world, CANONICAL, address=SPELT)
    world.forget()
    return document


async def test_an_address_is_found_by_the_spelling_that_the_client_always_used(world: World) -> None:
    await spelt_document(world)
    assert await world.registry.register(request(**AS_WRITTEN)) == Registered(SPELT, created=False)
    assert await world.register("b", **AS_WRITTEN) == SPELT
    assert await world.registry.expire(request("b", **AS_WRITTEN)) == SPELT
    assert world.netbox.calls == []


async def test_its_service_finds_it_without_an_address(world: World) -> None:
    await spelt_document(world)
    assert await world.register(ip_family="ipv6") == SPELT


async def test_a_wrong_secret_does_not_open_it_in_any_spelling(world: World) -> None:
    await spelt_document(world)
    with pytest.raises(WrongSecret):
        await world.register(secret="WrongSecret", **AS_WRITTEN)


async def test_the_same_address_in_another_spelling_is_taken(world: World) -> None:
    document = await spelt_document(world)
    with pytest.raises(AddressTaken):
        await world.register("b", ip_family="ipv6", address=CANONICAL)
    assert [(one.id, one.address) for one in await world.registrations()] == [(document["_id"], SPELT)]


async def test_it_is_released_with_its_prefix_whatever_the_spelling(world: World) -> None:
    await spelt_document(world)
    await world.registry.expire(request(ip_family="ipv6"))
    assert (await world.registry.release_expired()).released == 1
    await world.nothing()


async def test_reconcile_finds_nothing_wrong_with_its_spelling(world: World) -> None:
    await spelt_document(world)
    [found] = [found async for found in world.registry.reconcile(fix=True)]
    assert (found.drift.kind, found.repaired) == (DriftKind.DESCRIPTION_DIFFERS, True)
    assert [found async for found in world.registry.reconcile()] == []


# -- what the earlier service really wrote -----------------------------------------------------------------------------


async def test_every_document_of_the_samples_answers_to_its_secret(world: World) -> None:
    samples = json.loads((DATA / "documents.json").read_text("utf-8"))
    secrets = {one["document"]["_id"]["$oid"]: one["plain_secret"] for one in samples}
    keys = KeySet.from_json((DATA / "secrets.json").read_text("utf-8"))
    registry = world.instance(cipher=Cipher(keys))
    documents = legacy_documents()
    await world.seed(*documents)
    assert len(documents) == len(secrets) > 20
    for document in documents:
        for service in document["services"]:
            names = (service["service_name"], service["namespace_id"], service["cluster_id"])
            asked = Request(document["zone"], document["ip_family"], ServiceKey(*names), secrets[document["_id"]])
            assert await registry.register(asked) == Registered(document["address"], created=False)
            assert await registry.expire(asked) == document["address"]
            one = await world.store.unseen("get", document["_id"])
            assert one.service(asked.key).expires_at == world.now()
    assert world.netbox.calls == []
