"""The MongoDB-compatible server of the tests keeps the promises that the other tests lean on."""

from collections.abc import Callable
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError

from tests.support.mongo import MongoServer


async def test_speaks_to_motor_and_holds_unique_indexes(mongodb_uri: str, mongodb_database: str) -> None:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(mongodb_uri)
    collection = client[mongodb_database]["addresses"]
    await collection.create_index([("zone", 1), ("address", 1)], unique=True)
    await collection.insert_one({"zone": "inet", "address": "192.0.2.1/32"})
    with pytest.raises(DuplicateKeyError):
        await collection.insert_one({"zone": "inet", "address": "192.0.2.1/32"})
    client.close()


def test_each_database_is_fresh(mongodb_admin: MongoClient[dict[str, Any]], mongodb_database: str) -> None:
    assert mongodb_database not in mongodb_admin.list_database_names()


@pytest.mark.parametrize("end", [MongoServer.stop, MongoServer.kill])
def test_acknowledged_writes_outlive_the_process(
    start_mongo: Callable[[], MongoServer], end: Callable[[MongoServer], None]
) -> None:
    server = start_mongo()
    uri = server.uri
    documents: list[dict[str, Any]] = [{"_id": number} for number in range(100)]
    with MongoClient[dict[str, Any]](uri, w="majority") as client:
        client["ipam"]["addresses"].insert_many(documents)
    end(server)
    assert not server.running
    server.start()
    assert server.uri == uri
    with MongoClient[dict[str, Any]](uri) as client:
        assert client["ipam"]["addresses"].count_documents({}) == 100
