"""`POST /`: the five cases, what each changes in storage and NetBox, and which requests are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipam_lib.errors import AddressOutsideZone, NoContainers, UnknownZone, WrongSecret, ZoneFull
from ipam_lib.models import Registered, Service, State
from tests.registry.world import CIPHER, DAY, FIRST, OTHER_CLUSTER, SECOND, SECRET, THIRD, World, key, request

# -- case 2: the next free address -----------------------------------------------------------------------------------


async def test_a_new_service_gets_the_lowest_free_address(world: World) -> None:
    assert await world.registry.register(request()) == Registered(FIRST, created=True)
    one = await world.only()
    assert (one.zone, one.ip_family, one.address, one.state) == ("inet", "ipv4", FIRST, State.LIVE)
    assert one.services == (Service(key()),)
    assert (CIPHER.unseal(one.secret), one.lease_until) == (SECRET, None)
    await world.settled()


async def test_its_retention_and_deny_flag_are_stored_as_given(world: World) -> None:
    await world.register(retention_period_days=7, deny_external_cleanup=True)
    assert (await world.only()).services == (Service(key(), 7, True),)


async def test_its_prefix_is_complete_in_netbox(world: World) -> None:
    await world.register()
    one = await world.only()
    assert one.netbox_id is not None
    shown = world.server.shown(one.netbox_id)
    assert shown["prefix"] == FIRST
    assert (shown["vrf"]["name"], shown["tenant"]["name"], shown["role"]["name"]) == ("nhc", "NHN", "Kubernetes LB")
    assert (shown["custom_fields"]["k8s_zone"], shown["custom_fields"]["k8s_uuid"]) == ("inet", one.id)
    assert [tag["name"] for tag in shown["tags"]] == ["vitistack"]
    assert shown["status"]["value"] == "active"


async def test_new_services_get_one_address_each_in_order(world: World) -> None:
    assert [await world.register(name) for name in "abc"] == [FIRST, SECOND, THIRD]
    await world.settled()


async def test_what_others_hold_in_netbox_is_passed_over(world: World) -> None:
    world.foreign_prefix(FIRST)
    world.foreign_prefix("192.0.2.2/31")
    assert [await world.register(name) for name in "ab"] == [SECOND, "192.0.2.4/32"]


async def test_a_service_has_one_address_of_each_family(world: World) -> None:
    assert await world.register() == FIRST
    assert await world.register(ip_family="ipv6") == "2001:db8::/128"
    assert await world.register() == FIRST
    assert await world.register(ip_family="ipv6") == "2001:db8::/128"
    await world.settled()


async def test_a_service_has_one_address_in_each_zone(world: World) -> None:
    assert await world.register() == FIRST
    assert await world.register(zone="tiny") == "203.0.113.0/32"
    await world.settled()


@pytest.mark.parametrize(
    "other",
    [
        {"secret": "AnotherSecret"},
        {"key": key("Web")},
        {"key": key(cluster=OTHER_CLUSTER)},
        {"key": key(namespace="467579ae-b8d5-4524-9ce8-bcb66ee02ce1")},
    ],
    ids=["secret", "name", "cluster", "namespace"],
)
async def test_whatever_differs_makes_another_registration(world: World, other: dict[str, Any]) -> None:
    assert await world.register() == FIRST
    assert await world.registry.register(request(**other)) == Registered(SECOND, created=True)
    await world.settled()


async def test_the_next_container_is_used_when_one_is_full(world: World) -> None:
    world.foreign_prefix("192.0.2.0/30")
    world.foreign_prefix("192.0.2.4/30")
    assert await world.register() == "198.51.100.0/32"
    await world.settled()


async def test_a_full_zone_refuses_and_leaves_nothing_behind(world: World) -> None:
    assert {await world.register(name, zone="tiny") for name in "ab"} == {"203.0.113.0/32", "203.0.113.1/32"}
    with pytest.raises(ZoneFull, match=r"no free ipv4 address left in zone 'tiny'") as refused:
        await world.register("c", zone="tiny")
    assert refused.value.status == 409
    assert len(await world.registrations()) == 2
    await world.settled()


async def test_every_container_is_tried_before_the_zone_counts_as_full(world: World) -> None:
    addresses = [await world.register(f"service-{number}") for number in range(12)]
    assert addresses == [f"192.0.2.{n}/32" for n in range(8)] + [f"198.51.100.{n}/32" for n in range(4)]
    with pytest.raises(ZoneFull):
        await world.register("one more")
    await world.settled()


async def test_a_container_that_is_gone_from_netbox_is_passed_over(world: World) -> None:
    world.server.remove(world.server.container("inet").id)
    assert await world.register() == "198.51.100.0/32"


async def test_an_unknown_zone_is_refused_with_the_list_of_zones(world: World) -> None:
    with pytest.raises(
        UnknownZone, match="invalid zone 'moon', must be one of: 'inet', 'office', 'tiny', 'bare'"
    ) as no:
        await world.register(zone="moon")
    assert no.value.status == 400
    await world.nothing()


async def test_a_zone_that_is_new_in_netbox_is_found(world: World) -> None:
    [choices] = world.server.admin("GET", "/api/extras/custom-field-choice-sets/?name=k8s_zone_choices")["results"]
    with_moon = {"extra_choices": [*choices["extra_choices"], ["moon", "moon"]]}
    world.server.admin("PATCH", f"/api/extras/custom-field-choice-sets/{choices['id']}/", with_moon)
    container = {"prefix": "100.64.0.0/24", "status": "container", "custom_fields": {"k8s_zone": "moon"}}
    world.server.admin("POST", "/api/ipam/prefixes/", container)
    await asyncio.sleep(60)  # a refresh is not asked for twice in a row
    assert await world.register(zone="moon") == "100.64.0.0/32"


@pytest.mark.parametrize("address", [None, "192.0.2.1/32"])
async def test_a_zone_without_containers_is_refused(world: World, address: str | None) -> None:
    with pytest.raises(NoContainers, match="zone 'bare' has no container prefixes for ipv4") as refused:
        await world.register(zone="bare", address=address)
    assert refused.value.status == 400
    with pytest.raises(NoContainers, match="zone 'tiny' has no container prefixes for ipv6"):
        await world.register(zone="tiny", ip_family="ipv6")
    await world.nothing()


async def test_a_new_secret_means_nothing_for_a_new_registration(world: World) -> None:
    await world.register(new_secret="NewSecret")
    assert CIPHER.unseal((await world.only()).secret) == SECRET


# -- case 1: registered already --------------------------------------------------------------------------------------


async def test_the_same_request_again_gives_the_same_address(world: World) -> None:
    first = await world.registry.register(request())
    before = await world.only()
    for _ in range(10):
        assert await world.registry.register(request()) == Registered(first.address, created=False)
    assert await world.only() == before
    await world.settled()


@pytest.mark.parametrize("address", [None, FIRST], ids=["by service", "by address"])
async def test_an_update_takes_retention_and_deny_flag_as_given(world: World, address: str | None) -> None:
    await world.register(retention_period_days=7, deny_external_cleanup=True)
    assert await world.register(retention_period_days=3, address=address) == FIRST
    assert (await world.only()).services == (Service(key(), 3, False),)


@pytest.mark.parametrize("address", [None, FIRST], ids=["by service", "by address"])
async def test_an_update_removes_the_expiration(world: World, address: str | None) -> None:
    await world.register(retention_period_days=7)
    await world.registry.expire(request(retention_period_days=None))
    assert (await world.only()).services[0].expires_at == world.now(days=7)
    assert await world.register(retention_period_days=7, address=address) == FIRST
    assert (await world.only()).services == (Service(key(), 7),)
    await asyncio.sleep(8 * DAY)
    await world.registry.release_expired()
    await world.settled()
    assert await world.names() == {FIRST: ["web"]}


async def test_an_update_without_retention_sets_the_default(world: World) -> None:
    await world.register(retention_period_days=7)
    await world.register(retention_period_days=None)
    assert (await world.only()).services == (Service(key()),)


async def test_an_update_leaves_the_other_services_as_they_are(world: World) -> None:
    await world.register("a", retention_period_days=1)
    await world.register("b", address=FIRST, retention_period_days=2)
    await world.register("c", address=FIRST, retention_period_days=3)
    await world.registry.expire(request("c", address=FIRST, retention_period_days=None))
    expires = world.now(days=3)
    await world.register("b", retention_period_days=30)
    services = (Service(key("a"), 1), Service(key("b"), 30), Service(key("c"), 3, expires_at=expires))
    assert (await world.only()).services == services


# -- case 3: a given address that is registered here -----------------------------------------------------------------


async def test_services_that_know_the_secret_share_the_address(world: World) -> None:
    assert await world.register("a") == FIRST
    assert await world.registry.register(request("b", address=FIRST)) == Registered(FIRST, created=False)
    assert await world.registry.register(request("c", address=FIRST)) == Registered(FIRST, created=False)
    assert await world.names() == {FIRST: ["a", "b", "c"]}
    assert [await world.register(name) for name in "abc"] == [FIRST] * 3
    await world.settled()


async def test_a_service_may_hold_an_address_of_its_own_and_a_shared_one(world: World) -> None:
    assert await world.register("a") == FIRST
    assert await world.register("b") == SECOND
    assert await world.register("b", address=FIRST) == FIRST
    assert await world.names() == {FIRST: ["a", "b"], SECOND: ["b"]}
    assert await world.register("b") == FIRST, "of several, the oldest registration answers"
    await world.registry.expire(request("b", address=FIRST))
    assert await world.register("b") == SECOND, "one that does not expire comes before one that does"


async def test_a_given_address_under_another_secret_is_refused(world: World) -> None:
    await world.register()
    before = await world.only()
    with pytest.raises(WrongSecret, match="no matching address found with the provided secret, zone and add") as no:
        await world.register("b", address=FIRST, secret="WrongSecret")
    assert no.value.status == 403
    with pytest.raises(WrongSecret):
        await world.register(address=FIRST, secret="WrongSecret")
    assert await world.only() == before
    await world.settled()


async def test_a_right_secret_of_another_address_opens_nothing(world: World) -> None:
    await world.register("a", secret="SecretOfA")
    await world.register("b", secret="SecretOfB")
    with pytest.raises(WrongSecret):
        await world.register("b", address=FIRST, secret="SecretOfB")


# -- case 4: a given address that is free ----------------------------------------------------------------------------


async def test_a_free_address_is_registered_exactly(world: World) -> None:
    given = await world.registry.register(request(address="192.0.2.5/32"))
    assert given == Registered("192.0.2.5/32", created=True)
    assert await world.register("b") == FIRST
    await world.settled()


async def test_an_ipv6_address_is_registered_exactly(world: World) -> None:
    assert await world.register(ip_family="ipv6", address="2001:db8::3/128") == "2001:db8::3/128"
    await world.settled()


@pytest.mark.parametrize(
    ("address", "vrf", "tenant", "role"),
    [("10.0.0.5/32", "office", "Acme", "Servers"), ("10.0.1.5/32", None, None, None)],
    ids=["in a VRF", "in the global table"],
)
async def test_the_container_that_holds_the_address_gives_vrf_tenant_and_role(
    world: World, address: str, vrf: str | None, tenant: str | None, role: str | None
) -> None:
    await world.register(zone="office", address=address)
    one = await world.only()
    assert one.netbox_id is not None
    shown = world.server.shown(one.netbox_id)
    for name, wanted in (("vrf", vrf), ("tenant", tenant), ("role", role)):
        assert (shown[name] and shown[name]["name"]) == wanted
    assert (shown["custom_fields"]["k8s_zone"], shown["custom_fields"]["k8s_uuid"]) == ("office", one.id)
    assert [tag["name"] for tag in shown["tags"]] == ["vitistack"]
    await world.settled()


@pytest.mark.parametrize("address", ["192.0.3.1/32", "10.0.0.1/32", "203.0.113.0/32", "8.8.8.8/32"])
async def test_an_address_outside_the_zone_is_refused(world: World, address: str) -> None:
    with pytest.raises(AddressOutsideZone, match="not inside any container prefix of zone 'inet'") as refused:
        await world.register(address=address)
    assert refused.value.status == 400
    assert world.netbox.counted["create_exact"] == 0
    await world.nothing()


async def test_an_address_in_a_nested_container_of_another_zone_is_refused(world: World) -> None:
    inner = {"prefix": "192.0.2.4/30", "vrf": 1, "status": "container", "custom_fields": {"k8s_zone": "tiny"}}
    world.server.admin("POST", "/api/ipam/prefixes/", inner)
    await asyncio.sleep(60)
    await world.zones.refresh()
    with pytest.raises(AddressOutsideZone):
        await world.register(address="192.0.2.5/32")
    assert await world.register(zone="tiny", address="192.0.2.5/32") == "192.0.2.5/32"


async def test_a_container_that_is_new_in_netbox_is_found(world: World) -> None:
    body = {"prefix": "100.64.0.0/24", "vrf": 1, "status": "container", "custom_fields": {"k8s_zone": "inet"}}
    world.server.admin("POST", "/api/ipam/prefixes/", body)
    await asyncio.sleep(60)
    assert await world.register(address="100.64.0.9/32") == "100.64.0.9/32"
    await world.settled()


async def test_the_same_address_may_stand_in_two_zones_of_different_vrfs(world: World) -> None:
    body = {"prefix": "192.0.2.0/29", "vrf": 2, "status": "container", "custom_fields": {"k8s_zone": "office"}}
    world.server.admin("POST", "/api/ipam/prefixes/", body)
    await asyncio.sleep(60)
    await world.zones.refresh()
    assert await world.register("a", address=THIRD) == THIRD
    assert await world.register("b", address=THIRD, zone="office") == THIRD
    assert len(world.prefixes) == 2
