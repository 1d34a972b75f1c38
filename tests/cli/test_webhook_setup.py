"""`netbox-setup --webhook`, what `check-config` says of webhooks, and the events of a NetBox that was set up so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import Installation
from tests.cli.remote_netbox import RIGHTS, SERVICE_TOKEN, RemoteNetBox
from tests.support.processes import BEARER, TOKEN, call, ready, run, running, until, write_config
from tests.web.service import BODY, SERVICE

URL = "http://127.0.0.1:9/netbox/webhook"
SECRET = "secret-of-the-webhook"
OBJECT_TYPES = ["ipam.prefix", "ipam.ipaddress", "ipam.iprange", "extras.customfieldchoiceset"]
HOOKS = ("webhooks", "event-rules")
WRONG_URLS = (
    "ftp://a/netbox/webhook",
    "http://a/hook",
    "http:///netbox/webhook",
    "http://a:b/netbox/webhook",
    "http://u:p@a/netbox/webhook",
    "http://a/netbox/webhook?x=1",
    "http://{{ data }}/netbox/webhook",
)


@pytest.fixture
def hooked(installation: Installation, netbox: RemoteNetBox) -> RemoteNetBox:
    """A NetBox that has everything but webhooks, and a configuration with a secret."""
    (installation.directory / "webhook.secret").write_text(f"{SECRET}\n")
    section = {"url": netbox.url, "token_path": "netbox.secret", "constraint_tag": "vitistack"}
    installation.configure(netbox.url, netbox=section | {"webhook_secret_path": "webhook.secret"})
    return netbox


def setup(installation: Installation, *arguments: str) -> Any:
    return installation.run("netbox-setup", "--webhook", URL, "--format", "json", *arguments)


def finding(installation: Installation) -> tuple[str, str]:
    """Status and message of the one finding about webhooks."""
    checks = installation.run("check-config", "--format", "json").json["checks"]
    [found] = [one for one in checks if one["check"] == "netbox.webhook"]
    return found["status"], found["message"]


def objects(netbox: RemoteNetBox) -> Any:
    return [netbox.admin("GET", f"/api/extras/{kind}/")["results"] for kind in HOOKS]


def test_webhook_and_event_rule_are_created_once(installation: Installation, hooked: RemoteNetBox) -> None:
    status, message = finding(installation)
    assert status == "warning"
    assert "no webhook in NetBox has the secret" in message
    done = setup(installation, "--yes")
    assert done.status == 0, done.err
    made = [(one["kind"], one["name"], one["done"]) for one in done.json["items"][-2:]]
    assert made == [("webhook", f"IPAM-API {URL}", True), ("event_rule", f"IPAM-API {URL}", True)]
    before = objects(hooked)
    [[hook], [rule]] = before
    assert (hook["payload_url"], hook["http_method"], hook["secret"]) == (URL, "POST", SECRET)
    assert (rule["object_types"], rule["action_object_id"], rule["enabled"]) == (OBJECT_TYPES, hook["id"], True)
    assert rule["event_types"] == ["object_created", "object_updated", "object_deleted"]

    again = setup(installation)  # and so there is nothing to agree to
    assert again.status == 0
    assert {one["action"] for one in again.json["items"]} == {"present"}
    assert objects(hooked) == before
    assert finding(installation) == ("ok", f"NetBox sends events to {URL}")
    assert SECRET not in installation.everything_written() + done.out + done.err + again.out + again.err


def test_one_for_each_instance(installation: Installation, hooked: RemoteNetBox) -> None:
    other = URL.replace("127.0.0.1", "127.0.0.2")
    assert setup(installation, "--webhook", other, "--webhook", URL, "--yes").status == 0
    hooks, rules = objects(hooked)
    assert {one["payload_url"] for one in hooks} == {URL, other}
    assert sorted(one["action_object_id"] for one in rules) == sorted(one["id"] for one in hooks)
    assert finding(installation)[0] == "ok"


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("webhooks", {"secret": "another"}, "its secret is not the one"),
        ("webhooks", {"body_template": "{{ data }}"}, "its body_template is not empty"),
        ("webhooks", {"http_method": "PUT"}, "its http_method is not POST"),
        ("event-rules", {"object_types": OBJECT_TYPES[:3]}, "object_deleted of extras.customfieldchoiceset"),
        ("event-rules", {"event_types": ["object_created", "object_updated"]}, "sends object_deleted of ipam.prefix"),
        ("event-rules", {"enabled": False}, "no enabled rule without conditions sends object_created"),
        ("event-rules", {"conditions": {"attr": "vrf", "value": 1}}, "no enabled rule without conditions"),
    ],
)
def test_what_is_there_and_differs_is_told_and_left_alone(
    installation: Installation, hooked: RemoteNetBox, kind: str, change: dict[str, Any], told: str
) -> None:
    assert setup(installation, "--yes").status == 0
    [one] = hooked.admin("GET", f"/api/extras/{kind}/")["results"]
    hooked.admin("PATCH", f"/api/extras/{kind}/{one['id']}/", change)
    before = objects(hooked)
    done = installation.run("netbox-setup", "--webhook", URL, "--yes")
    assert done.status == 1
    assert told in done.err
    assert "Enter in NetBox by hand" in done.err
    assert objects(hooked) == before
    assert finding(installation)[0] == "warning"


def test_events_may_come_from_several_rules(installation: Installation, hooked: RemoteNetBox) -> None:
    assert setup(installation, "--yes").status == 0
    [rule] = hooked.admin("GET", "/api/extras/event-rules/")["results"]
    hooked.admin("PATCH", f"/api/extras/event-rules/{rule['id']}/", {"object_types": OBJECT_TYPES[:2]})
    names = ("enabled", "event_types", "action_object_type", "action_object_id")
    second = {name: rule[name] for name in names} | {"action_type": "webhook"}
    hooked.admin("POST", "/api/extras/event-rules/", {"name": "2", "object_types": OBJECT_TYPES[2:], **second})
    assert setup(installation).status == 0
    assert finding(installation)[0] == "ok"


def test_a_token_that_may_not_view_or_add_them(installation: Installation, hooked: RemoteNetBox) -> None:
    hooked.user_with({**RIGHTS, "extras.customfield": ["view"]})
    admin = (installation.directory / "netbox.secret").read_text()
    (installation.directory / "netbox.secret").write_text(SERVICE_TOKEN)
    status, message = finding(installation)
    assert (status, "may not view webhooks" in message) == ("ok", True)
    blind = installation.run("netbox-setup", "--webhook", URL, "--yes")
    assert blind.status == 1
    assert "not known" in blind.out
    for words in ("Enter in NetBox by hand", URL, "ipam.iprange", "netbox.webhook_secret_path", "--token-file"):
        assert words in blind.err
    assert SECRET not in blind.out + blind.err
    done = installation.run("netbox-setup", "--webhook", URL, "--yes", "--token-file", "-", stdin=admin)
    assert done.status == 0, done.err


def test_a_token_that_may_only_view_them(installation: Installation, hooked: RemoteNetBox) -> None:
    kinds = ("extras.customfield", "extras.webhook", "extras.eventrule")
    hooked.user_with(RIGHTS | {kind: ["view"] for kind in kinds})
    (installation.directory / "netbox.secret").write_text(SERVICE_TOKEN)
    refused = installation.run("netbox-setup", "--webhook", URL, "--yes")
    assert refused.status == 1
    assert "the token may not add to api/extras/webhooks/" in refused.err
    assert "not tried: it needs the webhook" in refused.err
    assert "Enter in NetBox by hand" in refused.err


def test_without_a_secret_or_with_a_wrong_url_nothing_is_done(installation: Installation, netbox: RemoteNetBox) -> None:
    installation.configure(netbox.url)
    refused = setup(installation, "--yes")
    assert (refused.status, "netbox.webhook_secret_path" in refused.err) == (2, True)
    for url in WRONG_URLS:
        assert installation.run("netbox-setup", "--webhook", url, "--yes").status == 2, url
    checks = installation.run("check-config", "--format", "json").json["checks"]
    assert not [one for one in checks if one["check"] == "netbox.webhook"]


def test_a_secret_that_netbox_cannot_keep(installation: Installation, hooked: RemoteNetBox) -> None:
    (installation.directory / "webhook.secret").write_text("x" * 256)
    refused = setup(installation, "--yes")
    assert (refused.status, "more than 255 characters" in refused.err) == (2, True)


def test_what_others_delete_is_free_without_a_refresh(tmp_path: Path) -> None:
    """NetBox, service and command as processes, as installed; the refresh is a day away."""
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as process:
        netbox = RemoteNetBox(process)
        vrf = {"vrf": 1}
        foreign = [f"83.118.168.{one}/32" for one in (0, 4)]
        first, last = (netbox.admin("POST", "/api/ipam/prefixes/", {"prefix": one, **vrf}) for one in foreign)
        gateway = netbox.admin("POST", "/api/ipam/ip-addresses/", {"address": "83.118.168.1/24", **vrf})
        config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
        content = json.loads(config.read_text())
        content["netbox"] |= {"webhook_secret_path": "webhook.secret", "refresh_seconds": 86_400}
        (tmp_path / "webhook.secret").write_text(SECRET)
        config.write_text(json.dumps(content))
        with running("serve", "--config", str(config), cwd=tmp_path) as service:
            assert ready(service.url)

            def registered(name: str) -> str:
                status, answer = call("POST", service.url, BODY | {"service": SERVICE | {"service_name": name}})
                assert status == 200, answer
                return str(answer["address"])

            def of_others(field: str) -> int | None:
                """How many IPv4 addresses of the zone others have, as the service knows."""
                zones = call("GET", f"{service.url}/v2/zones", headers={"Authorization": f"Bearer {BEARER}"})[1][
                    "zones"
                ]
                [count] = [use[field] for zone in zones if zone["zone"] == "inet" for use in zone["families"][:1]]
                return None if count is None else int(count)

            assert until(lambda: of_others("other_prefixes") == 2)
            assert registered("one") == "83.118.168.2/32"
            netbox.admin("DELETE", f"/api/ipam/prefixes/{first['id']}/")
            assert registered("two") == "83.118.168.3/32", "without a webhook it does not know of the deletion"

            url = f"{service.url}/netbox/webhook"
            status, out, err = run("--config", str(config), "netbox-setup", "--webhook", url, "--yes", cwd=tmp_path)
            assert status == 0, out + err
            netbox.admin("DELETE", f"/api/ipam/prefixes/{last['id']}/")
            assert until(lambda: of_others("other_prefixes") == 1)
            assert registered("three") == "83.118.168.4/32"

            netbox.admin("DELETE", f"/api/ipam/ip-addresses/{gateway['id']}/")
            assert until(lambda: of_others("other_addresses") == 0)
            assert [registered("four"), registered("five")] == ["83.118.168.0/32", "83.118.168.1/32"]
            assert service.stop() == 0
        assert SECRET not in "\n".join(service.errors)
