"""NOT COMMITTED, not collected; each fails against the present registry: `pytest tests/registry/open_questions.py`."""

from __future__ import annotations

import pytest

from tests.registry.test_legacy import CANONICAL, SPELT, spelt_document
from tests.registry.watched import Died, fails
from tests.registry.world import FIRST, SECOND, World


async def test_an_address_in_another_spelling_is_not_registered_twice(world: World) -> None:
    """Its prefix was deleted in NetBox, which hands the address out again; the unique index compares texts."""
    document = await spelt_document(world)
    world.server.remove(document["netbox_id"])
    for number in range(3):
        await world.register(f"s{number}", ip_family="ipv6")
    assert await world.register("late", ip_family="ipv6", address=None) != CANONICAL
    assert {one.address for one in await world.registrations()} >= {SPELT}


async def test_two_unfinished_creations_do_not_hold_up_the_next_free_address(world: World) -> None:
    """Two given addresses, the lowest free ones, are being made (their processes died; or NetBox is slow). The next
    free address goes to and fro between them: `_settle` deletes the prefix that was kept from the one before, NetBox
    hands that out again, and so on until the deadline. Every new service of the zone is answered 503 meanwhile."""
    for address in (FIRST, SECOND):
        world.netbox.next("create_exact", fails(Died()))
        with pytest.raises(Died):
            await world.register(address=address)
    assert await world.register("next") == "192.0.2.2/32"
