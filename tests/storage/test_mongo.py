"""The MongoDB store's own, on a real server: types, outages, indexes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from bson import Int64, ObjectId

from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import Filter, Registration, State, Tenure
from ipam_lib.storage import mongo_history
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.history_store import HistoryPosition
from ipam_lib.storage.mongo import MongoStore
from tests.storage.backends import MongoBackend
from tests.storage.conftest import OpenStore
from tests.storage.samples import DAY, NOW, key, legacy_documents, object_id, registration, service
from tests.support.mongo import MongoServer
from tests.support.not_run import skip_loudly

pytestmark = pytest.mark.mongodb


@pytest.fixture
def backend(mongodb_backend: MongoBackend) -> MongoBackend:
    return mongodb_backend


async def test_the_types_are_those_of_the_earlier_service(backend: MongoBackend, open_store: OpenStore) -> None:
    """BSON types, as MongoDB names them (https://www.mongodb.com/docs/manual/reference/bson-types/)."""
    store = await open_store()
    await store.prepare()
    legacy = legacy_documents()[1]
    backend.seed([legacy])
    one = registration(services=(service(expires_at=NOW),), duplicate=True, lease_until=NOW)
    await store.insert(one)
    for raw_id in (ObjectId(one.id), ObjectId(legacy["_id"])):
        for name, types in {
            "_id": ["objectId"],
            "secret": ["string"],
            "zone": ["string"],
            "address": ["string"],
            "ip_family": ["string"],
            "netbox_id": ["int", "long"],
            "services": ["array", "object"],
            "services.service_name": ["string"],
            "services.namespace_id": ["string"],
            "services.cluster_id": ["string"],
            "services.retention_period_days": ["int", "long"],
            "services.deny_external_cleanup": ["bool"],
            "services.expires_at": ["date"],
        }.items():
            query = {"_id": raw_id, "$or": [{name: {"$type": one_type}} for one_type in types]}
            assert backend.collection.count_documents(query) == 1, (raw_id, name)
    raw = backend.collection.find_one({"_id": ObjectId(one.id)})
    assert raw is not None
    assert isinstance(raw["duplicate"], ObjectId)


async def test_what_programs_and_shells_write_as_numbers_is_read(backend: MongoBackend, open_store: OpenStore) -> None:
    store = await open_store()
    await store.prepare()
    backend.seed([legacy_documents()[0] | {"netbox_id": Int64(7), "revision": 2.0}])
    read = await store.get(legacy_documents()[0]["_id"])
    assert read is not None
    assert (type(read.netbox_id), read.netbox_id, read.revision) == (int, 7, 2)
    assert await store.replace(read, read.changed(netbox_id=2**40))


async def test_an_id_of_another_kind_is_somebody_elses(backend: MongoBackend, open_store: OpenStore) -> None:
    """It keeps its address, and it is no page of ours."""
    store = await open_store()
    await store.prepare()
    foreign = {"_id": "note", "zone": "inet", "address": "10.0.0.1/32", "secret": "s", "services": []}
    backend.collection.insert_one(foreign)
    await store.insert(registration(7))
    assert await store.page(Filter(), after=None, limit=9) == [registration(7)]
    assert await store.find_due(now=NOW, after=None, limit=9) == []
    [found] = await store.find_address(zone="inet", addresses=["10.0.0.1/32"])
    assert found.id == "note"
    assert await store.get("note") == found
    assert await store.replace(found, found.changed(netbox_id=1))


async def test_a_collection_of_another_name(backend: MongoBackend, mongodb_admin: Any) -> None:
    store = MongoStore(backend.uri, backend.database, "elsewhere")
    await store.open()
    await store.prepare()
    await store.insert(registration(1))
    await store.save_document("zones", {})
    assert await store.get(object_id(1)) == registration(1)
    await store.close()
    names = mongodb_admin[backend.database].list_collection_names()
    assert sorted(name for name in names if not name.startswith("system.")) == [
        "elsewhere",
        "elsewhere_documents",
        "elsewhere_history",
        "elsewhere_pool",
    ]


async def test_the_earlier_services_collection_gets_every_index(backend: MongoBackend, open_store: OpenStore) -> None:
    backend.seed(legacy_documents())
    store = await open_store()
    await store.prepare()
    standing = backend.collection.index_information()
    for index in (queries.UNIQUE_INDEX, *queries.INDEXES):
        assert queries.exists(index, standing), index
        assert index.name in standing
    assert len(standing) == len(queries.INDEXES) + 2


async def test_an_operation_after_the_server_came_back(start_mongo: Callable[[], MongoServer]) -> None:
    server = start_mongo()
    first = MongoStore(server.uri, "ipam")
    await first.open()
    await first.prepare()
    await first.insert(registration(1))
    await first.close()
    store = MongoStore(server.uri, "ipam", timeout_seconds=1)
    await store.open()
    await asyncio.to_thread(server.stop)
    for operation in (
        store.insert(registration(2)),
        store.replace(registration(1), registration(1).changed(netbox_id=9)),
        store.delete(registration(1)),
        store.get(object_id(1)),
        store.ping(),
        store.load_document("zones"),
        store.find_due(now=NOW, after=None, limit=1),
    ):
        with pytest.raises(StorageUnavailable):
            await operation
    with pytest.raises(StorageUnavailable) as caught:
        await store.insert(registration(2))
    # Nobody was there to send it to.
    assert not caught.value.applied
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(60):
        await _until_it_answers(store)
    assert await store.get(object_id(1)) == registration(1)
    assert await store.get(object_id(2)) is None
    await store.close()


async def test_opening_while_the_server_is_away(start_mongo: Callable[[], MongoServer]) -> None:
    server = start_mongo()
    await asyncio.to_thread(server.stop)
    store = MongoStore(server.uri, "ipam", timeout_seconds=1, prepare_seconds=2)
    await store.open()
    with pytest.raises(StorageUnavailable) as caught:
        await store.prepare()
    assert not caught.value.applied
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(60):
        await _until_it_answers(store)
    await store.prepare()
    await store.insert(registration(1))
    await store.close()


async def test_what_was_acknowledged_outlives_a_killed_server(start_mongo: Callable[[], MongoServer]) -> None:
    server = start_mongo()
    store = MongoStore(server.uri, "ipam", timeout_seconds=2)
    await store.open()
    await store.prepare()
    acknowledged: list[Registration] = []

    async def write() -> None:
        while True:
            one = registration()
            await store.insert(one)
            changed = one.changed(netbox_id=1)
            if await store.replace(one, changed):
                acknowledged.append(changed)

    writing = [asyncio.create_task(write()) for _ in range(8)]
    while len(acknowledged) < 50:
        await store.ping()
    await asyncio.to_thread(server.kill)
    for task in writing:
        with pytest.raises(StorageUnavailable):
            await task
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(60):
        await _until_it_answers(store)
    stored = await store.get_many([one.id for one in acknowledged])
    assert {one.id: one for one in stored} == {one.id: one for one in acknowledged}
    await store.close()


async def _until_it_answers(store: MongoStore) -> None:
    while True:
        try:
            return await store.ping()
        except StorageUnavailable:
            continue


class TestQueryPlans:
    """On a MongoDB of its own; the server of tests/mongo_server does not explain itself."""

    PLANS: tuple[tuple[str, queries.Query, set[str]], ...] = (
        ("service", queries.by_service(["same"], "inet", "ipv4", key("web-70")), {"ipam_service"}),
        ("address", queries.by_address("inet", ["10.0.0.70/32", "x"]), {"ipam_address"}),
        ("due", queries.due(NOW, ObjectId(object_id(5))), {"ipam_expiration", "ipam_cluster", "ipam_departed"}),
        ("undescribed", queries.undescribed(ObjectId(object_id(5))), {"ipam_description"}),
        ("states", queries.by_states({State.CREATING}, ObjectId(object_id(5))), {"ipam_state"}),
        ("cluster", queries.by_cluster(["c7", "C7"], ObjectId(object_id(5))), {"ipam_cluster"}),
        ("address of any zone", queries.page(Filter(address="10.0.0.70/32"), ObjectId(object_id(5))), {"ipam_address"}),
        ("page of a cluster", queries.page(Filter(cluster_id="c7"), ObjectId(object_id(5))), {"ipam_cluster"}),
        ("page of a namespace", queries.page(Filter(namespace_id="rare"), ObjectId(object_id(5))), {"ipam_namespace"}),
        ("quota of a cluster", queries.by_owner("cluster", ["c7", "C7"], "inet"), {"ipam_cluster"}),
        ("quota of a namespace", queries.by_owner("namespace", ["rare", "RARE"], "inet"), {"ipam_namespace"}),
        ("page of a zone", queries.page(Filter(zone="rare", states=None), ObjectId(object_id(5))), {"ipam_zone"}),
        (
            "page of a zone and family",
            queries.page(Filter(zone="rare", ip_family="ipv6", states=None), ObjectId(object_id(5))),
            {"ipam_zone_family"},
        ),
    )

    @pytest.mark.parametrize(("name", "query", "indexes"), PLANS, ids=[plan[0] for plan in PLANS])
    async def test_each_query_reads_only_what_it_returns(
        self,
        backend: MongoBackend,
        open_store: OpenStore,
        mongodb_admin: Any,
        name: str,
        query: queries.Query,
        indexes: set[str],
    ) -> None:
        if "javascriptEngine" not in mongodb_admin.admin.command("buildInfo"):
            skip_loudly("MongoDB query plans", "only a real mongod explains them; set IPAM_TEST_MONGODB_URI")
        store = await open_store()
        await store.prepare()
        backend.seed(
            {
                "_id": object_id(number),
                "secret": "same",
                "zone": "rare" if number % 100 == 1 else "inet",
                "address": f"10.0.{number >> 8}.{number & 255}/32",
                "ip_family": "ipv6" if number % 200 == 1 else "ipv4",
                "services": []
                if number % 500 == 0
                else [
                    {
                        "service_name": f"web-{number}",
                        "namespace_id": "rare" if number % 100 == 2 else "namespace",
                        "cluster_id": "cluster" if name == "service" else f"c{number % 100}",
                        **({"expires_at": NOW - DAY} if number % 300 == 0 else {}),
                    }
                ],
                **({"state": "creating"} if number % 400 == 0 else {}),
                **({"departed": [{"until": NOW}]} if number % 700 == 0 else {}),
                **({"description_due": True} if number % 600 == 0 else {}),
            }
            for number in range(3000)
        )
        command = {"find": "addresses", "filter": query, "limit": 50, "sort": {"_id": 1}}
        explained = mongodb_admin[backend.database].command("explain", command, verbosity="executionStats")
        stats = explained["executionStats"]
        used = set(re.findall(r"'indexName': '(\w+)'", str(explained["queryPlanner"]["winningPlan"])))
        assert used == indexes
        assert stats["nReturned"] >= 1
        assert stats["totalDocsExamined"] <= stats["nReturned"] + 5

    @pytest.mark.parametrize("before", [None, HistoryPosition(NOW + 40 * DAY, object_id(40))])
    async def test_a_page_of_the_history_reads_only_what_it_returns(
        self, backend: MongoBackend, open_store: OpenStore, mongodb_admin: Any, before: HistoryPosition | None
    ) -> None:
        if "javascriptEngine" not in mongodb_admin.admin.command("buildInfo"):
            skip_loudly("MongoDB query plans", "only a real mongod explains them; set IPAM_TEST_MONGODB_URI")
        store = await open_store()
        await store.prepare()
        tenures = [
            Tenure(
                object_id(number),
                object_id(9000 + number),
                "inet",
                "ipv4",
                f"10.0.0.{number % 10}/32",
                key(),
                None,
                NOW + number * DAY,
            )
            for number in range(1000)
        ]
        await store.history_insert(tenures)
        command = {"find": "addresses_history", "filter": mongo_history.page("10.0.0.3/32", None, before)}
        command |= {"limit": 3, "sort": {"until": -1, "_id": -1}}
        explained = mongodb_admin[backend.database].command("explain", command, verbosity="executionStats")
        stats = explained["executionStats"]
        assert set(re.findall(r"'indexName': '(\w+)'", str(explained["queryPlanner"]["winningPlan"]))) == {
            "ipam_address"
        }
        assert stats["nReturned"] == 3
        assert stats["totalDocsExamined"] <= 4
