"""`list-zones`: how full the zones are, on both stores, over a NetBox in a process of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.installation import Installation, document
from tests.cli.remote_netbox import RIGHTS, RemoteNetBox
from tests.support.processes import BEARER, call, running, until

CLUSTER = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"
WEB = {"service_name": "web", "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0", "cluster_id": CLUSTER}
INET = ["83.118.168.0/24", "83.118.169.0/24"]


def prefix(netbox: RemoteNetBox, text: str, uuid: str | None = None, **fields: Any) -> None:
    body = {"prefix": text, "vrf": 1, "custom_fields": {"k8s_uuid": uuid}}
    netbox.admin("POST", "/api/ipam/prefixes/", body | fields)


@pytest.fixture
def used(installation: Installation, netbox: RemoteNetBox) -> Installation:
    """Two registrations of this service, and prefixes, an IP address and a range of other systems."""
    installation.configure(netbox.url, limits={"addresses_per_cluster": {"inet": 2}})
    for number in (1, 2):
        one = document(number, address=f"83.118.168.{number}/32", services=[WEB])
        installation.seed(one)
        prefix(netbox, one["address"], one["_id"])
    prefix(netbox, "83.118.168.64/26")
    prefix(netbox, "83.118.168.65/32")
    for kind, fields in (
        ("ip-addresses", {"address": "83.118.168.66/24"}),
        ("ip-addresses", {"address": "83.118.168.9/24"}),
        ("ip-ranges", {"start_address": "83.118.168.10/24", "end_address": "83.118.168.19/24"}),
    ):
        netbox.admin("POST", f"/api/ipam/{kind}/", {"vrf": 1, **fields})
    return installation


def families(done: Any, zone: str = "inet") -> dict[str, Any]:
    [found] = [one for one in done.json["zones"] if one["zone"] == zone]
    return {one["ip_family"]: one for one in found["families"]}


def test_the_zones_as_json(used: Installation) -> None:
    done = used.run("list-zones", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert [one["zone"] for one in done.json["zones"]] == ["inet", "hnet-public", "hnet-private"]
    found = families(done)
    ipv4 = found["ipv4"]
    assert (ipv4["size"], ipv4["used"], ipv4["reserved"]) == (512, 2, 0)
    assert (ipv4["other_prefixes"], ipv4["other_addresses"], ipv4["free"]) == (64, 11, 512 - 2 - 64 - 11)
    assert [(one["prefix"], one["own"], one["free"]) for one in ipv4["containers"]] == [
        (INET[0], 2, 256 - 2 - 64 - 11),
        (INET[1], 0, 256),
    ]
    assert found["ipv6"]["free"] == found["ipv6"]["size"] == 2**65
    assert done.json["zones"][0]["quotas"] == [{"owner": "cluster", "limit": 2, "highest": 2, "nearly_used": 1}]


def test_it_tells_what_the_service_tells(used: Installation) -> None:
    with running("serve", "--config", str(used.config), "--port", "0", cwd=used.directory) as service:
        told: dict[str, Any] = {}

        def read() -> bool:
            status, content = call("GET", f"{service.url}/v2/zones", headers={"Authorization": f"Bearer {BEARER}"})
            told.update(content if status == 200 else {})
            return status == 200 and content["zones"][-1]["families"][-1]["free"] is not None

        assert until(read)
        done = used.run("list-zones", "--format", "json")
    assert (done.status, done.err) == (0, "")
    assert without_time(done.json) == without_time(told)


def without_time(value: Any) -> Any:
    """Without the times, and without the quotas, which the service counts a moment later."""
    if isinstance(value, list):
        return [without_time(one) for one in value]
    if isinstance(value, dict):
        return {name: without_time(one) for name, one in value.items() if name not in ("as_of", "quotas")}
    return value


def test_the_zones_as_a_table(used: Installation, netbox: RemoteNetBox) -> None:
    prefix(netbox, "10.10.0.0/23", vrf=1)
    prefix(netbox, "10.10.2.0/24", vrf=1)
    prefix(netbox, "10.10.3.0/25", vrf=1)
    prefix(netbox, "100.64.0.0/25", vrf=1)
    prefix(netbox, "100.64.0.128/25", vrf=1)
    done = used.run("list-zones")
    assert (done.status, done.err) == (0, "")
    rows = [line.split(maxsplit=7) for line in done.lines]
    assert done.lines[0].split("  ")[0] == "ZONE"
    assert rows[1:7] == [
        ["inet", "ipv4", "512", "2", "0", "64", "11", "435"],
        ["inet", "ipv6", "3.7e+19", "0", "0", "0", "0", "3.7e+19"],
        ["hnet-public", "ipv4", "256", "0", "0", "256", "0", "0 (full)"],
        ["hnet-public", "ipv6", "1.8e+19", "0", "0", "0", "0", "1.8e+19"],
        ["hnet-private", "ipv4", "1024", "0", "0", "896", "0", "128"],
        ["hnet-private", "ipv6", "1.8e+19", "0", "0", "0", "0", "1.8e+19"],
    ]
    assert rows[9] == ["inet", "cluster", "2", "2", "1"]
    assert done.lines[-1].startswith("NetBox as of 2")
    prefix(netbox, "10.10.3.128/26", vrf=1)
    assert "64 (nearly full)" in used.run("list-zones").out


def test_one_zone(used: Installation, netbox: RemoteNetBox) -> None:
    [first] = [one["id"] for one in netbox.prefixes() if one["prefix"] == INET[0]]
    netbox.fault("status", method="GET", path=f"*/prefixes/{first}/", status=403)
    assert f"what is free in container {INET[0]} is not known: it could not be read" in used.run("list-zones").err
    done = used.run("list-zones", "--zone", "hnet-public", "--format", "json")
    assert (done.status, done.err) == (0, ""), "only its containers are read"
    assert [one["zone"] for one in done.json["zones"]] == ["hnet-public"]
    assert families(done, "hnet-public")["ipv4"]["free"] == 256
    done = used.run("list-zones", "--zone", "nowhere")
    assert (done.status, done.out) == (1, "")
    assert "invalid zone 'nowhere', must be one of: 'inet', 'hnet-public', 'hnet-private'" in done.err


def test_a_zone_without_containers(used: Installation, netbox: RemoteNetBox) -> None:
    chosen = netbox.definition("custom-field-choice-sets", "k8s_zone_choices")
    path = f"/api/extras/custom-field-choice-sets/{chosen['id']}/"
    netbox.admin("PATCH", path, {"extra_choices": [["bare", "bare"], *chosen["extra_choices"]]})
    used.seed(document(7, zone="closed"))
    done = used.run("list-zones")
    assert done.lines[1].split() == ["bare", *["-"] * 7]
    assert done.lines[8].split() == ["closed", "ipv4", "0", "1", "0", "0", "0", "0"]


def test_a_token_that_sees_only_its_own(used: Installation, netbox: RemoteNetBox) -> None:
    user = netbox.user_with({name: actions for name, actions in RIGHTS.items() if name != "ipam.prefix"})
    [one] = netbox.admin("GET", "/api/users/users/?username=ipam-svc")["results"]
    only = {"name": "own", "object_types": ["ipam.prefix"], "actions": ["view"], "users": [one["id"]]}
    netbox.admin("POST", "/api/users/permissions/", only | {"constraints": [{"status": "container"}]})
    (used.directory / "netbox.secret").write_text(user)
    done = used.run("list-zones", "--format", "json")
    assert done.status == 0
    ipv4 = families(done)["ipv4"]
    assert [ipv4[name] for name in ("other_prefixes", "other_addresses", "free", "as_of")] == [None] * 4
    assert f"{INET[0]} is not known: the token cannot see 4 of its 4 child prefixes" in done.err
    text = used.run("list-zones", "--zone", "inet")
    assert text.lines[1].split() == ["inet", "ipv4", "512", "2", "0", "unknown", "unknown", "unknown"]


def test_a_token_that_may_not_view_ip_addresses(used: Installation, netbox: RemoteNetBox) -> None:
    token = netbox.user_with({name: actions for name, actions in RIGHTS.items() if name != "ipam.ipaddress"})
    (used.directory / "netbox.secret").write_text(token)
    done = used.run("list-zones", "--format", "json")
    assert (done.status, families(done)["ipv4"]["other_addresses"], families(done)["ipv4"]["free"]) == (0, None, 436)
    assert "the token may not view IP addresses or IP ranges, so they count as free" in done.err
    content = json.loads(used.config.read_text())
    content["netbox"]["ip_addresses"] = "ignore"
    used.config.write_text(json.dumps(content))
    done = used.run("list-zones", "--format", "json")
    assert (done.err, families(done)["ipv4"]["free"]) == ("", 446)


def test_a_netbox_that_is_away(installation: Installation) -> None:
    done = installation.run("list-zones")
    assert (done.status, done.out) == (1, "")
    assert "NetBox" in done.err
    assert "check-config tells what is wrong" in done.err
